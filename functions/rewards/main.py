"""rewards/*: what a tenant's members can spend their points on, and what they have to spend; a
manager gives the points of a redemption back."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from tallybook.body import Body, Key
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler
from tallybook.logs import REWARD_REDEEMED, REWARD_REFUNDED
from tallybook.route import SERVICE, USERS, Route

POINTS: Final = "/api/v1/points"
Lines = Iterable[tuple[str, Mapping[str, Any]]]


class AsMember(Body):
    """Whose wallet, a user's own or whom a program names, and at which of their tenants."""

    customer: UUID | None = msgspec.field(name="user_id", default=None)
    tenant_id: UUID | None = None


class RedeemReward(AsMember, kw_only=True):
    """Which reward, and the key that makes a retry the same redemption."""

    reward_id: UUID
    idempotency_key: Key | None = None


class RefundRedemption(Body):
    """Which redemption's points are given back, and why. An administrator names the tenant."""

    redemption_id: UUID
    reason: Annotated[str, Meta(max_length=1000)]
    tenant_id: UUID | None = None


def what_was_redeemed(caller: Caller, body: RedeemReward, answer: Answer) -> Lines:
    """One line a redemption."""
    fields = {name: answer[name] for name in ("tenant_id", "redemption_id", "points_spent")}
    yield REWARD_REDEEMED, {"user_id": caller.user_id or body.customer, **fields}


def what_was_refunded(caller: Caller, _body: RefundRedemption, answer: Answer) -> Lines:
    """One line a refund. The reason is for the audit log alone."""
    fields = {name: answer[name] for name in ("tenant_id", "redemption_id", "points_refunded")}
    yield REWARD_REFUNDED, {"refunded_by": caller.user_id, **fields}


def reading(slug: str, procedure: str, path: str) -> Handler:
    """What a member looks at."""
    return endpoint(
        Route(
            slug=slug,
            paths=(f"GET {POINTS}/{path}",),
            procedure=procedure,
            body=AsMember,
            callers=USERS | SERVICE,
            on_behalf=True,
        )
    )


catalogue = reading("rewards/catalogue", "rewards_catalogue", "rewards")
wallet = reading("rewards/wallet", "wallet", "wallet")

redeem = endpoint(
    Route(
        slug="rewards/redeem",
        paths=(f"{POINTS}/rewards/redeem",),
        procedure="redeem_reward",
        body=RedeemReward,
        callers=USERS | SERVICE,
        on_behalf=True,
        key="idempotency_key",
        key_required=False,
        log=what_was_redeemed,
    )
)
refund = endpoint(
    Route(
        slug="rewards/refund",
        paths=(f"{POINTS}/rewards/refund",),
        procedure="refund_reward_redemption",
        body=RefundRedemption,
        callers=USERS | SERVICE,
        writes=True,
        log=what_was_refunded,
    )
)
