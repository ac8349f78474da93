"""Charging for what was used: it does, it replays, it refuses, it races."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.credits.bank import Bank
from tests.world import Connection, code_of, refused


def usage(bank: Bank, user: UUID) -> list[dict[str, Any]]:
    return bank.world.rows(
        "select provider, model, power_level, service, tokens_used, cost, success, tier,"
        " pricing_version, transaction_id from public.usage_events"
        " where user_id = %s order by created_at, id",
        (user,),
    )


def test_an_amount_is_charged_as_the_seed_says_it(bank: Bank) -> None:
    user = bank.customer(50)
    metadata = {"provider": "openai", "model": "gpt-4o", "tokens_used": 1000}
    answer = bank.call("deduct_credits", user_id=user, amount=10, metadata=metadata)
    assert (answer["cost"], answer["new_balance"]) == (10, 40)
    assert bank.balance(user) == D(40)
    (row,) = usage(bank, user)
    assert (row["provider"], row["model"], row["tokens_used"], row["cost"]) == (
        "openai",
        "gpt-4o",
        1000,
        D(10),
    )
    assert str(row["transaction_id"]) == answer["transaction_id"]


def test_tokens_are_charged_at_the_price_of_the_users_tier(bank: Bank) -> None:
    user = bank.customer(1)
    bank.world.admin.execute(
        "update public.user_credits set tier = 'starter' where user_id = %s", (user,)
    )
    answer = bank.call("deduct_credits", user_id=user, tokens_used=1000, model="gpt-4o")
    assert (answer["cost"], answer["power_level"]) == (0.00525, "balanced")
    (row,) = usage(bank, user)
    assert (row["tier"], row["pricing_version"], row["cost"]) == ("starter", 1, D("0.00525"))


def test_a_free_model_is_used_and_nothing_moves(bank: Bank) -> None:
    user = bank.customer()
    answer = bank.call("deduct_credits", user_id=user, tokens_used=10**6, model="qwen-32b-local")
    assert (answer["cost"], answer["new_balance"]) == (0, 0)
    assert [row["tokens_used"] for row in usage(bank, user)] == [10**6]
    assert bank.statement(user) == [("usage", D(0), D(0))]


def test_a_repeated_key_is_answered_as_the_first_time(bank: Bank) -> None:
    user = bank.customer(10)
    request = {"user_id": user, "tokens_used": 1000, "model": "gpt-4o", "idempotency_key": "k"}
    first = bank.call("deduct_credits", **request)
    bank.give(user, 5)
    again = bank.call("deduct_credits", **request, request_id="another try")
    first.pop("account")
    # The account is as it stands now: a cache may have missed the first answer.
    account = again.pop("account")
    assert (account["balance"], account["version"]) == (14.99625, 3)
    assert again == {**first, "replayed": True}
    assert len(usage(bank, user)) == 1
    with refused("nonce_reused", 409, "idempotency_key: "):
        bank.call("deduct_credits", **{**request, "tokens_used": 1001})


def test_an_amount_is_the_same_however_it_is_written(bank: Bank) -> None:
    user = bank.customer(10)
    request = {"user_id": user, "idempotency_key": "k"}
    bank.call("deduct_credits", **request, amount=D("5"))
    assert bank.call("deduct_credits", **request, amount=D("5.00"))["replayed"] is True
    assert bank.balance(user) == 5


def test_without_a_key_each_request_is_new(bank: Bank) -> None:
    user = bank.customer(10)
    for _ in range(2):
        bank.call("deduct_credits", user_id=user, amount=1)
    assert bank.balance(user) == D(8)


@pytest.mark.parametrize(
    ("arguments", "code", "detail"),
    [
        ({"amount": -1}, "invalid_amount", "amount: "),
        ({"amount": 0}, "invalid_amount", "amount: "),
        ({"amount": D("0.0000001")}, "invalid_amount", "amount: "),
        ({"amount": D("1e9") + 1}, "invalid_amount", "amount: "),
        ({"amount": D("NaN")}, "invalid_amount", "amount: "),
        ({"tokens_used": -1, "model": "gpt-4o"}, "invalid_amount", "tokens_used: "),
        ({"tokens_used": 10**13, "model": "gpt-4o"}, "invalid_amount", "tokens_used: "),
        ({"model": "gpt-4o"}, "invalid_body", "tokens_used: "),
        ({"tokens_used": 1}, "invalid_body", "model: "),
        ({"tokens_used": 1, "model": "m" * 201}, "invalid_body", "model: "),
        ({}, "invalid_body", "tokens_used: "),
        ({"amount": 1, "idempotency_key": "purchase:1"}, "invalid_body", "idempotency_key: "),
        ({"amount": 1, "idempotency_key": "allocation:1"}, "invalid_body", "idempotency_key: "),
    ],
)
def test_what_makes_no_sense_is_refused(
    bank: Bank, arguments: dict[str, Any], code: str, detail: str
) -> None:
    user = bank.customer(10)
    with refused(code, 400, detail):
        bank.call("deduct_credits", user_id=user, **arguments)
    assert (bank.balance(user), usage(bank, user)) == (D(10), [])


@pytest.mark.parametrize(
    ("metadata", "tokens"),
    [
        ({"tokens_used": 7.9}, 7),
        ({"tokens_used": [7]}, 0),
        ({"tokens_used": "7"}, 0),
        ({"tokens_used": {"input": 7}}, 0),
        ({"tokens_used": -7}, 0),
        ({"tokens_used": 1e300}, 0),
        ({"tokens_used": None}, 0),
    ],
)
def test_only_a_number_in_the_metadata_counts_as_tokens(
    bank: Bank, metadata: dict[str, Any], tokens: int
) -> None:
    user = bank.customer(10)
    bank.call("deduct_credits", user_id=user, amount=1, metadata=metadata)
    assert usage(bank, user)[0]["tokens_used"] == tokens


def test_the_free_tier_never_falls_below_zero_while_the_ledger_says_otherwise(bank: Bank) -> None:
    user = bank.customer("0.5")
    said = "Insufficient credits. Balance: 0.5, Required: 0.500001"
    with refused("insufficient_credits", 402, said):
        bank.call("deduct_credits", user_id=user, amount=D("0.500001"))
    bank.call("deduct_credits", user_id=user, amount=D("0.5"))
    with refused("insufficient_credits", 402):
        bank.call("deduct_credits", user_id=user, tokens_used=1, model="gpt-4o")
    assert bank.statement(user)[-1] == ("usage", D("-0.5"), D(0))
    assert bank.balance(user) == D(0)


def test_a_fresh_user_has_nothing_to_spend(bank: Bank) -> None:
    user = bank.customer()
    with refused("insufficient_credits", 402, "Insufficient credits. Balance: 0, Required: 1"):
        bank.call("deduct_credits", user_id=user, amount=1)


def test_what_has_expired_is_not_spent_though_nobody_swept_yet(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(5, expires_at=bank.world.now() + timedelta(days=1))
    bank.give(user, 1)
    bank.world.pass_time(timedelta(days=1))
    assert bank.call("credit_balance", user_id=user)["balance"] == 1
    with refused("insufficient_credits", 402, "Insufficient credits. Balance: 1, Required: 2"):
        bank.call("deduct_credits", user_id=user, amount=2)
    bank.call("deduct_credits", user_id=user, amount=1)
    assert bank.statement(user)[-2:] == [("expiry", D(-5), D(1)), ("usage", D(-1), D(0))]


def test_the_monthly_cap_counts_the_calendar_month(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(100)
    bank.world.admin.execute("update public.user_credits set monthly_cap = 10")
    bank.call("deduct_credits", user_id=user, amount=7)
    with refused("monthly_cap_reached", 429, "monthly_cap: 10 credits a month; again in "):
        bank.call("deduct_credits", user_id=user, amount=D("3.000001"))
    bank.call("deduct_credits", user_id=user, amount=3)
    # What is free is never too much.
    bank.call("deduct_credits", user_id=user, tokens_used=1000, model="qwen-32b-local")
    bank.world.pass_time(timedelta(days=31))
    bank.call("deduct_credits", user_id=user, amount=10)
    assert bank.balance(user) == D(80)


def test_requests_of_a_batch_are_each_answered_for_themselves(bank: Bank) -> None:
    rich, poor, keyed, odd = bank.customer(10), bank.customer(1), bank.customer(5), bank.customer(5)
    bank.call("deduct_credits", user_id=keyed, amount=1, idempotency_key="k")
    outcomes = bank.world.batch(
        "internal.deduct_credits_batch",
        [
            {"user_id": rich, "amount": 4},
            {"user_id": poor, "amount": 4},
            {"user_id": keyed, "amount": 1, "idempotency_key": "k"},
            {"user_id": odd, "amount": 0},
        ],
        None,
    )
    assert [o.refusal and o.refusal["code"] for o in outcomes] == [
        None,
        "insufficient_credits",
        None,
        "invalid_amount",
    ]
    assert [bank.balance(user) for user in (rich, poor, keyed, odd)] == [6, 1, 4, 5]


def test_two_hundred_deductions_of_what_affords_a_hundred(bank: Bank) -> None:
    user = bank.customer(1)

    def ten(through: Connection) -> list[str]:
        request = {"user_id": user, "amount": D("0.01")}
        return [
            code_of(refusal_of(lambda: bank.call("deduct_credits", through, **request)))
            for _ in range(10)
        ]

    results = [code for codes in bank.world.at_once([ten] * 20) for code in codes]  # type: ignore[union-attr]
    assert results.count("insufficient_credits") == 100
    assert bank.balance(user) == D("0.000000")
    assert len(usage(bank, user)) == 100


def refusal_of(call: Callable[[], Any]) -> Any:
    """What a call answers, or the refusal that it raises."""
    try:
        return call()
    except psycopg.Error as error:
        return error


def test_of_many_requests_under_one_key_one_is_charged(bank: Bank) -> None:
    user = bank.customer(10)
    request = {"user_id": user, "amount": 1, "idempotency_key": "the call"}
    results = bank.world.at_once(
        [lambda through: bank.call("deduct_credits", through, **request) for _ in range(16)]
    )
    assert sorted("replayed" in answer for answer in results) == [False] + [True] * 15  # type: ignore[operator]
    assert bank.balance(user) == D(9)


def test_what_is_said_counts_before_the_metadata_and_the_metadata_before_nothing(
    bank: Bank,
) -> None:
    user = bank.customer(10)
    told = {"provider": "p" * 101, "model": "m" * 201, "power_level": "eco", "service": "chat"}
    metadata = {**told, "tokens_used": 7.9}
    bank.call("deduct_credits", user_id=user, amount=1, metadata=metadata)
    said = {"provider": "openai", "model": "gpt-4o", "power_level": "precision", "service": "mail"}
    bank.call("deduct_credits", user_id=user, amount=1, metadata=metadata, tokens_used=3, **said)
    first, second = usage(bank, user)
    assert (first["provider"], first["model"], first["service"], first["tokens_used"]) == (
        "p" * 100, "m" * 200, "chat", 7,
    )  # fmt: skip
    assert {name: second[name] for name in said} == said
    assert second["tokens_used"] == 3
    assert first["power_level"] == "eco"


@pytest.mark.parametrize("tokens", [-1, 10**13, "many", None, [1]])
def test_tokens_that_the_metadata_has_wrong_are_no_tokens(bank: Bank, tokens: Any) -> None:
    user = bank.customer(10)
    bank.call("deduct_credits", user_id=user, amount=1, metadata={"tokens_used": tokens})
    assert [row["tokens_used"] for row in usage(bank, user)] == [0]


def test_lots_that_are_used_up_are_not_read_again(bank: Bank) -> None:
    user = uuid4()
    lots = 300
    bonus = {"amount": 1, "transaction_type": "bonus"}
    # Who has one lot each makes the planner think that everybody has few.
    bank.move(*({"user_id": uuid4(), **bonus} for _ in range(lots)))
    bank.move(*({"user_id": user, **bonus} for _ in range(lots)))
    bank.call("deduct_credits", user_id=user, amount=lots)
    bank.give(user, 5)
    bank.world.admin.execute("analyze")

    def read() -> int:
        for session in (bank.world.functions, bank.world.admin):
            session.execute("select pg_stat_force_next_flush()")
        bank.world.admin.execute("select pg_stat_clear_snapshot()")
        return int(
            bank.world.value(
                "select idx_tup_fetch from pg_stat_user_tables where relname = 'credit_grants'"
            )
        )

    before = read()
    bank.call("deduct_credits", user_id=user, amount=1)
    assert 1 <= read() - before <= 10


def test_the_answer_brings_the_account_as_the_charge_left_it(bank: Bank) -> None:
    user = bank.customer(10)
    account = bank.call("deduct_credits", user_id=user, amount=1)["account"]
    (row,) = bank.world.rows("select balance, version from user_credits")
    assert (account["balance"], account["version"]) == (row["balance"], row["version"]) == (9, 2)


def test_what_is_reserved_is_not_there_to_be_spent(bank: Bank) -> None:
    user = bank.customer(1)
    bank.call("reserve_credits", user_id=user, model="gpt-4o", max_tokens=1000)
    said = "Insufficient credits. Balance: 0.99625, Required: 1"
    with refused("insufficient_credits", 402, said):
        bank.call("deduct_credits", user_id=user, amount=1)


def test_under_one_key_all_that_was_told_must_be_the_same(bank: Bank) -> None:
    user = bank.customer(10)
    request = {"user_id": user, "amount": 1, "idempotency_key": "k", "reason": "A chat"}
    bank.call("deduct_credits", **request, metadata={"a": 1})
    for other in ({"metadata": {"a": 2}}, {"metadata": {"a": 1}, "reason": "Another"}):
        with refused("nonce_reused", 409, "idempotency_key:"):
            bank.call("deduct_credits", **{**request, **other})
    assert bank.balance(user) == D(9)
