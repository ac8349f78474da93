"""Lots end when their time is up: not what was used, not what is reserved, not what keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.credits.bank import Bank
from tests.world import NOW, Connection, refused

DAY = timedelta(days=1)
ENDS = NOW + DAY


@pytest.fixture(autouse=True)
def frozen(bank: Bank) -> None:
    bank.world.freeze()


def expire(bank: Bank, limit: int = 1000, through: Connection | None = None) -> tuple[Any, Any]:
    answer = bank.call("expire_credits", through or bank.world.worker, limit=limit)
    return answer["expired"], answer["credits"]


def let_go(bank: Bank) -> None:
    """End what is reserved and was not used in time, as upkeep does."""
    assert bank.call("expire_holds", bank.world.worker)["expired"] == 1


def due(bank: Bank, user: UUID) -> datetime | None:
    """When upkeep looks at a user's lots next; none when it never does."""
    at: datetime | None = bank.world.value(
        "select nullif(lots_due_at, 'infinity') from user_credits where user_id = %s", (user,)
    )
    return at


def member(bank: Bank, *allocations: tuple[int, datetime], tier: str = "starter") -> UUID:
    """A user of a tier with monthly credits: how many, and until when."""
    user = bank.customer()
    for credits, ends in allocations:
        bank.give(user, credits, "allocation", expires_at=ends)
    bank.world.admin.execute("update user_credits set tier = %s where user_id = %s", (tier, user))
    return user


def test_what_is_left_of_a_lot_expires_with_it(bank: Bank) -> None:
    user, other = bank.customer(10, expires_at=ENDS), bank.customer(10)
    never = bank.give(user, 5)
    bank.give(user, -4, "usage")
    assert due(bank, user) == ENDS
    bank.world.freeze(ENDS - timedelta(microseconds=1))
    assert expire(bank) == (0, 0)
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 6)
    assert bank.statement(user)[-1] == ("expiry", D(-6), D(5))
    assert (bank.lots(user), bank.balance(other)) == ([("bonus", D(5))], D(10))
    assert due(bank, user) is None
    assert expire(bank) == (0, 0)
    assert bank.world.count("credit_grants", "is_open and grant_id = %s", never) == 1


def test_each_lot_that_ends_is_a_transaction_of_its_own(bank: Bank) -> None:
    user = bank.customer(3, source="a", expires_at=ENDS)
    bank.give(user, 4, source="b", expires_at=ENDS)
    bank.give(user, 5, source="c", expires_at=ENDS + DAY)
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 7)
    assert sorted(row[1] for row in bank.statement(user) if row[0] == "expiry") == [D(-4), D(-3)]
    rows = bank.world.rows(
        "select e.amount, g.source, t.reason from credit_transactions as t"
        " join credit_lot_entries as e on e.user_id = t.user_id and e.transaction_id = t.id"
        " join credit_grants as g on g.user_id = e.user_id and g.grant_id = e.grant_id"
        " where t.transaction_type = 'expiry' order by g.source"
    )
    assert [tuple(row.values()) for row in rows] == [
        (D(-3), "a", "Not used in time"), (D(-4), "b", "Not used in time"),
    ]  # fmt: skip
    assert due(bank, user) == ENDS + DAY


def test_what_is_reserved_outlives_its_lot(bank: Bank) -> None:
    user = bank.customer(10, expires_at=ENDS)
    bank.set_aside(user, 8)
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 2)
    assert (bank.balance(user), bank.available(user)) == (D(8), D(0))
    # It stays due, and is not looked at again and again in vain.
    assert due(bank, user) == ENDS
    assert expire(bank) == (0, 0)
    let_go(bank)
    assert expire(bank) == (1, 8)
    assert due(bank, user) is None


def test_what_is_reserved_may_be_of_another_lot(bank: Bank) -> None:
    user = bank.customer(10, expires_at=ENDS)
    bank.give(user, 10)
    bank.set_aside(user, 8)
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 10)
    assert bank.available(user) == D(2)


