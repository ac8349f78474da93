"""The one function that moves credits: lots, their order, refunds, debts, and what refuses."""

from datetime import timedelta
from decimal import Decimal as D

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
