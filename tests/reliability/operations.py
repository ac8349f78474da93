"""What clients do under load: a class each, which also knows what it must have done.

To add an operation, write its class and put an instance into `KINDS`; nothing else knows them by
name. `body` proposes one, `same` compares a replay with the first answer, `play` does it in the
single-threaded model, `caused` and `stored` look for it in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tallybook.coupon_code import CouponKeys
from tests.reliability.credits import CREDIT_KINDS
from tests.reliability.model import FAIL, OK, UNKNOWN, Book, Kind, Life, Operation, Rows
from tests.reliability.tenant_wallets import TENANT_KINDS

# Far below what one user may submit in an hour: a 429 is a fault here.
EVENTS_MAX: Final = 15
POINTS: Final = {"habit_completion": 10, "activity_completion": 10}
COSTS: Final = (10, 20, 30)

# The sealed copy comes back for a quarter of an hour; after that a replay is without the code.
CODE_SHOWN: Final = timedelta(minutes=14)


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
            book.costs[operation.answer["coupon_id"]] = operation.answer["points_cost"]
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
    keyed = traced = False

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
    keyed = traced = False

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        return {}


class Consume(Kind):
    """A partner's own backend uses a coupon up, whose code its owner shows."""

    name = "consume"
    slug = "coupons/consume"
    weight = 8
    by_service = True
    at_once = True

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        bought = _whole(life)
        return {"code": bought.answer["coupon_code"], "idempotency_key": key} if bought else None

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        coded = codes.hash_code(operation.body["code"])
        found = [c for c in rows.coupons if c["redemption_key"] == operation.key]
        yield from _times(operation, len(found))
        for coupon in found:
            if (coupon["code_hash"], coupon["status"]) != (coded, "redeemed"):
                yield f"coupon {coupon['coupon_id']} is {coupon['status']}"


class Refund(Kind):
    """An administrator's program gives points back. The same reason again is the same refund."""

    name = "refund"
    slug = "coupons/refund"
    weight = 4
    by_service = True

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        bought = _whole(life)
        return {"coupon_id": bought.answer["coupon_id"], "reason": "why not"} if bought else None

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        if operation.state == OK:
            book.returned += book.costs.get(operation.body["coupon_id"], 0)
        yield from ()

    def caused(self, operation: Operation, rows: Rows) -> list[dict[str, Any]]:
        return [
            event
            for event in rows.events
            if event["event_type"] == "coupon_refund"
            and str(event["related_entity_id"]) == operation.body["coupon_id"]
        ]

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        found = self.caused(operation, rows)
        yield from _times(operation, len(found))
        told = operation.answer.get("refund_points_event_id")
        for event in found:
            if told and str(event["id"]) != told:
                yield f"the client was told {told}, the book has {event['id']}"
            ended = [
                c["status"] for c in rows.coupons if c["refund_points_event_id"] == event["id"]
            ]
            if ended != ["revoked"]:
                yield f"its coupon is {ended}"


def _whole(life: Life) -> Operation | None:
    """A coupon of this user that nobody has done anything with."""
    touched = {o.body.get(name) for o in life.operations for name in ("code", "coupon_id")}
    bought = [
        operation
        for operation in life.done(Redeem)
        if not touched & {operation.answer["coupon_code"], operation.answer["coupon_id"]}
    ]
    return life.random.choice(bought) if bought else None


KINDS: Final[tuple[Kind, ...]] = (
    Submit(), Redeem(), Balance(), Validate(), Consume(), Refund(),
    *CREDIT_KINDS, *TENANT_KINDS,
)  # fmt: skip


def _times(operation: Operation, times: int) -> Iterator[str]:
    """What was acknowledged is there once, what was refused not at all, what is unknown once."""
    allowed = {OK: (1,), FAIL: (0,), UNKNOWN: (0, 1)}[operation.state]
    if times not in allowed:
        yield f"the book has it {times} times"
