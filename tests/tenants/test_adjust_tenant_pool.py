"""A balance that a database administrator writes by hand becomes a posting, and names them."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.tenants.company import Company
from tests.world import Connection, code_of, refused


def adjust(company: Company, tenant: UUID, balance: object, **more: Any) -> dict[str, Any]:
    asked = {"user_id": None, "tenant_id": tenant, "balance": balance, "reason": "Too much", **more}
    answer: dict[str, Any] = company.call("adjust_tenant_pool_to", **asked)
    return answer


@pytest.mark.parametrize("who", ["postgres", "tallybook_operator"])
@pytest.mark.parametrize(
    ("was", "delta"), [(100_000, "-50000"), (20_000, "30000"), (0, "50000"), ("49999.5", "0.5")]
)
def test_the_emergency_update_is_posted(
    company: Company, who: str, was: int | str, delta: str
) -> None:
    tenant, other = company.tenant(was), company.tenant(7)
    session = company.world.session(who)
    # The runbook's words.
    session.execute(
        f"UPDATE tenants SET points_allocation_balance = 50000 WHERE id = '{tenant}'"  # type: ignore[arg-type]
    )
    assert (company.pool(tenant), company.pool(other)) == ("50000", "7")
    (row,) = company.world.rows("select * from platform_billing_logs")
    assert (row["tenant_id"], row["actor"], row["amount"], row["transaction_type"]) == (
        tenant, who, D(delta), "ADJUSTMENT",
    )  # fmt: skip
    assert row["balance_after"] == D(50000)
    (moved,) = company.world.rows(
        "select * from ledger.transfers where transfer_id = %s", (row["id"],)
    )
    assert (moved["book_id"], moved["amount"]) == (tenant, abs(D(delta)) * 100)
    assert company.world.discrepancies() == []


def test_a_corrective_entry_moves_nothing_and_names_who_made_it(
    company: Company, admin: UUID
) -> None:
    """The runbook's last step, which the database has taken already."""
    tenant = company.tenant(100)
    company.world.admin.execute(
        "INSERT INTO platform_billing_logs"
        " (tenant_id, admin_id, amount, transaction_type, reference_note)"
        " VALUES (%s, %s, -50, 'ADJUSTMENT', 'ticket 4711')",
        (tenant, admin),
    )
    (row,) = company.world.rows("select actor, balance_after from platform_billing_logs")
    assert tuple(row.values()) == ("postgres", None)
    assert company.pool(tenant) == "100"
    assert company.world.discrepancies() == []


def test_the_same_balance_and_other_columns_post_nothing(company: Company) -> None:
    tenant = company.tenant(10)
    company.world.admin.execute("update tenants set points_allocation_balance = 10, name = 'New'")
    assert (company.pool(tenant), company.billing(tenant)) == ("10", [])


def test_many_at_once_are_posted_each(company: Company) -> None:
    tenants = [company.tenant(n) for n in range(5)]
    company.world.admin.execute("update tenants set points_allocation_balance = 2")
    assert [company.pool(tenant) for tenant in tenants] == ["2"] * 5
    assert company.world.count("platform_billing_logs") == 4


@pytest.mark.parametrize("who", ["postgres", "tallybook_operator"])
def test_below_zero_is_refused_by_name(company: Company, who: str) -> None:
    tenant = company.tenant(10)
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        company.world.session(who).execute(
            "update tenants set points_allocation_balance = -1 where id = %s", (tenant,)
        )
    assert refusal.value.diag.constraint_name == "positive_points_allocation_balance"
    assert company.pool(tenant) == "10"


def test_a_tenant_that_comes_with_a_balance_has_it(company: Company) -> None:
    tenant = company.tenant(points_allocation_balance="12.5")
    assert company.pool(tenant) == "12.5"
    assert company.billing(tenant) == [("ADJUSTMENT", "12.5")]


@pytest.mark.parametrize("who", ["tallybook_functions", "service_role", "authenticated", "anon"])
def test_nobody_else_writes_a_balance(company: Company, who: str) -> None:
    tenant = company.tenant(10)
    session = company.world.session()
    session.execute(f"set role {who}")  # type: ignore[call-overload]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("update tenants set points_allocation_balance = 50000")
    assert company.pool(tenant) == "10"


