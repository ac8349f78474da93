"""The model of companies: who belongs to them as what, and where their points are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tests.machine.model import Actor, Refused, Said, Shared
from tests.machine.model_pool import Pool, Wallet
from tests.machine.model_purse import ZERO

MANAGERS: Final = ("tenant_manager", "hr_admin")
LEADS: Final = ("tenant_lead", "dept_lead", "manager")


@dataclass(slots=True)
class Department:
    """Whose people give no more than so much in a month, and what it could give of old."""

    id: str
    name: str
    cap: Decimal | None = None
    budget: Decimal = ZERO


@dataclass(slots=True)
class Member:
    """Somebody in a company."""

    role: str
    department: str | None = None
    active: bool = True
    budget: Decimal = ZERO  # a lead's


@dataclass(slots=True)
class Recognition:
    """Something that was given, with points or without."""

    id: str
    giver: UUID | None
    points: Decimal
    shares: list[tuple[UUID, Decimal]]
    funded_by: str
    department: str | None
    visibility: str
    at: datetime
    ended: dict[str, Any] | None = None  # what was answered when it was revoked


@dataclass(slots=True)
class Reward:
    """What points are spent on."""

    id: str
    name: str
    cost: Decimal
    stock: int | None
    active: bool = True


@dataclass(slots=True)
class Redemption:
    """A reward that somebody got."""

    id: str
    user: UUID
    reward: str
    points: Decimal
    ended: dict[str, Any] | None = None  # what was answered when it was refunded


@dataclass(slots=True)
class Tenant:
    """One company. What it was said under which key is kept by whose key it was."""

    id: str
    name: str
    settings: dict[str, Any]
    pool: Pool = field(default_factory=Pool)
    members: dict[UUID, Member] = field(default_factory=dict)
    departments: dict[str, Department] = field(default_factory=dict)
    wallets: defaultdict[UUID, Wallet] = field(default_factory=lambda: defaultdict(Wallet))
    recognitions: dict[str, Recognition] = field(default_factory=dict)
    rewards: dict[str, Reward] = field(default_factory=dict)
    redemptions: dict[str, Redemption] = field(default_factory=dict)
    bills: Counter[tuple[str, Decimal, Decimal]] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    outside: defaultdict[str, Decimal] = field(  # what the world beyond it got
        default_factory=lambda: defaultdict(Decimal)
    )
    said: dict[Any, tuple[Any, dict[str, Any]]] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        return bool(self.settings["is_active"])

    def before(self, key: Any, request: Any) -> Said | None:
        """What was said to this request under this key before."""
        if key not in self.said:
            return None
        first, body = self.said[key]
        if first != request:
            raise Refused("nonce_reused")
        return Said(body, True)

    def say(self, key: Any, request: Any, body: dict[str, Any]) -> Said:
        if key[-1] is not None:
            self.said[key] = request, body
        return Said(body)

    @contextmanager
    def watched(self) -> Iterator[Pool]:
        """Whether what is done with the pool lets it fall low is written down."""
        was, low = self.pool.balance, self.settings["low_balance_threshold"]
        yield self.pool
        self.alerts["low_balance"] += was >= low > self.pool.balance
        self.alerts["empty"] += was > 0 == self.pool.balance

    def bill(self, kind: str, points: Decimal, balance: Decimal | None = None) -> None:
        """The platform's trail."""
        self.bills[kind, points, self.pool.balance if balance is None else balance] += 1
        there = {"ADJUSTMENT": "adjusted", "EXPIRY": "expired"}.get(kind, "platform")
        self.outside[there] -= points

    def expire_wallet(self, user: UUID, now: datetime) -> Decimal:
        ended = self.wallets[user].expire(self.settings["wallet_expiry_policy"], now)
        self.outside["expired"] += ended
        return ended

    def accounts(self) -> dict[str, Decimal]:
        """Every account of its book that holds or lacks something."""
        found = {"tenant.pool": self.pool.balance}
        found |= {f"tenant.lead:{user}": m.budget for user, m in self.members.items()}
        found |= {f"tenant.budget:{d.id}": d.budget for d in self.departments.values()}
        found |= {f"tenant.wallet:{user}": w.balance for user, w in self.wallets.items()}
        found |= {f"tenant.{name}": points for name, points in self.outside.items()}
        return {name: points for name, points in found.items() if points}


@dataclass(slots=True)
class Companies:
    """All of them, and who may do what where."""

    shared: Shared
    tenants: dict[str, Tenant] = field(default_factory=dict)
    allocated_at: defaultdict[UUID, list[datetime]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @contextmanager
    def whole(self, tenant: Tenant) -> Iterator[None]:
        """Done whole, or not at all."""
        before = deepcopy(tenant)
        try:
            yield
        except Refused:
            for name in tenant.__slots__:
                setattr(tenant, name, getattr(before, name))
            raise

    def named(self, id: str | None) -> Tenant:
        """Somebody of the platform says which."""
        if id is None:
            raise Refused("invalid_body")
        if id not in self.tenants:
            raise Refused("tenant_not_found")
        return self.tenants[id]

    def of(self, user: UUID | None, named: str | None) -> list[Tenant]:
        """Where somebody belongs, of what they name; what is closed counts as well."""
        return [
            t
            for t in self.tenants.values()
            if user in t.members and t.members[user].active and named in (None, t.id)
        ]

    def membership(
        self, user: UUID | None, named: str | None, roles: tuple[str, ...] = ()
    ) -> Tenant:
        """Where somebody is a member, in one of these roles: a closed company has none."""
        found = [
            t
            for t in self.of(user, named)
            if t.active and user and (not roles or t.members[user].role in roles)
        ]
        if not found:
            raise Refused("forbidden")
        if len(found) > 1:
            raise Refused("invalid_body")
        return found[0]

    def managing(self, by: Actor, named: str | None) -> Tenant:
        """Who sets a company up: the platform, or one who manages it."""
        if by.administers:
            return self.named(named)
        return self.membership(by.user, named, MANAGERS)