def test_of_two_lots_what_is_reserved_is_of_the_later(bank: Bank) -> None:
    user = bank.customer(5, source="early", expires_at=ENDS)
    bank.give(user, 5, source="late", expires_at=ENDS + DAY)
    bank.set_aside(user, 3)
    bank.world.freeze(ENDS + DAY)
    assert expire(bank) == (1, 7)
    assert bank.lots(user) == [("late", D(3))]


def test_an_account_that_owes_loses_nothing(bank: Bank) -> None:
    user = bank.customer(10, expires_at=ENDS)
    bank.world.admin.execute("update ledger.accounts set floor = -100000000")
    bank.set_aside(user, 60)
    bank.world.freeze(ENDS)
    assert expire(bank) == (0, 0)
    assert bank.call("credit_balance", user_id=user)["balance"] == 10
    assert bank.lots(user) == [("bonus", D(10))]


def test_without_a_rule_nothing_keeps(bank: Bank) -> None:
    user = member(bank, (20, ENDS))
    nobodys = member(bank, (20, ENDS), tier="no tier at all")
    bank.world.freeze(ENDS)
    assert expire(bank) == (2, 40)
    assert bank.lots(user) == bank.lots(nobodys) == []


def test_so_many_monthly_credits_keep_for_a_month_more_and_once(bank: Bank) -> None:
    bank.keep(5)
    user = member(bank, (20, ENDS))
    bank.give(user, -3, "usage")
    bank.world.freeze(ENDS + timedelta(hours=6))
    assert expire(bank) == (1, 12)
    assert bank.lots(user) == [("rollover", D(5))]
    # A month from when they would have ended, however late that was seen to.
    assert due(bank, user) == ENDS.replace(month=ENDS.month + 1)
    bank.world.freeze(ENDS.replace(month=ENDS.month + 1))
    assert expire(bank) == (1, 5)
    assert bank.lots(user) == []


def test_less_than_may_keep_keeps_and_nothing_moves(bank: Bank) -> None:
    bank.keep(50)
    user = member(bank, (20, ENDS))
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 0)
    assert bank.lots(user) == [("rollover", D(20))]
    assert len(bank.statement(user)) == 1


def test_only_monthly_credits_keep(bank: Bank) -> None:
    bank.keep(5)
    user = member(bank, (1, ENDS))
    for type in ("bonus", "purchase", "adjustment"):
        bank.give(user, 10, type, expires_at=ENDS)
    bank.give(user, 10, source="refund", expires_at=ENDS)
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 40)
    assert bank.lots(user) == [("rollover", D(1))]


def test_of_several_lots_the_latest_keep(bank: Bank) -> None:
    bank.keep(5)
    user = member(bank, (4, ENDS), (3, ENDS + DAY), (4, ENDS + 2 * DAY))
    bank.world.freeze(ENDS + 2 * DAY)
    assert expire(bank) == (1, 6)
    assert bank.lots(user) == [("rollover", D(1)), ("rollover", D(4))]


def test_what_keeps_already_counts(bank: Bank) -> None:
    bank.keep(5)
    user = member(bank, (4, ENDS), (4, ENDS + DAY))
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 0)
    bank.world.freeze(ENDS + DAY)
    assert expire(bank) == (1, 3)
    assert bank.lots(user) == [("rollover", D(4)), ("rollover", D(1))]


def test_what_kept_and_ends_now_makes_room(bank: Bank) -> None:
    bank.keep(5)
    later = ENDS.replace(month=ENDS.month + 1)
    user = member(bank, (5, ENDS), (7, later))
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 0)
    bank.world.freeze(later)
    assert expire(bank) == (1, 7)
    assert bank.lots(user) == [("rollover", D(5))]