def test_the_polite_form_says_why(company: Company, admin: UUID) -> None:
    tenant = company.tenant(100_000)
    answer = adjust(company, tenant, D("50000.5"), user_id=admin, request_id="r-1")
    (row,) = company.world.rows("select * from platform_billing_logs")
    assert answer == {
        "success": True,
        "tenant_id": str(tenant),
        "adjusted_by": "-49999.5",
        "new_allocation_balance": "50000.5",
        "platform_log_id": str(row["id"]),
        "reason": "Too much",
    }
    assert (row["admin_id"], row["actor"], row["reference_note"], row["request_id"]) == (
        admin, f"{admin}@example.org", "Too much", "r-1",
    )  # fmt: skip
    assert adjust(company, tenant, D(0))["new_allocation_balance"] == "0"
    assert adjust(company, tenant, D(5))["adjusted_by"] == "5"
    same = adjust(company, tenant, D(5))
    assert (same["adjusted_by"], same["platform_log_id"], "replayed" in same) == ("0", None, False)
    assert [amount for _, amount in company.billing(tenant)] == ["-49999.5", "-50000.5", "5"]
    audited = company.world.rows(
        "select before, after, reason from audit_log where action = 'tenant.adjustment'"
        " and request_id = 'r-1'"
    )
    assert [
        (row["before"]["balance"], row["after"]["balance"], row["reason"]) for row in audited
    ] == [("100000", "50000.5", "Too much")]


def test_under_one_key_it_is_done_once(company: Company) -> None:
    tenant = company.tenant(10)
    first = adjust(company, tenant, D(4), idempotency_key="k")
    company.fund(tenant, 1)
    assert adjust(company, tenant, D(4), idempotency_key="k") == {**first, "replayed": True}
    with refused("nonce_reused", 409, "idempotency_key: "):
        adjust(company, tenant, D(5), idempotency_key="k")
    assert company.pool(tenant) == "5"


def test_under_a_key_it_is_known_that_nothing_had_to_be_done(company: Company, admin: UUID) -> None:
    tenant = company.tenant(10)
    asked = {"idempotency_key": "k", "user_id": admin}
    first = adjust(company, tenant, D(10), **asked)
    assert (first["adjusted_by"], first["new_allocation_balance"]) == ("0", "10")
    company.fund(tenant, 5)
    assert adjust(company, tenant, D(10), **asked) == {**first, "replayed": True}
    with refused("nonce_reused", 409, "idempotency_key: "):
        adjust(company, tenant, D(11), **asked)
    assert (company.pool(tenant), company.billing(tenant)) == ("15", [("ADJUSTMENT", "0")])
    assert company.world.count("audit_log", "action = 'tenant.adjustment'") == 1


def test_nothing_is_a_balance_and_less_is_not(company: Company) -> None:
    tenant = company.tenant(10)
    with refused("invalid_amount", 400, "balance: must not be below zero"):
        adjust(company, tenant, D("-0.01"))
    assert adjust(company, tenant, D(0))["new_allocation_balance"] == "0"


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ({"tenant": uuid4()}, "tenant_not_found", 404),
        ({"balance": D(-1)}, "invalid_amount", 400),
        ({"balance": None}, "invalid_amount", 400),
        ({"balance": D("0.001")}, "invalid_amount", 400),
        ({"reason": " "}, "reason_required", 400),
        ({"user_id": uuid4()}, "forbidden", 403),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(
    company: Company, fault: dict[str, Any], code: str, status: int
) -> None:
    tenant = company.tenant(10)
    with refused(code, status):
        adjust(company, **{"tenant": tenant, "balance": D(1), **fault})
    assert company.pool(tenant) == "10"


def test_at_once_the_pool_ends_where_somebody_put_it(company: Company) -> None:
    tenant = company.tenant(100)

    def put(balance: int) -> Any:
        def call(session: Connection) -> Any:
            asked = {"user_id": None, "tenant_id": tenant, "balance": D(balance), "reason": "x"}
            return company.call("adjust_tenant_pool_to", session, **asked)

        return call

    answers = company.world.at_once([put(10), put(20), put(30), put(40)])
    assert [code_of(answer) for answer in answers if not isinstance(answer, dict)] == []
    assert company.pool(tenant) in ("10", "20", "30", "40")
    total = sum(D(amount) for _, amount in company.billing(tenant))
    assert D(company.pool(tenant)) == 100 + total


def by_hand(tenant: UUID, balance: int) -> Any:
    def call(session: Connection) -> int:
        return session.execute(
            "update tenants set points_allocation_balance = %s where id = %s", (balance, tenant)
        ).rowcount

    return call


def awarding(company: Company, manager: UUID, user: UUID) -> Any:
    def call(session: Connection) -> Any:
        said = {"user_id": manager, "to_user_id": user, "amount": D(1), "recognition_message": "x"}
        return company.call("award_to_user", session, **said)

    return call


