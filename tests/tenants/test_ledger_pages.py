"""The logs of tenants: who sees which, in which order, and a page after another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.tenants.logs import allocated, billed, given, minutes, pages
from tests.world import NOW, refused

PAGES = ("allocation_logs_page", "platform_billing_logs_page", "wallet_ledger_page")
ALL = (*PAGES, "points_ledger_stats")


def amounts(company: Company, procedure: str = "allocation_logs_page", **asked: Any) -> list[str]:
    name = "points" if procedure == "wallet_ledger_page" else "amount"
    asked = {"user_id": None, **asked}
    return [item[name] for item in company.call(procedure, **asked)["items"]]


@pytest.fixture
def tenant(company: Company) -> UUID:
    return company.tenant()


# What a row tells


def test_an_allocation_is_told_whole(company: Company, tenant: UUID) -> None:
    admin = company.admin()
    one = allocated(
        company, tenant, "1000.50", reference_note="March", allocated_by=admin, currency="EUR"
    )
    page = company.call("allocation_logs_page", user_id=company.member(tenant, "tenant_manager"))
    assert page["next_cursor"] is None
    assert "total" not in page
    [item] = page["items"]
    assert item.pop("created_at").startswith("2026-03-02T09:00:00")
    assert item == {
        "id": str(one),
        "tenant_id": str(tenant),
        "tenant_name": "Acme",
        "amount": "1000.5",
        "allocated_by": str(admin),
        "actor": "op@example.org",
        "currency": "EUR",
        "status": "COMPLETED",
        "reversed_amount": "0",
        "reference_note": "March",
        "expires_at": None,
    }


def test_the_trail_has_signs_and_types(company: Company, tenant: UUID) -> None:
    one = allocated(company, tenant, 500)
    billed(company, tenant, -200, "CLAWBACK", NOW + minutes(1), reference_note="too much")
    clawback, injection = company.call("platform_billing_logs_page", user_id=None)["items"]
    assert (clawback["amount"], clawback["transaction_type"]) == ("-200", "CLAWBACK")
    assert (clawback["reference_note"], clawback["allocation_id"]) == ("too much", None)
    assert (injection["amount"], injection["allocation_id"]) == ("500", str(one))


def test_a_wallets_statement_is_told_whole(company: Company, tenant: UUID) -> None:
    company.fund(tenant, 100)
    user = company.member(tenant)
    given(company, tenant, 2, user)
    last, first = company.call("wallet_ledger_page", user_id=None, tenant_id=tenant)["items"]
    assert (first["points"], first["balance_after"]) == ("1", "1")
    assert (last["points"], last["balance_after"], last["description"]) == ("2", "3", "Award 2")
    assert (last["user_id"], last["source"], last["transaction_type"]) == (
        *(str(user), "recognition"),
        "credit",
    )
    assert (last["reference_type"], last["tenant_name"]) == ("recognition", "Acme")


# Who sees which


@pytest.mark.parametrize("procedure", ALL)
def test_managers_see_their_own_tenants_only(company: Company, procedure: str) -> None:
    mine, theirs = company.tenant(), company.tenant(name="Other")
    for tenant in (mine, theirs):
        allocated(company, tenant, 10)
        given(company, tenant, 1, company.member(tenant))
    for role in ("tenant_manager", "hr_admin"):
        manager = company.member(mine, role)
        for named in ({}, {"tenant_id": mine}):
            answer = company.call(procedure, user_id=manager, **named)
            if procedure in PAGES:
                assert [item["tenant_id"] for item in answer["items"]] == [str(mine)]
            else:
                assert (answer["tenant_id"], answer["tenants"]) == (str(mine), 1)
        with refused("forbidden", 403):
            company.call(procedure, user_id=manager, tenant_id=theirs)


@pytest.mark.parametrize("procedure", ALL)
@pytest.mark.parametrize("role", ["tenant_lead", "dept_lead", "manager", "employee", None])
def test_nobody_else_sees_any(
    company: Company, tenant: UUID, procedure: str, role: str | None
) -> None:
    somebody = uuid4() if role is None else company.member(tenant, role)
    for named in ({}, {"tenant_id": tenant}):
        with refused("forbidden", 403):
            company.call(procedure, user_id=somebody, **named)


@pytest.mark.parametrize("procedure", ALL)
def test_a_manager_who_left_sees_nothing(company: Company, tenant: UUID, procedure: str) -> None:
    gone = company.member(tenant, "tenant_manager", is_active=False)
    with refused("forbidden", 403):
        company.call(procedure, user_id=gone, tenant_id=tenant)


@pytest.mark.parametrize("procedure", ALL)
def test_administrators_and_programs_see_one_or_all(company: Company, procedure: str) -> None:
    first, second = company.tenant(), company.tenant()
    for tenant in (first, second):
        allocated(company, tenant, 10)
        given(company, tenant, 1, company.member(tenant))
    for who in (company.admin(), None):
        everybodys = company.call(procedure, user_id=who)
        ones = company.call(procedure, user_id=who, tenant_id=second)
        if procedure in PAGES:
            assert {i["tenant_id"] for i in everybodys["items"]} == {str(first), str(second)}
            assert {i["tenant_id"] for i in ones["items"]} == {str(second)}
        else:
            assert (everybodys["tenants"], ones["tenants"]) == (2, 1)
        with refused("tenant_not_found", 404):
            company.call(procedure, user_id=who, tenant_id=uuid4())


# In which order, and which of them


@pytest.fixture
def three(company: Company, tenant: UUID) -> UUID:
    """Three allocations, whose amounts and times have different orders."""
    for minute, amount in enumerate((20, 30, 10)):
        allocated(company, tenant, amount, NOW + minutes(minute), reference_note=f"n{amount}_%")
    return tenant


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["10", "30", "20"]),
        ({"direction": "asc"}, ["20", "30", "10"]),
        ({"sort": "amount"}, ["30", "20", "10"]),
        ({"sort": "amount", "direction": "asc"}, ["10", "20", "30"]),
        ({"amount_min": 20}, ["30", "20"]),
        ({"amount_max": 20}, ["10", "20"]),
        ({"amount_min": "10.01", "amount_max": "29.99"}, ["20"]),
        ({"start_date": NOW + minutes(1)}, ["10", "30"]),
        ({"end_date": NOW + minutes(1)}, ["20"]),
        ({"search": "N30"}, ["30"]),
        ({"search": "_%"}, ["10", "30", "20"]),
        ({"search": "n%0"}, []),
        ({"search": "OP@example"}, ["10", "30", "20"]),
        ({"search": "'; drop table tenants; --"}, []),
        ({"limit": 2}, ["10", "30"]),
        ({"limit": 2, "page": 2}, ["20"]),
        ({"limit": 2, "page": 3}, []),
        ({"limit": 1, "page": 2, "sort": "amount"}, ["20"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("procedure", PAGES[:2])
@pytest.mark.parametrize("of", ["one", "all"])
def test_what_is_asked_is_shown(
    company: Company, three: UUID, procedure: str, of: str, asked: Any, expected: list[str]
) -> None:
    whose = {"tenant_id": three} if of == "one" else {}
    assert amounts(company, procedure, **whose, **asked) == expected


def test_by_status_type_source_and_member(company: Company, three: UUID) -> None:
    world = company.world
    world.admin.execute("update allocation_logs set status = 'REVOKED' where amount = 30")
    assert amounts(company, status="REVOKED") == ["30"]
    assert amounts(company, status="COMPLETED") == ["10", "20"]
    billed(company, three, -5, "CLAWBACK")
    assert amounts(company, "platform_billing_logs_page", type="CLAWBACK") == ["-5"]
    assert amounts(company, "platform_billing_logs_page", amount_max=0) == ["-5"]
    ada, bob = company.member(three, display_name="Ada L."), company.member(three)
    given(company, three, 4, ada, bob)
    company.move(three, f"tenant.wallet:{ada}", "tenant.redeemed", "0.5", "redemption")
    wallets = {"procedure": "wallet_ledger_page", "tenant_id": three}
    assert amounts(company, **wallets, type="debit") == ["0.5"]
    assert amounts(company, **wallets, source="redemption") == ["0.5"]
    assert amounts(company, **wallets, member_id=bob) == ["4", "2"]
    assert amounts(company, **wallets, search="ada l", source="recognition") == ["3", "1"]
    assert amounts(company, **wallets, search="award 2") == ["2"]
    assert amounts(company, **wallets, sort="amount", direction="asc")[0] == "0.5"


def test_a_tenant_is_found_by_name_among_all(company: Company) -> None:
    for name in ("Acme", "Zenith"):
        allocated(company, company.tenant(name=name), len(name))
    assert amounts(company, search="zen") == ["6"]


def test_how_many_there_are_is_told_on_demand(company: Company, three: UUID) -> None:
    page = company.call("allocation_logs_page", user_id=None, limit=1, with_total=True)
    assert (page["total"], len(page["items"])) == (3, 1)
    page = company.call("allocation_logs_page", user_id=None, with_total=True, amount_min=15)
    assert page["total"] == 2


# A page after another


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["created_at", "amount"])
def test_pages_bring_everything_once_and_in_order(
    company: Company, tenant: UUID, sort: str, direction: str
) -> None:
    company.fund(tenant, 10_000)
    ada, bob = company.member(tenant), company.member(tenant)
    given(company, tenant, 10, ada)
    given(company, tenant, 9, bob)  # with the same times and amounts
    # From wallet to wallet: one id, one time, two statements.
    company.move(tenant, f"tenant.wallet:{ada}", f"tenant.wallet:{bob}", 5, "recognition")
    asked = {"user_id": None, "tenant_id": tenant, "sort": sort, "direction": direction}
    whole = company.call("wallet_ledger_page", **asked, limit=100)["items"]
    assert len(whole) == 21
    for limit in (1, 2, 5, 20, 21):
        found = list(pages(company, "wallet_ledger_page", **asked, limit=limit))
        assert [item for page in found for item in page] == whole
        assert {len(page) for page in found[:-1]} <= {limit}
    keys = [
        (float(i["points"]) if sort == "amount" else i["created_at"], i["id"], i["user_id"])
        for i in whole
    ]
    assert keys == sorted(keys, reverse=direction == "desc")


@pytest.mark.parametrize("procedure", PAGES[:2])
@pytest.mark.parametrize("sort", ["created_at", "amount"])
def test_pages_of_the_other_logs_do_so_too(company: Company, procedure: str, sort: str) -> None:
    for tenant in (company.tenant(), company.tenant()):
        for number in range(7):
            allocated(company, tenant, 1 + number // 2, NOW + minutes(number // 3))
    asked = {"user_id": None, "sort": sort}
    whole = company.call(procedure, **asked)["items"]
    assert len({item["id"] for item in whole}) == 14
    assert [i for page in pages(company, procedure, **asked, limit=3) for i in page] == whole


def test_a_cursor_of_negative_amounts_leads_on(company: Company, tenant: UUID) -> None:
    for amount in (-3, -2, -1, 1):
        billed(company, tenant, amount, "ADJUSTMENT")
    found = pages(company, "platform_billing_logs_page", user_id=None, sort="amount", limit=1)
    assert [item["amount"] for page in found for item in page] == ["1", "-1", "-2", "-3"]


def test_what_comes_meanwhile_shifts_no_page(company: Company, three: UUID) -> None:
    first = company.call("allocation_logs_page", user_id=None, limit=1)
    allocated(company, three, 99, NOW + timedelta(hours=1))
    assert amounts(company, cursor=first["next_cursor"]) == ["30", "20"]


@pytest.mark.parametrize(
    "asked",
    [
        *({"cursor": text} for text in ("", "x", "A" * 55, "A" * 56, "=" * 56, "'" * 56)),
        *({"limit": limit} for limit in (0, -1, 10_001)),
        *({"page": page} for page in (0, -1, 1_000_000)),
        *({"sort": "actor"}, {"sort": "amount; --"}, {"direction": "up"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("procedure", PAGES)
def test_what_makes_no_sense_is_refused(company: Company, procedure: str, asked: Any) -> None:
    with refused("invalid_body", 400, f"{next(iter(asked))}: "):
        company.call(procedure, user_id=None, **asked)


def test_a_cursor_holds_in_its_own_order_only(company: Company, three: UUID) -> None:
    cursor = company.call("allocation_logs_page", user_id=None, limit=1)["next_cursor"]
    for asked in ({"sort": "amount"}, {"direction": "asc"}):
        with refused("invalid_body", 400, "cursor: "):
            company.call("allocation_logs_page", user_id=None, cursor=cursor, **asked)
    with refused("invalid_body", 400, "cursor: "):
        company.call("allocation_logs_page", user_id=None, cursor=cursor, page=2)


def test_words_that_there_are_not_are_refused(company: Company) -> None:
    for procedure, asked in (
        ("allocation_logs_page", {"status": "DONE"}),
        ("platform_billing_logs_page", {"type": "credit"}),
        ("wallet_ledger_page", {"type": "CLAWBACK"}),
        ("wallet_ledger_page", {"source": "theft"}),
        ("wallet_ledger_page", {"sort": "amount"}),
    ):
        with refused("invalid_body", 400, f"{next(iter(asked))}: "):
            company.call(procedure, user_id=None, **asked)


# What it comes to


def test_stats_of_one_tenant(company: Company, tenant: UUID) -> None:
    allocated(company, tenant, 1000, reversed_amount=100)
    allocated(company, tenant, 500, NOW + timedelta(days=2))
    billed(company, tenant, -100, "REVERSAL", NOW + minutes(1))
    lead, user = company.member(tenant, "tenant_lead"), company.member(tenant)
    company.lend(tenant, lead, 40)
    given(company, tenant, 3, user)
    company.move(tenant, f"tenant.wallet:{user}", "tenant.redeemed", "1.5", "redemption")
    company.endow(tenant, company.department(tenant), 7)
    stats = company.call("points_ledger_stats", user_id=None, tenant_id=tenant)
    assert (stats["allocations"]["count"], stats["allocations"]["amount"]) == (2, "1500")
    assert stats["allocations"]["reversed"] == "100"
    assert stats["billing"] == {
        "CREDIT_INJECTION": {"count": 2, "amount": "1500"},
        "REVERSAL": {"count": 1, "amount": "-100"},
    }
    assert stats["balances"] == {
        "pool": "1454",
        "leads": "40",
        "departments": "7",
        "wallets": "4.5",
    }
    assert stats["wallets"] == {"count": 1, "earned": "6", "spent": "1.5"}
    assert stats["entries"]["recognition"] == {"count": 3, "credited": "6", "debited": "0"}
    assert stats["entries"]["redemption"] == {"count": 1, "credited": "0", "debited": "1.5"}
    day = {"start_date": NOW, "end_date": NOW + timedelta(days=1)}
    stats = company.call("points_ledger_stats", user_id=None, tenant_id=tenant, **day)
    assert (stats["allocations"]["count"], stats["entries"].keys()) == (1, {"recognition"})
    assert stats["balances"]["pool"] == "1454"
    # What was written by hand moved nothing, and would be reported.
    company.world.admin.execute("update allocation_logs set reversed_amount = 0")


def test_stats_of_all_and_of_none(company: Company) -> None:
    empty = company.call("points_ledger_stats", user_id=None)
    assert (empty["tenants"], empty["allocations"]["amount"]) == (0, "0")
    for _ in range(2):
        allocated(company, company.tenant(), 10)
    stats = company.call("points_ledger_stats", user_id=None)
    assert (stats["tenants"], stats["balances"]["pool"]) == (2, "20")
    assert "entries" not in stats
    with refused("invalid_body", 400, "end_date: "):
        company.call("points_ledger_stats", user_id=None, start_date=NOW, end_date=NOW - minutes(1))
