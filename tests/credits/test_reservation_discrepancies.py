"""Every fault of a reservation shows: each fact is broken by hand, and exactly it is reported."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.credits.bank import Bank


@pytest.fixture
def reservations(bank: Bank) -> tuple[UUID, str, str]:
    """A user, what they have reserved, and what of theirs was settled for less."""
    user = bank.customer(1)
    request = {"user_id": user, "model": "gpt-4o", "max_tokens": 1000}
    open_, settled = (bank.call("reserve_credits", **request)["reservation_id"] for _ in range(2))
    bank.call("settle_credits", user_id=user, reservation_id=settled, tokens_used=400)
    return user, open_, settled


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "update credit_reservations set amount = 1 where id = %(open)s",
            ("I3", "reservation {open}", "1.000000", "0.003750"),
        ),
        (
            "delete from credit_reservations where id = %(open)s",
            ("I3", "reservation {open}", "0", "0.003750"),
        ),
        (
            "update ledger.holds set settled = 1501 where hold_id = %(settled)s",
            ("I1", "settlement of {settled}", "0.001501", "0.001500"),
        ),
        (
            "update ledger.holds set status = 'released', settled = 0 where hold_id = %(settled)s",
            ("I1", "settlement of {settled}", "none", "0.001500"),
        ),
        (
            "delete from credit_transactions where id = %(settled)s",
            ("I1", "settlement of {settled}", "0.001500", "none"),
        ),
    ],
)
def test_a_fault_is_reported(
    bank: Bank,
    reservations: tuple[UUID, str, str],
    statement: str,
    fault: tuple[str, str, str, str],
) -> None:
    user, open_, settled = reservations
    ids = {"open": open_, "settled": settled}
    invariant, subject, expected, actual = fault
    connection = bank.world.admin
    with connection.transaction(force_rollback=True):
        connection.execute("set local session_replication_role = replica")
        connection.execute(statement, ids)  # type: ignore[call-overload]
        assert bank.world.rows("select * from internal.credit_reservation_discrepancies") == [
            {
                "invariant": invariant,
                "book_id": user,
                "subject": subject.format(**ids),
                "expected": expected,
                "actual": actual,
            }
        ]
    assert bank.world.discrepancies() == []