def refused_as_busy(error: psycopg.errors.LockNotAvailable, tenant: UUID) -> bool:
    return str(tenant) in str(error) and "adjust_tenant_pool_to" in str(error.diag.message_hint)


@pytest.mark.parametrize("who", ["postgres", "tallybook_operator"])
def test_by_hand_nobody_waits_for_who_moves_points(company: Company, who: str) -> None:
    """They have the pool's account and need the tenant's row next, which the update holds."""
    tenant, world = company.tenant(100), company.world
    sales = company.department(tenant, monthly_cap=1000)
    manager = company.member(tenant, "tenant_manager", department_id=sales)
    user = company.member(tenant)
    # The award has its accounts, and waits for its department.
    holder = world.session(autocommit=False)
    holder.execute("select from departments where id = %s for update", (sales,))
    session = world.session("tallybook_functions")
    with world.in_background(awarding(company, manager, user), session) as award:
        with pytest.raises(psycopg.errors.LockNotAvailable) as refusal:
            by_hand(tenant, 50)(world.session(who))
        assert refused_as_busy(refusal.value, tenant)
        assert not award.done()
        holder.commit()
        assert award.result()["tenant_remaining_pool"] == "99"
    assert (company.pool(tenant), company.billing(tenant)) == ("99", [])
    by_hand(tenant, 50)(world.session(who))
    assert (company.pool(tenant), company.billing(tenant)) == ("50", [("ADJUSTMENT", "-49")])


def test_by_hand_nobody_waits_for_who_fills_a_pool_first(company: Company) -> None:
    tenant, world = company.tenant(), company.world
    holder = world.session(autocommit=False)
    holder.execute("select from internal.lock_pools(array[%s])", (tenant,))
    with pytest.raises(psycopg.errors.LockNotAvailable) as refusal:
        by_hand(tenant, 50)(world.session("tallybook_operator"))
    assert refused_as_busy(refusal.value, tenant)
    holder.rollback()
    by_hand(tenant, 50)(world.session("tallybook_operator"))
    assert company.billing(tenant) == [("ADJUSTMENT", "50")]


def test_what_is_written_by_hand_is_waited_for_by_who_moves_points(company: Company) -> None:
    tenant, world = company.tenant(100), company.world
    manager, user = company.member(tenant, "tenant_manager"), company.member(tenant)
    hand = world.session("tallybook_operator", autocommit=False)
    by_hand(tenant, 50)(hand)
    session = world.session("tallybook_functions")
    with world.in_background(awarding(company, manager, user), session) as award:
        hand.commit()
        assert award.result()["tenant_remaining_pool"] == "49"
    assert company.pool(tenant) == "49"


def test_by_hand_and_awards_at_once_never_wait_in_a_circle(company: Company) -> None:
    """Every award is made, at the first attempt; what is written by hand is posted or refused."""
    tenant, world = company.tenant(5000), company.world
    manager = company.member(tenant, "tenant_manager")
    users = [company.member(tenant) for _ in range(4)]

    def awards(place: int) -> Any:
        def call(session: Connection) -> list[Any]:
            give = awarding(company, manager, users[place])
            return [give(session) for _ in range(30)]

        return call

    def hands(session: Connection) -> int:
        written = 0
        session.execute("set role tallybook_operator")
        for place in range(60):
            try:
                written += by_hand(tenant, 4000 + place)(session)
            except psycopg.errors.LockNotAvailable as error:
                assert refused_as_busy(error, tenant)
        return written

    made = world.at_once([*(awards(place) for place in range(4)), hands, hands], "postgres")
    assert [each for each in made if isinstance(each, psycopg.Error)] == []
    assert [company.wallet(tenant, user) for user in users] == ["30"] * 4
    adjusted = company.billing(tenant)
    # An update to what the balance is already posts nothing.
    assert len(adjusted) <= sum(each for each in made if isinstance(each, int))
    assert D(company.pool(tenant)) == 5000 - 120 + sum(D(amount) for _, amount in adjusted)


def test_by_hand_while_points_move(company: Company) -> None:
    """Who is in the other's way may be told to try again, but nothing is lost or made."""
    tenant = company.tenant(100)
    asked = {"user_id": None, "tenant_id": tenant, "amount": D(5)}
    company.world.at_once(
        [
            *([lambda session: company.call("allocate_to_tenant", session, **asked)] * 3),
            *([by_hand(tenant, 50)] * 3),
        ],
        "tallybook_operator",
    )
    total = sum(D(amount) for _, amount in company.billing(tenant))
    assert D(company.pool(tenant)) == 100 + total
