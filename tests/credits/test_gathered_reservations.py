"""internal.{reserve,settle,release}_credits_batch: each request of many is answered for itself."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.credits.bank import Bank
from tests.world import NOW

COST = D("0.00375")
"""Of 1,000 tokens of gpt-4o."""


def gathered(bank: Bank, what: str, *requests: dict[str, Any]) -> list[Any]:
    """What became of each request, in their order, as the gatherer sends them."""
    return bank.world.batch(f"internal.{what}_credits_batch", list(requests), None)


def reserve(bank: Bank, users: Iterable[UUID], **request: Any) -> list[str]:
    """One reservation for each of these users, in one call; their ids."""
    request = {"model": "gpt-4o", "max_tokens": 1000} | request
    outcomes = gathered(bank, "reserve", *({"user_id": user, **request} for user in users))
    assert [outcome.refusal for outcome in outcomes] == [None] * len(outcomes)
    return [outcome.answer["reservation_id"] for outcome in outcomes]


def codes(outcomes: list[Any]) -> list[str | None]:
    """The refusals' codes; None for who was answered."""
    return [outcome.refusal and outcome.refusal["code"] for outcome in outcomes]


def test_who_is_refused_a_reservation_leaves_the_neighbours_alone(bank: Bank) -> None:
    rich, poor, capped, keyed, other, odd, long = (bank.customer(1) for _ in range(7))
    bank.call("set_monthly_cap", user_id=capped, monthly_cap="0.001")
    for user in (keyed, other):
        reserve(bank, [user], idempotency_key="k")
    outcomes = gathered(
        bank,
        "reserve",
        {"user_id": rich, "model": "gpt-4o", "max_tokens": 1000},
        {"user_id": poor, "model": "gpt-4o", "max_tokens": 1_000_000},
        {"user_id": capped, "model": "gpt-4o", "max_tokens": 1000},
        {"user_id": keyed, "model": "gpt-4o", "max_tokens": 1000, "idempotency_key": "k"},
        {"user_id": other, "model": "gpt-4o", "max_tokens": 2000, "idempotency_key": "k"},
        {"user_id": odd, "model": "gpt-4o", "max_tokens": 0},
        {"user_id": long, "model": "m" * 201},
    )
    assert codes(outcomes) == [
        None,
        "insufficient_credits",
        "monthly_cap_reached",
        None,
        "nonce_reused",
        "invalid_amount",
        "invalid_body",
    ]
    assert [outcome.answer["replayed"] for outcome in outcomes if outcome.answer] == [False, True]
    users = (rich, poor, capped, keyed, other, odd, long)
    assert [bank.available(user) for user in users] == [1 - COST, 1, 1, 1 - COST, 1 - COST, 1, 1]
    assert bank.world.count("credit_reservations") == 3


def test_what_a_gathered_reservation_leaves_out_is_as_in_a_single_one(bank: Bank) -> None:
    one, two = bank.customer(1), bank.customer(1)
    bank.world.freeze(NOW)
    single = bank.call("reserve_credits", user_id=one, model="gpt-4o")
    [gathered_one] = gathered(bank, "reserve", {"user_id": two, "model": "gpt-4o"})
    answer = gathered_one.answer
    for told in (single, answer):
        told.pop("reservation_id")
        told["account"].pop("user_id")
    assert answer == single
    rows = bank.world.rows(
        "select power_level, tokens, by_user, expires_at, request_hash from credit_reservations"
    )
    assert rows[0] == rows[1]


