"""A promotional code is redeemed: what each kind brings, who may, how often, never once more."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.credits.bank import Bank
from tests.world import NOW, code_of, refused

NOT_VALID = {
    "refusal": {
        "code": "coupon_not_valid",
        "status": 404,
        "detail": "This code is not valid",
        "hint": "Check the code for a typing error.",
    }
}
SEED = (
    "INSERT INTO coupon_codes (code, discount_type, discount_value, max_uses, expires_at)"
    " VALUES ('WELCOME100', 'fixed', 100.00, 1000, NOW() + INTERVAL '30 days'),"
    " ('SAVE50', 'percentage', 50, 500, NOW() + INTERVAL '60 days')"
    " ON CONFLICT (code) DO NOTHING"
)


def promotion(bank: Bank, code: str = "SPRING", **columns: Any) -> str:
    """A promotional code by an operator's hand, by default of ten credits."""
    columns = {"code": code, "discount_type": "fixed", "discount_value": 10, **columns}
    bank.world.operator.execute(
        f"insert into coupon_codes ({', '.join(columns)})"  # type: ignore[arg-type]
        f" values ({', '.join(['%s'] * len(columns))})",
        tuple(columns.values()),
    )
    return code


def redeem(bank: Bank, user: UUID, code: str = "SPRING", **more: Any) -> Any:
    return bank.call("redeem_promotion", user_id=user, code=code, **more)


def times_used(bank: Bank, code: str = "SPRING") -> int:
    times: int = bank.world.value("select times_used from coupon_codes where code = %s", (code,))
    return times


def failures(bank: Bank) -> dict[str, int]:
    rows = bank.world.rows("select scope, failures from coupon_attempts")
    return {row["scope"]: row["failures"] for row in rows}


def lot(bank: Bank, user: UUID) -> dict[str, Any]:
    (row,) = bank.world.rows(
        "select source, priority, amount, expires_at from credit_grants where user_id = %s", (user,)
    )
    return row


# It does


def test_the_answer_says_what_came(bank: Bank) -> None:
    bank.world.freeze()
    promotion(bank, credits_expire_after_days=10)
    user = bank.customer()
    answer = redeem(bank, user)
    (row,) = bank.world.rows("select * from credit_transactions where user_id = %s", (user,))
    assert answer == {
        "code": "SPRING",
        "discount_type": "fixed",
        "discount_value": 10.0,
        "credits": 10.0,
        "new_balance": 10.0,
        "transaction_id": str(row["id"]),
        "expires_at": "2026-03-12T09:00:00+00:00",
        "account": {
            "user_id": str(user),
            "balance": 10.0,
            "tier": "free",
            "monthly_cap": None,
            "version": 1,
        },
        "replayed": False,
    }
    assert (row["transaction_type"], row["amount"], row["balance_after"]) == ("bonus", 10, 10)
    assert row["metadata"] == {"code": "SPRING", "discount_type": "fixed", "discount_value": 10}
    assert times_used(bank) == 1


@pytest.mark.parametrize("typed", ["spring", " Spring\n", "\tSPRING "])
def test_a_code_is_typed_in_any_case_with_blanks_around_it(bank: Bank, typed: str) -> None:
    promotion(bank)
    assert redeem(bank, bank.customer(), typed)["code"] == "SPRING"


