"""What a fault of credits is told as: the two numbers that do not agree."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.credits.bank import Bank


@pytest.fixture
def credits(bank: Bank) -> tuple[UUID, UUID, UUID]:
    """A user, the lot that they have, and what they used of it."""
    user = bank.customer()
    lot = bank.give(user, 10)
    usage = bank.give(user, -4, "usage")
    bank.world.operator.execute(
        "insert into coupon_codes (code, discount_type, discount_value)"
        " values ('SPRING', 'fixed', 1)"
    )
    return user, lot, usage


@pytest.mark.parametrize(
    ("breakage", "faults"),
    [
        (
            "update user_credits set balance = 7",
            [
                ("balance in user_credits", "6.000000", "7.000000"),
                ("sum of the lots", "7.000000", "6.000000"),
            ],
        ),
        (
            "delete from user_credits",
            [("balance in user_credits", "6.000000", "0"), ("sum of the lots", "0", "6.000000")],
        ),
        (
            "insert into user_credits (user_id, balance) values (gen_random_uuid(), 1)",
            [
                ("balance in user_credits", "0.000000", "1.000000"),
                ("sum of the lots", "1.000000", "0"),
            ],
        ),
        (
            "update credit_grants set remaining = 5",
            [("lot {lot}", "6.000000", "5.000000"), ("sum of the lots", "6.000000", "5.000000")],
        ),
        (
            "delete from credit_grants",
            [("lot {lot}", "6.000000", "0"), ("sum of the lots", "6.000000", "0")],
        ),
        (
            "update credit_lot_entries set amount = -3 where amount = -4",
            [("lot {lot}", "7.000000", "6.000000")],
        ),
        (
            "update credit_transactions set amount = -3 where id = %(usage)s",
            [("transaction {usage}", "-4.000000", "-3.000000")],
        ),
        (
            "delete from credit_transactions where id = %(usage)s",
            [("transaction {usage}", "-4.000000", "0")],
        ),
        (
            "insert into credit_transactions (user_id, id, amount, balance_after, transaction_type)"
            " values (gen_random_uuid(), '00000000-0000-7000-8000-000000000000', 1, 1, 'bonus')",
            [("transaction 00000000-0000-7000-8000-000000000000", "0.000000", "1.000000")],
        ),
        ("update coupon_codes set times_used = 1", [("uses of promotion SPRING", "0", "1")]),
        (
            "insert into coupon_redemptions (user_id, code, redemption, discount_type,"
            " discount_value) values (gen_random_uuid(), 'SPRING', 1, 'fixed', 1)",
            [("uses of promotion SPRING", "1", "0")],
        ),
    ],
)  # fmt: skip
def test_a_fault_is_reported(
    bank: Bank,
    credits: tuple[UUID, UUID, UUID],
    breakage: str,
    faults: list[tuple[str, str, str]],
) -> None:
    _, lot, usage = credits
    connection = bank.world.admin
    with connection.transaction(force_rollback=True):
        connection.execute("set local session_replication_role = replica")
        connection.execute(breakage, {"usage": usage})  # type: ignore[call-overload]
        rows = bank.world.rows(
            "select subject, expected, actual from internal.credit_discrepancies order by subject"
        )
        told = {tuple(row.values()) for row in bank.world.rows(
            "select subject, expected, actual from ledger.discrepancies"
        )}  # fmt: skip
    found = [tuple(row.values()) for row in rows]
    assert set(found) >= {
        (subject.format(lot=lot, usage=usage), expected, actual)
        for subject, expected, actual in faults
    }
    assert set(found) <= told
    assert bank.world.discrepancies() == []


def test_an_account_that_owes_has_no_lots(bank: Bank) -> None:
    user = bank.customer(5)
    bank.world.admin.execute("update ledger.accounts set floor = -100000000")
    bank.give(user, -8, "usage")
    assert bank.world.rows("select * from internal.credit_discrepancies") == []
