"""For whom a request is: a user's own, a program's customer, a session's user, or nobody's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tallybook.body import Body, Key
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.http import Handler
from tallybook.refusal import Refusal
from tallybook.route import ANYBODY, SERVICE, USERS, Route, customer_of
from tests.corridor.doubles import PROGRAM, USER_ID, Served, serve
from tests.corridor.test_caller import PUBLISHABLE, SECRET, legacy, token, verifier

OTHER = UUID("0d9c7b6a-1111-4222-8333-444455556666")


class Mine(Body):
    """Something of somebody's."""

    customer: UUID | None = msgspec.field(name="user_id", default=None)
    thing: str = "one"
    idempotency_key: Key | None = None


class Theirs(Body):
    """What an administrator does to an account."""

    account: str = msgspec.field(name="user_id")
    amount: int = 1


def handler(body: type[Body] = Mine, *paths: str, **more: Any) -> Handler:
    declared = {"slug": "do", "procedure": "do", "body": body, "paths": paths}
    return endpoint(Route(**{**declared, "callers": USERS | SERVICE, **more}))


def behalf(**options: Any) -> Served:
    """One look and one deed that programs do for customers."""
    return serve(
        handler(Mine, "GET /do", on_behalf=True),
        handler(
            *(Mine, "DELETE /do"),
            slug="undo",
            on_behalf=True,
            writes=True,
        ),
        **options,
    )


ADDRESSES = [("GET", "/do"), ("DELETE", "/do"), ("POST", "/functions/v1/do")]


async def asked(api: Served, method: str, path: str, user: Any = None, **more: Any) -> Any:
    """Ask in the query or in the body, as the method wants it."""
    if method == "POST":
        return await api(method, path, {} if user is None else {"user_id": user}, **more)
    return await api(method, path if user is None else f"{path}?user_id={user}", **more)


# On behalf


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
async def test_a_program_names_its_customer(method: str, path: str) -> None:
    answer = await asked(behalf(caller=PROGRAM), method, path, OTHER)
    assert answer.arguments["user_id"] == OTHER
    assert "customer" not in answer.arguments


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
async def test_a_program_that_names_nobody_is_refused(method: str, path: str) -> None:
    refused = await asked(behalf(caller=PROGRAM), method, path)
    assert (refused.fault, refused.procedure) == ((400, "invalid_body", "$.user_id"), "")


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
async def test_a_user_is_themselves(method: str, path: str) -> None:
    api = behalf()
    for named in (None, USER_ID, str(USER_ID).upper()):
        answer = await asked(api, method, path, named)
        assert (answer.status, answer.arguments["user_id"]) == (200, USER_ID), named


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
async def test_a_user_is_nobody_else(method: str, path: str) -> None:
    refused = await asked(behalf(), method, path, OTHER)
    assert (refused.fault, refused.procedure) == ((403, "forbidden", None), "")


@pytest.mark.parametrize("named", ["", "null", "me", "%00", "0"])
async def test_a_customer_is_named_by_their_id(named: str) -> None:
    for caller in (PROGRAM, Caller(USER_ID, "authenticated", {})):
        refused = await behalf(caller=caller)("GET", f"/do?user_id={named}")
        # `null` is nobody, as in a body; a user may leave it out.
        if named == "null" and caller is not PROGRAM:
            assert refused.arguments["user_id"] == USER_ID
        else:
            assert (refused.fault, refused.procedure) == ((400, "invalid_body", "$.user_id"), "")


async def test_two_names_are_refused() -> None:
    query = f"user_id={USER_ID}&user_id={OTHER}"
    assert (await behalf()("GET", f"/do?{query}")).fault == (400, "invalid_body", "$.user_id")
    assert (await behalf()("GET", f"/do?customer={OTHER}")).fault == (
        *(400, "invalid_body"),
        "$.customer",
    )


async def test_a_field_sent_as_user_id_is_another_argument() -> None:
    api = serve(handler(Theirs, writes=True))
    answer = await api("POST", "/functions/v1/do", {"user_id": "a@example.com"})
    assert answer.arguments["account"] == "a@example.com"
    assert answer.arguments["user_id"] == USER_ID