@pytest.mark.parametrize(
    ("columns", "source", "priority", "amount", "lasts"),
    [
        ({"discount_type": "fixed"}, "promotion", 100, 10, None),
        ({"discount_type": "fixed", "credits_expire_after_days": 7}, "promotion", 100, 10, 7),
        ({"discount_type": "bonus"}, "bonus", 50, 10, 30),
        ({"discount_type": "bonus", "credits_expire_after_days": 7}, "bonus", 50, 10, 7),
        # March and April have 61 days.
        (
            {"discount_type": "free_month", "discount_value": 2, "tier": "starter"},
            "promotion", 100, 40, 61,
        ),
    ],
)  # fmt: skip
def test_each_kind_brings_a_lot_of_its_own(
    bank: Bank,
    columns: dict[str, Any],
    source: str,
    priority: int,
    amount: int,
    lasts: int | None,
) -> None:
    bank.world.freeze()
    promotion(bank, **columns)
    user = bank.customer()
    answer = redeem(bank, user)
    until = lasts and NOW + timedelta(days=lasts)
    assert answer["credits"] == answer["new_balance"] == amount
    assert answer["expires_at"] == (until and until.isoformat())
    assert lot(bank, user) == {
        "source": source,
        "priority": priority,
        "amount": amount,
        "expires_at": until,
    }


def test_a_free_month_without_a_tier_is_of_the_users_own(bank: Bank) -> None:
    promotion(bank, discount_type="free_month", discount_value=1)
    user = bank.customer(1)
    bank.world.admin.execute(
        "update user_credits set tier = 'professional' where user_id = %s", (user,)
    )
    assert redeem(bank, user)["credits"] == 60
    assert redeem(bank, bank.customer()) == NOT_VALID
    bank.world.admin.execute("update user_credits set tier = 'enterprise'")
    promotion(bank, "SECOND", discount_type="free_month", discount_value=1)
    assert redeem(bank, user, "SECOND") == NOT_VALID


@pytest.mark.parametrize("days", [None, 20])
def test_a_discount_waits_and_moves_nothing(bank: Bank, days: int | None) -> None:
    bank.world.freeze()
    ends = days and NOW + timedelta(days=days)
    promotion(bank, discount_type="percentage", discount_value="12.5", expires_at=ends)
    user = bank.customer(3)
    answer = redeem(bank, user)
    assert (answer["discount_value"], answer["credits"], answer["new_balance"]) == (12.5, 0.0, 3.0)
    assert answer["expires_at"] == (ends or NOW + timedelta(days=90)).isoformat()
    assert bank.lots(user) == [("bonus", D(3))]
    assert bank.world.count("coupon_redemptions", "spent_on is null and user_id = %s", user) == 1


def test_bonus_credits_are_spent_before_others(bank: Bank) -> None:
    promotion(bank, discount_type="bonus")
    user = bank.customer(10, expires_at=bank.world.now() + timedelta(hours=1), source="soon")
    redeem(bank, user)
    bank.give(user, -4, "usage")
    assert bank.lots(user) == [("bonus", D(6)), ("soon", D(10))]


def test_the_seeds_codes_are_redeemed(bank: Bank) -> None:
    for _ in "ab":
        bank.world.operator.execute(SEED)
    user = bank.customer()
    welcome = redeem(bank, user, "WELCOME100")
    assert (welcome["credits"], welcome["new_balance"]) == (100.0, 100.0)
    saved = redeem(bank, user, "save50")
    assert (saved["discount_type"], saved["discount_value"], saved["credits"]) == (
        "percentage", 50.0, 0.0,
    )  # fmt: skip
    packages = bank.call("credit_packages_on_offer", user_id=user)["packages"]
    assert [package["amount_due"] for package in packages] == [5.0, 25.0, 50.0]


def test_what_expired_meanwhile_is_not_in_the_new_balance(bank: Bank) -> None:
    bank.world.freeze()
    promotion(bank)
    user = bank.customer(5, expires_at=NOW + timedelta(hours=1))
    bank.world.pass_time(timedelta(hours=2))
    assert redeem(bank, user)["new_balance"] == 10.0


# It replays


@pytest.mark.parametrize("kind", ["fixed", "percentage"])
def test_the_same_key_is_the_same_redemption(bank: Bank, kind: str) -> None:
    promotion(bank, discount_type=kind, max_uses=1)
    user = bank.customer(1)
    first = redeem(bank, user, idempotency_key="k")
    bank.give(user, 5)
    again = redeem(bank, user, " spring", idempotency_key="k")
    assert again.pop("account")["balance"] == first.pop("account")["balance"] + 5
    assert again == first | {"replayed": True}
    assert (times_used(bank), bank.world.count("coupon_redemptions")) == (1, 1)


