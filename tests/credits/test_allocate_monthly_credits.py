"""A tier's monthly credits come once a month, on the day on which they began to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import pytest

from tests.credits.bank import Bank
from tests.world import Connection

DAY = timedelta(days=1)
START = datetime(2026, 3, 15, 10, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def frozen(bank: Bank) -> None:
    bank.world.freeze(START)


def member(bank: Bank, tier: str = "starter", due: datetime | None = START, **lot: Any) -> UUID:
    """A user of a tier, whose credits are due then."""
    user = bank.customer(1, source="first", priority=200, **lot)
    bank.world.admin.execute(
        "update user_credits set tier = %s, allocation_due_at = %s where user_id = %s",
        (tier, due, user),
    )
    return user


def allocate(bank: Bank, limit: int = 1000, through: Connection | None = None) -> tuple[Any, Any]:
    answer = bank.call("allocate_monthly_credits", through or bank.world.worker, limit=limit)
    return answer["allocated"], answer["credits"]


def terms(bank: Bank, user: UUID) -> tuple[datetime | None, datetime | None]:
    """When a user's credits came last and come next."""
    (row,) = bank.world.rows(
        "select last_reset, allocation_due_at from user_credits where user_id = %s", (user,)
    )
    return row["last_reset"], row["allocation_due_at"]


def month_after(at: datetime) -> datetime:
    return at.replace(month=at.month + 1)


def test_each_tiers_own_credits_come(bank: Bank) -> None:
    users = {tier: member(bank, tier) for tier in ("trial", "starter", "professional")}
    assert allocate(bank) == (3, 85)
    assert {tier: bank.balance(user) for tier, user in users.items()} == {
        "trial": D(6), "starter": D(21), "professional": D(61),
    }  # fmt: skip
    (row,) = bank.world.rows(
        "select t.*, g.source, g.expires_at from credit_transactions as t"
        " join credit_grants as g on g.user_id = t.user_id and g.grant_id = t.id"
        " where t.user_id = %s and t.transaction_type = 'allocation'",
        (users["starter"],),
    )
    assert (row["amount"], row["source"], row["expires_at"]) == (
        D(20), "allocation", month_after(START),
    )  # fmt: skip
    assert (row["idempotency_key"], row["actor"]) == ("allocation:2026-03-15", "system")
    assert terms(bank, users["starter"]) == (START, month_after(START))


def test_tiers_without_any_are_due_no_more(bank: Bank) -> None:
    users = [member(bank, tier) for tier in ("free", "enterprise", "no tier at all")]
    assert allocate(bank) == (0, 0)
    assert [terms(bank, user) for user in users] == [(None, None)] * 3
    assert [bank.balance(user) for user in users] == [D(1)] * 3


def test_nothing_comes_before_its_time_nor_to_who_is_not_due(bank: Bank) -> None:
    early = member(bank, due=START + timedelta(microseconds=1))
    never = member(bank, due=None)
    assert allocate(bank) == (0, 0)
    bank.world.pass_time(timedelta(microseconds=1))
    assert allocate(bank) == (1, 20)
    assert (bank.balance(early), bank.balance(never)) == (D(21), D(1))


def test_again_gives_nothing_until_the_next_month(bank: Bank) -> None:
    user = member(bank)
    assert [allocate(bank), allocate(bank)] == [(1, 20), (0, 0)]
    bank.world.freeze(month_after(START) - timedelta(seconds=1))
    assert allocate(bank) == (0, 0)
    bank.world.freeze(month_after(START))
    assert allocate(bank) == (1, 20)
    assert [row[:2] for row in bank.statement(user)] == [
        ("bonus", D(1)), ("allocation", D(20)), ("expiry", D(-20)), ("allocation", D(20)),
    ]  # fmt: skip


def test_what_was_used_of_the_month_before_does_not_expire(bank: Bank) -> None:
    user = member(bank)
    allocate(bank)
    bank.give(user, -12, "usage")
    bank.world.freeze(month_after(START))
    allocate(bank)
    assert bank.lots(user) == [("allocation", D(20)), ("first", D(1))]


def test_a_tier_that_lets_some_keep_lets_them_keep_a_month(bank: Bank) -> None:
    bank.keep(5)
    user = member(bank)
    allocate(bank)
    for month in (4, 5, 6):
        bank.world.freeze(START.replace(month=month))
        allocate(bank)
        assert sorted(bank.lots(user)) == [
            ("allocation", D(20)), ("first", D(1)), ("rollover", D(5)),
        ]  # fmt: skip
    assert bank.balance(user) == D(26)


