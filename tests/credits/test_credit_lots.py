"""A user's lots in the order of spending, without what has ended."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import NOW

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def frozen(bank: Bank) -> None:
    bank.world.freeze()


def lots(bank: Bank, user: UUID) -> Any:
    return bank.call("credit_lots", user_id=user)


def test_who_has_none_has_none(bank: Bank) -> None:
    assert lots(bank, uuid4()) == {
        "balance": 0.0, "reserved": 0.0, "available": 0.0, "lots": [], "expires_next": None,
    }  # fmt: skip


def test_they_come_in_the_order_in_which_they_are_spent(bank: Bank) -> None:
    user = bank.customer(1, source="never")
    bank.give(user, 2, source="late", expires_at=NOW + 2 * DAY)
    soon = bank.give(user, 3, source="soon", expires_at=NOW + DAY)
    bank.give(user, 4, source="first", priority=1, expires_at=NOW + 3 * DAY)
    bank.give(user, 5, source="as_soon", expires_at=NOW + DAY)
    bank.give(user, -5, "usage")
    answer = lots(bank, user)
    assert [(lot["source"], lot["remaining"]) for lot in answer["lots"]] == [
        ("soon", 2), ("as_soon", 5), ("late", 2), ("never", 1),
    ]  # fmt: skip
    assert answer["lots"][0] == {
        "grant_id": str(soon),
        "source": "soon",
        "priority": 100,
        "amount": 3.0,
        "remaining": 2.0,
        "expires_at": (NOW + DAY).isoformat(),
    }
    assert answer["expires_next"] == {"credits": 7.0, "expires_at": (NOW + DAY).isoformat()}
    order = [lot["source"] for lot in answer["lots"]]
    for source in order:
        assert lots(bank, user)["lots"][0]["source"] == source
        bank.give(user, -D(str(lots(bank, user)["lots"][0]["remaining"])), "usage")


def test_what_is_reserved_is_told(bank: Bank) -> None:
    user = bank.customer(10)
    bank.set_aside(user, 4)
    answer = lots(bank, user)
    assert (answer["balance"], answer["reserved"], answer["available"]) == (10, 4, 6)
    assert answer["lots"][0]["remaining"] == 10


@pytest.mark.parametrize("held", [0, 3, 8])
@pytest.mark.parametrize("keeps", [0, 4])
def test_what_has_ended_is_the_same_before_and_after_it_is_posted(
    bank: Bank, held: int, keeps: int
) -> None:
    bank.keep(keeps, "free")
    user = bank.customer(2, source="never")
    bank.give(user, 5, "allocation", expires_at=NOW + DAY)
    bank.give(user, 5, expires_at=NOW + DAY, source="gift")
    bank.give(user, 5, expires_at=NOW + 40 * DAY, source="later")
    if held:
        bank.set_aside(user, held)
    bank.world.pass_time(DAY)
    before = lots(bank, user)
    balance = bank.call("credit_balance", user_id=user)["balance"]
    bank.call("expire_credits", bank.world.worker)
    after = lots(bank, user)
    assert before == after
    assert before["balance"] == balance == float(bank.balance(user))
    assert before["available"] == before["balance"] - held


def test_another_users_are_not_there(bank: Bank) -> None:
    user = bank.customer()
    bank.customer(10)
    assert lots(bank, user)["lots"] == []


def test_it_changes_nothing(bank: Bank) -> None:
    user = bank.customer(10, expires_at=NOW + DAY)
    bank.world.pass_time(DAY)
    assert lots(bank, user) == lots(bank, user)
    assert len(bank.statement(user)) == 1
    bank.call("expire_credits", bank.world.worker)
