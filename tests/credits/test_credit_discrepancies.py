"""Every fault of the credits shows: each fact is broken by hand, and what is reported names it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.credits.bank import Bank


@pytest.mark.parametrize(
    ("statement", "faults"),
    [
        ("update user_credits set balance = 1", {"balance in user_credits", "sum of the lots"}),
        ("update user_credits set credits_allocated = 1", {"credits that ever came"}),
        ("update user_credits set lots_due_at = 'infinity'", {"when lots are due"}),
        (
            "delete from credit_lot_entries where transaction_id = %(usage)s",
            {"lot {lot}"},
        ),
        ("update credit_grants set amount = 11 where grant_id = %(lot)s", {"size of lot {lot}"}),
        (
            "update credit_transactions set transaction_type = 'purchase' where id = %(lot)s",
            {"accounts of {lot}"},
        ),
        (
            "update ledger.transfers set to_account = 'credits.expired'"
            " where transfer_id = %(usage)s",
            {"accounts of {usage}"},
        ),
        (
            "update credit_transactions set refund_of = %(small)s where refund_of = %(usage)s",
            {"refunds of {small}"},
        ),
        (
            "update usage_events set transaction_id = %(lot)s where transaction_id = %(small)s",
            {"charge for usage {event}"},
        ),
        (
            "update coupon_redemptions set transaction_id = gen_random_uuid()",
            {"redemption of SPRING"},
        ),
        (
            "insert into credit_transactions (user_id, id, amount, balance_after, transaction_type)"
            " values (gen_random_uuid(), '00000000-0000-7000-8000-000000000000', 1, 1, 'bonus')",
            {"transaction 00000000-0000-7000-8000-000000000000"},
        ),
        ("update coupon_codes set times_used = 2", {"uses of promotion SPRING"}),
    ],
)
def test_every_fault_is_found(bank: Bank, statement: str, faults: set[str]) -> None:
    world = bank.world
    user = bank.customer()
    known = {"lot": bank.give(user, 10, expires_at=world.now() + timedelta(days=1))}
    for name, amount in (("usage", 4), ("small", 1)):
        known[name] = bank.call("deduct_credits", user_id=user, amount=amount)["transaction_id"]
    known["event"] = world.value(
        "select id from usage_events where transaction_id = %s", (known["small"],)
    )
    bank.call(
        "refund_credits",
        user_id=None,
        account=str(user),
        transaction_id=known["usage"],
        amount=2,
        reason="It failed",
    )
    world.operator.execute(
        "insert into coupon_codes (code, discount_type, discount_value)"
        " values ('SPRING', 'fixed', 10)"
    )
    bank.call("redeem_promotion", user_id=user, code="SPRING")

    query = "select subject from internal.credit_discrepancies"
    assert world.rows(query) == []
    broken = world.session(autocommit=False)
    # As one who may do anything and stops at nothing.
    broken.execute("set session_replication_role = replica")
    broken.execute(statement, known)  # type: ignore[call-overload]
    found = {row["subject"] for row in broken.execute(query).fetchall()}
    broken.rollback()
    assert found == {fault.format(**known) for fault in faults}