def test_a_key_that_came_with_another_request_is_refused(bank: Bank) -> None:
    promotion(bank)
    promotion(bank, "AUTUMN")
    user = bank.customer(1, idempotency_key="given")
    redeem(bank, user, idempotency_key="k")
    for key in ("k", "given"):
        with refused("nonce_reused", 409, "idempotency_key: "):
            redeem(bank, user, "AUTUMN", idempotency_key=key)
    assert times_used(bank, "AUTUMN") == 0


@pytest.mark.parametrize("key", ["purchase:pay_1", "allocation:2026-03-15"])
def test_a_key_of_the_systems_own_is_nobodys_to_take(bank: Bank, key: str) -> None:
    promotion(bank)
    with refused("invalid_body", 400, "idempotency_key: "):
        redeem(bank, bank.customer(), idempotency_key=key)
    assert times_used(bank) == 0


def test_what_ended_before_stands_before_it_in_the_statement(bank: Bank) -> None:
    bank.world.freeze()
    promotion(bank)
    user = bank.customer(3, expires_at=NOW + timedelta(days=1))
    bank.world.pass_time(timedelta(days=1))
    redeem(bank, user)
    assert [row[0] for row in bank.statement(user)] == ["bonus", "expiry", "bonus"]


def test_a_second_redemption_is_told_from_a_wrong_code(bank: Bank) -> None:
    promotion(bank, max_uses=1)
    user = bank.customer()
    redeem(bank, user)
    with refused("coupon_used", 409, "code: SPRING"):
        redeem(bank, user)
    # Whoever had it hears so, whatever became of the code.
    bank.world.operator.execute("update coupon_codes set is_active = false")
    with refused("coupon_used", 409):
        redeem(bank, user)
    assert failures(bank) == {}
    assert bank.balance(user) == 10


# It refuses


def test_a_user_may_have_a_code_as_often_as_it_says(bank: Bank) -> None:
    promotion(bank, max_uses_per_user=2)
    user = bank.customer()
    assert [redeem(bank, user)["new_balance"] for _ in "ab"] == [10.0, 20.0]
    with refused("coupon_used", 409):
        redeem(bank, user)
    assert redeem(bank, bank.customer())["new_balance"] == 10.0
    assert times_used(bank) == 3


BAD: dict[str, dict[str, Any]] = {
    "inactive": {"is_active": False},
    "too early": {"valid_from": NOW + timedelta(seconds=1)},
    "too late": {"expires_at": NOW},
    "a tier that gives nothing": {
        "discount_type": "free_month", "discount_value": 1, "tier": "free",
    },
    "a tier without a limit": {
        "discount_type": "free_month", "discount_value": 1, "tier": "enterprise",
    },
    "a tier that is none": {"discount_type": "free_month", "discount_value": 1, "tier": "gold"},
}  # fmt: skip


@pytest.mark.parametrize("fault", [*BAD, "unknown", "exhausted", "blank"])
def test_wrong_codes_are_all_alike_and_counted(bank: Bank, fault: str) -> None:
    bank.world.freeze()
    promotion(bank, **BAD.get(fault, {"max_uses": 1}))
    if fault == "exhausted":
        redeem(bank, bank.customer())
    used = times_used(bank)
    code = {"unknown": "NEVER", "blank": " "}.get(fault, "SPRING")
    user = bank.customer()
    assert redeem(bank, user, code, ip_address="203.0.113.9", device_id="d") == NOT_VALID
    assert failures(bank) == {"user": 1, "device": 1, "address": 1}
    assert (times_used(bank), bank.balance(user)) == (used, 0)


