"""coupons/*: the partner looks at a coupon by its code, holds it and uses it; an administrator
revokes it or gives its points back. A code comes in here and goes no further than its hashes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta

from tallybook.body import Body, Key
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler
from tallybook.logs import (
    POINTS_COUPON_CONSUMED,
    POINTS_COUPON_HELD,
    POINTS_COUPON_REFUNDED,
    POINTS_COUPON_RELEASED,
    POINTS_COUPON_REVOKED,
    POINTS_COUPON_VERIFIED,
)
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime

Code = Annotated[str, Meta(min_length=1, max_length=200)]
Reason = Annotated[str, Meta(max_length=1000)]
Lines = Iterable[tuple[str, Mapping[str, Any]]]


class VerifyCoupon(Body):
    """The code, as somebody typed it."""

    code: Code
    device_id: Key | None = None


class ConsumeCoupon(Body):
    """The code, the key that makes a retry the same use, and what the partner wants to keep."""

    code: Code
    idempotency_key: Key | None = None
    redemption_proof: dict[str, Any] | None = None
    device_id: Key | None = None


class HoldCoupon(Body):
    """The code, and the key under which it is held while a purchase is under way."""

    code: Code
    idempotency_key: Key | None = None
    hold_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    device_id: Key | None = None


class ReleaseCoupon(Body):
    """The code, and the key under which it is held."""

    code: Code
    idempotency_key: Key | None = None
    device_id: Key | None = None


class RevokeCoupon(Body):
    """Which coupon, why, and whether its points are given back."""

    coupon_id: UUID
    reason: Reason
    refund: bool = False


class RefundCoupon(Body):
    """Which coupon, and why its points are given back."""

    coupon_id: UUID
    reason: Reason


def hash_code(runtime: Runtime, _caller: Caller, body: Any) -> dict[str, Any]:
    """The code's hash under every secret that coupons may have been made with."""
    return {"code_hashes": runtime.coupon_keys.hashes_of_typed(body.code)}


def line(event: str) -> Callable[[Caller, Any, Answer], Lines]:
    """One line that says which coupon and who. The reason is for the audit log alone."""

    def lines(caller: Caller, _body: Any, answer: Answer) -> Lines:
        yield event, {"coupon_id": answer.get("coupon_id"), "user_id": caller.user_id}

    return lines


def by_code(
    slug: str, procedure: str, body: type[Body], event: str, key: str | None = None
) -> Handler:
    """What a partner does with the code that somebody shows."""
    return endpoint(
        Route(
            slug=slug,
            procedure=procedure,
            body=body,
            callers=USERS | SERVICE,
            key=key,
            address=True,
            consumed=frozenset({"code"}),
            prepare=hash_code,
            log=line(event),
        )
    )


def by_id(slug: str, procedure: str, body: type[Body], event: str) -> Handler:
    """What an administrator does with somebody's coupon."""
    return endpoint(
        Route(
            slug=slug,
            procedure=procedure,
            body=body,
            callers=USERS | SERVICE,
            writes=True,
            log=line(event),
        )
    )


KEY = "idempotency_key"

verify = by_code("coupons/verify", "verify_coupon", VerifyCoupon, POINTS_COUPON_VERIFIED)
consume = by_code("coupons/consume", "consume_coupon", ConsumeCoupon, POINTS_COUPON_CONSUMED, KEY)
hold = by_code("coupons/hold", "hold_coupon", HoldCoupon, POINTS_COUPON_HELD, KEY)
release = by_code("coupons/release", "release_coupon", ReleaseCoupon, POINTS_COUPON_RELEASED, KEY)

revoke = by_id("coupons/revoke", "revoke_coupon", RevokeCoupon, POINTS_COUPON_REVOKED)
refund = by_id("coupons/refund", "refund_coupon", RefundCoupon, POINTS_COUPON_REFUNDED)
