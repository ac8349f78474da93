"""What Tallybook promises, in plain Python: one thing after another, and nothing but memory.

This much is shared: who asks, what a refusal is, the time, the nonces and what each user has.
`model_points`, `model_decisions`, `model_coupons` and `model_till` say the rest, `model_trust`
judges. An answer is described by the members it must have, a refusal is raised, and whoever drives
the model fills in the ids and the codes, which only the server can choose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

STATUS: Final = {
    "allocation_not_found": 404,
    "already_resolved": 409,
    "already_reviewed": 409,
    "coupon_held": 409,
    "coupon_limit_reached": 403,
    "coupon_not_held": 409,
    "coupon_not_valid": 404,
    "coupon_refunded": 409,
    "coupon_revoked": 409,
    "coupon_used": 409,
    "credits_owed": 409,
    "department_cap_reached": 400,
    "department_not_found": 404,
    "event_in_future": 400,
    "event_not_found": 404,
    "event_too_old": 400,
    "event_type_not_submittable": 403,
    "forbidden": 403,
    "insufficient_budget": 400,
    "insufficient_credits": 402,
    "insufficient_funds": 400,
    "insufficient_points": 400,
    "insufficient_pool": 400,
    "insufficient_wallet": 400,
    "invalid_amount": 400,
    "invalid_body": 400,
    "monthly_cap_reached": 429,
    "nonce_reused": 409,
    "not_reversible": 409,
    "not_reviewable": 409,
    "own_event": 403,
    "peer_to_peer_off": 403,
    "proof_type_not_accepted": 400,
    "rate_limited": 429,
    "reason_required": 400,
    "recipient_not_found": 404,
    "recognition_not_found": 404,
    "redemption_not_found": 404,
    "redemptions_paused": 409,
    "refund_exceeded": 400,
    "reservation_closed": 409,
    "reservation_not_found": 404,
    "reward_not_found": 404,
    "reward_out_of_stock": 409,
    "self_recognition": 400,
    "template_exhausted": 409,
    "template_not_found": 404,
    "tenant_not_found": 404,
    "transaction_not_found": 404,
    "unknown_event_type": 400,
}

NONCE_KEPT: Final = timedelta(days=7)
CODE_SHOWN: Final = timedelta(minutes=15)


class Refused(Exception):
    """The model says no, and for a limit also which and when there is room again."""

    def __init__(self, code: str, policy: str = "", again: int = 0) -> None:
        super().__init__(code)
        self.code, self.status = code, STATUS[code]
        self.policy, self.again = policy, again


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its members, whether it is marked as a replay, and what is left of a limit."""

    body: dict[str, Any]
    replayed: bool = False
    limit: tuple[str, int, int, int, int] | None = None  # policy, quota, window, remaining, reset


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who asks. Without a user it is the service."""

    name: str
    user: UUID | None = None
    is_admin: bool = False
    partner: str | None = None

    @property
    def administers(self) -> bool:
        return self.user is None or self.is_admin

    @property
    def signature(self) -> str:
        """How decisions are signed."""
        return f"{self.name}@example.com" if self.user else "tallybook_functions"


@dataclass(slots=True)
class Lot:
    """Points that came in at once. What expired of them is no longer there to be spent."""

    at: datetime
    number: int
    points: int
    expired: int = 0


@dataclass(slots=True)
class Book:
    """What one user has: lots, of which the oldest are spent first."""

    lots: list[Lot] = field(default_factory=list)
    spent: int = 0

    @property
    def earned(self) -> int:
        return sum(lot.points for lot in self.lots)

    @property
    def gone(self) -> int:
        return self.spent + sum(lot.expired for lot in self.lots)

    @property
    def available(self) -> int:
        return self.earned - self.gone

    def left(self) -> Iterator[tuple[Lot, int]]:
        """What of each lot is still there."""
        taken = self.spent
        for lot in sorted(self.lots, key=lambda lot: (lot.at, lot.number)):
            kept = lot.points - lot.expired
            used = min(kept, taken)
            taken -= used
            yield lot, kept - used


@dataclass(slots=True)
class Event:
    """Something of a user that was submitted, awarded, bought, given back or taken."""

    number: int  # in the order of the ids that the server makes
    user: UUID
    kind: str
    points: int
    status: str
    created_at: datetime
    event_time: datetime
    nonce: str | None = None
    proof: str | None = None
    measured: bool = False  # by somebody else than the app
    device: str | None = None
    score: int | None = None
    streak: int | None = None
    awarded_by: str | None = None
    id: str | None = None  # the server's


@dataclass(slots=True)
class Nonce:
    """A key that was used. `purchase` is the coupon whose code a replay may show."""

    created_at: datetime
    purchase: object = None


@dataclass(slots=True)
class Shared:
    """What all parts of the model go by."""

    now: datetime
    books: defaultdict[UUID, Book] = field(default_factory=lambda: defaultdict(Book))
    nonces: dict[tuple[UUID, str], Nonce] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def claim(self, key: tuple[UUID, str], purchase: object = None) -> None:
        """Use up a key."""
        self.nonces[key] = Nonce(self.now, purchase)

    def record(self, user: UUID, kind: str, points: int, status: str, **facts: Any) -> Event:
        """An event of this moment."""
        facts = {"event_time": self.now, **facts}
        event = Event(len(self.events), user, kind, points, status, self.now, **facts)
        self.events.append(event)
        return event

    def post(self, event: Event) -> None:
        """Move the points of an event that counts."""
        book = self.books[event.user]
        if event.points > 0:
            book.lots.append(Lot(self.now, event.number, event.points))
        else:
            book.spent -= event.points

    def clean_nonces(self) -> int:
        """Forget the nonces that are past their time; how many there were."""
        due = [
            key for key, nonce in self.nonces.items() if nonce.created_at + NONCE_KEPT <= self.now
        ]
        for key in due:
            del self.nonces[key]
        return len(due)

    def forget_codes(self) -> int:
        """Forget the codes that no replay shows any more; how many there were."""
        due = [
            nonce
            for nonce in self.nonces.values()
            if nonce.purchase is not None and nonce.created_at + CODE_SHOWN <= self.now
        ]
        for nonce in due:
            nonce.purchase = None
        return len(due)