@pytest.mark.parametrize(
    ("body", "options", "detail", "path"),
    [
        (Theirs, {}, "account: nobody", "$.user_id"),
        (Theirs, {}, "user_id: nobody", None),
        (Theirs, {}, "amount: too much", "$.amount"),
        (Mine, {"on_behalf": True}, "user_id: nobody", "$.user_id"),
        (Mine, {"on_behalf": True}, "customer: nobody", "$.user_id"),
        (Mine, {"on_behalf": True}, "ip_address: nowhere", None),
    ],
)
async def test_a_fault_is_shown_where_the_client_said_it(
    body: type[Body], options: dict[str, Any], detail: str, path: str | None
) -> None:
    api = serve(handler(body, **options), answer=Refusal("no", 404, detail))
    refused = await api("POST", "/functions/v1/do", {"user_id": str(USER_ID)})
    assert refused.fault == (404, "no", path)


def test_a_function_can_tell_whom_it_is_about() -> None:
    user = Caller(USER_ID, "authenticated", {})
    assert customer_of(user, Mine()) == customer_of(user, Mine(customer=USER_ID)) == USER_ID
    assert customer_of(PROGRAM, Mine(customer=OTHER)) == OTHER


# Keys that may be left out


async def test_a_key_may_be_left_out_where_that_is_declared() -> None:
    api = serve(handler(Mine, key="idempotency_key", key_required=False))
    without = await api("POST", "/functions/v1/do", {})
    assert without.status == 200 and without.arguments["request_id"]
    # Each is new to the database, and the same when the corridor sends it once more.
    another = await api("POST", "/functions/v1/do", {})
    own = {answer.arguments["idempotency_key"] for answer in (without, another)}
    assert len(own) == 2 and None not in own
    header = {"idempotency-key": "k-1"}
    keyed = await api("POST", "/functions/v1/do", {}, headers=header)
    assert keyed.arguments["idempotency_key"] == "k-1"
    differing = await api("POST", "/functions/v1/do", {"idempotency_key": "k-2"}, headers=header)
    assert differing.fault == (400, "invalid_body", "$.idempotency_key")
    empty = await api("POST", "/functions/v1/do", {}, headers={"idempotency-key": ""})
    assert empty.fault == (400, "invalid_body", "$.idempotency_key")


class Renamed(Body):
    """A key by another name."""

    key: Key | None = msgspec.field(name="payment_id", default=None)


async def test_a_missing_key_is_missed_by_the_name_it_is_sent_under() -> None:
    refused = await serve(handler(Renamed, key="key"))("POST", "/functions/v1/do", {})
    assert refused.fault == (400, "invalid_body", "$.payment_id")


# Sessions


def sessions(**route: Any) -> Served:
    """A look and a deed, with a real verifier at the door."""
    return serve(
        handler(Mine, "GET /do", "POST /do", **route),
        handler(Mine, "DELETE /do", **{**route, "slug": "undo"}),
        verifier=verifier(publishable_keys=(PUBLISHABLE,), secret_keys=(SECRET,)),
    )


def cookie(*values: str) -> list[tuple[str, str]]:
    return [("cookie", value) for value in values]


@pytest.mark.parametrize(
    "form",
    [
        "session_token={}",
        'session_token="{}"',
        "a=b; session_token={}; c=d",
        "a=b;session_token={}",
        "\t session_token={} ;",
        "; ; broken; =; session_token={}",
        "SESSION_TOKEN=x; xsession_token=y; session_token={}",
        "session_token={0}; session_token={0}",
        'session_token_2=; session_token={}; theme="dark; light"',
    ],
)
async def test_a_session_may_look(form: str) -> None:
    answer = await sessions()("GET", "/do", headers=cookie(form.format(token())))
    assert (answer.status, answer.arguments["user_id"]) == (200, USER_ID)


async def test_a_session_may_come_in_one_of_several_headers() -> None:
    lines = cookie("a=b", f"session_token={token()}", "c=d")
    assert (await sessions()("GET", "/do", headers=lines)).status == 200


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_session_changes_nothing(method: str) -> None:
    sent = {} if method == "POST" else None
    refused = await sessions()(method, "/do", sent, headers=cookie(f"session_token={token()}"))
    assert (refused.fault, refused.procedure) == ((401, "unauthorized", None), "")


