"""What clients do under load: a class each, which also knows what it must have done.

To add an operation, write its class and put an instance into `KINDS`; nothing else knows them by
name. `body` proposes one, `same` compares a replay with the first answer, `play` does it in the
single-threaded model, `stored` looks for it in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from tallybook.coupon_code import CouponKeys

# Far below what one user may submit in an hour: a 429 is a fault here.
EVENTS_MAX: Final = 15
POINTS: Final = {"habit_completion": 10, "activity_completion": 10}
COSTS: Final = (10, 20, 30)

# The sealed copy comes back for a quarter of an hour; after that a replay is without the code.
CODE_SHOWN: Final = timedelta(minutes=14)

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"


@dataclass(slots=True)
class Operation:
    """One request under one key, and what its client knows of it."""

    kind: Kind
    key: str
    body: dict[str, Any]
    state: str = UNKNOWN
    answer: dict[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class Life:
    """One user, who does one thing after another, and gives up for good at the first unknown.

    Because nothing of a user overtakes anything else, whatever is seen has its place in their book.
    """

    user: UUID
    random: Random
    credentials: str
    templates: dict[str, int]  # what each coupon on offer costs
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

    def caused_by(self, key: str) -> list[dict[str, Any]]:
        """The events that a key left behind."""
        return [event for event in self.events if event["nonce"] == key]


class Book:
    """The single-threaded model of one user's points.

    Validation happens at any time after a submission, so what was earned is known by its limits:
    all that was submitted, and what somebody has seen. Every look narrows it.
    """

    def __init__(self) -> None:
        self.possible = 0
        self.seen = 0
        self.spent = 0

    def look(self, available: int) -> Iterator[str]:
        """Somebody was told that this much can be spent."""
        earned = available + self.spent
        if available < 0 or not self.seen <= earned <= self.possible:
            yield (
                f"{available} points were told, {self.spent} are spent, and what was earned"
                f" is between {self.seen} and {self.possible}"
            )
        self.seen = earned


class Kind:
    """What can be asked for."""

    name = ""
    slug = ""
    weight = 0
    by_service = False  # asked with the secret key and not by the user
    keyed = True  # sent again under its key it must be answered as the first time
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

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        """Yields what the database has of it, and should not, or has not."""
        yield from ()


class Submit(Kind):
    """An event, minutes from the others and unlike them, so that nobody suspects it."""

    name = "submit"
    slug = "submit-points-event"
    weight = 50
    at_once = True

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        sent = [o for o in life.operations if o.kind is self]
        if len(sent) == EVENTS_MAX:
            return None
        latest = sent[-1].body["event_time"] if sent else life.began.isoformat()
        at = datetime.fromisoformat(latest) - timedelta(seconds=life.random.uniform(61, 400))
        return {
            "event_type": life.random.choice(sorted(POINTS)),
            "event_time": at.isoformat(),
            "nonce": key,
        }

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        book.possible += POINTS[operation.body["event_type"]]
        yield from ()

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        found = rows.caused_by(operation.key)
        yield from _times(operation, len(found))
        for event in found:
            if event["event_type"] != operation.body["event_type"]:
                yield f"it is stored as {event['event_type']}"
            if event["points_delta"] != POINTS[event["event_type"]]:
                yield f"it counts {event['points_delta']} points"
            if event["validation_status"] not in ("validated", "pending_review", "rejected"):
                yield f"it is left {event['validation_status']}"
            if operation.state == OK and str(event["id"]) != operation.answer["id"]:
                yield f"the client was told {operation.answer['id']}, the book has {event['id']}"


class Redeem(Kind):
    """A coupon, if there are points for it by now."""

    name = "redeem"
    slug = "redeem-coupon"
    weight = 20
    refusals = frozenset({"insufficient_points"})

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        template = life.random.choice(sorted(life.templates))
        return {"template_id": template, "idempotency_key": key}

    def same(self, first: Operation, again: dict[str, Any]) -> bool:
        if again["coupon_code"] is None and datetime.now(UTC) - first.at > CODE_SHOWN:
            return {**first.answer, "coupon_code": None} == again
        return first.answer == again

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        if operation.state == OK:
            book.spent += operation.answer["points_cost"]
            yield from book.look(operation.answer["points_remaining"])
        elif operation.answer.get("code") == "insufficient_points":
            # "Available: 0, Required: 10"
            words = operation.answer["detail"].replace(",", "").split()
            available, required = int(words[1]), int(words[3])
            yield from book.look(available)
            if available >= required:
                yield f"it was refused: {operation.answer['detail']}"

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        found = rows.caused_by(operation.key)
        yield from _times(operation, len(found))
        ids = {event["id"] for event in found}
        coupons = [c for c in rows.coupons if c["points_event_id"] in ids]
        yield from _times(operation, len(coupons))
        if operation.state != OK:
            return
        told = operation.answer
        for coupon in coupons:
            stored = {
                "coupon_id": str(coupon["coupon_id"]),
                "points_cost": coupon["issued_points_cost"],
                "points_remaining": coupon["points_remaining"],
            }
            for name, value in stored.items():
                if told[name] != value:
                    yield f"the client was told {name} {told[name]}, the book has {value}"
            # The code is shown in the first answer, so in whatever answer this client got first.
            if told["coupon_code"] is None:
                yield "no code was shown"
            elif codes.hash_code(told["coupon_code"]) != coupon["code_hash"]:
                yield "the code that was shown is not the coupon's"


class Balance(Kind):
    """A look at what there is to spend."""

    name = "balance"
    slug = "points-balance"
    weight = 8
    keyed = False

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        return {}

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        if operation.state == OK:
            told = operation.answer
            yield from book.look(told["available_points"])
            if told["available_points"] != told["lifetime_earned"] - told["lifetime_spent"]:
                yield f"the account and its cache were told as {told}"


class Validate(Kind):
    """A program decides what is pending, in competition with the worker."""

    name = "validate"
    slug = "validate-points-event"
    weight = 2
    by_service = True
    keyed = False

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        return {}


KINDS: Final[tuple[Kind, ...]] = (Submit(), Redeem(), Balance(), Validate())


def _times(operation: Operation, times: int) -> Iterator[str]:
    """What was acknowledged is there once, what was refused not at all, what is unknown once."""
    allowed = {OK: (1,), FAIL: (0,), UNKNOWN: (0, 1)}[operation.state]
    if times not in allowed:
        yield f"the book has it {times} times"
