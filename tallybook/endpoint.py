"""The corridor: verify the token, validate the body, call one procedure, answer.

A function's main.py declares a Route and gets back a handler. Every request of every function walks
through `_answer`, in this order: method, caller, switch, body, key, procedure. Whatever goes wrong
on the way is a Refusal and becomes problem+json; what does not is a defect and becomes a plain 500.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from tallybook import cors, exact, logs, refusal
from tallybook.address import client_address
from tallybook.arguments import arguments_of, body_of, settle_key, with_path
from tallybook.attestation.examiner import Question
from tallybook.caller import Caller
from tallybook.gather import Answer, Arguments
from tallybook.http import Handler, Request, Response, Scope, headers_of
from tallybook.paths import PARAMETERS_KEY
from tallybook.rate_limit import RateLimit
from tallybook.refusal import MEDIA_TYPE, Refusal
from tallybook.route import USERS, Route
from tallybook.runtime import Runtime, runtime_of
from tallybook.session import session_token
from tallybook.settings import ConfigurationError

ASIDE_SECONDS_MAX: Final = 0.5
"""How long a route's `before` or `after` takes at most."""

ANYONE: Final = Caller(None, "anon", MappingProxyType({}))
"""Who brings no credentials to an open route."""

T = TypeVar("T")

# A request without an id gets one of this process and number: asking the system for randomness
# each time is the dearer half of a log line.
_PROCESS: Final = secrets.token_hex(8)
_numbers: Final = count(1)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")


def endpoint(route: Route) -> Handler:
    """The handler of a route: runs under our own server and under functions-framework alike."""

    async def handle(request: Request) -> Response:
        scope = request.scope
        try:
            runtime = runtime_of(scope)
        except ConfigurationError as error:
            # A deployed function reads its environment with its first request.
            logs.log(
                logs.POINTS_ERROR,
                level="error",
                operation="start",
                error_message=str(error),
                stack_trace=traceback.format_exc(),
            )
            return problem(refusal.unavailable("It is not configured."), scope["path"], "", {})
        headers = headers_of(scope)
        request_id, extra = preface(headers, runtime)
        if scope["method"] == "OPTIONS":
            return Response(204, headers=extra)
        try:
            return await _answer(route, runtime, request, headers, request_id, extra)
        except Refusal as refused:
            return problem(refused, scope["path"], request_id, extra)
        except Exception as error:
            _log_defect(route, error)
            return problem(refusal.internal_error(), scope["path"], request_id, extra)

    handle.__name__ = route.name
    handle.__doc__ = route.body.__doc__
    handle.route = route  # type: ignore[attr-defined]
    return handle


async def _answer(
    route: Route,
    runtime: Runtime,
    request: Request,
    headers: dict[str, str],
    request_id: str,
    extra: dict[str, str],
) -> Response:
    scope = request.scope
    parameters = scope.get(PARAMETERS_KEY)
    if parameters is None and scope["method"] != "POST":
        raise refusal.method_not_allowed(("POST", "OPTIONS"))
    caller = await _caller(route, runtime, scope, headers)
    if caller.role not in route.callers:
        raise refusal.forbidden(f"This is not open to the role {caller.role}.")
    if route.enabled is not None and not route.enabled(runtime.settings):
        raise refusal.unavailable(f"{route.slug} is switched off.", retry_after_seconds=60)
    body, sent = await body_of(route, request, headers, parameters)
    settle_key(route, body, headers.get("idempotency-key"))
    arguments = arguments_of(route, caller, body)
    if route.writes:
        arguments["request_id"] = request_id
    # A program speaks for many people from one address, which says nothing of any of them.
    if route.address and caller.role in USERS:
        address = client_address(scope, runtime.settings)
        if address is not None:
            arguments["ip_address"] = address
    if route.attested:
        arguments["attestation"] = await runtime.examiner.examine(
            Question(route.path, headers, sent, caller.user_id), runtime.database
        )
    if route.prepare is not None:
        made = route.prepare(runtime, caller, body)
        arguments.update(await made if isinstance(made, Awaitable) else made)
    evidence = arguments.get("attestation")
    try:
        answer = await _asked(route, runtime, arguments)
    except Refusal as refused:
        if evidence is not None:
            runtime.examiner.note(evidence, caller.user_id, refused)
        raise with_path(refused, route) from None
    replayed = answer.pop("replayed", False) is True
    if evidence is not None and not replayed:
        runtime.examiner.note(evidence, caller.user_id, None)
    limit = answer.pop("rate_limit", None)
    if route.finish is not None:
        answer = route.finish(runtime, caller, body, answer)
    if route.log is not None and not replayed:
        for event, fields in route.log(caller, body, answer):
            logs.log(event, **fields)
    if limit is not None:
        extra.update(RateLimit.of_answer(limit).headers)
    if replayed:
        extra["idempotent-replayed"] = "true"
    if scope["method"] == "GET":
        # A cookie lets in whoever sits at the browser now; nothing must answer them but we.
        extra["cache-control"] = "no-store"
    status = 200 if replayed else route.status
    rendered = route.render(body, answer) if route.render is not None else None
    if rendered is None:
        return Response(status, exact.encode(answer), headers=extra)
    return Response(status, rendered.body, rendered.media_type, {**extra, **rendered.headers})


