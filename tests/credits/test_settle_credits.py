"""public.settle_credits: what a call came to is charged out of what was reserved for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import NOW, Connection, code_of, refused

MINUTE = timedelta(minutes=1)


def reserve(bank: Bank, user: UUID, **request: Any) -> str:
    """Reserve, by default for 1000 tokens of gpt-4o, which cost 0.00375; the reservation's id."""
    request = {"user_id": user, "model": "gpt-4o", "max_tokens": 1000} | request
    reservation_id: str = bank.call("reserve_credits", **request)["reservation_id"]
    return reservation_id


def settle(
    bank: Bank, user: UUID, reservation: str, through: Connection | None = None, **request: Any
) -> Any:
    """Settle as the functions do."""
    request = {"user_id": user, "reservation_id": reservation} | request
    return bank.call("settle_credits", through, **request)


def hold_of(bank: Bank, reservation: str) -> tuple[str, int]:
    """What became of the hold, and how much of it was settled."""
    (row,) = bank.world.rows(
        "select status, settled from ledger.holds where hold_id = %s", (reservation,)
    )
    return row["status"], row["settled"]


def usage(bank: Bank, user: UUID) -> list[tuple[Any, ...]]:
    """Every use: transaction, model, tokens, cost, success."""
    return [
        (str(row["transaction_id"]), row["model"], row["tokens_used"], row["cost"], row["success"])
        for row in bank.world.rows(
            "select * from usage_events where user_id = %s order by created_at, id", (user,)
        )
    ]


def spent(bank: Bank, user: UUID) -> float:
    """What this month's usage cost, as its user is told."""
    cost: float = bank.call("monthly_cap", user_id=user)["spent"]
    return cost


def expire(bank: Bank, through: Connection | None = None) -> Any:
    """Give back every hold whose time is up, as the worker does."""
    return bank.call("expire_holds", through or bank.world.worker)["expired"]


# It does


