"""credit-purchases/*: what credits are sold in, and a payment that has come for a package."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tallybook.body import Body, Key, Name
from tallybook.caller import Caller
from tallybook.credits import CUSTOMERS, ForCustomer, is_on, remember_account, take_account
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.logs import CREDITS_PURCHASED
from tallybook.route import SERVICE, USERS, Route


class Packages(ForCustomer):
    """For whom, because a discount may wait for them."""


class RecordPurchase(Body):
    """Who paid for which package, and the payment's id, under which it is granted once."""

    account: Annotated[str, Meta(min_length=1, max_length=320)] = msgspec.field(name="user_id")
    package: Name
    payment_id: Key
    amount_paid: Decimal | None = None


def what_was_bought(
    caller: Caller, body: RecordPurchase, answer: Answer
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """One line a purchase. Whose it is stands in the transaction: here it may be an address."""
    fields = {name: answer[name] for name in ("transaction_id", "credits", "amount_due")}
    yield CREDITS_PURCHASED, {"recorded_by": caller.user_id, "package": body.package, **fields}


packages = endpoint(
    Route(
        slug="credit-purchases/packages",
        paths=("GET /api/v1/credits/packages",),
        procedure="credit_packages_on_offer",
        body=Packages,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_on,
    )
)
record = endpoint(
    Route(
        slug="credit-purchases/record",
        paths=("/api/v1/admin/credits/purchases",),
        procedure="record_credit_purchase",
        body=RecordPurchase,
        callers=USERS | SERVICE,
        enabled=is_on,
        writes=True,
        after=remember_account,
        finish=take_account,
        log=what_was_bought,
    )
)
