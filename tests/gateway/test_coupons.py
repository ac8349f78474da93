"""coupons/* over HTTP: a code is worth something at its partner's till, and once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tallybook import logs
from tallybook.coupon_code import new_code
from tests.conftest import Database
from tests.gateway.client import Client, administrator, member, service
from tests.stack import Stack, running
from tests.world import World

PARTNER = "coffee-house"
CONSUMERS = 20


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@dataclass(frozen=True)
class Bought:
    """A coupon that somebody bought, and the code they were shown."""

    owner: Client
    coupon_id: str
    code: str


@pytest.fixture
def bought(stack: Stack, world: World) -> Bought:
    """A coupon of PARTNER, for all of its owner's 500 points."""
    template = world.template(cost=500)
    world.operator.execute(
        "update coupon_templates set partner_id = %s where template_id = %s", (PARTNER, template)
    )
    owner = Client(stack, user=world.user(points=500))
    shown = owner.redeem(template).json()
    return Bought(owner, shown["coupon_id"], shown["coupon_code"])


@pytest.fixture
def till(stack: Stack, world: World) -> Client:
    """Somebody who works for PARTNER."""
    return member(stack, world, PARTNER)


def coupons(client: Client, what: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return client.post(f"/functions/v1/coupons/{what}", body, **headers)


def verify(client: Client, code: str, **fields: Any) -> httpx.Response:
    return coupons(client, "verify", {"code": code, **fields})


def consume(client: Client, code: str, key: str | None = None, **fields: Any) -> httpx.Response:
    body = {"code": code, "idempotency_key": key or uuid4().hex, **fields}
    return coupons(client, "consume", body)


def outcome(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("code")


NOT_VALID = (404, "coupon_not_valid")


# At the till


def test_a_coupon_is_looked_at_and_used_once(till: Client, world: World, bought: Bought) -> None:
    looked = verify(till, bought.code.lower().replace("-", " "))
    assert (looked.status_code, looked.json()["valid"]) == (200, True)
    assert looked.json()["coupon_id"] == bought.coupon_id

    used = consume(till, bought.code, "sale-1", redemption_proof={"receipt": 17})
    assert (used.status_code, used.json()["status"]) == (200, "redeemed")
    assert "idempotent-replayed" not in used.headers
    again = consume(till, bought.code, "sale-1")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.json() == used.json()

    assert outcome(consume(till, bought.code, "sale-2")) == NOT_VALID
    assert outcome(verify(till, bought.code)) == NOT_VALID
    (row,) = world.rows("select status, redemption_proof from coupons")
    assert tuple(row.values()) == ("redeemed", {"receipt": 17})


def test_a_partners_own_program_uses_coupons_too(stack: Stack, bought: Bought) -> None:
    assert verify(service(stack), bought.code).json()["valid"] is True
    assert consume(service(stack), bought.code).status_code == 200


def test_the_owner_sees_how_it_stands_and_uses_it_nowhere(till: Client, bought: Bought) -> None:
    assert verify(bought.owner, bought.code).json()["valid"] is True
    assert outcome(consume(bought.owner, bought.code)) == (403, "forbidden")
    consume(till, bought.code)
    stands = verify(bought.owner, bought.code)
    assert (stands.status_code, stands.json()["valid"]) == (200, False)
    assert stands.json()["status"] == "redeemed"


def test_of_many_at_once_one_uses_it(till: Client, world: World, bought: Bought) -> None:
    # Few enough that whoever is late is refused for being late, and not for guessing.
    with ThreadPoolExecutor(CONSUMERS) as pool:
        answers = list(
            pool.map(lambda n: consume(till, bought.code, f"sale-{n % 8}"), range(CONSUMERS))
        )
    fresh = [a for a in answers if a.status_code == 200 and "idempotent-replayed" not in a.headers]
    assert len(fresh) == 1
    assert {outcome(a) for a in answers if a.status_code != 200} <= {
        NOT_VALID,
        (429, "rate_limited"),
    }
    assert world.count("coupons", "status = 'redeemed'") == 1


def test_a_held_coupon_waits_for_who_holds_it(
    stack: Stack, till: Client, world: World, bought: Bought
) -> None:
    other = member(stack, world, PARTNER)
    body = {"code": bought.code, "idempotency_key": "sale-1", "hold_seconds": 60}
    held = coupons(till, "hold", body)
    assert (held.status_code, held.json()["status"]) == (200, "held")
    again = coupons(till, "hold", body)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == held.json()
    assert outcome(consume(other, bought.code)) == NOT_VALID
    wrong = consume(till, bought.code, "sale-2")
    assert outcome(wrong) == (409, "coupon_held")
    assert wrong.json()["details"] == {"path": "$.idempotency_key"}

    letting_go = {"code": bought.code, "idempotency_key": "sale-1"}
    assert coupons(till, "release", letting_go).json()["status"] == "issued"
    assert consume(other, bought.code).status_code == 200


# Guessing


def test_every_code_that_is_not_ones_to_use_gets_the_same_answer(
    stack: Stack, till: Client, world: World, bought: Bought
) -> None:
    elsewhere = member(stack, world, "another-house")
    told = [
        *(verify(till, code) for code in (new_code(), "no code at all", bought.code[:-1] + "U")),
        verify(Client(stack), bought.code),
        verify(elsewhere, bought.code),
        consume(elsewhere, bought.code),
    ]
    bodies = [answer.json() for answer in told]
    for body in bodies:
        for name in ("request_id", "instance"):
            del body[name]
    assert all(body == bodies[0] for body in bodies)
    assert {outcome(answer) for answer in told} == {NOT_VALID}


def test_wrong_codes_are_counted_though_they_are_refused(stack: Stack, bought: Bought) -> None:
    guesser = Client(stack)
    guesses = []
    for number in range(100):
        # A malformed code counts like any other that nobody has.
        guesses.append(verify(guesser, new_code() if number % 2 else "hello"))
        if guesses[-1].status_code != 404:
            break
    last = guesses[-1]
    assert outcome(last) == (429, "rate_limited")
    assert {outcome(answer) for answer in guesses[:-1]} == {NOT_VALID}
    quota = len(guesses) - 1
    seconds = int(last.headers["retry-after"])
    policy = last.headers["ratelimit-policy"]
    assert policy.startswith('"') and f";q={quota};w=" in policy
    assert last.headers["ratelimit"].endswith(f";r=0;t={seconds}")
    assert 0 < seconds <= int(policy.rpartition("=")[2])
    assert (last.json()["details"], last.json()["retryable"]) == (None, True)
    # Not even the right code is heard now, from there; everybody else's is.
    assert outcome(consume(guesser, bought.code)) == (429, "rate_limited")
    assert verify(bought.owner, bought.code).status_code == 200


# What administrators do


def by_hand(client: Client, what: str, coupon: str, **fields: Any) -> httpx.Response:
    body = {"coupon_id": coupon, "reason": "It was stolen.", **fields}
    return coupons(client, what, body, x_request_id="req-7")


def test_a_revoked_coupon_is_worth_nothing_and_its_points_come_back(
    stack: Stack, till: Client, world: World, bought: Bought
) -> None:
    admin = administrator(stack, world)
    answer = by_hand(admin, "revoke", bought.coupon_id, refund=True)
    assert (answer.status_code, answer.json()["status"]) == (200, "revoked")
    assert world.points(bought.owner.user) == 500
    assert outcome(consume(till, bought.code)) == NOT_VALID
    again = by_hand(admin, "revoke", bought.coupon_id, refund=True)
    assert (again.json(), again.headers["idempotent-replayed"]) == (answer.json(), "true")
    assert outcome(by_hand(admin, "revoke", bought.coupon_id)) == (409, "coupon_revoked")
    other = by_hand(admin, "refund", bought.coupon_id, reason="It was sold.")
    assert outcome(other) == (409, "coupon_refunded")
    written = world.rows("select actor, reason from audit_log where request_id = 'req-7'")
    assert written
    assert {(row["actor"], row["reason"]) for row in written} == {
        (f"{admin.user}@example.com", "It was stolen.")
    }


def test_without_a_refund_the_points_stay_spent(stack: Stack, world: World, bought: Bought) -> None:
    assert by_hand(service(stack), "revoke", bought.coupon_id).status_code == 200
    assert world.points(bought.owner.user) == 0
    assert by_hand(service(stack), "refund", bought.coupon_id).status_code == 200
    assert world.points(bought.owner.user) == 500


@pytest.mark.parametrize("what", ["revoke", "refund"])
def test_only_administrators_do(
    stack: Stack, till: Client, world: World, bought: Bought, what: str
) -> None:
    former = administrator(stack, world, active=False)
    for client in (till, bought.owner, former):
        assert outcome(by_hand(client, what, bought.coupon_id)) == (403, "forbidden")
    admin = administrator(stack, world)
    assert outcome(by_hand(admin, what, str(uuid4()))) == (404, "coupon_not_found")
    blank = by_hand(admin, what, bought.coupon_id, reason=" ")
    assert outcome(blank) == (400, "reason_required")
    assert blank.json()["details"] == {"path": "$.reason"}
    assert world.points(bought.owner.user) == 0
    assert world.count("coupons", "status = 'issued'") == 1


# What is kept, and what is not


def test_the_code_is_written_nowhere(
    till: Client, world: World, bought: Bought, capfd: pytest.CaptureFixture[str]
) -> None:
    mistyped = bought.code[:-1] + "U"
    coupons(till, "hold", {"code": bought.code, "idempotency_key": "sale-1"})
    for code in (mistyped, bought.code):
        verify(till, code)
        consume(till, code, "sale-1")
    logs.flush()
    written = "".join(capfd.readouterr())
    events = {json.loads(line)["event"] for line in written.splitlines() if line.startswith("{")}
    assert {"points.coupon.held", "points.coupon.verified", "points.coupon.consumed"} <= events
    spellings = [
        spelling for code in (mistyped, bought.code) for spelling in (code, code.replace("-", ""))
    ]
    assert not [spelling for spelling in spellings if spelling in written]
    for table in world.rows(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables"
        " where schemaname in ('public', 'ledger', 'internal')"
    ):
        for row in world.rows(f"select t::text as text from {table['name']} as t"):
            assert not [each for each in spellings if each in row["text"]], table["name"]


def test_a_wrong_code_counts_on_the_device_as_well(stack: Stack, world: World) -> None:
    """Not the user alone: an account is made quickly."""
    device, guesser = uuid4().hex, Client(stack)
    for _ in range(3):
        assert outcome(verify(guesser, "hello", device_id=device)) == NOT_VALID
    counted = world.rows("select scope, failures from coupon_attempts order by scope")
    assert [tuple(row.values()) for row in counted] == [("device", 3), ("user", 3)]