@pytest.mark.parametrize(
    "value",
    [
        "",
        '""',
        '"',
        "nonsense",
        "a.b.c",
        "x" * 9000,
        "ü",
        SECRET,
        PUBLISHABLE,
        f"Bearer {token()}",
        token(role="service_role", sub=None),
        token(role="anon", sub=None),
        token(exp=1),
        token(aud="somebody else"),
        token(iss="https://else.example.com"),
        f"{token()}; session_token={token(sub=str(OTHER))}",
        f"; session_token={token()}",
    ],
    ids=lambda value: value[:20],
)
async def test_what_is_no_users_session_opens_nothing(value: str) -> None:
    refused = await sessions()("GET", "/do", headers=cookie(f"session_token={value}"))
    assert (refused.fault, refused.procedure) == ((401, "unauthorized", None), "")


async def test_an_old_key_of_programs_is_no_session() -> None:
    key = legacy("service_role")
    settings = {"jwt_secret": "an hs256 secret of well over thirty-two bytes"}
    api = serve(handler(Mine, "GET /do"), verifier=verifier(service_role_key=key, **settings))
    assert (await api("GET", "/do", headers={"apikey": key})).status == 200
    refused = await api("GET", "/do", headers=cookie(f"session_token={key}"))
    assert (refused.fault, refused.procedure) == ((401, "unauthorized", None), "")


@pytest.mark.parametrize("header", ["authorization", "apikey"])
async def test_a_credential_in_a_header_wins_also_a_bad_one(header: str) -> None:
    session = ("cookie", f"session_token={token()}")
    for bad in ("", "Bearer nonsense", "nonsense", "Basic eA=="):
        refused = await sessions()("GET", "/do", headers=[(header, bad), session])
        assert (refused.fault, refused.procedure) == ((401, "unauthorized", None), ""), bad
    other = ("authorization", f"Bearer {token(sub=str(OTHER))}")
    assert (await sessions()("GET", "/do", headers=[other, session])).arguments["user_id"] == OTHER
    program = await sessions()("GET", "/do", headers=[("apikey", SECRET), session])
    assert program.arguments["user_id"] is None


async def test_a_session_names_no_other_customer() -> None:
    headers = cookie(f"session_token={token()}")
    api = sessions(on_behalf=True)
    assert (await api("GET", f"/do?user_id={OTHER}", headers=headers)).status == 403
    assert (await api("GET", f"/do?user_id={USER_ID}", headers=headers)).status == 200


# Nobody


def opened() -> Served:
    return serve(
        handler(Mine, "GET /do", callers=USERS | SERVICE | ANYBODY, open=True),
        verifier=verifier(publishable_keys=(PUBLISHABLE,), secret_keys=(SECRET,)),
    )


@pytest.mark.parametrize(("method", "path"), [("GET", "/do"), ("POST", "/functions/v1/do")])
async def test_an_open_route_serves_nobody_as_nobody(method: str, path: str) -> None:
    api, sent = opened(), {} if method == "POST" else None
    for headers in ({}, {"apikey": PUBLISHABLE}):
        answer = await api(method, path, sent, headers=headers)
        assert (answer.status, answer.arguments["user_id"]) == (200, None)
    user = await api(method, path, sent, headers={"authorization": f"Bearer {token()}"})
    assert user.arguments["user_id"] == USER_ID


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer nonsense"},
        {"authorization": ""},
        {"apikey": "sb_secret_unknown0000000000"},
        {"authorization": f"Bearer {token(exp=1)}"},
        {"cookie": "session_token=nonsense"},
    ],
    ids=str,
)
async def test_bad_credentials_are_not_as_good_as_none(headers: dict[str, str]) -> None:
    refused = await opened()("GET", "/do", headers=headers)
    assert (refused.fault, refused.procedure) == ((401, "unauthorized", None), "")


async def test_what_is_not_open_asks_for_credentials() -> None:
    api = serve(
        handler(Mine, "GET /do", callers=USERS | ANYBODY),
        verifier=verifier(publishable_keys=(PUBLISHABLE,)),
    )
    refused = await api("GET", "/do")
    assert refused.fault == (401, "unauthorized", None)
    assert refused.headers["www-authenticate"] == "Bearer"
    assert (await api("GET", "/do", headers={"apikey": PUBLISHABLE})).status == 200
