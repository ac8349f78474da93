"""Amounts travel digit for digit: from a client, to the database, and back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tallybook import exact, logs
from tallybook.body import DECIMAL_DIGITS_MAX, Body, has_decimals
from tallybook.endpoint import endpoint
from tallybook.http import Handler
from tallybook.route import Route
from tests.corridor.doubles import Served, serve


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """One of many."""

    amount: Decimal
    account: str = msgspec.field(name="user_id", default="")


class Spend(Body):
    """What is spent."""

    amount: Decimal | None = None
    parts: list[Part] | None = None
    by_name: dict[str, Decimal] | None = None
    metadata: dict[str, Any] | None = None


class Plain(Body):
    """Nothing exact in it."""

    count: int = 0
    score: float = 0


def handler(**more: Any) -> Handler:
    return endpoint(Route(slug="do", procedure="do", body=Spend, **more))


def served(answer: Any = None, **more: Any) -> Served:
    return serve(handler(**more), answer=answer)


PATH = "/functions/v1/do"

# As PostgreSQL writes them, and none of them is a float.
NUMBERS = ["0.00375", "100.0", "9999999999.999999", "0.1", "-0.000001", "123456789012.000001"]
NUMBERS += ["0.30000000000000004", "1.10", "79228162514264337593543950335.123456"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_read_and_written_as_it_stands(number: str) -> None:
    raw = f'{{"a":{number},"b":[{number}]}}'.encode()
    assert exact.encode(exact.decode(raw)) == raw
    assert exact.decode(raw)["a"] == Decimal(number)


def test_a_whole_number_stays_one() -> None:
    found = exact.decode(b'{"points":10,"big":123456789012345678901234567890}')
    assert [type(value) for value in found.values()] == [int, int]
    assert exact.encode(found) == b'{"points":10,"big":123456789012345678901234567890}'


@pytest.mark.parametrize("number", NUMBERS)
async def test_an_answer_keeps_every_digit(number: str) -> None:
    answer = {"cost": Decimal(number), "points": 10, "parts": [{"cost": Decimal(number)}]}
    got = await served(answer)("POST", PATH, {})
    assert got.raw == f'{{"cost":{number},"points":10,"parts":[{{"cost":{number}}}]}}'.encode()


@pytest.mark.parametrize("number", [*NUMBERS, "1e-6", "1E+2", "5", "0", "-0.0"])
async def test_a_body_keeps_every_digit(number: str) -> None:
    api = served()
    plain = (
        f'{{"amount": {number}, "parts": [{{"amount": {number}}}], "by_name": {{"a": {number}}}}}'
    )
    quoted = f'{{"amount": "{number}", "parts": [{{"amount": "{number}"}}]}}'
    for sent in (plain, quoted):
        arguments = (await api("POST", PATH, sent.encode())).arguments
        assert arguments["amount"] == arguments["parts"][0].amount == Decimal(number)
        assert isinstance(arguments["amount"], Decimal)
    # And so to the database, when requests are gathered.
    payload = exact.encode([arguments["amount"]])
    assert json.loads(payload, parse_float=Decimal, parse_int=Decimal) == [Decimal(number)]


BAD = [
    '"NaN"',
    '"sNaN"',
    '"Infinity"',
    '"-inf"',
    "NaN",
    "-Infinity",
    '"1_000"',
    '" 1"',
    '"1 "',
    '"+1"',
    '".5"',
    '"01"',
    '"0x10"',
    '"\\u0661"',
    '"1,5"',
    '""',
    "true",
    "[1]",
    '{"a": 1}',
    "1e30",
    "1e999999999",
    "1e-31",
    "-1e999999999999999999999",
    "0e999999",
    "0e-999999",
    "1" * (DECIMAL_DIGITS_MAX + 1),
    "0." + "1" * 5_000,
]


@pytest.mark.parametrize("number", BAD, ids=lambda number: number[:12])
async def test_what_is_no_amount_is_refused_where_it_stands(number: str) -> None:
    api = served()
    for sent, path in (
        (f'{{"amount": {number}}}', "$.amount"),
        (f'{{"parts": [{{"amount": 1}}, {{"amount": {number}}}]}}', "$.parts[1].amount"),
    ):
        refused = await api("POST", PATH, sent.encode())
        assert (refused.fault, refused.procedure) == ((400, "invalid_body", path), "")
    refused = await api("POST", PATH, f'{{"by_name": {{"a": {number}}}}}'.encode())
    assert (refused.status, refused.procedure) == (400, "")


async def test_a_number_of_thousands_of_digits_is_not_even_read() -> None:
    refused = await served()("POST", PATH, b'{"amount": ' + b"1" * 60_000 + b"}")
    assert (refused.status, refused.procedure) == (400, "")


async def test_what_a_client_wants_to_keep_is_kept_as_before() -> None:
    sent = {"metadata": {"cost": 0.5, "tokens": 1000, "deep": [{"er": 1e300}], "user_id": "x"}}
    arguments = (await served()("POST", PATH, sent)).arguments
    assert arguments["metadata"] == sent["metadata"]
    assert isinstance(arguments["metadata"]["cost"], float)


def test_only_bodies_with_amounts_are_looked_through() -> None:
    assert has_decimals(Spend) and not has_decimals(Plain)


async def test_an_amount_in_a_log_is_a_number(capfd: pytest.CaptureFixture[str]) -> None:
    def line(_caller: Any, _body: Any, answer: Any) -> Any:
        return [("credits.spent", {"cost": answer["cost"], "odd": Decimal("NaN")})]

    await served({"cost": Decimal("0.00375")}, log=line)("POST", PATH, {})
    logs.flush()
    (written,) = capfd.readouterr().err.splitlines()
    assert '"cost":0.00375' in written
    assert json.loads(written)["odd"] == "NaN"
