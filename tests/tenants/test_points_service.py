"""The service for code in the same process: durable answers, and refusals as ValueErrors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row, tuple_row

from tallybook.points_service import PointsRefused, PointsService
from tests.tenants.company import Company

WAYS: dict[str, dict[str, Any]] = {
    "transactions, rows as tuples": {"autocommit": False, "row_factory": tuple_row},
    "transactions, rows as mappings": {"autocommit": False, "row_factory": dict_row},
    "autocommit": {"autocommit": True},
}


@pytest.fixture(params=WAYS)
def db(company: Company, request: pytest.FixtureRequest) -> Any:
    """A connection of a program, as several kinds of programs have it."""
    return connection(company, **WAYS[request.param])


@pytest.fixture
def plain(company: Company) -> Any:
    """A connection as psycopg makes it by itself."""
    return connection(company)


def connection(company: Company, row_factory: Any = tuple_row, autocommit: bool = False) -> Any:
    made = company.world.database.connect("tallybook_functions", autocommit)
    made.row_factory = row_factory
    return made


def aside(db: Any) -> None:
    """Something of the caller's own, which another session can only see when it is committed."""
    db.execute("select pg_advisory_xact_lock_shared(1)")


def is_aside(company: Company) -> bool:
    return bool(company.world.rows("select from pg_locks where locktype = 'advisory'"))


def test_points_go_all_their_ways(company: Company, admin: UUID, db: Any) -> None:
    tenant = company.tenant()
    manager, lead = company.member(tenant, "tenant_manager"), company.member(tenant, "tenant_lead")
    user = company.member(tenant)
    given = PointsService.allocate_to_tenant(db, tenant, admin, D("1000.50"), reference_note="May")
    assert (given["success"], given["new_allocation_balance"]) == (True, "1000.5")
    delegated = PointsService.delegate_to_lead(db, tenant, manager, lead, 300)
    assert (delegated["success"], delegated["lead_new_balance"]) == (True, "300")
    assert delegated["tenant_remaining_balance"] == "700.5"
    awarded = PointsService.award_to_user(db, str(tenant), lead, str(user), "50.25", "Well done")
    assert (awarded["success"], awarded["recipient_new_wallet_balance"]) == (True, "50.25")
    by_system = PointsService.award_to_user(db, tenant, None, user, 10, "Ten years")
    assert by_system["tenant_remaining_pool"] == "690.5"
    part = PointsService.clawback_allocation(db, tenant, admin, D("90.5"), "Too much")
    assert (part["success"], part["new_balance"]) == (True, "600")
    whole = PointsService.clawback_allocation(db, tenant, admin, reason="It left")
    assert (whole["amount_clawed_back"], whole["new_balance"]) == ("600", "0")
    assert company.lead_budget(tenant, lead) == "249.75"
    assert company.wallet(tenant, user) == "60.25"
    assert company.world.rows("select allocated_by, currency from allocation_logs") == [
        {"allocated_by": admin, "currency": "INR"}
    ]


def test_the_names_of_the_guide_are_the_same() -> None:
    for name, other in {
        "allocateToTenant": "allocate_to_tenant",
        "awardToUser": "award_to_user",
        "delegateToLead": "delegate_to_lead",
        "clawback": "clawback_allocation",
        "clawbackAllocation": "clawback_allocation",
    }.items():
        assert getattr(PointsService, name) is getattr(PointsService, other)


def test_what_is_refused_is_a_value_error(company: Company, admin: UUID, db: Any) -> None:
    tenant = company.tenant(points=100)
    manager, user = company.member(tenant, "tenant_manager"), company.member(tenant)
    refusals: list[tuple[Callable[[], Any], str, int, str]] = [
        (
            lambda: PointsService.award_to_user(db, tenant, manager, user, 1000, "Hi"),
            "insufficient_pool",
            400,
            r"^Insufficient allocation pool\. Available: 100, Required: 1000$",
        ),
        (
            lambda: PointsService.award_to_user(db, tenant, user, manager, 1, "Hi"),
            "forbidden",
            403,
            ".",
        ),
        (
            lambda: PointsService.award_to_user(db, tenant, manager, manager, 1, "Hi"),
            "self_recognition",
            400,
            ".",
        ),
        (
            lambda: PointsService.allocate_to_tenant(db, uuid4(), admin, 1),
            "tenant_not_found",
            404,
            "^Tenant not found$",
        ),
        (
            lambda: PointsService.allocate_to_tenant(db, tenant, manager, 1),
            "forbidden",
            403,
            ".",
        ),
        (
            lambda: PointsService.allocate_to_tenant(db, tenant, admin, D("NaN")),
            "invalid_amount",
            400,
            "^amount: ",
        ),
        (
            lambda: PointsService.clawback_allocation(db, tenant, admin),
            "reason_required",
            400,
            "^reason: ",
        ),
        (
            lambda: PointsService.delegate_to_lead(db, tenant, manager, uuid4(), 1),
            "recipient_not_found",
            404,
            ".",
        ),
    ]
    for call, code, status, words in refusals:
        with pytest.raises(PointsRefused, match=words) as refused:
            call()
        assert (refused.value.code, refused.value.status) == (code, status)
        assert isinstance(refused.value, ValueError)
    with pytest.raises(ValueError, match="is no amount"):
        PointsService.allocate_to_tenant(db, tenant, admin, "many")
    assert (company.pool(tenant), company.wallet(tenant, user)) == ("100", "0")
    # The connection is as good as before.
    assert PointsService.award_to_user(db, tenant, manager, user, 100, "Hi")["success"] is True