async def _caller(
    route: Route, runtime: Runtime, scope: Scope, headers: Mapping[str, str]
) -> Caller:
    """Who asks. A credential in a header wins, also a bad one; a cookie can only look."""
    if "authorization" in headers or "apikey" in headers:
        return await runtime.verifier.verify(headers)
    # Another site can make a browser send a form along with its cookies, but not read an answer.
    token = session_token(scope) if scope["method"] == "GET" else None
    if token is not None:
        return await runtime.verifier.verify_session(token)
    return ANYONE if route.open else await runtime.verifier.verify(headers)


async def _asked(route: Route, runtime: Runtime, arguments: Arguments) -> Answer:
    """The answer of whoever stands before the database, or of the database."""
    if route.before is not None:
        known = await _unless_it_fails(route, partial(route.before, runtime, arguments))
        if known is not None:
            return _accepted(known)
    answer = await runtime.database.call(route.procedure, arguments)
    accepted = _accepted(answer)
    if route.after is not None:
        await _unless_it_fails(route, partial(route.after, runtime, arguments, answer))
    return accepted


async def _unless_it_fails(route: Route, ask: Callable[[], Awaitable[T]]) -> T | None:
    """What a cache says; it must neither fail a request nor hold it up."""
    try:
        async with asyncio.timeout(ASIDE_SECONDS_MAX):
            return await ask()
    except Exception as error:
        _log_defect(route, error)
        return None


def _log_defect(route: Route, error: Exception) -> None:
    logs.log(
        logs.POINTS_ERROR,
        level="error",
        operation=route.procedure,
        error_message=str(error),
        stack_trace=traceback.format_exc(),
    )


def _accepted(answer: Answer) -> Answer:
    """The answer, unless it is a refusal that the database has to remember.

    To raise it there would take back what was written down about it.
    """
    if "refusal" in answer:
        raise Refusal.from_entry(answer["refusal"])
    return dict(answer)


def preface(headers: Mapping[str, str], runtime: Runtime) -> tuple[str, dict[str, str]]:
    """The request's id, from now on in every log line, and the headers that every answer has."""
    request_id = _request_id(headers)
    logs.request_id.set(request_id)
    extra = cors.headers(headers.get("origin"), runtime.settings.cors_origins)
    extra["x-request-id"] = request_id
    return request_id, extra


def problem(
    refused: Refusal, instance: str, request_id: str, headers: Mapping[str, str]
) -> Response:
    """The answer to a refused request."""
    return Response(
        refused.status,
        msgspec.json.encode(refused.problem(instance, request_id)),
        MEDIA_TYPE,
        {**headers, **refused.headers},
    )


def _request_id(headers: Mapping[str, str]) -> str:
    """The client's, when it is fit for a log, or a new one."""
    given = headers.get("x-request-id", "")
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return f"{_PROCESS}{next(_numbers):08x}"
