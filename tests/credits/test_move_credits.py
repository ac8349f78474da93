"""The one function that moves credits: lots, their order, refunds, debts, and what refuses."""

from datetime import timedelta
from decimal import Decimal as D
from uuid import UUID

import pytest

from tests.credits.bank import Bank


def test_what_comes_is_a_lot_and_what_goes_is_taken_from_it(bank: Bank) -> None:
    user = bank.customer(10)
    bank.give(user, "-2.5", "usage")
    assert bank.balance(user) == D("7.5")
    assert bank.lots(user) == [("bonus", D("7.5"))]
    assert bank.statement(user) == [("bonus", D(10), D(10)), ("usage", D("-2.5"), D("7.5"))]


def test_the_first_to_expire_is_spent_first_and_priority_comes_before(bank: Bank) -> None:
    now = bank.world.now()
    user = bank.customer(10, source="never")
    bank.give(user, 10, source="late", expires_at=now + timedelta(days=20))
    bank.give(user, 10, source="soon", expires_at=now + timedelta(days=10))
    bank.give(user, 10, source="first", priority=1)
    bank.give(user, -15, "usage")
    assert bank.lots(user) == [("soon", D(5)), ("late", D(10)), ("never", D(10))]


def test_more_than_there_is_is_refused_and_nothing_is_written(bank: Bank) -> None:
    user = bank.customer(1)
    (row,) = bank.move({"user_id": user, "amount": "-1.000001", "transaction_type": "usage"})
    assert (row["outcome"], row["balance_after"]) == ("insufficient_funds", None)
    assert bank.statement(user) == [("bonus", D(1), D(1))]


def test_several_movements_of_a_set_lie_end_to_end(bank: Bank) -> None:
    user, other = bank.customer(3, source="a", priority=1), bank.customer(1)
    bank.give(user, 3, source="b")
    rows = bank.move(
        {"user_id": user, "amount": -2, "transaction_type": "usage"},
        {"user_id": other, "amount": -2, "transaction_type": "usage"},
        {"user_id": user, "amount": -2, "transaction_type": "usage"},
        {"user_id": user, "amount": 0, "transaction_type": "usage"},
        {"user_id": user, "amount": -2, "transaction_type": "usage"},
    )
    assert [(row["outcome"], row["balance_after"]) for row in rows] == [
        ("posted", 4),
        ("insufficient_funds", None),
        ("posted", 2),
        ("posted", 2),
        ("posted", 0),
    ]
    assert bank.lots(user) == []


def test_a_refund_goes_back_to_the_lots_it_came_from_last_spent_first(bank: Bank) -> None:
    now = bank.world.now()
    user = bank.customer(5, source="soon", expires_at=now + timedelta(days=1))
    bank.give(user, 5, source="late")
    usage = bank.give(user, -8, "usage")
    assert bank.lots(user) == [("late", D(2))]
    bank.give(user, 4, "refund", refund_of=usage)
    assert bank.lots(user) == [("soon", D(1)), ("late", D(5))]
    bank.give(user, 4, "refund", refund_of=usage)
    assert bank.lots(user) == [("soon", D(5)), ("late", D(5))]


def test_what_came_from_a_lot_that_has_expired_comes_as_a_new_one(bank: Bank) -> None:
    bank.world.freeze()
    now = bank.world.now()
    user = bank.customer(5, expires_at=now + timedelta(days=1))
    usage = bank.give(user, -3, "usage")
    bank.world.pass_time(timedelta(days=2))
    bank.give(user, 3, "refund", refund_of=usage)
    assert bank.lots(user) == [("bonus", D(2)), ("refund", D(3))]


def test_an_account_that_may_owe_pays_its_debt_before_it_has_lots(bank: Bank) -> None:
    user = bank.customer(5)
    bank.world.admin.execute(
        "update ledger.accounts set floor = -100000000 where book_id = %s", (user,)
    )
    usage = bank.give(user, -15, "usage")
    assert (bank.balance(user), bank.lots(user)) == (D(-10), [])
    bank.give(user, 4, "purchase")
    assert (bank.balance(user), bank.lots(user)) == (D(-6), [])
    bank.give(user, 8, "purchase")
    assert (bank.balance(user), bank.lots(user)) == (D(2), [("purchase", D(2))])
    bank.give(user, 15, "refund", refund_of=usage)
    assert (bank.balance(user), sum(amount for _, amount in bank.lots(user))) == (D(17), D(17))


