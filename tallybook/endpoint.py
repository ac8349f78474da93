"""The corridor: verify the token, validate the body, call one procedure, answer.

A function's main.py declares a Route and gets back a handler. Every request of every function walks
through `_answer`, in this order: method, caller, body, key, procedure. Whatever goes wrong on the
way is a Refusal and becomes problem+json; what does not is a defect and becomes a plain 500.
"""

from __future__ import annotations

import re
import secrets
import traceback
from collections.abc import Mapping
from itertools import count
from typing import Any, Final

import msgspec

from tallybook import cors, logs, refusal
from tallybook.address import client_address
from tallybook.attestation.examiner import Question
from tallybook.body import Body, decode
from tallybook.caller import Caller
from tallybook.gather import Answer
from tallybook.http import Handler, Request, Response, headers_of, read_body
from tallybook.rate_limit import RateLimit
from tallybook.refusal import MEDIA_TYPE, Refusal
from tallybook.route import USERS, Route
from tallybook.runtime import Runtime, runtime_of
from tallybook.settings import ConfigurationError

KEY_LENGTH_MAX: Final = 200

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
            logs.log(
                logs.POINTS_ERROR,
                level="error",
                operation=route.procedure,
                error_message=str(error),
                stack_trace=traceback.format_exc(),
            )
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
    if request.scope["method"] != "POST":
        raise refusal.method_not_allowed(("POST", "OPTIONS"))
    caller = await runtime.verifier.verify(headers)
    if caller.role not in route.callers:
        raise refusal.forbidden(f"This is not open to the role {caller.role}.")
    sent = await read_body(request, headers)
    body = decode(route.decoder, sent)
    if route.key is not None:
        _settle_key(route.key, body, headers.get("idempotency-key"))
    arguments = _arguments(route, caller, body)
    if route.writes:
        arguments["request_id"] = request_id
    # A program speaks for many people from one address, which says nothing of any of them.
    if route.address and caller.role in USERS:
        address = client_address(request.scope, runtime.settings)
        if address is not None:
            arguments["ip_address"] = address
    if route.attested:
        arguments["attestation"] = await runtime.examiner.examine(
            Question(route.path, headers, sent, caller.user_id), runtime.database
        )
    if route.prepare is not None:
        arguments.update(route.prepare(runtime, caller, body))
    evidence = arguments.get("attestation")
    try:
        answer = _accepted(await runtime.database.call(route.procedure, arguments))
    except Refusal as refused:
        if evidence is not None:
            runtime.examiner.note(evidence, caller.user_id, refused)
        raise _with_path(refused, body) from None
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
    status = 200 if replayed else route.status
    return Response(status, msgspec.json.encode(answer), headers=extra)


def _arguments(route: Route, caller: Caller, body: Body) -> dict[str, Any]:
    """The user always comes from the verified token, never from the body."""
    arguments: dict[str, Any] = {}
    if not USERS.isdisjoint(route.callers):
        arguments["user_id"] = caller.user_id
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is not None and name not in route.consumed:
            arguments[name] = value
    return arguments


def _accepted(answer: Answer) -> Answer:
    """The answer, unless it is a refusal that the database has to remember.

    To raise it there would take back what was written down about it.
    """
    if "refusal" in answer:
        raise Refusal.from_entry(answer["refusal"])
    return dict(answer)


def _settle_key(name: str, body: Body, header: str | None) -> None:
    """One key from the header, the body or both, which must then agree."""
    value = getattr(body, name)
    if header is not None and not 0 < len(header) <= KEY_LENGTH_MAX:
        raise refusal.invalid_body("Idempotency-Key must have 1 to 200 characters.", f"$.{name}")
    if value is None and header is None:
        raise refusal.invalid_body(f"Object missing required field `{name}`.", f"$.{name}")
    if value is not None and header is not None and value != header:
        raise refusal.invalid_body("It differs from the header Idempotency-Key.", f"$.{name}")
    setattr(body, name, value or header)


def _with_path(refused: Refusal, body: Body) -> Refusal:
    """A procedure begins its detail with the argument at fault; in the body that is a path.

    Where there were too many requests it begins with the policy, which is nothing of the body's.
    """
    if refused.status == 429:
        return refused
    argument, colon, _ = (refused.detail or "").partition(": ")
    if colon and argument in body.__struct_fields__:
        refused.path = f"$.{argument}"
    return refused


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
