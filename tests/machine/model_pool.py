"""The model of where a company's points are: lots in its pool, lots in wallets, in Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from tests.machine.model import Refused
from tests.machine.model_purse import ZERO, months_later

HUNDREDTH: Final = Decimal("0.01")
POINTS_MAX: Final = Decimal("9999999999999.99")
DAYS: Final = {"90_days": 90, "180_days": 180}


def text(points: Decimal) -> str:
    """An amount as the addresses write it."""
    return f"{points.normalize():f}" if points else "0"


def must_be_points(points: Decimal | None) -> None:
    """Something that can be moved."""
    if points is None or not 0 < points <= POINTS_MAX or points % HUNDREDTH:
        raise Refused("invalid_amount")


def end_of(at: datetime, policy: str) -> datetime | None:
    """When what comes now ends."""
    if policy == "1_year":
        return months_later(at, 12)
    return at + timedelta(days=DAYS[policy]) if policy in DAYS else None


@dataclass(slots=True, eq=False)
class PoolLot:
    """Points that came into a pool together. What was taken of them by name is not kept."""

    id: str
    kept: Decimal
    left: Decimal
    expires_at: datetime | None
    is_allocation: bool
    amount: Decimal
    reversed: Decimal = ZERO
    expired: Decimal = ZERO
    status: str = "COMPLETED"


@dataclass(slots=True)
class Pool:
    """What a company can award: what came first goes first."""

    lots: list[PoolLot] = field(default_factory=list)

    @property
    def balance(self) -> Decimal:
        return sum((lot.left for lot in self.lots), ZERO)

    def come(self, id: str, points: Decimal, ends: datetime | None, allocated: bool) -> PoolLot:
        lot = PoolLot(id, points, points, ends, allocated, points)
        self.lots.append(lot)
        return lot

    def go(self, points: Decimal, first: PoolLot | None = None) -> None:
        """From one lot after the other; of the one that is meant before all others."""
        for lot in [first, *self.lots] if first else self.lots:
            part = min(lot.left, points)
            lot.left -= part
            points -= part
        assert not points

    def come_back(self, points: Decimal) -> None:
        """To the lots from which it went last."""
        for lot in reversed(self.lots):
            part = min(lot.kept - lot.left, points)
            lot.left += part
            points -= part
        assert not points

    def reverse(self, lot: PoolLot, points: Decimal) -> None:
        lot.kept -= points
        # What it brought itself and is still there; else of whatever is.
        own = min(lot.left, points)
        lot.left -= own
        self.go(points - own)
        lot.reversed += points
        if lot.reversed + lot.expired == lot.amount:
            lot.status = "REVOKED"

    def expire(self, now: datetime) -> list[Decimal]:
        """End what is left of lots whose time is up."""
        ended = [lot for lot in self.lots if lot.left and lot.expires_at and lot.expires_at <= now]
        lost = []
        for lot in ended:
            lost.append(lot.left)
            lot.expired += lot.left
            lot.kept -= lot.left
            lot.left, lot.status = ZERO, "EXPIRED"
        return lost


@dataclass(slots=True)
class Wallet:
    """What a member can spend: the oldest points first. Every movement stands in `statement`."""

    lots: list[tuple[datetime, Decimal]] = field(default_factory=list)
    earned: Decimal = ZERO
    spent: Decimal = ZERO
    statement: Counter[Any] = field(default_factory=Counter)

    @property
    def balance(self) -> Decimal:
        return sum((points for _, points in self.lots), ZERO)

    def credit(self, source: str, points: Decimal, now: datetime) -> Decimal:
        self.lots.append((now, points))
        self.earned += points
        self.statement["credit", source, points, self.balance, now] += 1
        return self.balance

    def debit(self, source: str, points: Decimal, now: datetime) -> Decimal:
        left, lots = points, []
        for at, there in self.lots:
            part = min(there, left)
            left -= part
            if there > part:
                lots.append((at, there - part))
        assert not left
        self.lots = lots
        self.spent += points
        self.statement["debit", source, points, self.balance, now] += 1
        return self.balance

    def expire(self, policy: str, now: datetime) -> Decimal:
        """End what was not spent in time."""
        # What comes on the last of a month ends with another one: counted back from today.
        if policy == "never":
            return ZERO
        since = months_later(now, -12) if policy == "1_year" else now - timedelta(days=DAYS[policy])
        ended = sum((points for at, points in self.lots if at <= since), ZERO)
        if ended:
            self.debit("expiry", ended, now)
        return ended
