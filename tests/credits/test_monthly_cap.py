"""public.monthly_cap and public.set_monthly_cap: what a calendar month may cost."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import Connection, code_of, refused


def cap(bank: Bank, user: UUID) -> Any:
    """The cap as its user is told of it."""
    return bank.call("monthly_cap", user_id=user)


def set_cap(bank: Bank, user: UUID, amount: object, through: Connection | None = None) -> Any:
    """Set it as the functions do."""
    return bank.call("set_monthly_cap", through, user_id=user, monthly_cap=amount)


def reserve(bank: Bank, user: UUID, through: Connection | None = None) -> Any:
    """Reserve 0.00375 credits."""
    return bank.call("reserve_credits", through, user_id=user, model="gpt-4o", max_tokens=1000)


def use(bank: Bank, user: UUID, tokens: int = 1000) -> None:
    """Use so many tokens of a reservation."""
    reservation = reserve(bank, user)["reservation_id"]
    bank.call("settle_credits", user_id=user, reservation_id=reservation, tokens_used=tokens)


# It does


def test_who_is_new_has_no_cap(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 12, 5, tzinfo=UTC))
    assert cap(bank, uuid4()) == {
        "monthly_cap": None,
        "spent": 0.0,
        "reserved": 0.0,
        "remaining": None,
        "resets_at": "2027-01-01T00:00:00+00:00",
    }


def test_what_is_spent_and_reserved_is_told(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    user = bank.customer(1)
    answer = set_cap(bank, user, "0.02")
    assert answer.pop("account") == {
        "user_id": str(user),
        "balance": 1.0,
        "tier": "free",
        "monthly_cap": 0.02,
        "version": 2,
    }
    assert answer == cap(bank, user)
    use(bank, user, 400)
    reserve(bank, user)
    assert cap(bank, user) == {
        "monthly_cap": 0.02,
        "spent": 0.0015,
        "reserved": 0.00375,
        "remaining": 0.01475,
        "resets_at": "2026-02-01T00:00:00+00:00",
    }


def test_who_is_new_can_set_one(bank: Bank) -> None:
    user = uuid4()
    assert set_cap(bank, user, 5)["account"] == {
        "user_id": str(user),
        "balance": 0.0,
        "tier": "free",
        "monthly_cap": 5.0,
        "version": 1,
    }


def test_a_cap_below_what_is_spent_stops_further_spending(bank: Bank) -> None:
    user = bank.customer(1)
    use(bank, user)
    assert set_cap(bank, user, "0.001")["remaining"] == 0.0
    with refused("monthly_cap_reached", 429, "monthly_cap: "):
        reserve(bank, user)


def test_a_cap_that_is_removed_stops_nothing(bank: Bank) -> None:
    user = bank.customer(1)
    set_cap(bank, user, 0)
    with refused("monthly_cap_reached", 429):
        reserve(bank, user)
    answer = set_cap(bank, user, None)
    assert (answer["monthly_cap"], answer["remaining"]) == (None, None)
    reserve(bank, user)


def test_a_new_month_begins_anew(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC))
    user = bank.customer(1)
    set_cap(bank, user, "0.00375")
    use(bank, user)
    with refused("monthly_cap_reached", 429):
        reserve(bank, user)
    bank.world.freeze(datetime(2026, 2, 1, tzinfo=UTC))
    assert cap(bank, user)["remaining"] == 0.00375
    use(bank, user)


def test_the_month_is_the_one_in_utc_wherever_the_session_is(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC))
    user = bank.customer(1)
    bank.world.functions.execute("set timezone = 'Pacific/Auckland'")
    use(bank, user)
    answer = cap(bank, user)
    assert (answer["spent"], answer["resets_at"]) == (0.00375, "2026-02-01T00:00:00+00:00")


# It replays


def test_setting_the_same_again_changes_nothing(bank: Bank) -> None:
    user = bank.customer(1)
    first = set_cap(bank, user, "0.50")
    assert set_cap(bank, user, "0.5") == first


# It refuses


@pytest.mark.parametrize("amount", [-1, "-0.000001", "NaN", "Infinity", "1e12"])
def test_what_is_no_cap_is_refused(bank: Bank, amount: object) -> None:
    user = bank.customer(1)
    with refused("invalid_amount", 400, "monthly_cap: "):
        set_cap(bank, user, amount)
    assert cap(bank, user)["monthly_cap"] is None


# It races


def test_a_cap_that_is_set_while_credits_are_reserved_is_kept(bank: Bank) -> None:
    user = bank.customer(1)
    setting = bank.world.session("tallybook_functions", autocommit=False)
    set_cap(bank, user, "0.001", setting)
    with bank.world.in_background(
        lambda s: reserve(bank, user, s), bank.world.session("tallybook_functions")
    ) as late:
        setting.commit()
        assert code_of(late.exception(20)) == "monthly_cap_reached"
    assert bank.available(user) == D(1)


def test_caps_set_at_once_are_counted_one_by_one(bank: Bank) -> None:
    user = uuid4()

    def setting(amount: int) -> Any:
        return lambda s: set_cap(bank, user, amount, s)

    results = bank.world.at_once([setting(amount) for amount in range(1, 7)])
    versions = [result["account"]["version"] for result in results if isinstance(result, dict)]
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]
