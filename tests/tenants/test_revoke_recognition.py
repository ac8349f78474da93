"""Taking a recognition back: it does, it replays, it refuses, it races."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.tenants.company import Company
from tests.world import NOW, Connection, code_of, refused


def give(company: Company, giver: UUID, *recipients: UUID, points: int = 100) -> str:
    """A recognition's id."""
    answer = company.call(
        "give_recognition",
        user_id=giver,
        recipients=list(recipients),
        points=points,
        message="Well done",
    )
    recognition: str = answer["recognition_id"]
    return recognition


def revoke(company: Company, user: UUID | None, recognition: str, **request: Any) -> Any:
    """Revoke it, for a reason."""
    request = {"reason": "It was a mistake", **request}
    return company.call("revoke_recognition", user_id=user, recognition_id=recognition, **request)


def test_the_points_go_back_to_the_pool_and_it_is_written_down(company: Company) -> None:
    tenant = company.tenant(1000, wallets_permanent=False)
    manager = company.member(tenant, "tenant_manager")
    group = [company.member(tenant) for _ in range(2)]
    recognition = give(company, manager, *group)
    answer = revoke(company, manager, recognition, request_id="r")
    at = answer.pop("revoked_at")
    assert at
    assert answer == {
        "recognition_id": recognition,
        "status": "revoked",
        "points": "200",
        "returned_to": "pool",
        "reason": "It was a mistake",
    }
    assert company.pool(tenant) == "1000"
    assert company.statement(tenant, group[0]) == [
        ("recognition", "100", "100"),
        ("reversal", "-100", "0"),
    ]
    (audit,) = company.world.rows(
        "select actor, subject_id, reason, request_id from audit_log"
        " where action = 'revoke_recognition'"
    )
    assert tuple(audit.values()) == (str(manager), recognition, "It was a mistake", "r")


@pytest.mark.parametrize("source", ["lead", "budget", "wallet"])
def test_the_points_go_back_to_where_they_came_from(company: Company, source: str) -> None:
    tenant = company.tenant(allocation_mode="legacy_fallback")
    department = company.department(tenant)
    lead = company.member(tenant, "manager", department_id=department)
    member = company.member(tenant)
    if source == "lead":
        company.fund(tenant, 100)
        company.lend(tenant, lead, 100)
    elif source == "budget":
        company.endow(tenant, department, 100)
    else:
        company.enrich(tenant, lead, 100)
    answer = revoke(company, None, give(company, lead, member), tenant_id=tenant, actor="ops")
    assert answer["returned_to"] == source
    owner = department if source == "budget" else lead
    assert company.account(tenant, f"tenant.{source}:{owner}") == "100"
    assert company.wallet(tenant, member) == "0"


def test_when_it_was_is_told_in_utc(company: Company) -> None:
    company.world.freeze()
    tenant = company.tenant(1000)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    company.world.functions.execute("set timezone = 'Pacific/Auckland'")
    answer = revoke(company, None, give(company, manager, member), tenant_id=tenant)
    assert answer["revoked_at"] == NOW.isoformat()


def test_what_is_revoked_already_is_answered_as_it_was(company: Company) -> None:
    tenant = company.tenant(1000)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    recognition, admin = give(company, manager, member), company.admin()
    first = revoke(company, admin, recognition, tenant_id=tenant)
    again = revoke(company, None, recognition, tenant_id=tenant, reason="Once more")
    assert again == {**first, "replayed": True}
    assert company.pool(tenant) == "1000"


def test_wallets_are_permanent_unless_the_tenant_says_otherwise(company: Company) -> None:
    tenant = company.tenant(1000)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    recognition = give(company, manager, member)
    with refused("not_reversible", 409):
        revoke(company, manager, recognition)
    assert company.wallet(tenant, member) == "100"
    praise = give(company, manager, member, points=0)
    assert revoke(company, manager, praise)["status"] == "revoked"
    revoke(company, company.admin(), recognition, tenant_id=tenant)
    assert company.wallet(tenant, member) == "0"


def test_a_wallet_never_falls_below_zero_and_it_is_all_or_nothing(company: Company) -> None:
    tenant = company.tenant(1000, wallets_permanent=False)
    manager = company.member(tenant, "tenant_manager")
    rich, poor = company.member(tenant), company.member(tenant)
    recognition = give(company, manager, rich, poor)
    company.move(tenant, f"tenant.wallet:{poor}", "tenant.redeemed", 1, "redemption")
    with refused("not_reversible", 409):
        revoke(company, manager, recognition)
    assert [company.wallet(tenant, user) for user in (rich, poor)] == ["100", "99"]
    assert company.world.count("recognitions", "status = 'active'") == 1


def test_who_may_not_revoke_is_refused(company: Company) -> None:
    tenant = company.tenant(1000, wallets_permanent=False)
    elsewhere = company.tenant(wallets_permanent=False, name="Other")
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    recognition = give(company, manager, member)
    for role in ("hr_admin", "tenant_lead", "dept_lead", "manager", "employee"):
        with refused("forbidden", 403):
            revoke(company, company.member(tenant, role), recognition)
    stranger = company.member(elsewhere, "tenant_manager")
    with refused("recognition_not_found", 404):
        revoke(company, stranger, recognition)
    with refused("forbidden", 403):
        revoke(company, stranger, recognition, tenant_id=tenant)
    with refused("recognition_not_found", 404):
        revoke(company, None, recognition, tenant_id=elsewhere)
    with refused("invalid_body", 400, "tenant_id: "):
        revoke(company, None, recognition)
    for nothing in (" ", "\n", "\t \u00a0"):
        with refused("reason_required", 400, "reason: "):
            revoke(company, manager, recognition, reason=nothing)
    with refused("invalid_body", 400, "reason: "):
        revoke(company, manager, recognition, reason="x" * 1001)
    assert company.wallet(tenant, member) == "100"


def test_revoking_and_spending_at_once_one_wins(company: Company) -> None:
    tenant = company.tenant(1000, wallets_permanent=False)
    manager = company.member(tenant, "tenant_manager")
    members = [company.member(tenant) for _ in range(6)]
    recognitions = [give(company, manager, member) for member in members]

    def taken_back(place: int) -> Any:
        def call(session: Connection) -> Any:
            request = {"recognition_id": recognitions[place], "reason": "At once"}
            return company.call("revoke_recognition", session, user_id=manager, **request)

        return call

    def given_on(place: int) -> Any:
        def call(session: Connection) -> Any:
            request = {"recipients": [manager], "points": 100, "message": "Thanks"}
            return company.call("give_recognition", session, user_id=members[place], **request)

        return call

    calls = [make(place) for place in range(6) for make in (taken_back, given_on, taken_back)]
    results = company.world.at_once(calls)
    for place, member in enumerate(members):
        back, gift, again = results[place * 3 : place * 3 + 3]
        assert company.wallet(tenant, member) == "0"
        if isinstance(gift, dict):
            assert {code_of(back), code_of(again)} == {"not_reversible"}
        else:
            assert code_of(gift) == "insufficient_wallet"
            assert sum("replayed" in result for result in (back, again)) == 1  # type: ignore[operator]
