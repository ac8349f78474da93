"""allocations/*: what the platform gives to tenants, and what tenants have to give."""

from typing import Final
from uuid import UUID

from tallybook.body import Body
from tallybook.endpoint import endpoint
from tallybook.route import SERVICE, USERS, Route

POINTS: Final = "/api/v1/points"


class Stats(Body):
    """Of which tenant: a member's own; an administrator and a program say which."""

    tenant_id: UUID | None = None


stats = endpoint(
    Route(
        slug="allocations/stats",
        paths=(f"GET {POINTS}/tenant-allocation-stats",),
        procedure="tenant_allocation_stats",
        body=Stats,
        callers=USERS | SERVICE,
    )
)
