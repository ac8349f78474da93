"""The model of one user's credits: lots, what was taken from which, and what time does to them."""

from __future__ import annotations

from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

ZERO: Final = Decimal(0)
FOREVER: Final = datetime.max.replace(tzinfo=UTC)
REFUND_KEPT: Final = timedelta(days=30)


def months_later(at: datetime, months: int) -> datetime:
    """The same day of a later month, or its last one."""
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, monthrange(year, month + 1)[1]))


@dataclass(slots=True, eq=False)
class CreditLot:
    """Credits that came together."""

    id: str  # the server's
    source: str
    priority: int
    amount: Decimal
    remaining: Decimal
    expires_at: datetime | None
    created_at: datetime

    @property
    def place(self) -> tuple[int, datetime, datetime, str]:
        """Where it stands among those that are spent."""
        return self.priority, self.expires_at or FOREVER, self.created_at, self.id

    def ended(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(slots=True, eq=False)
class Charge:
    """A usage that was charged, and what of it which lot could still get back."""

    id: str
    amount: Decimal
    at: datetime
    taken: dict[CreditLot, Decimal] = field(default_factory=dict)
    refunded: Decimal = ZERO


@dataclass(slots=True)
class Purse:
    """What a user has. Every movement stands in `statement`, whatever usage cost in `months`."""

    balance: Decimal = ZERO
    held: Decimal = ZERO
    floor: Decimal = ZERO
    rollover_max: Decimal = ZERO
    lots: list[CreditLot] = field(default_factory=list)
    due: datetime = FOREVER  # nobody looks for lots that have ended before
    charges: dict[str, Charge] = field(default_factory=dict)
    months: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    statement: Counter[tuple[str, Decimal]] = field(default_factory=Counter)

    @property
    def available(self) -> Decimal:
        """What nobody has set aside."""
        return self.balance - self.held

    @property
    def spendable(self) -> Decimal:
        """What can be spent, by who may owe as well."""
        return self.available - self.floor

    def open_lots(self) -> list[CreditLot]:
        """In the order in which they are spent."""
        return sorted((lot for lot in self.lots if lot.remaining), key=lambda lot: lot.place)

    def move(self, kind: str, amount: Decimal) -> None:
        self.balance += amount
        self.statement[kind, amount] += 1

    def give(self, kind: str, amount: Decimal, lot: CreditLot) -> None:
        """What comes pays what is owed, and the rest is a lot."""
        self.move(kind, amount)
        lot.remaining = max(ZERO, min(amount, self.balance))
        self.keep(lot)

    def keep(self, lot: CreditLot) -> None:
        if lot.amount:
            self.lots.append(lot)
            self.due = min(self.due, lot.expires_at or FOREVER)

    def spend(self, kind: str, amount: Decimal) -> dict[CreditLot, Decimal]:
        """Take from one lot after the other; what there is none for is owed."""
        self.move(kind, -amount)
        taken = {}
        for lot in self.open_lots():
            part = min(lot.remaining, amount)
            if part:
                lot.remaining -= part
                amount -= part
                taken[lot] = part
        return taken

    def charge(self, id: str, amount: Decimal, now: datetime) -> None:
        """A usage, of this month."""
        self.charges[id] = Charge(id, amount, now, self.spend("usage", amount))
        self.months[f"{now:%Y-%m}"] += amount

    def refund(self, charge: Charge, amount: Decimal, id: str, now: datetime) -> None:
        """Back to the lots it came from, last spent first, as long as they last."""
        self.move("refund", amount)
        self.months[f"{charge.at:%Y-%m}"] -= amount
        charge.refunded += amount
        left = max(ZERO, min(amount, self.balance))
        anew = ZERO
        for lot in sorted(charge.taken, key=lambda lot: lot.place, reverse=True):
            part = min(charge.taken[lot], left)
            charge.taken[lot] -= part
            left -= part
            if lot.ended(now):
                anew += part
            elif part:
                lot.remaining += part
                self.due = min(self.due, lot.expires_at or FOREVER)
        anew += left  # it had been owed
        self.keep(CreditLot(id, "refund", 100, anew, anew, now + REFUND_KEPT, now))

    def ends(self, now: datetime) -> Iterator[tuple[CreditLot, Decimal, Decimal]]:
        """The lots whose time is up: how much of each keeps for a month more, how much is lost."""
        ended = [lot for lot in self.lots if lot.remaining and lot.ended(now)]
        room = self.rollover_max - sum(
            lot.remaining for lot in self.lots if lot.source == "rollover" and not lot.ended(now)
        )
        keeps = dict.fromkeys(ended, ZERO)
        for lot in sorted(ended, key=_until, reverse=True):
            # What ended a month ago keeps no more, whether anybody saw it end or not.
            if lot.source == "allocation" and months_later(lot.expires_at, 1) > now:
                keeps[lot] = max(ZERO, min(lot.remaining, room))
                room -= lot.remaining
        free = self.available  # what is reserved outlives its lot
        for lot in sorted(ended, key=_until):
            goes = lot.remaining - keeps[lot]
            yield lot, keeps[lot], max(ZERO, min(goes, free))
            free -= goes

    def expire(self, now: datetime) -> Decimal:
        """End what has ended; how much was lost."""
        if self.due > now:
            return ZERO
        total = ZERO
        for lot, keeps, loses in list(self.ends(now)):
            if keeps and keeps + loses == lot.remaining:
                assert lot.expires_at is not None
                lot.source, lot.expires_at = "rollover", months_later(lot.expires_at, 1)
            if loses:
                self.move("expiry", -loses)
                lot.remaining -= loses
            total += loses
        times = [lot.expires_at for lot in self.lots if lot.remaining and lot.expires_at]
        # What is reserved has not ended yet: it stays due.
        self.due = min(times) if times else FOREVER
        return total


def _until(lot: CreditLot) -> tuple[datetime, datetime, str]:
    return lot.expires_at or FOREVER, lot.created_at, lot.id