@pytest.mark.parametrize("late", [DAY, 29 * DAY, 31 * DAY, 100 * DAY, 800 * DAY], ids=str)
def test_missed_months_are_not_made_up(bank: Bank, late: timedelta) -> None:
    user = member(bank)
    bank.world.freeze(START + late)
    assert allocate(bank) == (1, 20)
    last, due = terms(bank, user)
    assert last == START + late
    assert due is not None
    assert START + late < due <= START + late + 31 * DAY
    assert (due.day, due.hour, due.minute) == (15, 10, 30)
    assert allocate(bank) == (0, 0)


@pytest.mark.parametrize(
    ("due", "now", "after"),
    [
        ("2026-01-31T00:00Z", "2026-01-31T00:00Z", "2026-02-28T00:00Z"),
        ("2026-01-31T00:00Z", "2026-02-28T00:00Z", "2026-03-31T00:00Z"),
        ("2026-01-31T00:00Z", "2026-03-01T00:00Z", "2026-03-31T00:00Z"),
        ("2028-01-30T12:00Z", "2028-02-29T11:59Z", "2028-02-29T12:00Z"),
        ("2026-12-05T00:00Z", "2026-12-05T00:00Z", "2027-01-05T00:00Z"),
        ("2026-12-05T00:00Z", "2027-01-05T00:00Z", "2027-02-05T00:00Z"),
    ],
)
def test_a_month_ends_on_its_last_day_where_it_is_too_short(
    bank: Bank, due: str, now: str, after: str
) -> None:
    user = member(bank, due=datetime.fromisoformat(due))
    bank.world.freeze(datetime.fromisoformat(now))
    assert allocate(bank) == (1, 20)
    assert terms(bank, user)[1] == datetime.fromisoformat(after)


def test_it_takes_so_many_at_a_time_the_first_due_first(bank: Bank) -> None:
    users = [member(bank, due=START - hours * timedelta(hours=1)) for hours in range(5)]
    assert allocate(bank, limit=2) == (2, 40)
    assert [bank.balance(user) for user in users] == [D(1)] * 3 + [D(21)] * 2
    assert [allocate(bank, limit=2) for _ in range(3)] == [(2, 40), (1, 20), (0, 0)]
    assert {bank.balance(user) for user in users} == {D(21)}


def test_workers_at_the_same_time_give_once(bank: Bank) -> None:
    users = [member(bank) for _ in range(20)]
    calls = [lambda session: allocate(bank, through=session) for _ in range(4)]
    given = bank.world.at_once(calls, "tallybook_worker")
    assert sum(answer[0] for answer in given) == 20  # type: ignore[index]
    assert {bank.balance(user) for user in users} == {D(21)}


def test_once_a_due_day_whatever_becomes_of_the_terms(bank: Bank) -> None:
    user = member(bank)
    allocate(bank)
    bank.world.admin.execute("update user_credits set allocation_due_at = %s", (START,))
    assert allocate(bank) == (0, 0)
    assert bank.balance(user) == D(21)
    assert terms(bank, user) == (START, month_after(START))


def test_on_the_same_day_more_comes_only_to_who_moved_into_a_tier_of_more(bank: Bank) -> None:
    user = member(bank)
    allocate(bank)
    for tier, comes in (
        ("professional", (1, 60)),
        ("starter", (0, 0)),
        ("professional", (0, 0)),
    ):
        bank.call("switch_tier", user_id=None, account=str(user), tier=tier)
        assert allocate(bank) == comes
    rows = bank.world.rows(
        "select idempotency_key from credit_transactions"
        " where transaction_type = 'allocation' order by id"
    )
    assert [row["idempotency_key"] for row in rows] == [
        "allocation:2026-03-15",
        "allocation:2026-03-15:professional",
    ]


def test_who_moves_into_a_tier_gets_its_credits_and_then_each_month(bank: Bank) -> None:
    user = bank.customer()
    bank.call("switch_tier", user_id=None, account=str(user), tier="trial")
    assert allocate(bank) == (1, 5)
    bank.world.freeze(month_after(START))
    assert allocate(bank) == (1, 5)
    bank.call("switch_tier", user_id=user, tier="free")
    bank.world.freeze(month_after(month_after(START)))
    assert allocate(bank) == (0, 0)
    bank.call("expire_credits", bank.world.worker)
    assert bank.balance(user) == 0


def test_a_key_that_is_taken_costs_nobody_their_month(bank: Bank) -> None:
    user, other = member(bank), member(bank)
    for key in ("allocation:2026-03-15", "allocation:2026-03-15:starter"):
        bank.give(user, "-0.5", "usage", idempotency_key=key)
    assert allocate(bank) == (2, 40)
    assert allocate(bank) == (0, 0)
    assert (bank.balance(user), bank.balance(other)) == (D(20), D(21))


def test_who_owes_pays_with_their_month(bank: Bank) -> None:
    user = member(bank)
    bank.world.admin.execute("update ledger.accounts set floor = -100000000")
    bank.give(user, -16, "usage")
    assert allocate(bank) == (1, 20)
    assert bank.lots(user) == [("allocation", D(5))]
