"""What Prometheus is told of tenants: by the database, for the right eyes, within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from functions.allocations import main as allocations
from tallybook import metrics
from tallybook.caller import Caller
from tallybook.refusal import unavailable
from tallybook.schema import ROOT
from tallybook.settings import Settings
from tallybook.tenant_metrics import KEPT_SECONDS, TenantMetrics
from tests.conftest import Database
from tests.corridor.doubles import Procedures
from tests.gateway.client import Client, service
from tests.stack import Stack, running
from tests.tenants.company import Company
from tests.tenants.logs import allocated, given
from tests.world import World, refused

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Name and labels' values -> value, of the tenants' metrics."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("perksu_") and not sample.name.endswith("_created")
    }


def errors(text: bytes) -> float:
    """How many allocations failed, as this process counts them."""
    [(_, counted)] = series(text).items()
    return counted


def series(text: bytes) -> dict[tuple[str, ...], float]:
    """The errors' count by its labels: one process, one name."""
    return {
        key: value
        for key, value in samples(text.decode()).items()
        if key[0] == "perksu_allocation_errors_total"
    }


def told(company: Company, **bounds: int) -> Any:
    return company.call("allocation_metrics", **bounds)


# What the database says


def test_every_tenant_is_told_by_its_numbers(company: Company) -> None:
    first, second = company.tenant(), company.tenant()
    for amount in (1000, "500.25"):
        allocated(company, first, amount)
    ada, bob = company.member(first), company.member(first)
    given(company, first, 4, ada, bob)
    assert told(company) == {
        "tenants": [
            {
                "tenant_id": str(first),
                "allocations": 2,
                "amount": 1500.25,
                "balance": 1490.25,
                "wallets": 2,
                "in_wallets": 10,
            },
            {
                "tenant_id": str(second),
                "allocations": 0,
                "amount": 0,
                "balance": 0,
                "wallets": 0,
                "in_wallets": 0,
            },
        ],
        "wallets": [],
    }


def test_what_is_reversed_stays_allocated(company: Company) -> None:
    """A counter that falls looks like a restart."""
    tenant = company.tenant()
    allocated(company, tenant, 1000, reversed_amount=1000, status="REVOKED")
    company.move(tenant, "tenant.pool", "tenant.platform", 1000)
    [row] = told(company)["tenants"]
    assert (row["allocations"], row["amount"], row["balance"]) == (1, 1000, 0)
    # What was written by hand moved nothing, and would be reported.
    company.world.admin.execute("update allocation_logs set reversed_amount = 0")


def test_beyond_the_bound_everybody_is_counted_together(company: Company) -> None:
    tenants = [company.tenant(10 ** (number + 1)) for number in range(3)]
    for tenant in tenants:
        given(company, tenant, 1, company.member(tenant))
    rows = told(company, tenants=1)["tenants"]
    assert [row["tenant_id"] for row in rows] == [str(min(tenants)), "others"]
    assert sum(row["balance"] for row in rows) == 1110 - 3
    assert rows[1]["wallets"] == 2
    assert [row["tenant_id"] for row in told(company, tenants=0)["tenants"]] == ["others"]
    assert len(told(company, tenants=3)["tenants"]) == 3


def test_the_fullest_wallets_are_named_when_asked(company: Company) -> None:
    tenant = company.tenant(100)
    users = [company.member(tenant) for _ in range(3)]
    given(company, tenant, 3, *users)
    found = told(company, wallets=2)["wallets"]
    assert [(row["user_id"], row["balance"]) for row in found] == [
        (str(users[2]), 3),
        (str(users[1]), 2),
    ]


@pytest.mark.parametrize("name", ["tenants", "wallets"])
@pytest.mark.parametrize("number", [-1, 10_001])
def test_the_bounds_have_bounds(company: Company, name: str, number: int) -> None:
    with refused("invalid_body", 400, f"{name}: "):
        told(company, **{name: number})


# What is made of it


def answer(*wallets: tuple[str, str, float]) -> dict[str, Any]:
    numbers = {"allocations": 2, "amount": 1500, "balance": 1490, "wallets": 2, "in_wallets": 10}
    return {
        "tenants": [{"tenant_id": "a", **numbers}, {"tenant_id": "others", **numbers}],
        "wallets": [
            dict(zip(("tenant_id", "user_id", "balance"), w, strict=True)) for w in wallets
        ],
    }


