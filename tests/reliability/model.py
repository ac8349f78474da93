"""What a user did, what the books hold of them, and the single-threaded model that ties the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from tallybook.coupon_code import CouponKeys

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"
ZERO = Decimal(0)


@dataclass(slots=True)
class Operation:
    """One request under one key, and what its client knows of it."""

    kind: Kind
    key: str
    body: dict[str, Any]
    state: str = UNKNOWN
    answer: dict[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Seat:
    """A user's place in a company."""

    tenant: UUID
    role: str
    colleagues: tuple[UUID, ...]
    leads: tuple[UUID, ...]
    rewards: dict[str, Decimal]  # what each costs
    administrator: str  # the credentials of who gives the company points


@dataclass(slots=True)
class Life:
    """One user, who does one thing after another, and gives up for good at the first unknown.

    Because nothing of a user overtakes anything else, whatever is seen has its place in their book.
    """

    user: UUID
    random: Random
    credentials: str
    templates: dict[str, int]  # what each coupon on offer costs
    seat: Seat | None = None  # without one nothing is done in companies
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    operations: list[Operation] = field(default_factory=list)
    history: list[tuple[str, str, str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether the client knows what became of everything."""
        return all(operation.state != UNKNOWN for operation in self.operations)

    def done(self, kind: type[Kind]) -> list[Operation]:
        """What was acknowledged of a kind."""
        return [o for o in self.operations if isinstance(o.kind, kind) and o.state == OK]


@dataclass(slots=True)
class Rows:
    """What the database holds of one user, in one snapshot."""

    events: list[dict[str, Any]] = field(default_factory=list)
    coupons: list[dict[str, Any]] = field(default_factory=list)
    transfers: list[dict[str, Any]] = field(default_factory=list)
    balance: int = 0
    cache: dict[str, Any] = field(default_factory=dict)
    credits: list[dict[str, Any]] = field(default_factory=list)  # the statement
    credit_transfers: list[dict[str, Any]] = field(default_factory=list)
    reservations: list[dict[str, Any]] = field(default_factory=list)
    holds: list[dict[str, Any]] = field(default_factory=list)
    credit_balance: Decimal = ZERO
    credit_held: Decimal = ZERO
    credit_cache: Decimal = ZERO
    lots: Decimal = ZERO
    used: Decimal = ZERO

    def caused_by(self, key: str) -> list[dict[str, Any]]:
        """The events that a key left behind."""
        return [event for event in self.events if event["nonce"] == key]


def credits(number: Any) -> Decimal:
    """An amount as a client was told it, to the millionth."""
    return round(Decimal(repr(number)), 6)


@dataclass(slots=True)
class Purse:
    """The model of one user's credits."""

    balance: Decimal = ZERO
    reserved: dict[str, Decimal] = field(default_factory=dict)  # what may still be held
    short: set[str] = field(default_factory=set)  # of these, what may have ended by itself

    def look(self, what: str, told: Any) -> Iterator[str]:
        """Somebody was told the balance."""
        if credits(told) != self.balance:
            yield f"a balance of {told} was told {what}, and it is {self.balance}"

    def may_have(self, available: Decimal) -> bool:
        """Whether so much could be spent: what is held for good is not, the rest may be."""
        held = sum(self.reserved.values(), ZERO)
        may_be_free = sum((self.reserved[id] for id in self.short), ZERO)
        return self.balance - held <= available <= self.balance - held + may_be_free


class Book:
    """The single-threaded model of what one user has: points, and credits in a purse.

    Validation happens at any time after a submission, so what was earned is known by its limits:
    all that was submitted, and what somebody has seen. Every look narrows it.
    """

    def __init__(self) -> None:
        self.possible = 0
        self.seen = 0
        self.spent = 0
        self.returned = 0
        self.costs: dict[str, int] = {}  # of each coupon that was bought
        self.purse = Purse()

    def look(self, available: int) -> Iterator[str]:
        """Somebody was told that this much can be spent."""
        earned = available + self.spent - self.returned
        if available < 0 or not self.seen <= earned <= self.possible:
            yield (
                f"{available} points were told, {self.spent} are spent, {self.returned} came back,"
                f" and what was earned is between {self.seen} and {self.possible}"
            )
        self.seen = earned


class Kind:
    """What can be asked for."""

    name = ""
    slug = ""
    weight = 0
    by_service = False  # asked with the secret key and not by the user
    by_administrator = False  # asked by the platform's administrator
    keyed = True  # sent again under its key it must be answered as the first time
    traced = True  # it leaves something in the books
    at_once = False  # the same request twice at the same moment is answered alike
    refusals: frozenset[str] = frozenset()  # what a user may be told at the wrong moment

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        """A request; None when there is nothing to ask for now."""
        raise NotImplementedError

    def same(self, first: Operation, again: dict[str, Any]) -> bool:
        """Whether an answer equals the first one."""
        return first.answer == again

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        """Do it in the model; yields what the model cannot follow."""
        yield from ()

    def caused(self, operation: Operation, rows: Rows) -> list[dict[str, Any]]:
        """The events that are there because of it."""
        return rows.caused_by(operation.key)

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        """Yields what the database has of it, and should not, or has not."""
        yield from ()
