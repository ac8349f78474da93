"""What Prometheus is told of tenants' points, under the names that their runbook gives.

The numbers are the database's, so that every process tells the same, and are asked for at most once
in ten seconds. Labels are bounded: by TALLYBOOK_METRICS_TENANTS and TALLYBOOK_METRICS_WALLETS;
whoever has no label of their own is counted under `others`, and so every sum is whole.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tallybook import logs
from tallybook.database import Database
from tallybook.gather import Answer
from tallybook.settings import Settings

KEPT_SECONDS: Final = 10.0
ASKING_SECONDS_MAX: Final = 4.0
OTHERS: Final = "others"


class TenantMetrics(Collector):
    """The tenants' part of /metrics, remembered for a while."""

    def __init__(
        self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = {"tenants": settings.metrics_tenants, "wallets": settings.metrics_wallets}
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._answer: Answer = {}
        self._good_until = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def text(self, database: Database) -> bytes:
        """In Prometheus' text format; nothing when the database does not say it.

        A scrape that fails would take the other metrics with it, when they are wanted most.
        """
        async with self._asking:
            if self._monotonic() >= self._good_until:
                try:
                    async with asyncio.timeout(ASKING_SECONDS_MAX):
                        self._answer = await database.call("allocation_metrics", self._bounds)
                except Exception as error:
                    # A number from long ago is worse than none: a graph then shows the gap.
                    self._answer = {}
                    logs.log(
                        logs.POINTS_ERROR,
                        level="error",
                        operation="allocation_metrics",
                        error_message=str(error),
                        stack_trace=traceback.format_exc(),
                    )
                self._good_until = self._monotonic() + KEPT_SECONDS
            return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: who is registered is not asked for numbers."""
        return []

    def collect(self) -> Iterator[Metric]:
        if not self._answer:
            return
        tenants = self._answer["tenants"]
        yield _filled(
            CounterMetricFamily(
                "perksu_allocation", "Allocations to a tenant, since ever", labels=("tenant_id",)
            ),
            [((row["tenant_id"],), row["allocations"]) for row in tenants],
        )
        yield _filled(
            GaugeMetricFamily(
                "perksu_allocation_amount_sum",
                "Points allocated to a tenant, since ever. It only grows: use increase() and rate()"
                " as with a counter; a gauge by the name that it was given",
                labels=("tenant_id",),
            ),
            [((row["tenant_id"],), row["amount"]) for row in tenants],
        )
        yield _filled(
            GaugeMetricFamily(
                "perksu_tenant_allocation_balance",
                "What a tenant's pool holds",
                labels=("tenant_id",),
            ),
            [((row["tenant_id"],), row["balance"]) for row in tenants],
        )
        yield _filled(
            GaugeMetricFamily(
                "perksu_wallet_balance",
                "What wallets hold: the fullest ones by their owner, as many as"
                " TALLYBOOK_METRICS_WALLETS says, and the rest of each tenant's together",
                labels=("tenant_id", "user_id"),
            ),
            _wallets(tenants, self._answer["wallets"]),
        )


def _wallets(
    tenants: list[dict[str, Any]], named: list[dict[str, Any]]
) -> list[tuple[tuple[str, ...], Any]]:
    labels = {row["tenant_id"] for row in tenants}
    shown: defaultdict[str, Any] = defaultdict(int)
    samples: list[tuple[tuple[str, ...], Any]] = []
    for row in named:
        tenant = row["tenant_id"] if row["tenant_id"] in labels else OTHERS
        shown[tenant] += row["balance"]
        samples.append(((tenant, row["user_id"]), row["balance"]))
    rest = [
        ((row["tenant_id"], OTHERS), row["in_wallets"] - shown[row["tenant_id"]]) for row in tenants
    ]
    return rest + samples


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, samples: list[tuple[tuple[str, ...], Any]]
) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family