def test_times_are_counted_to_the_second(bank: Bank) -> None:
    bank.world.freeze()
    promotion(bank, valid_from=NOW + timedelta(seconds=1), expires_at=NOW + timedelta(seconds=3))
    bank.world.pass_time(timedelta(seconds=1))
    assert redeem(bank, bank.customer())["credits"] == 10
    bank.world.pass_time(timedelta(seconds=2))
    assert redeem(bank, bank.customer()) == NOT_VALID


def test_whoever_guesses_is_no_longer_heard(bank: Bank) -> None:
    promotion(bank)
    bank.world.operator.execute("update coupon_throttles set failures_max = 2 where scope = 'user'")
    user = bank.customer()
    for _ in "ab":
        assert redeem(bank, user, "WRONG") == NOT_VALID
    assert redeem(bank, user)["refusal"]["code"] == "rate_limited"
    assert times_used(bank) == 0
    assert redeem(bank, bank.customer())["credits"] == 10


@pytest.mark.parametrize("role", ["anon", "authenticated", "tallybook_worker"])
def test_nobody_redeems_past_the_functions(bank: Bank, role: str) -> None:
    promotion(bank)
    admin = bank.world.admin
    with pytest.raises(psycopg.errors.InsufficientPrivilege), admin.transaction():
        admin.execute(f"set local role {role}")  # type: ignore[call-overload]
        admin.execute("select public.redeem_promotion(%s, 'SPRING')", (uuid4(),))


# It races


def test_of_many_users_at_once_as_many_get_it_as_there_are(bank: Bank) -> None:
    promotion(bank, max_uses=10)
    users = [uuid4() for _ in range(64)]
    results = bank.world.at_once(
        [lambda s, u=u: bank.call("redeem_promotion", s, user_id=u, code="SPRING") for u in users]  # type: ignore[misc]
    )
    got = [r for r in results if isinstance(r, dict) and "credits" in r]
    assert len(got) == 10
    assert [r for r in results if r not in got] == [NOT_VALID] * 54
    assert times_used(bank) == bank.world.count("coupon_redemptions") == 10
    assert sum(bank.balance(user) for user in users) == 100


def test_one_user_at_once_gets_it_once(bank: Bank) -> None:
    promotion(bank, max_uses_per_user=3)
    user = uuid4()
    results = bank.world.at_once(
        [lambda s: bank.call("redeem_promotion", s, user_id=user, code="SPRING")] * 16
    )
    balances = sorted(r["new_balance"] for r in results if isinstance(r, dict))
    assert balances == [10.0, 20.0, 30.0]
    assert [code_of(r) for r in results if not isinstance(r, dict)] == ["coupon_used"] * 13
    assert failures(bank) == {}


def test_one_key_at_once_is_one_redemption(bank: Bank) -> None:
    promotion(bank, max_uses_per_user=5)
    user = uuid4()
    results = bank.world.at_once(
        [
            lambda s: bank.call(
                "redeem_promotion", s, user_id=user, code="SPRING", idempotency_key="k"
            )
        ]
        * 16
    )
    replayed = [r["replayed"] for r in results if isinstance(r, dict)]
    assert sorted(replayed) == [False] + [True] * 15
    assert bank.balance(user) == 10


def test_whoever_waits_for_the_last_one_sees_it_go(bank: Bank) -> None:
    promotion(bank, max_uses=1)
    holder = bank.world.session("tallybook_functions", autocommit=False)
    waiter = bank.world.session("tallybook_functions")
    first, second = uuid4(), uuid4()
    bank.call("redeem_promotion", holder, user_id=first, code="SPRING")
    with bank.world.in_background(
        lambda s: bank.call("redeem_promotion", s, user_id=second, code="SPRING"), waiter
    ) as waiting:
        holder.commit()
        assert waiting.result() == NOT_VALID
    assert (bank.balance(first), bank.balance(second)) == (10, 0)