def other_sides(bank: Bank, user: UUID) -> dict[tuple[str, str], D]:
    """How many of a user's credits went from which account to which."""
    return {
        (row["from_account"], row["to_account"]): D(row["credits"]).normalize()
        for row in bank.world.rows(
            "select from_account, to_account, sum(amount) / 1000000.0 as credits"
            " from ledger.transfers where book_id = %s group by 1, 2",
            (user,),
        )
    }


def test_each_kind_of_movement_has_its_own_other_side(bank: Bank) -> None:
    user = bank.customer()
    bank.give(user, 64, "purchase")
    bank.give(user, 32, "bonus")
    bank.give(user, 16, "allocation", expires_at=bank.world.now() + timedelta(days=1))
    usage = bank.give(user, -9, "usage")
    bank.give(user, 2, "refund", refund_of=usage)
    bank.give(user, 8, "adjustment")
    bank.give(user, "-0.5", "adjustment")
    bank.give(user, -1, "expiry")
    assert other_sides(bank, user) == {
        ("credits.sold", "credits"): D(64),
        ("credits.granted", "credits"): D(48),
        ("credits", "credits.used"): D(9),
        ("credits.used", "credits"): D(2),
        ("credits.adjusted", "credits"): D(8),
        ("credits", "credits.adjusted"): D("0.5"),
        ("credits", "credits.expired"): D(1),
    }


@pytest.mark.parametrize(
    ("first", "second", "back"),
    [
        ({"priority": 1}, {"priority": 2}, "second"),
        ({"priority": 1, "expires_at": 9}, {"priority": 2, "expires_at": 5}, "second"),
        ({"expires_at": 5}, {"expires_at": 9}, "second"),
        ({"expires_at": 5}, {}, "second"),
        ({}, {}, "second"),
    ],
    ids=["priority", "priority before time", "time", "no end", "the younger"],
)
def test_a_refund_goes_the_way_back_that_the_usage_came(
    bank: Bank, first: dict[str, int], second: dict[str, int], back: str
) -> None:
    bank.world.freeze()
    user = bank.customer()
    for source, lot in (("first", first), ("second", second)):
        ends = (
            {"expires_at": bank.world.now() + timedelta(days=lot["expires_at"])}
            if ("expires_at" in lot)
            else {}
        )
        bank.give(user, 5, source=source, **{**lot, **ends})
        bank.world.pass_time(timedelta(seconds=1))
    usage = bank.give(user, -10, "usage")
    bank.give(user, 5, "refund", refund_of=usage)
    assert bank.lots(user) == [(back, D(5))]


def test_what_comes_back_as_a_new_lot_lasts_thirty_days(bank: Bank) -> None:
    bank.world.freeze()
    ends = bank.world.now() + timedelta(days=1)
    user = bank.customer(5, expires_at=ends)
    usage = bank.give(user, -3, "usage")
    # To the very moment: a lot has expired when its time has come.
    bank.world.freeze(ends)
    bank.give(user, 3, "refund", refund_of=usage)
    rows = bank.world.rows(
        "select source, remaining, expires_at, created_at from credit_grants"
        " where user_id = %s order by created_at",
        (user,),
    )
    assert [tuple(row.values()) for row in rows][1:] == [
        ("refund", D(3), ends + timedelta(days=30), ends)
    ]


def test_each_change_has_a_number_and_a_time(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(5)
    for number, amount in enumerate((1, -1, 2), 2):
        bank.world.pass_time(timedelta(seconds=1))
        bank.give(user, amount, "adjustment")
        (row,) = bank.world.rows(
            "select version, updated_at from user_credits where user_id = %s", (user,)
        )
        assert (row["version"], row["updated_at"]) == (number, bank.world.now())


def test_of_lots_that_come_together_the_first_to_end_says_when_to_look(bank: Bank) -> None:
    now = bank.world.now()
    user = bank.customer()
    bank.move(
        *(
            {"user_id": user, "amount": 1, "transaction_type": "bonus", "expires_at": ends}
            for ends in (now + timedelta(days=2), now + timedelta(days=1), now + timedelta(days=3))
        )
    )
    assert bank.world.value("select lots_due_at from user_credits") == now + timedelta(days=1)
