"""credit-admin/*: an administrator or a program gives credits, one by one or many at once, and
gives back what a usage cost."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta

from tallybook.body import Body, Key, Name, Time
from tallybook.caller import Caller
from tallybook.credits import is_on, remember_account, take_account
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler
from tallybook.logs import CREDITS_ALLOCATED, CREDITS_REFUNDED
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime

ADMIN: Final = "/api/v1/admin/credits"
ALLOCATIONS_MAX: Final = 1000
ALLOCATION_BYTES_MAX: Final = 512
"""As much as one has room for on an average, with an address, a reason and a key."""
KEYED: Final[dict[str, Any]] = {"key": "idempotency_key", "key_required": False}

Account = Annotated[str, Meta(min_length=1, max_length=320)]
Reason = Annotated[str, Meta(max_length=1000)]
Type = Literal["bonus", "purchase", "adjustment", "allocation"]
Priority = Annotated[int, Meta(ge=-999_999_999, le=999_999_999)]
Lines = Iterable[tuple[str, Mapping[str, Any]]]


class Allocate(Body):
    """Who gets how much and why: an id or an e-mail address. What is given is a lot of its own."""

    account: Account = msgspec.field(name="user_id")
    amount: Decimal
    reason: Reason
    transaction_type: Type = "bonus"
    source: Name | None = None
    priority: Priority | None = None
    expires_at: Time | None = None
    idempotency_key: Key | None = None


class Allocation(Body):
    """One of many."""

    user_id: Account
    amount: Decimal
    reason: Reason | None = None
    source: Name | None = None
    priority: Priority | None = None
    expires_at: Time | None = None
    idempotency_key: Key | None = None


class BulkAllocate(Body):
    """Many, and why, where one does not say so itself. Each is done or refused by itself."""

    allocations: Annotated[list[Allocation], Meta(min_length=1, max_length=ALLOCATIONS_MAX)]
    reason: Reason | None = None
    transaction_type: Type = "bonus"


class Refund(Body):
    """Which usage of whose is given back and why, whole or in part."""

    account: Account = msgspec.field(name="user_id")
    transaction_id: UUID
    reason: Reason
    amount: Decimal | None = None
    idempotency_key: Key | None = None


def what_was_given(caller: Caller, body: Allocate, answer: Answer) -> Lines:
    """One line an allocation. Whose it is stands in the transaction: here it may be an address."""
    fields = {"transaction_id": answer["transaction_id"], "amount": body.amount}
    yield CREDITS_ALLOCATED, {"allocated_by": caller.user_id, **fields}


def what_was_given_to_many(caller: Caller, body: BulkAllocate, answer: Answer) -> Lines:
    """One line for each that was done."""
    for result in answer["results"]:
        if "transaction_id" in result and not result.get("replayed"):
            amount = body.allocations[result["position"] - 1].amount
            fields = {"transaction_id": result["transaction_id"], "amount": amount}
            yield CREDITS_ALLOCATED, {"allocated_by": caller.user_id, **fields}


def what_was_refunded(caller: Caller, body: Refund, answer: Answer) -> Lines:
    """One line a refund."""
    fields = {"transaction_id": answer["transaction_id"], "refund_of": body.transaction_id}
    yield (
        CREDITS_REFUNDED,
        {"refunded_by": caller.user_id, "amount": answer["refunded"], **fields},
    )


def keyed(_runtime: Runtime, _caller: Caller, body: BulkAllocate) -> dict[str, Any]:
    """A key for each that has none: what is sent once more after a lost connection is done once."""
    for allocation in body.allocations:
        allocation.idempotency_key = allocation.idempotency_key or uuid4().hex
    return {"allocations": body.allocations}


def administering(
    slug: str,
    procedure: str,
    body: type[Body],
    log: Callable[[Caller, Any, Answer], Lines],
    *paths: str,
    **more: Any,
) -> Handler:
    """What only an administrator and a program may do, whoever's account it is about."""
    return endpoint(
        Route(
            slug=f"credit-admin/{slug}",
            paths=paths,
            procedure=procedure,
            body=body,
            callers=USERS | SERVICE,
            enabled=is_on,
            writes=True,
            after=remember_account,
            finish=take_account,
            log=log,
            **more,
        )
    )


allocate = administering(
    "allocate", "allocate_credits", Allocate, what_was_given, f"{ADMIN}/allocate", **KEYED
)
bulk_allocate = administering(
    "bulk-allocate",
    "bulk_allocate_credits",
    BulkAllocate,
    what_was_given_to_many,
    f"{ADMIN}/bulk-allocate",
    body_bytes_max=ALLOCATIONS_MAX * ALLOCATION_BYTES_MAX,
    consumed=frozenset({"allocations"}),
    prepare=keyed,
)
refund = administering(
    "refund",
    "refund_credits",
    Refund,
    what_was_refunded,
    f"{ADMIN}/refund",
    "/api/v1/credits/refund",
    **KEYED,
)