async def text_of(given: Any, *, at: list[float] | None = None) -> Samples:
    metrics_ = TenantMetrics(Settings.from_environment({}), monotonic=lambda: (at or [0.0])[0])
    return samples((await metrics_.text(Procedures(given))).decode())


async def test_the_names_are_those_of_the_runbook() -> None:
    assert await text_of(answer()) == {
        ("perksu_allocation_total", "a"): 2,
        ("perksu_allocation_total", "others"): 2,
        ("perksu_allocation_amount_sum", "a"): 1500,
        ("perksu_allocation_amount_sum", "others"): 1500,
        ("perksu_tenant_allocation_balance", "a"): 1490,
        ("perksu_tenant_allocation_balance", "others"): 1490,
        ("perksu_wallet_balance", "a", "others"): 10,
        ("perksu_wallet_balance", "others", "others"): 10,
    }


async def test_the_wallets_of_a_tenant_sum_up_whoever_is_named() -> None:
    found = await text_of(answer(("a", "u1", 4), ("a", "u2", 1), ("z", "u3", 7)))
    wallets = {key[1:]: value for key, value in found.items() if key[0] == "perksu_wallet_balance"}
    assert wallets == {
        ("a", "u1"): 4,
        ("a", "u2"): 1,
        ("a", "others"): 5,
        ("others", "u3"): 7,
        ("others", "others"): 3,
    }


async def test_scrapes_share_an_answer_for_a_while() -> None:
    now, database = [0.0], Procedures(answer())
    scraped = TenantMetrics(Settings.from_environment({}), monotonic=lambda: now[0])
    for at, calls in ((0, 1), (KEPT_SECONDS - 0.1, 1), (KEPT_SECONDS, 2)):
        now[0] = at
        await scraped.text(database)
        assert database.calls == calls
    assert database.arguments == {"tenants": 1000, "wallets": 0}


async def test_a_database_that_is_away_leaves_a_gap() -> None:
    now, database = [0.0], Procedures(answer())
    scraped = TenantMetrics(Settings.from_environment({}), monotonic=lambda: now[0])
    assert samples((await scraped.text(database)).decode())
    database.answer, now[0] = unavailable("It is away."), KEPT_SECONDS
    assert await scraped.text(database) == b""
    database.answer, now[0] = answer(), 2 * KEPT_SECONDS
    assert samples((await scraped.text(database)).decode())


def test_errors_are_those_of_allocating() -> None:
    before = errors(metrics.text())
    for path, status in (
        ("/api/v1/points/allocate-to-tenant", 200),
        ("/api/v1/points/allocate-to-tenant", 400),
        ("/functions/v1/allocations/bulk", 500),
        ("/api/v1/points/award-to-user", 400),
    ):
        metrics.observe(path, status, 0.001)
    assert errors(metrics.text()) - before == 2
    metrics.count_allocation_errors(3)
    assert errors(metrics.text()) - before == 5


# At /metrics


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False, TALLYBOOK_METRICS_WALLETS="1") as stack:
        yield stack


def scrape(client: Client) -> httpx.Response:
    return httpx.get(f"{client.stack.url}/metrics", headers=client.credentials, timeout=20)


def test_two_processes_tell_a_program_the_same(
    stack: Stack, database: Database, tmp_path: Path, company: Company
) -> None:
    tenant = company.tenant()
    user = company.member(tenant)
    allocated(company, tenant, 1000)
    given(company, tenant, 2, user)
    with running(database, tmp_path, with_postgrest=False) as second:
        found = samples(scrape(service(stack)).text)
        others = samples(scrape(service(second)).text)
    assert found[("perksu_allocation_total", str(tenant))] == 1
    assert found[("perksu_allocation_amount_sum", str(tenant))] == 1000
    assert found[("perksu_tenant_allocation_balance", str(tenant))] == 997
    assert found[("perksu_wallet_balance", str(tenant), str(user))] == 3
    assert others[("perksu_wallet_balance", str(tenant), "others")] == 3
    same = {key for key in found if "wallet" not in key[0]}
    assert {key: found[key] for key in same} == {key: others[key] for key in same}


def test_what_tenants_have_is_for_programs_alone(
    stack: Stack, world: World, company: Company
) -> None:
    company.tenant(10)
    manager = Client(stack, UUID(int=uuid4().int, version=4))
    for somebody in (Client(stack, credentials={}), manager):
        answer = scrape(somebody)
        assert answer.status_code == 200
        assert "tallybook_request_seconds" in answer.text
        assert {key[0] for key in samples(answer.text)} == {"perksu_allocation_errors_total"}
    assert scrape(Client(stack, credentials={"apikey": "sb_secret_wrong"})).status_code == 401