def test_the_same_key_is_the_same_movement(company: Company, admin: UUID, db: Any) -> None:
    tenant = company.tenant(points=100)
    user, recognition = company.member(tenant), uuid4()
    answers = [
        PointsService.allocate_to_tenant(db, tenant, admin, 10, idempotency_key="k")
        for _ in range(2)
    ]
    assert answers[1] == {**answers[0], "replayed": True}
    # A recognition is awarded once, whoever does it once more.
    answers = [
        PointsService.award_to_user(db, tenant, None, user, 5, "Hi", recognition) for _ in range(2)
    ]
    assert answers[1] == {**answers[0], "replayed": True}
    with pytest.raises(PointsRefused) as refused:
        PointsService.award_to_user(db, tenant, None, user, 6, "Hi", recognition)
    assert refused.value.code == "nonce_reused"
    assert (company.pool(tenant), company.wallet(tenant, user)) == ("105", "5")


def test_what_is_answered_is_committed(company: Company, admin: UUID, plain: Any) -> None:
    tenant = company.tenant()
    aside(plain)
    assert is_aside(company)
    PointsService.allocate_to_tenant(plain, tenant, admin, 10)
    assert (company.pool(tenant), is_aside(company)) == ("10", False)
    PointsService.allocate_to_tenant(plain, tenant, admin, 5, commit=False)
    assert company.pool(tenant) == "10"
    plain.rollback()
    assert company.pool(tenant) == "10"
    PointsService.allocate_to_tenant(plain, tenant, admin, 5, commit=False)
    plain.commit()
    assert company.pool(tenant) == "15"


def test_a_refusal_undoes_nothing_of_the_callers(company: Company, admin: UUID, plain: Any) -> None:
    tenant, user = company.tenant(), uuid4()
    PointsService.allocate_to_tenant(plain, tenant, admin, 10, commit=False)
    for _ in range(2):
        with pytest.raises(PointsRefused):
            PointsService.award_to_user(plain, tenant, None, user, 1, "Hi")
    # Nor does it commit anything.
    assert company.pool(tenant) == "0"
    plain.commit()
    assert company.pool(tenant) == "10"


@pytest.mark.parametrize("autocommit", [True, False])
def test_it_is_a_part_of_the_callers_block(company: Company, admin: UUID, autocommit: bool) -> None:
    tenant, db = company.tenant(), connection(company, autocommit=autocommit)
    with db.transaction():
        PointsService.allocate_to_tenant(db, tenant, admin, 10, commit=False)
        with pytest.raises(PointsRefused):
            PointsService.allocate_to_tenant(db, uuid4(), admin, 10, commit=False)
        assert company.pool(tenant) == "0"
    db.commit()
    assert company.pool(tenant) == "10"
    with db.transaction() as block:
        PointsService.allocate_to_tenant(db, tenant, admin, 10, commit=False)
        raise psycopg.Rollback(block)
    assert company.pool(tenant) == "10"


@pytest.mark.parametrize("wrong", ["test-uuid", "", 5], ids=repr)
def test_what_is_no_id_is_a_value_error(company: Company, plain: Any, wrong: Any) -> None:
    """Whatever of the words it is, and nothing has gone to the database for it."""
    tenant, user = company.tenant(10), uuid4()
    for call, arguments in (
        (PointsService.allocate_to_tenant, (wrong, None, 1)),
        (PointsService.allocate_to_tenant, (tenant, wrong, 1)),
        (PointsService.award_to_user, (tenant, None, wrong, 1, "Hi")),
        (PointsService.delegate_to_lead, (tenant, wrong, user, 1)),
        (PointsService.delegate_to_lead, (tenant, user, wrong, 1)),
        (PointsService.clawback_allocation, (wrong, None, 1, "x")),
    ):
        with pytest.raises(ValueError, match=r"_id: .* is no id"):
            call(plain, *arguments)
    with pytest.raises(ValueError, match=r"reference_note: .*0000"):
        PointsService.allocate_to_tenant(plain, tenant, None, 1, reference_note="a\0b")
    assert plain.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_what_is_no_refusal_stays_what_it_is(company: Company, admin: UUID) -> None:
    stranger = company.world.database.connect("tallybook_worker", autocommit=False)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        PointsService.allocate_to_tenant(stranger, company.tenant(), admin, 1)
    closed = company.world.database.connect("tallybook_functions")
    closed.close()
    with pytest.raises(psycopg.OperationalError):
        PointsService.allocate_to_tenant(closed, company.tenant(), admin, 1)


def test_many_at_once_never_overdraw_the_pool(company: Company) -> None:
    tenant = company.tenant(points=40)
    users = [company.member(tenant) for _ in range(64)]
    # One session a time for each of so many threads, as a pool of connections has it.
    sessions = [connection(company) for _ in range(16)]

    def award(number: int) -> str:
        try:
            for user in users[number::16]:
                PointsService.award_to_user(sessions[number], tenant, None, user, 1, "Hi")
        except PointsRefused as refused:
            return refused.code
        return "done"

    with ThreadPoolExecutor(16) as pool:
        said = set(pool.map(award, range(16)))
    assert said <= {"done", "insufficient_pool"}
    assert "insufficient_pool" in said
    assert company.pool(tenant) == "0"
    assert sum(int(company.wallet(tenant, user)) for user in users) == 40


def test_it_says_what_it_allocates(
    company: Company, admin: UUID, plain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tenant = company.tenant()
    with caplog.at_level(logging.DEBUG, "tallybook.points_service"):
        PointsService.allocate_to_tenant(plain, tenant, admin, D("10.5"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", f"Allocating 10.5 to tenant {tenant}"),
        ("DEBUG", "Current balance: 10.5"),
    ]
