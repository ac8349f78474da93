"""redeem-coupon: points become a coupon, whose code is shown here and stored nowhere."""

from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from tallybook.body import Body, Key
from tallybook.caller import Caller
from tallybook.coupon_code import new_code, redemption_context
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.logs import POINTS_COUPON_REDEEMED
from tallybook.route import Route
from tallybook.runtime import Runtime


class RedeemCoupon(Body):
    """Which coupon, and the key that makes a retry the same redemption."""

    template_id: UUID
    idempotency_key: Key | None = None


def make_code(runtime: Runtime, caller: Caller, body: RedeemCoupon) -> dict[str, Any]:
    """A new code, as the database may know it: its hash, and a copy only this function opens."""
    keys, code = runtime.coupon_keys, new_code()
    return {
        "code_hash": keys.hash_code(code),
        "key_id": keys.key_id,
        "sealed_code": keys.seal(code, _context(caller, body)),
    }


def show_code(runtime: Runtime, caller: Caller, body: RedeemCoupon, answer: Answer) -> Answer:
    """The code, opened from the stored copy: the first answer's, also when this is a replay.

    None once the copy is cleaned away, or its secret is.
    """
    sealed = answer.pop("sealed_code")
    answer["coupon_code"] = None
    if sealed:
        with suppress(ValueError):
            answer["coupon_code"] = runtime.coupon_keys.open(sealed, _context(caller, body))
    return answer


def _context(caller: Caller, body: RedeemCoupon) -> str:
    # The corridor lets in nobody without a user id, and no body without a key.
    return redemption_context(cast(UUID, caller.user_id), cast(str, body.idempotency_key))


redeem_coupon = endpoint(
    Route(
        slug="redeem-coupon",
        paths=("/api/redeem",),
        procedure="redeem_coupon",
        body=RedeemCoupon,
        key="idempotency_key",
        prepare=make_code,
        finish=show_code,
        log=lambda caller, body, answer: [
            (
                POINTS_COUPON_REDEEMED,
                {
                    "user_id": caller.user_id,
                    "template_id": body.template_id,
                    "coupon_id": answer["coupon_id"],
                    "points_cost": answer["points_cost"],
                },
            )
        ],
    )
)
