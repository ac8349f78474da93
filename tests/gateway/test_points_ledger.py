"""The logs of tenants over HTTP: pages, files, and who is let in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.tenants.company import Company
from tests.tenants.logs import allocated, billed, given, minutes
from tests.world import NOW, World

LEDGER = "/api/v1/points/ledger"
STATS = "/api/v1/points/tenant-allocation-stats"
LOGS = ("allocation-logs", "platform-billing-logs", "wallet-ledger")


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def company(world: World) -> Company:
    return Company(world)


@pytest.fixture
def tenant(company: Company) -> UUID:
    """A tenant with three rows in each of its logs."""
    tenant = company.tenant()
    for minute in range(3):
        allocated(company, tenant, 10_000 + minute, NOW + minutes(minute), reference_note="=1+1")
    given(company, tenant, 3, company.member(tenant))
    return tenant


@pytest.fixture
def manager(stack: Stack, company: Company, tenant: UUID) -> Client:
    return Client(stack, company.member(tenant, "tenant_manager"))


def get(client: Client, path: str, **query: Any) -> httpx.Response:
    return httpx.get(
        f"{client.stack.url}{path}", params=query, headers=client.credentials or {}, timeout=20
    )


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def test_a_manager_looks_at_what_there_is(manager: Client, tenant: UUID) -> None:
    stats = ok(get(manager, STATS))
    assert (stats["tenant_id"], stats["points_allocation_balance"]) == (str(tenant), "29997")
    assert stats["status"] == "ready"
    for log in LOGS:
        assert len(ok(get(manager, f"{LEDGER}/{log}"))["items"]) == 3
    assert ok(get(manager, f"{LEDGER}/stats"))["wallets"]["earned"] == "6"


def test_nobody_looks_without_a_token(stack: Stack) -> None:
    for path in (STATS, *(f"{LEDGER}/{log}" for log in (*LOGS, "stats"))):
        assert get(Client(stack, credentials={}), path).status_code == 401


def test_strangers_and_employees_are_refused(stack: Stack, company: Company, tenant: UUID) -> None:
    employee = Client(stack, company.member(tenant))
    assert get(employee, STATS).status_code == 200
    other = Client(stack, company.member(company.tenant(), "tenant_manager"))
    for log in (*LOGS, "stats"):
        assert get(employee, f"{LEDGER}/{log}").status_code == 403
        assert get(other, f"{LEDGER}/{log}", tenant_id=tenant).status_code == 403
    assert get(other, STATS, tenant_id=tenant).status_code == 403


def test_programs_and_administrators_see_all(
    stack: Stack, world: World, company: Company, tenant: UUID
) -> None:
    allocated(company, company.tenant(), 1)
    for somebody in (service(stack), administrator(stack, world)):
        assert len(ok(get(somebody, f"{LEDGER}/allocation-logs"))["items"]) == 4
        assert len(ok(get(somebody, f"{LEDGER}/allocation-logs", tenant_id=tenant))["items"]) == 3
        assert ok(get(somebody, f"{LEDGER}/stats"))["tenants"] == 2


def test_pages_filters_and_order_come_by_the_query(manager: Client) -> None:
    def amounts(**query: Any) -> list[str]:
        return [
            i["amount"] for i in ok(get(manager, f"{LEDGER}/allocation-logs", **query))["items"]
        ]

    assert amounts(sort="amount", direction="asc") == ["10000", "10001", "10002"]
    assert amounts(amount_min="10000.5", amount_max="10001") == ["10001"]
    assert amounts(page=2, limit=2) == ["10000"]
    assert amounts(start_date="2026-03-02", end_date="2026-03-02") == ["10002", "10001", "10000"]
    assert amounts(end_date="2026-03-01") == []
    # As some say that there is no end.
    assert amounts(start_date="0001-01-01", end_date="9999-12-31") == ["10002", "10001", "10000"]
    assert amounts(status="REVOKED") == []
    page = ok(get(manager, f"{LEDGER}/allocation-logs", limit=2, with_total=True))
    assert page["total"] == 3
    assert amounts(cursor=page["next_cursor"]) == ["10000"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"limit": 101}, "$.limit"),
        ({"limit": 10_001, "format": "csv"}, "$.limit"),
        ({"format": "xlsx"}, "$.format"),
        ({"sort": "actor"}, "$.sort"),
        ({"cursor": "x"}, "$.cursor"),
        ({"start_date": "yesterday!"}, "$.start_date"),
        ({"amount_min": "NaN"}, "$.amount_min"),
        ({"status": "done"}, "$.status"),
        ({"actor": "me"}, "$.actor"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_named(manager: Client, query: Any, path: str) -> None:
    refused = get(manager, f"{LEDGER}/allocation-logs", **query)
    assert refused.status_code == 400
    assert refused.json()["details"]["path"] == path


@pytest.mark.parametrize("log", LOGS)
def test_a_log_is_taken_away_as_a_file(manager: Client, log: str) -> None:
    items = ok(get(manager, f"{LEDGER}/{log}"))["items"]
    table = get(manager, f"{LEDGER}/{log}", format="csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    assert f'filename="{log}.csv"' in table.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["id"] for row in rows] == [item["id"] for item in items]
    assert set(rows[0]) == set(items[0])
    file = get(manager, f"{LEDGER}/{log}", format="json")
    assert f'filename="{log}.json"' in file.headers["content-disposition"]
    assert file.json() == items


def test_a_file_says_where_to_go_on_and_holds_no_formula(
    manager: Client, company: Company, tenant: UUID
) -> None:
    billed(company, tenant, -5, "CLAWBACK", NOW + minutes(9))
    path = f"{LEDGER}/platform-billing-logs"
    first = get(manager, path, format="csv", limit=2)
    rows = list(csv.DictReader(io.StringIO(first.text)))
    assert [row["amount"] for row in rows] == ["-5", "10002"]
    assert [row["reference_note"] for row in rows] == ["", "'=1+1"]
    rest = get(manager, path, format="csv", cursor=first.headers["x-next-cursor"])
    assert [r["amount"] for r in csv.DictReader(io.StringIO(rest.text))] == ["10001", "10000"]
    assert "x-next-cursor" not in rest.headers