def test_who_is_refused_a_settlement_leaves_the_neighbours_alone(bank: Bank) -> None:
    users = [bank.customer(1) for _ in range(6)]
    whole, part, more, gone, twice, another = users
    ids = reserve(bank, users)
    bank.call("release_credits", user_id=gone, reservation_id=ids[3])
    bank.call("settle_credits", user_id=twice, reservation_id=ids[4], tokens_used=10)
    outcomes = gathered(
        bank,
        "settle",
        {"user_id": whole, "reservation_id": ids[0], "tokens_used": 1000},
        {"user_id": part, "reservation_id": ids[1], "tokens_used": 400},
        {"user_id": more, "reservation_id": ids[2], "cost": 0.5},
        {"user_id": gone, "reservation_id": ids[3], "tokens_used": 10},
        {"user_id": twice, "reservation_id": ids[4], "tokens_used": 10},
        {"user_id": another, "reservation_id": ids[0], "tokens_used": 10},
        {"user_id": bank.customer(), "reservation_id": uuid4(), "tokens_used": 1, "cost": 1},
    )
    assert codes(outcomes) == [
        None,
        None,
        None,
        "reservation_closed",
        None,
        "reservation_not_found",
        "invalid_body",
    ]
    charges = [D(str(o.answer["charged"])) if o.answer else None for o in outcomes]
    assert charges[:3] == [COST, D("0.0015"), D("0.5")]
    assert outcomes[4].answer["replayed"] is True
    assert [bank.balance(user) for user in (whole, part, more)] == [
        1 - charge for charge in charges[:3] if charge
    ]
    assert [bank.available(user) for user in (gone, another)] == [1, 1 - COST]
    assert bank.world.count("usage_events") == 4
    for user, outcome in zip(users, outcomes, strict=False):
        if outcome.answer:
            assert outcome.answer["account"] == bank.world.value(
                "select internal.credit_account(%s)", (user,)
            )


def test_who_is_refused_a_release_leaves_the_neighbours_alone(bank: Bank) -> None:
    users = [bank.customer(1) for _ in range(4)]
    held, settled, again, another = users
    ids = reserve(bank, users)
    bank.call("settle_credits", user_id=settled, reservation_id=ids[1], tokens_used=10)
    bank.call("release_credits", user_id=again, reservation_id=ids[2])
    outcomes = gathered(
        bank,
        "release",
        {"user_id": held, "reservation_id": ids[0]},
        {"user_id": settled, "reservation_id": ids[1]},
        {"user_id": again, "reservation_id": ids[2]},
        {"user_id": another, "reservation_id": ids[3], "by_user": True},
    )
    assert codes(outcomes) == [None, "reservation_closed", None, "forbidden"]
    assert [outcome.answer["replayed"] for outcome in outcomes if outcome.answer] == [False, True]
    assert [bank.available(user) for user in users] == [
        1,
        bank.balance(settled),
        1,
        1 - COST,
    ]


def test_a_set_ends_no_hold_that_is_not_open(bank: Bank) -> None:
    users = [bank.customer(1), bank.customer(1)]
    ids = reserve(bank, users)
    bank.call("release_credits", user_id=users[1], reservation_id=ids[1])
    with pytest.raises(psycopg.errors.RaiseException, match="1 of 2 holds"):
        bank.world.admin.execute(
            "select ledger.close_holds(array(select h from ledger.holds as h), 'released')"
        )
    assert [bank.available(user) for user in users] == [1 - COST, 1]


def test_a_set_holds_nothing_that_does_not_fit(bank: Bank) -> None:
    users = [bank.customer(1), bank.customer(2)]
    with pytest.raises(psycopg.errors.RaiseException, match="1 of 2 holds"):
        bank.world.admin.execute(
            "select ledger.hold_many(array(select row(u, u, 'credits', 1500000, 0, 'held', 'test',"
            " u, now(), now(), null)::ledger.holds from unnest(%s) as u))",
            (users,),
        )
    assert [bank.available(user) for user in users] == [1, 2]
    assert bank.world.value("select count(*) from ledger.holds") == 0


def test_nobody_walks_through_the_holds_of_others(bank: Bank) -> None:
    reserve(bank, [bank.customer(1) for _ in range(300)])
    users = [bank.customer(1) for _ in range(3)]
    bank.world.admin.execute("analyze")
    ids = reserve(bank, users)
    read = "select idx_tup_fetch from pg_stat_user_tables where relname = 'holds'"

    def fetched() -> int:
        for session in (bank.world.functions, bank.world.admin):
            session.execute("select pg_stat_force_next_flush()")
        bank.world.admin.execute("select pg_stat_clear_snapshot()")
        return int(bank.world.value(read))

    before = fetched()
    gathered(
        bank,
        "settle",
        *(
            {"user_id": user, "reservation_id": reservation, "tokens_used": 10}
            for user, reservation in zip(users, ids, strict=True)
        ),
    )
    assert 3 <= fetched() - before <= 30
