"""Giving back what a usage cost: at most that, once, to its lots and to its month."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import Connection, code_of, refused

JULY = datetime(2026, 7, 10, tzinfo=UTC)


def use(bank: Bank, user: UUID, amount: object, **more: Any) -> str:
    asked = {"user_id": user, "amount": amount, "model": "gpt-4o", "provider": "openai", **more}
    transaction: str = bank.call("deduct_credits", **asked)["transaction_id"]
    return transaction


def refund(
    bank: Bank,
    user: object,
    transaction: object,
    amount: object = None,
    through: Connection | None = None,
    **more: Any,
) -> Any:
    asked = {
        "user_id": None,
        "account": str(user),
        "transaction_id": transaction,
        "amount": amount,
        "reason": "It failed",
        **more,
    }
    return bank.call("refund_credits", through, **asked)


def month(bank: Bank, user: UUID) -> list[tuple[Any, ...]]:
    """Month, model, cost and refunds, as the user's rollup and as everybody's tell them."""
    rows = bank.world.rows(
        "select r.month::text, r.model, r.cost, r.refunded, d.cost as all_cost,"
        " d.refunded as all_refunded, d.events from usage_rollups as r"
        " left join (select month, provider, model, power_level, sum(cost) as cost,"
        "   sum(refunded) as refunded, sum(events) as events from internal.usage_deltas"
        "   group by 1, 2, 3, 4) as d using (month, provider, model, power_level)"
        " where r.user_id = %s order by 1, 2",
        (user,),
    )
    return [tuple(row.values()) for row in rows]


def test_what_goes_back_to_a_lot_that_was_spent_ends_with_it(bank: Bank) -> None:
    """Although nobody looked for its end any more, for there was nothing in it."""
    bank.world.freeze(JULY)
    user = bank.customer(10, expires_at=JULY + timedelta(days=10), priority=50)
    bank.give(user, 5, expires_at=JULY + timedelta(days=5))
    usage = use(bank, user, 10)
    bank.world.freeze(JULY + timedelta(days=6))
    bank.call("expire_credits", bank.world.worker)
    assert refund(bank, user, usage)["new_balance"] == 10
    bank.world.freeze(JULY + timedelta(days=10))
    assert bank.call("credit_balance", user_id=user)["balance"] == 0
    assert bank.call("expire_credits", bank.world.worker) == {"expired": 1, "credits": 10}


def test_bit_by_bit_everything_goes_where_it_came_from(bank: Bank) -> None:
    """Only what came from a lot that has expired comes as a new one, in however many refunds."""
    bank.world.freeze(JULY)
    user = bank.customer(6, priority=50)
    bank.give(user, 4, expires_at=JULY + timedelta(days=5))
    usage = use(bank, user, 10)
    bank.world.freeze(JULY + timedelta(days=6))
    for amount in (3, 3, 4):
        refund(bank, user, usage, amount)
    assert bank.lots(user) == [("bonus", D(6)), ("refund", D(3)), ("refund", D(1))]


def test_all_that_is_left_goes_back(bank: Bank, admin: UUID) -> None:
    bank.world.freeze(JULY)
    user = bank.customer(10)
    usage = use(bank, user, 4)
    first = refund(bank, user, usage, "1.5", user_id=admin, request_id="r-1")
    assert (first["refunded"], first["new_balance"]) == (1.5, 7.5)
    assert first["account"]["balance"] == 7.5
    assert first["account"]["user_id"] == str(user)
    rest = refund(bank, user, usage)
    assert (rest["refunded"], rest["new_balance"]) == (2.5, 10)
    assert rest["transaction_id"] not in (usage, first["transaction_id"])
    assert bank.lots(user) == [("bonus", D(10))]
    (row,) = bank.world.rows(
        "select transaction_type, refund_of::text, provider, model, reason, actor, request_id"
        " from credit_transactions where id = %s",
        (first["transaction_id"],),
    )
    assert tuple(row.values()) == (
        "refund", usage, "openai", "gpt-4o", "It failed", "ops@example.org", "r-1",
    )  # fmt: skip
    assert month(bank, user) == [("2026-07-01", "gpt-4o", D(4), D(4), D(4), D(4), 1)]


def test_it_is_audited(bank: Bank, admin: UUID) -> None:
    user = bank.customer(10)
    usage = use(bank, user, 4)
    refund(bank, user, usage, user_id=admin, request_id="r-1")
    (row,) = bank.world.rows("select * from audit_log where action = 'credits.refund'")
    assert (row["actor"], row["subject_id"], row["reason"], row["request_id"]) == (
        "ops@example.org", str(user), "It failed", "r-1",
    )  # fmt: skip
    assert row["before"] == {"balance": 6.0}
    assert (row["after"]["balance"], row["after"]["refund_of"]) == (10.0, usage)


def test_the_cap_gets_it_back_when_it_is_of_this_month(bank: Bank) -> None:
    bank.world.freeze(JULY)
    user = bank.customer(100)
    bank.world.admin.execute("update user_credits set monthly_cap = 10")
    usage = use(bank, user, 10)
    with refused("monthly_cap_reached", 429):
        use(bank, user, 1)
    refund(bank, user, usage, 3)
    later = use(bank, user, 3)
    with refused("monthly_cap_reached", 429):
        use(bank, user, "0.000001")
    # In August, July's refund makes no room.
    bank.world.freeze(JULY + timedelta(days=31))
    use(bank, user, 10, model="another")
    refund(bank, user, later)
    with refused("monthly_cap_reached", 429):
        use(bank, user, 1)
    assert [row[:4] for row in month(bank, user)] == [
        ("2026-07-01", "gpt-4o", D(13), D(6)),
        ("2026-08-01", "another", D(10), D(0)),
    ]


def test_what_no_event_tells_of_is_in_no_month(bank: Bank) -> None:
    user = bank.customer(10)
    usage = bank.give(user, -4, "usage")
    assert refund(bank, user, usage)["new_balance"] == 10
    assert month(bank, user) == []
    assert bank.world.count("internal.usage_deltas") == 0


def test_a_use_that_names_no_model_is_found(bank: Bank) -> None:
    bank.world.freeze(JULY)
    user = bank.customer(10)
    usage = use(bank, user, 4, model=None, provider=None)
    refund(bank, user, usage, 1)
    assert [row[1:4] for row in month(bank, user)] == [("", D(4), D(1))]


def test_what_came_from_a_lot_whose_time_is_up_comes_as_a_new_one(bank: Bank) -> None:
    bank.world.freeze(JULY)
    user = bank.customer(5, expires_at=JULY + timedelta(days=1))
    usage = use(bank, user, 3)
    bank.world.pass_time(timedelta(days=2))
    assert refund(bank, user, usage)["new_balance"] == 3
    assert bank.lots(user) == [("refund", D(3))]
    assert [row[0] for row in bank.statement(user)] == ["bonus", "usage", "expiry", "refund"]


def test_several_refunds_bring_each_lot_back_what_one_would(bank: Bank) -> None:
    bank.world.freeze(JULY)
    user = bank.customer(5, priority=1)
    bank.give(user, 5, expires_at=JULY + timedelta(days=1))
    bank.give(user, 5, priority=2, expires_at=JULY + timedelta(days=40))
    usage = use(bank, user, 15)
    bank.world.pass_time(timedelta(days=2))
    # The last spent goes back first, and of it what has ended comes as new lots.
    for amount in (1, 5, 3, 2, 4):
        refund(bank, user, usage, amount)
    assert bank.lots(user) == [
        ("bonus", D(5)), ("bonus", D(5)), ("refund", D(1)), ("refund", D(4)),
    ]  # fmt: skip


def test_a_key_of_the_systems_own_is_nobodys_to_take(bank: Bank) -> None:
    user = bank.customer(10)
    with refused("invalid_body", 400, "idempotency_key: "):
        refund(bank, user, use(bank, user, 4), idempotency_key="purchase:pay_1")


def test_never_more_than_was_charged(bank: Bank) -> None:
    user = bank.customer(10)
    usage = use(bank, user, 4)
    with refused("refund_exceeded", 400, "amount: 4 of 4"):
        refund(bank, user, usage, "4.000001")
    refund(bank, user, usage, 3)
    with refused("refund_exceeded", 400, "amount: 1 of 4"):
        refund(bank, user, usage, 2)
    refund(bank, user, usage)
    for amount in (None, "0.000001"):
        with refused("refund_exceeded", 400, "amount: 0 of 4"):
            refund(bank, user, usage, amount)
    free = use(bank, user, None, tokens_used=5, model="qwen-32b-local")
    with refused("refund_exceeded", 400, "amount:"):
        refund(bank, user, free)
    assert bank.balance(user) == D(10)


def test_under_a_key_it_happens_once(bank: Bank) -> None:
    user = bank.customer(10)
    usage, other = use(bank, user, 4), use(bank, user, 4)
    first = refund(bank, user, usage, idempotency_key="k")
    again = refund(bank, user, usage, idempotency_key="k")
    assert again["replayed"] is True
    assert "replayed" not in first
    assert {**again, "account": None, "replayed": None} == {
        **first, "account": None, "replayed": None,
    }  # fmt: skip
    for transaction, more in ((other, {}), (usage, {"amount": 4}), (usage, {"reason": "Other"})):
        with refused("nonce_reused", 409, "idempotency_key:"):
            refund(bank, user, transaction, **{"idempotency_key": "k", **more})
    assert bank.balance(user) == D(6)
    assert bank.world.count("audit_log", "action = 'credits.refund'") == 1


def test_refunds_at_the_same_time_give_back_no_more_than_was_charged(bank: Bank) -> None:
    user = bank.customer(10)
    usage = use(bank, user, 5)
    calls = [lambda session: refund(bank, user, usage, 2, session) for _ in range(5)]
    results = bank.world.at_once(calls)
    refusals = Counter(code_of(result) for result in results if not isinstance(result, dict))
    assert refusals == {"refund_exceeded": 3}
    assert bank.balance(user) == D(9)
    assert month(bank, user)[0][3] == D(4)


def test_the_same_key_at_the_same_time_refunds_once(bank: Bank) -> None:
    user = bank.customer(10)
    usage = use(bank, user, 5)
    calls = [
        lambda session: refund(bank, user, usage, 1, session, idempotency_key="k") for _ in range(5)
    ]
    answers = bank.world.at_once(calls)
    assert len({answer["transaction_id"] for answer in answers}) == 1  # type: ignore[index]
    assert bank.balance(user) == D(6)


def test_only_usage_is_refunded(bank: Bank) -> None:
    user = bank.customer()
    bonus = bank.give(user, 10)
    usage = use(bank, user, 4)
    given_back = refund(bank, user, usage)["transaction_id"]
    for transaction in (bonus, given_back):
        with refused("not_refundable", 409, "transaction_id:"):
            refund(bank, user, transaction)


@pytest.mark.parametrize(
    ("more", "code", "status", "detail"),
    [
        ({"reason": ""}, "reason_required", 400, "reason:"),
        ({"reason": None}, "reason_required", 400, "reason:"),
        ({"amount": 0}, "invalid_amount", 400, "amount:"),
        ({"amount": -1}, "invalid_amount", 400, "amount:"),
        ({"amount": "NaN"}, "invalid_amount", 400, "amount:"),
        ({"amount": "0.0000001"}, "invalid_amount", 400, "amount:"),
        ({"transaction_id": uuid4()}, "transaction_not_found", 404, "transaction_id:"),
        ({"transaction_id": None}, "transaction_not_found", 404, "transaction_id:"),
        ({"account": str(uuid4())}, "transaction_not_found", 404, "transaction_id:"),
        ({"account": "nobody"}, "user_not_found", 404, "account:"),
        ({"account": None}, "user_not_found", 404, "account:"),
        ({"idempotency_key": ""}, "invalid_body", 400, "idempotency_key:"),
        ({"user_id": uuid4()}, "forbidden", 403, ""),
    ],
    ids=str,
)
def test_what_is_no_refund_is_refused(
    bank: Bank, more: dict[str, Any], code: str, status: int, detail: str
) -> None:
    user = bank.customer(10)
    usage = use(bank, user, 4)
    with refused(code, status, detail):
        bank.call(
            "refund_credits",
            **{"user_id": None, "account": str(user), "transaction_id": usage, "reason": "x"}
            | more,
        )
    assert bank.balance(user) == D(6)


def test_nobody_refunds_to_themselves(bank: Bank, admin: UUID) -> None:
    bank.give(admin, 10)
    usage = use(bank, admin, 4)
    with refused("own_event", 403, "account:"):
        refund(bank, admin, usage, user_id=admin)
    assert refund(bank, admin, usage)["new_balance"] == 10


def test_an_account_that_owes_pays_with_its_refund(bank: Bank) -> None:
    user = bank.customer(5)
    bank.world.admin.execute("update ledger.accounts set floor = -100000000")
    usage = use(bank, user, 15)
    assert refund(bank, user, usage, 4)["new_balance"] == -6
    assert bank.lots(user) == []
    assert refund(bank, user, usage)["new_balance"] == 5
    assert bank.lots(user) == [("bonus", D(5))]


def test_each_use_gets_its_own_back_though_all_are_of_one_model(bank: Bank) -> None:
    bank.world.freeze(JULY)
    user = bank.customer(10)
    usage = use(bank, user, 4, power_level="precision")
    use(bank, user, 3, power_level="balanced")
    refund(bank, user, usage, 1)
    rows = bank.world.rows(
        "select power_level, cost, refunded from usage_rollups where user_id = %s order by 1",
        (user,),
    )
    assert [tuple(row.values()) for row in rows] == [
        ("balanced", D(3), D(0)), ("precision", D(4), D(1)),
    ]  # fmt: skip


def test_the_month_is_that_of_utc_wherever_the_session_is(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 6, 30, 20, tzinfo=UTC))
    user = bank.customer(10)
    usage = use(bank, user, 4)
    with bank.world.admin.transaction():
        bank.world.admin.execute("set local timezone = 'Asia/Tokyo'")
        bank.give(user, 1, "refund", refund_of=usage)
        bank.world.admin.execute("select internal.record_usage_refund(%s, %s, 1)", (user, usage))
    assert [row[:4] for row in month(bank, user)] == [("2026-06-01", "gpt-4o", D(4), D(1))]