def test_what_is_reserved_and_what_keeps_are_told_apart(bank: Bank) -> None:
    bank.keep(4)
    user = member(bank, (10, ENDS))
    bank.set_aside(user, 8)
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 2)
    # Nothing keeps yet: it is not known what of it will be used.
    assert bank.lots(user) == [("allocation", D(8))]
    # Nor is it looked at in vain while all that is left is reserved.
    assert expire(bank) == (0, 0)
    let_go(bank)
    assert expire(bank) == (1, 4)
    assert bank.lots(user) == [("rollover", D(4))]


def test_no_more_keeps_in_two_looks_than_in_one(bank: Bank) -> None:
    bank.keep(4)
    user = member(bank, (5, ENDS), (3, ENDS + DAY))
    bank.set_aside(user, 6)
    bank.world.freeze(ENDS + DAY)
    assert expire(bank) == (1, 2)
    assert bank.lots(user) == [("allocation", D(3)), ("rollover", D(3))]
    let_go(bank)
    assert expire(bank) == (1, 2)
    assert bank.lots(user) == [("rollover", D(1)), ("rollover", D(3))]


def test_who_is_seen_after_a_year_keeps_nothing(bank: Bank) -> None:
    bank.keep(5)
    user = member(bank, (20, ENDS))
    bank.world.freeze(ENDS + 365 * DAY)
    told = bank.call("credit_balance", user_id=user)["balance"]
    with refused("insufficient_credits", 402):
        bank.call("deduct_credits", user_id=user, amount=1)
    assert told == 0
    assert expire(bank) == (1, 20)
    assert bank.balance(user) == 0


@pytest.mark.parametrize("keeps", [0, 6], ids=["nothing keeps", "some keep"])
def test_who_spends_meets_their_own_ends_before(bank: Bank, keeps: int) -> None:
    bank.keep(keeps)
    user = member(bank, (10, ENDS))
    bank.give(user, 5)
    bank.world.freeze(ENDS)
    # What the balance tells before and after the expiry is posted is the same.
    told = bank.call("credit_balance", user_id=user)["balance"]
    answer = bank.call("deduct_credits", user_id=user, amount=3)
    assert (told, answer["new_balance"]) == (5 + keeps, 2 + keeps)
    assert expire(bank) == (0, 0)


def test_what_was_reserved_of_a_lot_is_nobodys_to_spend_when_it_is_given_back(bank: Bank) -> None:
    user = bank.customer(10, expires_at=ENDS)
    given_back, settled = (
        bank.call("reserve_credits", user_id=user, model="gpt-4o", max_tokens=10**9, max_cost=5)
        for _ in range(2)
    )
    bank.world.freeze(ENDS)
    assert expire(bank) == (0, 0)
    answer = bank.call("release_credits", user_id=user, reservation_id=given_back["reservation_id"])
    assert (answer["available"], answer["account"]["balance"]) == (0, 5)
    # And what a settlement leaves over is as little there to be spent.
    bank.call("settle_credits", user_id=user, reservation_id=settled["reservation_id"], cost=1)
    for _ in range(2):
        assert bank.call("credit_balance", user_id=user)["balance"] == 0
        with refused("insufficient_credits", 402):
            bank.call("deduct_credits", user_id=user, amount=1)
        with refused("insufficient_credits", 402):
            bank.call("reserve_credits", user_id=user, model="gpt-4o", max_tokens=1000)
        bank.world.pass_time(timedelta(seconds=30))
    assert expire(bank) == (1, 4)


def test_a_reservation_that_ends_by_itself_frees_nothing_of_a_lot_that_ended(bank: Bank) -> None:
    user = bank.customer(10, expires_at=ENDS)
    bank.world.freeze(ENDS - timedelta(seconds=1))
    bank.call("reserve_credits", user_id=user, model="gpt-4o", max_tokens=10**9, max_cost=10)
    bank.world.freeze(ENDS + timedelta(seconds=590))
    assert expire(bank) == (0, 0)
    bank.world.freeze(ENDS + timedelta(seconds=599))
    assert bank.call("expire_holds", bank.world.worker) == {"expired": 1}
    with refused("insufficient_credits", 402):
        bank.call("deduct_credits", user_id=user, amount=1)
    assert expire(bank) == (1, 10)