def test_what_was_used_is_charged_and_the_rest_given_back(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    assert settle(bank, user, reservation, tokens_used=400) == {
        "transaction_id": reservation,
        "cost": 0.0015,
        "charged": 0.0015,
        "released": 0.00225,
        "shortfall": 0.0,
        "new_balance": 0.9985,
        "account": {
            "user_id": str(user),
            "balance": 0.9985,
            "tier": "free",
            "monthly_cap": None,
            "version": 2,
        },
        "replayed": False,
    }
    assert (bank.balance(user), bank.available(user)) == (D("0.9985"), D("0.9985"))
    assert bank.statement(user) == [
        ("bonus", D(1), D(1)),
        ("usage", D("-0.0015"), D("0.9985")),
    ]
    assert hold_of(bank, reservation) == ("settled", 1500)
    assert usage(bank, user) == [(reservation, "gpt-4o", 400, D("0.0015"), True)]
    assert spent(bank, user) == 0.0015


def test_the_transaction_tells_what_was_used_and_what_both_said_of_it(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user, provider="openai", metadata={"a": 1, "b": 1})
    settle(bank, user, reservation, tokens_used=400, metadata={"b": 2}, request_id="r1")
    (row,) = bank.world.rows("select * from credit_transactions where id = %s", (reservation,))
    told = {
        name: row[name]
        for name in ("provider", "model", "power_level", "tokens_used", "metadata", "request_id")
    }
    assert told == {
        "provider": "openai",
        "model": "gpt-4o",
        "power_level": "balanced",
        "tokens_used": 400,
        "metadata": {"a": 1, "b": 2},
        "request_id": "r1",
    }


def test_the_price_is_the_one_at_which_it_was_reserved(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservation = reserve(bank, user, power_level="precision")
    bank.world.admin.execute(
        "update user_credits set tier = 'enterprise' where user_id = %s", (user,)
    )
    bank.world.admin.execute(
        "insert into pricing_versions (version, effective_from, default_price)"
        " values (2, internal.clock(), 9)"
    )
    assert settle(bank, user, reservation, tokens_used=1000)["cost"] == 0.015


def test_a_program_may_say_the_cost(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user, max_cost="0.003")
    answer = settle(bank, user, reservation, cost="0.001")
    assert (answer["cost"], answer["released"], answer["new_balance"]) == (0.001, 0.002, 0.999)
    assert usage(bank, user) == [(reservation, "gpt-4o", 0, D("0.001"), True)]


def test_without_a_known_price_tokens_cost_the_default_one(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user, model="never-heard-of")
    assert settle(bank, user, reservation, tokens_used=1000)["cost"] == 0.0025


@pytest.mark.parametrize(
    "used", [{"tokens_used": 0}, {"cost": 0}, {"success": False}, {"cost": "0.0000004"}]
)
def test_what_cost_nothing_is_given_back_and_written_down(bank: Bank, used: dict[str, Any]) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    answer = settle(bank, user, reservation, **used)
    assert (answer["charged"], answer["released"], answer["new_balance"]) == (0.0, 0.00375, 1.0)
    assert bank.available(user) == 1
    assert hold_of(bank, reservation) == ("settled", 0)
    assert bank.statement(user)[1:] == [("usage", D(0), D(1))]
    assert usage(bank, user) == [(reservation, "gpt-4o", 0, D(0), used.get("success", True))]


def test_a_call_that_failed_pays_for_what_it_used(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    assert settle(bank, user, reservation, tokens_used=100, success=False)["charged"] == 0.000375
    assert usage(bank, user) == [(reservation, "gpt-4o", 100, D("0.000375"), False)]


def test_what_is_free_is_settled_by_who_has_nothing(bank: Bank) -> None:
    user = uuid4()
    reservation = reserve(bank, user, model="llama3-8b-local")
    answer = settle(bank, user, reservation, tokens_used=700)
    assert (answer["charged"], answer["shortfall"], answer["new_balance"]) == (0.0, 0.0, 0.0)
    assert usage(bank, user) == [(reservation, "llama3-8b-local", 700, D(0), True)]
    assert bank.statement(user) == [("usage", D(0), D(0))]


# More than was reserved


def test_what_costs_more_is_taken_from_what_is_available(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    answer = settle(bank, user, reservation, tokens_used=2000)
    assert (answer["cost"], answer["charged"], answer["released"], answer["shortfall"]) == (
        0.0075,
        0.0075,
        0.0,
        0.0,
    )
    assert (bank.balance(user), bank.available(user)) == (D("0.9925"), D("0.9925"))
    assert hold_of(bank, reservation) == ("settled", 3750)


def test_what_cannot_be_had_is_told_and_kept(bank: Bank) -> None:
    user = bank.customer("0.005")
    reservation = reserve(bank, user)
    answer = settle(bank, user, reservation, tokens_used=2000)
    assert (answer["cost"], answer["charged"], answer["shortfall"], answer["new_balance"]) == (
        0.0075,
        0.005,
        0.0025,
        0.0,
    )
    (row,) = bank.world.rows("select * from credit_transactions where id = %s", (reservation,))
    assert (row["cost"], row["amount"]) == (D("0.0075"), D("-0.005"))
    assert bank.balance(user) == 0
    assert spent(bank, user) == 0.005


def test_what_is_reserved_for_another_call_is_not_taken(bank: Bank) -> None:
    user = bank.customer("0.008")
    first, second = reserve(bank, user), reserve(bank, user)
    answer = settle(bank, user, first, tokens_used=9000)
    assert (answer["charged"], answer["new_balance"]) == (0.00425, 0.00375)
    assert settle(bank, user, second, tokens_used=1000)["shortfall"] == 0.0


def test_what_costs_more_stays_within_the_cap(bank: Bank) -> None:
    user = bank.customer(1)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.01")
    first, second = reserve(bank, user), reserve(bank, user)
    answer = settle(bank, user, first, tokens_used=9000)
    assert (answer["charged"], answer["shortfall"]) == (0.00625, 0.0275)
    settle(bank, user, second, tokens_used=1000)
    assert spent(bank, user) == 0.01


def test_a_cap_that_was_lowered_does_not_touch_what_is_reserved(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.001")
    answer = settle(bank, user, reservation, tokens_used=2000)
    assert (answer["charged"], answer["shortfall"]) == (0.00375, 0.00375)


def test_what_was_free_and_cost_something_is_charged_too(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user, model="llama3-8b-local")
    assert settle(bank, user, reservation, cost="0.25")["new_balance"] == 0.75
    nobody = uuid4()
    reservation = reserve(bank, nobody, model="llama3-8b-local")
    answer = settle(bank, nobody, reservation, cost="0.25")
    assert (answer["charged"], answer["shortfall"]) == (0.0, 0.25)


def test_an_account_that_may_owe_owes_what_costs_more(bank: Bank) -> None:
    user = bank.customer("0.005")
    bank.world.admin.execute(
        "update ledger.accounts set floor = -1000000 where book_id = %s", (user,)
    )
    reservation = reserve(bank, user, max_cost="0.003")
    answer = settle(bank, user, reservation, cost="0.105")
    assert (answer["new_balance"], answer["shortfall"]) == (-0.1, 0.0)


# Time passes


def test_what_is_reserved_is_charged_though_its_lot_has_ended(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1, expires_at=NOW + MINUTE)
    reservation = reserve(bank, user)
    bank.world.pass_time(2 * MINUTE)
    # Of the lot that has ended there is only what was reserved.
    answer = settle(bank, user, reservation, tokens_used=2000)
    assert (answer["charged"], answer["new_balance"]) == (0.00375, 0.0)
    assert set(bank.statement(user)[1:]) == {
        ("expiry", D("-0.99625"), D("0.00375")),
        ("usage", D("-0.00375"), D(0)),
    }


def test_usage_counts_in_the_month_in_which_it_is_settled(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 3, 31, 23, 55, tzinfo=UTC))
    user = bank.customer(1)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.0075")
    first, second = reserve(bank, user), reserve(bank, user)
    settle(bank, user, first, tokens_used=1000)
    bank.world.freeze(datetime(2026, 4, 1, 0, 1, tzinfo=UTC))
    # What was reserved in March counts in April, so only half of April's cap is free.
    reserve(bank, user, max_tokens=900)
    with refused("monthly_cap_reached", 429):
        reserve(bank, user)
    settle(bank, user, second, tokens_used=1000)
    assert spent(bank, user) == 0.00375
    assert bank.world.rows(
        "select month::text, cost from usage_rollups where user_id = %s order by month", (user,)
    ) == [
        {"month": "2026-03-01", "cost": D("0.00375")},
        {"month": "2026-04-01", "cost": D("0.00375")},
    ]


def test_what_nobody_has_taken_back_yet_can_be_settled(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservation = reserve(bank, user)
    bank.world.pass_time(11 * MINUTE)
    assert settle(bank, user, reservation, tokens_used=1000)["charged"] == 0.00375
    assert expire(bank) == 0


def test_what_was_forgotten_can_be_spent_again(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer("0.00375")
    forgotten = reserve(bank, user)
    with refused("insufficient_credits", 402):
        reserve(bank, user)
    bank.world.pass_time(10 * MINUTE)
    assert expire(bank) == 1
    assert bank.available(user) == D("0.00375")
    reserve(bank, user)
    with refused("reservation_closed", 409, "reservation_id: it was expired"):
        settle(bank, user, forgotten, tokens_used=1000)


def test_what_is_free_expires_by_the_clock(bank: Bank) -> None:
    bank.world.freeze()
    user = uuid4()
    reservation = reserve(bank, user, model="llama3-8b-local", expires_in_seconds=60)
    bank.world.pass_time(MINUTE)
    with refused("reservation_closed", 409, "reservation_id: it was expired"):
        settle(bank, user, reservation, tokens_used=1)


# It replays


@pytest.mark.parametrize(
    "request_",
    [
        {"tokens_used": 400},
        {"tokens_used": 400_000},
        {"cost": "0.0010"},
        {"success": False},
        {"tokens_used": 1, "metadata": {"a": 1}},
    ],
)
def test_a_replay_gets_the_first_answer_after_years(bank: Bank, request_: dict[str, Any]) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservation = reserve(bank, user)
    first = settle(bank, user, reservation, **request_)
    bank.world.pass_time(timedelta(days=1500))
    bank.give(user, 7)
    before = bank.statement(user)
    if "cost" in request_:
        request_ = {"cost": "0.001"}  # the same amount, written otherwise
    again = settle(bank, user, reservation, request_id="another", **request_)
    assert again == first | {"replayed": True, "account": again["account"]}
    assert bank.statement(user) == before
    assert len(usage(bank, user)) == 1


def test_a_replay_of_what_was_free_gets_the_first_answer(bank: Bank) -> None:
    bank.world.freeze()
    user = uuid4()
    reservation = reserve(bank, user, model="llama3-8b-local")
    first = settle(bank, user, reservation, tokens_used=3)
    bank.world.pass_time(timedelta(days=1500))
    again = settle(bank, user, reservation, tokens_used=3)
    assert again == first | {"replayed": True}


@pytest.mark.parametrize("model", ["gpt-4o", "llama3-8b-local"])
@pytest.mark.parametrize(
    "request_",
    [
        {"tokens_used": 401},
        {"cost": "0.0015"},
        {"tokens_used": 400, "success": False},
        {"tokens_used": 400, "metadata": {"a": 1}},
    ],
)
def test_another_settlement_of_what_is_settled_is_refused(
    bank: Bank, model: str, request_: dict[str, Any]
) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user, model=model)
    settle(bank, user, reservation, tokens_used=400)
    with refused("reservation_closed", 409, "reservation_id: it was settled"):
        settle(bank, user, reservation, **request_)
    assert len(usage(bank, user)) == 1


# It refuses


@pytest.mark.parametrize("model", ["gpt-4o", "llama3-8b-local"])
def test_what_was_released_is_not_settled(bank: Bank, model: str) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user, model=model)
    bank.call("release_credits", user_id=user, reservation_id=reservation)
    with refused("reservation_closed", 409, "reservation_id: it was released"):
        settle(bank, user, reservation, tokens_used=1)
    assert usage(bank, user) == []


def test_somebody_elses_reservation_is_not_found(bank: Bank) -> None:
    user, other = bank.customer(1), bank.customer(1)
    reservation = reserve(bank, user)
    for who, which in [(other, reservation), (user, str(uuid4()))]:
        with refused("reservation_not_found", 404, "reservation_id: "):
            settle(bank, who, which, tokens_used=1)
    assert bank.available(user) == D("0.99625")


def test_a_user_does_not_settle_what_a_program_reserved(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    with refused("forbidden", 403):
        settle(bank, user, reservation, cost=0, by_user=True)
    own = reserve(bank, user, by_user=True)
    assert settle(bank, user, own, tokens_used=1000, by_user=True)["charged"] == 0.00375
    assert settle(bank, user, reservation, tokens_used=1000)["charged"] == 0.00375


@pytest.mark.parametrize(
    ("request_", "code", "detail"),
    [
        ({}, "invalid_body", "tokens_used: "),
        ({"tokens_used": 1, "cost": 1}, "invalid_body", "cost: "),
        ({"tokens_used": 1, "cost": 1, "success": False}, "invalid_body", "cost: "),
        ({"tokens_used": -1}, "invalid_amount", "tokens_used: "),
        ({"tokens_used": 1_000_000_000_001}, "invalid_amount", "tokens_used: "),
        ({"cost": "-0.000001"}, "invalid_amount", "cost: "),
        ({"cost": "NaN"}, "invalid_amount", "cost: "),
        ({"cost": "1e9"}, "invalid_amount", "cost: "),
    ],
)
def test_what_is_no_settlement_is_refused(
    bank: Bank, request_: dict[str, Any], code: str, detail: str
) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    with refused(code, 400, detail):
        settle(bank, user, reservation, **request_)
    assert hold_of(bank, reservation) == ("held", 0)


# It races


def test_the_same_settlement_at_once_posts_once(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    results = bank.world.at_once(
        [lambda s: settle(bank, user, reservation, s, tokens_used=400)] * 4
    )
    answers = [result for result in results if isinstance(result, dict)]
    assert sorted(answer["replayed"] for answer in answers) == [False, True, True, True]
    assert {answer["new_balance"] for answer in answers} == {0.9985}
    assert len(usage(bank, user)) == 1


def test_of_different_settlements_one_wins(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)

    def settling(tokens: int) -> Any:
        return lambda s: settle(bank, user, reservation, s, tokens_used=tokens)

    results = bank.world.at_once([settling(tokens) for tokens in (100, 200, 300, 400)])
    codes = [code_of(result) for result in results]
    assert codes.count("reservation_closed") == 3
    assert len(usage(bank, user)) == 1


def test_settlements_of_many_reservations_at_once_lose_nothing(bank: Bank) -> None:
    user = bank.customer(1)
    reservations = [reserve(bank, user) for _ in range(8)]

    def settling(reservation: str) -> Any:
        return lambda s: settle(bank, user, reservation, s, tokens_used=400)

    bank.world.at_once([settling(reservation) for reservation in reservations])
    assert (bank.balance(user), bank.available(user)) == (D("0.988"), D("0.988"))
    assert spent(bank, user) == 0.012


def test_an_expiry_that_came_first_leaves_nothing_to_settle(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservation = reserve(bank, user)
    bank.world.pass_time(10 * MINUTE)
    worker = bank.world.session("tallybook_worker", autocommit=False)
    assert expire(bank, worker) == 1
    with bank.world.in_background(
        lambda s: settle(bank, user, reservation, s, tokens_used=400),
        bank.world.session("tallybook_functions"),
    ) as late:
        worker.commit()
        assert code_of(late.exception(20)) == "reservation_closed"
    assert (bank.balance(user), bank.available(user)) == (D(1), D(1))


def test_a_settlement_that_came_first_leaves_nothing_to_expire(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservation = reserve(bank, user)
    bank.world.pass_time(10 * MINUTE)
    settling = bank.world.session("tallybook_functions", autocommit=False)
    settle(bank, user, reservation, settling, tokens_used=400)
    # The worker passes by what is taken, and finds it settled afterwards.
    assert expire(bank) == 0
    settling.commit()
    assert expire(bank) == 0
    assert (bank.balance(user), bank.available(user)) == (D("0.9985"), D("0.9985"))


def test_of_a_settlement_and_an_expiry_at_once_exactly_one_wins(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservations = [reserve(bank, user) for _ in range(6)]
    bank.world.pass_time(10 * MINUTE)

    def settling(reservation: str) -> Any:
        return lambda s: settle(bank, user, reservation, s, tokens_used=1000)

    def expiring(session: Connection) -> Any:
        session.execute("set role tallybook_worker")
        return expire(bank, session)

    results = bank.world.at_once(
        [*[settling(reservation) for reservation in reservations], expiring, expiring],
        user="postgres",
    )
    settled = sum(isinstance(result, dict) for result in results[:6])
    lost = [code_of(result) for result in results[:6]].count("reservation_closed")
    expired = results[6] + results[7] if isinstance(results[6], int) else -1  # type: ignore[operator]
    assert (settled + lost, expired + expire(bank)) == (6, lost)
    assert bank.balance(user) == bank.available(user) == 1 - settled * D("0.00375")
