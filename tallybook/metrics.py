"""What Prometheus may ask: requests by path and status, and how long they took."""

from __future__ import annotations

import math
import secrets
from typing import Final, Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

MEDIA_TYPE: Final = CONTENT_TYPE_LATEST

_registry: Final = CollectorRegistry()
_requests: Final = Histogram(
    "tallybook_request_seconds",
    "Seconds from the request's headers to its answer",
    ("path", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=_registry,
)
_attestations: Final = Counter(
    "tallybook_attestations",
    "Requests by what their device's evidence was worth",
    ("platform", "status"),
    registry=_registry,
)
_decodes: Final = Gauge(
    "tallybook_attestation_decodes_today",
    "Tokens that Google was asked to decode today, as far as this process knows",
    registry=_registry,
)
_cache_requests: Final = Counter(
    "tallybook_credit_cache_requests",
    "Balances asked of the cache: found there, not found, or the cache was away",
    ("result",),
    registry=_registry,
)
_cache_results: Final = {
    result: _cache_requests.labels(result) for result in ("hit", "miss", "error")
}
_cache_asked: Final = {"hit": 0, "miss": 0, "error": 0}
_cache_hit_rate: Final = Gauge(
    "tallybook_credit_cache_hit_rate",
    "The share of balances that the cache had, since this process began; NaN before the first",
    registry=_registry,
)
_cache_hit_rate.set_function(lambda: _hit_rate())
_allocation_errors: Final = Counter(
    "perksu_allocation_errors",
    "Allocations to tenants that were asked for and not made, for whatever reason: sum it, each"
    " process counts its own",
    ("process",),
    registry=_registry,
)
# Several processes may share an address, and a scrape meets any of them. Under one name their
# counts would look like a counter that falls and rises, and each rise like new errors.
_errors_here: Final = _allocation_errors.labels(secrets.token_hex(4))
_ALLOCATING: Final = frozenset(
    {
        *("/api/v1/points/allocate-to-tenant", "/api/v1/points/bulk-allocate"),
        *("/functions/v1/allocations/to-tenant", "/functions/v1/allocations/bulk"),
    }
)
_children: Final[dict[tuple[str, int], Histogram]] = {}


def observe(path: str, status: int, seconds: float) -> None:
    """Count one request. `path` must come from the routes, so that there are few of them."""
    child = _children.get((path, status))
    if child is None:
        child = _children[path, status] = _requests.labels(path, str(status))
    child.observe(seconds)
    if status >= 400 and path in _ALLOCATING:
        count_allocation_errors()


def count_allocation_errors(errors: int = 1) -> None:
    """Count allocations that were refused or failed, also those among many of one request."""
    _errors_here.inc(errors)


def count_attestation(platform: str, status: str) -> None:
    """Count what one request's evidence was worth."""
    _attestations.labels(platform, status).inc()


def set_decodes(decodes: int) -> None:
    """Note how many of the day's decodes are used."""
    _decodes.set(decodes)


def count_credit_cache(result: Literal["hit", "miss", "error"]) -> None:
    """Count one balance asked of the cache."""
    _cache_results[result].inc()
    _cache_asked[result] += 1


def _hit_rate() -> float:
    asked = sum(_cache_asked.values())
    return _cache_asked["hit"] / asked if asked else math.nan


def text() -> bytes:
    """Everything counted so far, in Prometheus' text format."""
    return generate_latest(_registry)