def test_who_has_reserved_all_of_what_ended_keeps_nobody_else_waiting(bank: Bank) -> None:
    held, other = (bank.customer(1, expires_at=ENDS + n * DAY) for n in range(2))
    bank.set_aside(held, 1)
    bank.world.freeze(ENDS + DAY)
    assert expire(bank, limit=1) == (1, 1)
    assert (bank.balance(held), bank.balance(other)) == (1, 0)


def test_a_lot_that_a_refund_opens_again_ends_when_its_time_is_up(bank: Bank) -> None:
    user = bank.customer(5, expires_at=ENDS + DAY)
    usage = bank.call("deduct_credits", user_id=user, amount=5)["transaction_id"]
    bank.give(user, 1, expires_at=ENDS)
    bank.world.freeze(ENDS)
    assert expire(bank) == (1, 1)
    assert due(bank, user) is None
    bank.call(
        "refund_credits", user_id=None, account=str(user), transaction_id=usage, reason="It failed"
    )
    assert (bank.lots(user), due(bank, user)) == ([("bonus", D(5))], ENDS + DAY)
    bank.world.freeze(ENDS + DAY)
    with refused("insufficient_credits", 402):
        bank.call("deduct_credits", user_id=user, amount=1)


def test_it_takes_so_many_at_a_time_the_first_due_first(bank: Bank) -> None:
    users = [bank.customer(1, expires_at=ENDS + n * timedelta(hours=1)) for n in range(5)]
    bank.world.freeze(ENDS + DAY)
    assert expire(bank, limit=2) == (2, 2)
    assert [bank.balance(user) for user in users] == [0, 0, 1, 1, 1]
    assert [expire(bank, limit=2) for _ in range(3)] == [(2, 2), (1, 1), (0, 0)]


def test_workers_at_the_same_time_expire_once(bank: Bank) -> None:
    users = [bank.customer(3, expires_at=ENDS) for _ in range(20)]
    bank.world.freeze(ENDS)
    calls = [lambda session: expire(bank, through=session) for _ in range(4)]
    answers = bank.world.at_once(calls, "tallybook_worker")
    assert sum(answer[1] for answer in answers) == 60  # type: ignore[index]
    assert {bank.balance(user) for user in users} == {D(0)}


def test_expiry_and_spending_at_the_same_time_take_each_credit_once(bank: Bank) -> None:
    user = bank.customer(10, expires_at=ENDS)
    bank.give(user, 2)
    bank.world.freeze(ENDS)
    calls: list[Callable[[Connection], Any]] = [
        lambda session: bank.call("deduct_credits", session, user_id=user, amount=1)
        for _ in range(4)
    ]
    calls.append(lambda _: expire(bank))
    results = bank.world.at_once(calls)
    assert sum(isinstance(result, psycopg.Error) for result in results) == 2
    assert bank.balance(user) == 0


def test_who_is_spending_has_spent_before_the_lots_are_looked_at(bank: Bank) -> None:
    user, spender = bank.customer(10, expires_at=ENDS), bank.world.session(autocommit=False)
    bank.world.freeze(ENDS)
    spender.execute("select internal.lock_credits(array[%s::uuid])", (user,))
    spender.execute(
        "select from internal.move_credits(array[internal.credit_move(%s, -7, 'usage')])", (user,)
    )
    worker = bank.world.session("tallybook_worker")
    with bank.world.in_background(lambda session: expire(bank, through=session), worker) as done:
        spender.commit()
        assert done.result() == (1, 3)
    assert bank.balance(user) == 0


def test_a_user_and_a_function_may_not_call_it(bank: Bank) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        expire(bank, through=bank.world.functions)
