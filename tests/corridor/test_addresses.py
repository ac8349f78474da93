"""Methods and templates under our own server: what is found, what is read, what is refused."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import msgspec
import pytest

from tallybook import metrics
from tallybook.body import Body, Key
from tallybook.endpoint import endpoint
from tallybook.http import Handler
from tallybook.paths import Address, Paths
from tallybook.query import ADDRESS_BYTES_MAX
from tallybook.route import SERVICE, USERS, Route
from tests.corridor.doubles import USER_ID, Served, ask, serve


class Page(Body):
    """A page of something."""

    kind: str | None = msgspec.field(name="type", default=None)
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    since: datetime | None = None
    amount: Decimal | None = None
    score: float | None = None
    wide: bool = False
    form: Literal["csv", "json"] = msgspec.field(name="format", default="json")


class One(Body):
    """One of them."""

    thing_id: UUID


class ByCode(Body):
    """One, by its code."""

    code: Key
    reason: str = ""


class Cap(Body):
    """A cap."""

    cap: Decimal | None = None


def handler(slug: str, body: type[Body], *paths: str, **more: Any) -> Handler:
    """A function that calls a procedure of its own name."""
    return endpoint(Route(slug=slug, procedure=slug, body=body, paths=paths, **more))


def served(**options: Any) -> Served:
    """A small API with one of everything."""
    return serve(
        handler("page", Page, "GET /things"),
        handler("one", One, "GET /things/{thing_id}"),
        handler("export", Page, "GET /things/export"),
        handler("cap", Body, "GET /cap"),
        handler("set_cap", Cap, "/cap", writes=True),
        handler("drop", ByCode, "DELETE /codes/{code}", writes=True),
        handler("use", ByCode, "POST /codes/{code}/uses", writes=True),
        **options,
    )


# What is found


async def test_a_path_answers_by_its_method() -> None:
    api = served()
    assert (await api("GET", "/cap")).procedure == "cap"
    assert (await api("POST", "/cap", {"cap": 5})).procedure == "set_cap"
    assert (await api("POST", "/functions/v1/cap", {})).procedure == "cap"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "TRACE", "get", "ANYTHING"])
async def test_another_method_is_told_all_that_there_are(method: str) -> None:
    api = served()
    refused = await api(method, "/cap")
    assert (refused.fault, refused.procedure) == ((405, "method_not_allowed", None), "")
    assert refused.headers["allow"] == "GET, POST, OPTIONS"
    assert (await api(method, "/codes/x")).headers["allow"] == "DELETE, OPTIONS"
    assert (await api(method, "/functions/v1/cap")).headers["allow"] == "POST, OPTIONS"
    assert refused.headers["x-request-id"]


async def test_a_method_nobody_serves_there_reaches_nobody_by_another_name() -> None:
    api = served()
    overridden = {"x-http-method-override": "DELETE"}
    assert (await api("POST", "/codes/x", {}, headers=overridden)).status == 405
    assert (await api("POST", "/things", {})).headers["allow"] == "GET, OPTIONS"


@pytest.mark.parametrize("path", ["/cap", "/things/7", "/codes/x", "/functions/v1/cap"])
async def test_a_preflight_needs_no_token_and_no_method(path: str) -> None:
    api = served(TALLYBOOK_CORS_ORIGINS="https://app.example.com")
    answer = await api("OPTIONS", path, headers={"origin": "https://app.example.com"})
    assert (answer.status, answer.raw, answer.procedure) == (204, b"", "")
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE, OPTIONS"
    assert "access-control-allow-credentials" not in answer.headers


async def test_what_is_written_out_wins_over_a_template() -> None:
    api, thing = served(), uuid4()
    assert (await api("GET", "/things/export?format=csv")).procedure == "export"
    one = await api("GET", f"/things/{thing}")
    assert (one.procedure, one.arguments) == ("one", {"thing_id": thing, "user_id": USER_ID})


@pytest.mark.parametrize(
    "path",
    [
        *("/things/", "/things//", "//things", "/things/7/more", "/codes/", "/codes"),
        *("/things/../cap", "/things/%2e%2e/cap", "/things/..%2fcap", "/codes/a%2Fb"),
        *("/cap/", "/Cap", "/nothing"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_nothing_else_is_found(path: str, method: str) -> None:
    answer = await served()(method, path, {} if method == "POST" else None)
    assert (answer.fault, answer.procedure) == ((404, "not_found", None), "")


@pytest.mark.parametrize("segment", ["..", ".", "export2", "%2e%2e", "1", "%00", "a%0Ab", "{id}"])
async def test_a_segment_is_what_the_field_says(segment: str) -> None:
    refused = await served()("GET", f"/things/{segment}")
    assert (refused.status, refused.body["code"], refused.procedure) == (400, "invalid_body", "")


async def test_metrics_know_the_template_and_never_the_path() -> None:
    api, thing = served(), uuid4()
    for method in ("GET", "PUT", "OPTIONS"):
        await api(method, f"/things/{thing}")
    await api("DELETE", "/codes/secret-code-7")
    text = metrics.text().decode()
    assert 'path="/things/{thing_id}",status="200"' in text
    assert 'path="/things/{thing_id}",status="405"' in text
    assert 'path="/codes/{code}"' in text
    assert str(thing) not in text and "secret-code-7" not in text


# What is read


async def test_a_query_fills_the_same_body() -> None:
    query = "type=usage&limit=5&since=2026-03-01T00:00:00%2B01:00&amount=0.10&wide=true&format=csv"
    by_query = await served()("GET", f"/things?{query}")
    by_body = await served()(
        "POST",
        "/functions/v1/page",
        b'{"type": "usage", "limit": 5, "since": "2026-03-01T00:00:00+01:00", "amount": 0.10,'
        b' "wide": true, "format": "csv"}',
    )
    assert by_query.arguments == by_body.arguments
    assert by_query.arguments == {
        "user_id": USER_ID,
        "kind": "usage",
        "limit": 5,
        "since": datetime.fromisoformat("2026-03-01T00:00:00+01:00"),
        "amount": Decimal("0.10"),
        "wide": True,
        "form": "csv",
    }
    assert str(by_query.arguments["amount"]) == str(by_body.arguments["amount"]) == "0.10"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("", None),
        ("?", None),
        ("?&&", None),
        ("?type=", ""),
        ("?type", ""),
        ("?type=a=b", "a=b"),
        ("?type=a+b", "a b"),
        ("?type=a%2Bb", "a+b"),
        ("?type=%C3%BC", "ü"),
        ("?ty%70e=x", "x"),
        ("?type=null", "null"),
        ("?type=5", "5"),
        ("?type=a;limit=3", "a;limit=3"),
    ],
)
async def test_a_text_in_a_query_is_that_text(query: str, kind: str | None) -> None:
    answer = await served()("GET", f"/things{query}")
    assert (answer.status, answer.arguments.get("kind")) == (200, kind)
    assert answer.arguments["limit"] == 50


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=", "$.limit"),
        ("limit", "$.limit"),
        ("limit=five", "$.limit"),
        ("limit=%205", "$.limit"),
        ("limit=0", "$.limit"),
        ("limit=101", "$.limit"),
        ("limit=1_0", "$.limit"),
        ("limit=1.5", "$.limit"),
        ("limit=5&limit=5", "$.limit"),
        ("limit=5&lim%69t=6", "$.limit"),
        ("limit[]=5", '$["limit[]"]'),
        ("LIMIT=5", "$.LIMIT"),
        ("kind=usage", "$.kind"),  # the attribute's name, and not the field's
        ("procedure=x", "$.procedure"),
        ("p_user_id=x", "$.p_user_id"),
        ("=x", '$[""]'),
        ("wide=yes", "$.wide"),
        ("wide=", "$.wide"),
        ("format=xml", "$.format"),
        ("since=yesterday", "$.since"),
        ("since=2026", "$.since"),
        ("since=1.5", "$.since"),
        ("since=", "$.since"),
        ("amount=", "$.amount"),
        ("amount=NaN", "$.amount"),
        ("amount=-Infinity", "$.amount"),
        ("amount=1_000", "$.amount"),
        ("amount=%D9%A1", "$.amount"),
        ("amount=%201", "$.amount"),
        ("amount=1e31", "$.amount"),
        ("amount=1e-31", "$.amount"),
        ("amount=1e999999999", "$.amount"),
        ("score=nan", "$.score"),
        ("score=-inf", "$.score"),
        ("score=1e999", "$.score"),
        ("type=%00", "$.type"),
        ("type=%", "$.type"),
        ("type=%4", "$.type"),
        ("type=%zz", "$.type"),
        ("type=%FF", "$.type"),
        ("type=%ED%A0%80", "$.type"),
        ("type=%C0%80", "$.type"),
        ("%FF=1", "$"),
        ("a%00b=1", "$"),
    ],
)
async def test_a_faulty_query_is_refused_before_the_database(query: str, path: str) -> None:
    refused = await served()("GET", f"/things?{query}")
    assert (refused.fault, refused.procedure) == ((400, "invalid_body", path), "")


async def test_raw_bytes_in_a_query_are_refused() -> None:
    assert (await served()("GET", b"/things?type=\xff")).fault == (400, "invalid_body", "$.type")
    assert (await served()("GET", b"/things?type=\x00")).fault == (400, "invalid_body", "$.type")


async def test_a_query_has_an_end() -> None:
    fits = "type=" + "x" * (ADDRESS_BYTES_MAX - 5)
    assert (await served()("GET", f"/things?{fits}")).status == 200
    assert (await served()("GET", f"/things?{fits}y")).fault == (400, "invalid_body", "$")
    assert (await served()("GET", "/things?" + "a=1&" * 5000)).fault == (400, "invalid_body", "$")
    long = "x" * ADDRESS_BYTES_MAX
    assert (await served()("DELETE", f"/codes/{long}")).fault == (400, "invalid_body", "$")


async def test_a_path_and_a_query_fill_one_body() -> None:
    answer = await served()("DELETE", "/codes/SAVE%2050+?reason=old", headers={"x-request-id": "r"})
    assert answer.arguments == {
        "user_id": USER_ID,
        "code": "SAVE 50+",
        "reason": "old",
        "request_id": "r",
    }


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/codes/a?code=a", "$.code"),
        ("/codes/a?code=b", "$.code"),
        ("/codes/%FF", "$"),
        ("/codes/%E2%28%A1", "$"),
        ("/codes/%", "$"),
        ("/codes/%zz", "$"),
        ("/codes/%00", "$"),
        ("/codes/" + "x" * 201, "$.code"),
    ],
)
async def test_a_path_is_read_as_strictly(target: str, path: str) -> None:
    refused = await served()("DELETE", target)
    assert (refused.fault, refused.procedure) == ((400, "invalid_body", path), "")


@pytest.mark.parametrize("headers", [{}, {"transfer-encoding": "chunked"}], ids=str)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_body_that_nobody_reads_is_refused(method: str, headers: dict[str, str]) -> None:
    sent = None if headers else b'{"reason": "unread"}'
    target = "/things" if method == "GET" else "/codes/x"
    refused = await served()(method, target, sent, headers=headers)
    assert (refused.fault, refused.procedure) == ((400, "invalid_body", "$"), "")
    nothing = {"content-length": "0"}
    assert (await served()(method, target, headers=nothing)).status == 200


async def test_a_path_adds_to_a_body_that_is_posted() -> None:
    api = served()
    answer = await api("POST", "/codes/SAVE50/uses?reason=ignored", {"reason": "why"})
    assert (answer.arguments["code"], answer.arguments["reason"]) == ("SAVE50", "why")
    said = await api("POST", "/codes/SAVE50/uses", {"code": "SAVE50"})
    assert (said.fault, said.procedure) == ((400, "invalid_body", "$.code"), "")
    # Who has nothing to say beside the path sends nothing.
    answer = await api("POST", "/codes/SAVE50/uses", b"")
    assert (answer.status, answer.arguments["code"]) == (200, "SAVE50")
    for sent in (b" ", b"{", b"[]", b"null", b'{"a": NaN}', b"\xff"):
        assert (await api("POST", "/codes/SAVE50/uses", sent)).status == 400, sent
    assert (await api("POST", "/codes/SAVE50/uses", b'{"reason":"\\u0000"}')).fault == (
        *(400, "invalid_body"),
        "$.reason",
    )
    assert (await api("POST", "/codes/%00/uses", {})).status == 400


async def test_a_get_is_never_kept_by_anybody_between() -> None:
    assert (await served()("GET", "/cap")).headers["cache-control"] == "no-store"
    assert "cache-control" not in (await served()("POST", "/cap", {})).headers


# By itself, without our server


async def test_a_function_by_itself_answers_to_post_alone() -> None:
    alone = handler("page", Page, "GET /things")
    assert (await ask(alone, {"limit": 3})).arguments["limit"] == 3
    refused = await ask(alone, {}, method="GET")
    assert (refused.fault, refused.procedure) == ((405, "method_not_allowed", None), "")
    assert refused.headers["allow"] == "POST, OPTIONS"
    assert (await ask(alone, {}, method="DELETE")).status == 405


# What may be declared


@pytest.mark.parametrize(
    "text",
    [
        "PUT /a",
        "get /a",
        "GET a",
        "GET  /a",
        "GET",
        "",
        "a",
        "GET /a b",
        "/a/{b}c",
        "/a/{}",
        "/a//b",
        "/a/",
        "/a/{B}",
        "/a/{b}/{b}",
        "/a?b",
        "/a/{b",
    ],
)
def test_an_address_is_a_method_and_a_path(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


def test_a_path_alone_means_post() -> None:
    assert Address.parse("/api/redeem") == Address("POST", "/api/redeem")
    assert Address.parse("DELETE /a/{b}/c/{d}").parameters == ("b", "d")


def test_no_two_are_served_at_one_address() -> None:
    paths: Paths[int] = Paths()
    paths.add(Address.parse("GET /a/{b}"), 1)
    paths.add(Address.parse("DELETE /a/{b}"), 2)
    for text in ("GET /a/{b}", "GET /a/{c}", "POST /a/{c}"):
        with pytest.raises(ValueError):
            paths.add(Address.parse(text), 3)


def test_of_two_templates_the_one_that_is_longer_written_out() -> None:
    for order in (1, -1):
        paths: Paths[str] = Paths()
        for text in ["/a/{b}/c", "/a/x/{d}", "/{e}/x/c"][::order]:
            paths.add(Address.parse(text), text)
        found = paths.find("/a/x/c")
        assert found is not None
        assert (found[0].template, found[1]) == ("/a/x/{d}", {"d": "c"})


class NamesTheUser(Body):
    user_id: UUID


class NamesTheAddress(Body):
    ip_address: str


class CustomerUnderItsOwnName(Body):
    customer: UUID | None = None


ANON = frozenset({"anon"})


@pytest.mark.parametrize(
    "declared",
    [
        {"paths": ("GET /a",), "writes": True},
        {"paths": ("GET /a",), "body": ByCode, "key": "code"},
        {"paths": ("GET /a",), "attested": True},
        {"paths": ("GET /a/{nothing}",)},
        {"paths": ("GET /a/{kind}",)},
        {"body": ByCode, "key": "nothing"},
        {"consumed": frozenset({"nothing"})},
        {"body": NamesTheUser},
        {"body": NamesTheAddress},
        {"on_behalf": True},
        {"on_behalf": True, "body": CustomerUnderItsOwnName},
        {"open": True},
        {"callers": ANON, "writes": True},
        {"callers": USERS | SERVICE | ANON, "body": ByCode, "key": "code"},
    ],
    ids=str,
)
def test_what_would_open_a_door_is_not_declared(declared: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Route(**{"slug": "do", "procedure": "do", "body": Page, **declared})