# In the logs


def test_an_allocation_is_told_in_the_words_of_the_guide(company: Company, admin: UUID) -> None:
    tenant = company.tenant()
    given_ = {"tenant_id": tenant, "amount": 1000}
    told_ = company.call("allocate_to_tenant", user_id=admin, **given_)
    body = allocations.AllocateToTenant(tenant_id=tenant, amount=Decimal(1000))
    lines = list(allocations.what_was_allocated(Caller(admin, "authenticated", {}), body, told_))
    (allocated_, fields), (balance, more) = lines
    assert (allocated_, balance) == ("tenants.allocated", "tenants.balance")
    assert fields["message"] == f"Allocating 1000 to tenant {tenant}"
    assert (more["message"], more["level"]) == ("Current balance: 1000", "debug")
    assert "level" not in fields


def test_what_fails_among_many_is_counted(company: Company, admin: UUID) -> None:
    tenants = [company.tenant(), uuid4(), uuid4()]
    answer_ = company.call("bulk_allocate_to_tenants", user_id=admin, tenant_ids=tenants, amount=10)
    before = errors(metrics.text())
    body = allocations.BulkAllocate()
    caller = Caller(admin, "authenticated", {})
    assert len(list(allocations.what_was_allocated_to_many(caller, body, answer_))) == 2
    after = errors(metrics.text())
    assert after - before == 2


RULES = (ROOT / "docs/alerts/tenants.rules.yml").read_text()


async def test_the_alerts_ask_for_what_is_told() -> None:
    rules = RULES
    asked = set(re.findall(r"\bperksu_\w+", rules))
    exported = {key[0] for key in await text_of(answer())} | {"perksu_allocation_errors_total"}
    assert asked == exported - {"perksu_allocation_total"}


# The alert of errors, as Prometheus evaluates it


def another_process() -> ModuleType:
    """What a second process of the same server counts with."""
    spec = spec_from_file_location("metrics_of_another", metrics.__file__)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Prometheus:
    """Scrapes every 15 seconds, and evaluates the one expression that the rule has."""

    def __init__(self) -> None:
        rule = re.search(
            r"expr: sum\(increase\((perksu_allocation_errors_total)\[(\d+)m\]\)\) > (\d+)", RULES
        )
        assert rule is not None
        self.kept = int(rule[2]) * 60 // 15
        self.most = int(rule[3])
        self.scrapes: list[dict[tuple[str, ...], float]] = []

    def scrape(self, process: ModuleType) -> None:
        """Whoever answers at the address this time."""
        self.scrapes.append(series(process.text()))

    def alerts(self) -> bool:
        """increase(): what each series rose by; where it fell it began anew."""
        total = 0.0
        window = self.scrapes[-self.kept :]
        for name in {name for each in window for name in each}:
            values = [each[name] for each in window if name in each]
            total += sum(
                after - before if after >= before else after for before, after in pairwise(values)
            )
        return total > self.most


def test_more_than_five_errors_in_five_minutes_are_told_whoever_counted_them() -> None:
    first, second = another_process(), another_process()
    prometheus = Prometheus()
    for process in (first, second) * 10:
        prometheus.scrape(process)
    for errors_, process in ((3, first), (2, second)):
        process.count_allocation_errors(errors_)
    for process in (first, second):
        prometheus.scrape(process)
    assert not prometheus.alerts()
    second.observe("/api/v1/points/allocate-to-tenant", 503, 0.01)
    prometheus.scrape(first)
    prometheus.scrape(second)
    assert prometheus.alerts()
    for process in (first, second) * 10:
        prometheus.scrape(process)
    assert not prometheus.alerts()


def test_errors_of_long_ago_are_not_told_again_each_time_another_process_answers() -> None:
    first, second = another_process(), another_process()
    prometheus = Prometheus()
    first.count_allocation_errors(40)
    for process in (first, second, second, first) * 20:
        prometheus.scrape(process)
        assert not prometheus.alerts()
    # Nor when one of them ends, and another comes in its place.
    for process in (second, another_process()) * 10:
        prometheus.scrape(process)
        assert not prometheus.alerts()
