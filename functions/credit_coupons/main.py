"""credit-coupons/*: users redeem promotional codes; administrators make them, list and end them.

A promotional code is a public word. That it cannot be guessed through is the procedures' doing."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from tallybook.body import Body, Key, Name, Time
from tallybook.caller import Caller
from tallybook.credits import CUSTOMERS, ForCustomer, is_on, remember_account, take_account
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler
from tallybook.logs import CREDITS_PROMOTION_REDEEMED
from tallybook.route import SERVICE, USERS, Route, customer_of

COUPONS: Final = "/api/v1/credits/coupons"
ADMINISTRATION: Final = "/api/v1/admin/credits/coupons"

Code = Annotated[str, Meta(min_length=1, max_length=200)]


class RedeemPromotion(ForCustomer, kw_only=True):
    """The code, as somebody typed it; a key makes a retry the same redemption."""

    code: Code
    device_id: Key | None = None
    idempotency_key: Key | None = None


class ValidatePromotion(ForCustomer, kw_only=True):
    """The code, as somebody typed it."""

    code: Code
    device_id: Key | None = None


class CreatePromotion(Body):
    """What the code brings, how often, for how long. What is left out has no limit, but once a
    user."""

    code: Code
    discount_type: Literal["fixed", "percentage", "free_month", "bonus"]
    discount_value: Decimal
    description: Annotated[str, Meta(max_length=1000)] | None = None
    max_uses: Annotated[int, Meta(ge=1, le=2_147_483_647)] | None = None
    max_uses_per_user: Annotated[int, Meta(ge=1, le=2_147_483_647)] | None = None
    tier: Name | None = None
    credits_expire_after_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    valid_from: Time | None = None
    expires_at: Time | None = None


class ListPromotions(Body):
    """Which promotions, the latest first: those that can be redeemed now, the others, or all."""

    active: bool | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class DeletePromotion(Body):
    """Which promotion ends, and why."""

    code: Code
    reason: Annotated[str, Meta(max_length=1000)] | None = None


def what_was_redeemed(
    caller: Caller, body: Any, answer: Answer
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """One line that says who redeemed what. Under `code` the logs would strike it out."""
    fields = {name: answer[name] for name in ("discount_type", "credits", "transaction_id")}
    user = customer_of(caller, body)
    yield CREDITS_PROMOTION_REDEEMED, {"user_id": user, "promotion": answer["code"], **fields}


def managing(slug: str, procedure: str, body: type[Body], *paths: str, writes: bool) -> Handler:
    """What an administrator does, or a program."""
    return endpoint(
        Route(
            slug=f"credit-coupons/{slug}",
            paths=paths,
            procedure=procedure,
            body=body,
            callers=USERS | SERVICE,
            enabled=is_on,
            writes=writes,
        )
    )


redeem = endpoint(
    Route(
        slug="credit-coupons/redeem",
        paths=(f"{COUPONS}/redeem",),
        procedure="redeem_promotion",
        body=RedeemPromotion,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_on,
        key="idempotency_key",
        key_required=False,
        address=True,
        after=remember_account,
        finish=take_account,
        log=what_was_redeemed,
    )
)
validate = endpoint(
    Route(
        slug="credit-coupons/validate",
        paths=(f"{COUPONS}/validate",),
        procedure="validate_promotion",
        body=ValidatePromotion,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_on,
        address=True,
    )
)

create = managing(
    "create", "create_promotion", CreatePromotion,
    ADMINISTRATION, f"{COUPONS}/create", writes=True,
)  # fmt: skip
promotions = managing(
    "promotions", "list_promotions", ListPromotions,
    f"GET {ADMINISTRATION}", f"GET {COUPONS}/list", writes=False,
)  # fmt: skip
delete = managing(
    "delete", "delete_promotion", DeletePromotion,
    f"DELETE {ADMINISTRATION}/{{code}}", f"DELETE {COUPONS}/{{code}}", writes=True,
)  # fmt: skip
