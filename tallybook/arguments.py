"""From a request to a procedure's arguments: what the client says, and what the corridor knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid4

from tallybook import refusal
from tallybook.body import Body, decode, from_texts, with_parameters
from tallybook.caller import Caller
from tallybook.http import Request, read_body, refuse_body
from tallybook.query import check_path, query_of
from tallybook.refusal import Refusal
from tallybook.route import CUSTOMER, USERS, Route

KEY_LENGTH_MAX: Final = 200


async def body_of(
    route: Route, request: Request, headers: dict[str, str], parameters: Mapping[str, str] | None
) -> tuple[Body, bytes]:
    """The body, and its bytes as they were sent; `parameters` are what the path says."""
    scope = request.scope
    if parameters:
        check_path(scope)
    if scope["method"] == "POST":
        sent = await read_body(request, headers, route.body_bytes_max)
        # Who has nothing to say sends nothing: supabase-js, when it is given no body.
        whole = sent or b"{}"
        if parameters:
            whole = with_parameters(whole, parameters)
        return decode(route.decoder, whole, has_decimals=route.has_decimals), sent
    refuse_body(headers)
    texts = query_of(scope)
    for name, text in (parameters or {}).items():
        if name in texts:
            raise refusal.invalid_body("The path says it already.", f"$.{name}")
        texts[name] = text
    return from_texts(route.body, texts), b""


def arguments_of(route: Route, caller: Caller, body: Body) -> dict[str, Any]:
    """The user comes from the verified token; from the body only where a program acts for them."""
    arguments: dict[str, Any] = {}
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if value is not None and name not in route.consumed:
            arguments[name] = value
    if not USERS.isdisjoint(route.callers):
        arguments["user_id"] = caller.user_id
        if route.on_behalf:
            arguments["user_id"] = _customer(caller, arguments.pop(CUSTOMER, None))
    return arguments


def settle_key(route: Route, body: Body, header: str | None) -> None:
    """One key from the header, the body or both, which must then agree."""
    name = route.key
    if name is None:
        return
    path = f"$.{route.sent_as[name]}"
    value = getattr(body, name)
    if header is not None and not 0 < len(header) <= KEY_LENGTH_MAX:
        raise refusal.invalid_body("Idempotency-Key must have 1 to 200 characters.", path)
    if value is None and header is None and route.key_required:
        raise refusal.invalid_body(f"Object missing required field `{path[2:]}`.", path)
    if value is not None and header is not None and value != header:
        raise refusal.invalid_body("It differs from the header Idempotency-Key.", path)
    # Who brings none asks for something new each time. But what is sent once more because its
    # connection was lost is the same request: so it has a key that nobody else knows.
    setattr(body, name, value or header or uuid4().hex)


def with_path(refused: Refusal, route: Route) -> Refusal:
    """A procedure begins its detail with the argument at fault; in the body that is a path.

    Where there were too many requests it begins with the policy, which is nothing of the body's.
    """
    if refused.status == 429:
        return refused
    argument, colon, _ = (refused.detail or "").partition(": ")
    if colon and argument in route.sent_as:
        refused.path = f"$.{route.sent_as[argument]}"
    return refused


def _customer(caller: Caller, named: UUID | None) -> UUID:
    """Whom this is about: a user themselves, or whom a program names."""
    if caller.user_id is None:
        if named is None:
            raise refusal.invalid_body("A program must say for whom it asks.", "$.user_id")
        return named
    if named is not None and named != caller.user_id:
        raise refusal.forbidden("A user may ask for themselves only.")
    return caller.user_id
