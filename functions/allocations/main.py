"""allocations/*: the platform gives companies points to award, takes them back and puts right what
they hold; managers give leads a share. POINTS_ALLOCATION_ENABLED=false switches all of it off;
recognition goes on.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid5

from msgspec import Meta

from tallybook import metrics
from tallybook.body import Body, Key
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.logs import (
    TENANTS_ADJUSTED,
    TENANTS_ALLOCATED,
    TENANTS_BALANCE,
    TENANTS_CLAWED_BACK,
    TENANTS_DELEGATED,
    TENANTS_RECALLED,
    TENANTS_RECOGNIZED,
    TENANTS_REVERSED,
    TENANTS_WALLET_CREDITED,
)
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime
from tallybook.settings import Settings

POINTS: Final = "/api/v1/points"
ALLOCATIONS_MAX: Final = 1000
ALLOCATION_BYTES_MAX: Final = 512
"""As much as one has room for on an average, with a note and a key."""
ENTRIES: Final = UUID("5d1f6a30-6c3b-4d0e-9a53-2f0d6b7a9c41")
"""In which wallets' entries get their ids from keys."""
KEYED: Final[dict[str, Any]] = {"key": "idempotency_key", "key_required": False}

Note = Annotated[str, Meta(max_length=1000)]
Reason = Annotated[str, Meta(max_length=1000)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Tenants = Annotated[list[UUID], Meta(min_length=1, max_length=ALLOCATIONS_MAX)]
Lines = Iterable[tuple[str, Mapping[str, Any]]]


def is_on(settings: Settings) -> bool:
    """Whether points are allocated here at present."""
    return settings.points_allocation_enabled


class AllocateToTenant(Body):
    """Which company's pool gets how much. A key makes a retry the same allocation."""

    tenant_id: UUID
    amount: Decimal
    reference_note: Note | None = None
    currency: Currency | None = None
    idempotency_key: Key | None = None


def what_was_allocated(caller: Caller, _body: Body, answer: Answer) -> Lines:
    """One line an allocation, and one for whoever looks closely; the words are the guide's."""
    fields = {name: answer[name] for name in ("tenant_id", "amount_allocated", "allocation_log_id")}
    said = f"Allocating {answer['amount_allocated']} to tenant {answer['tenant_id']}"
    yield TENANTS_ALLOCATED, {"message": said, "allocated_by": caller.user_id, **fields}
    balance = answer["new_allocation_balance"]
    more = {"message": f"Current balance: {balance}", "tenant_id": answer["tenant_id"]}
    yield TENANTS_BALANCE, {"level": "debug", **more, "balance": balance}


to_tenant = endpoint(
    Route(
        slug="allocations/to-tenant",
        paths=(f"{POINTS}/allocate-to-tenant",),
        procedure="allocate_to_tenant",
        body=AllocateToTenant,
        callers=USERS | SERVICE,
        enabled=is_on,
        address=True,
        log=what_was_allocated,
        **KEYED,
    )
)


class Allocation(Body):
    """One of many."""

    tenant_id: UUID
    amount: Decimal
    reference_note: Note | None = None
    currency: Currency | None = None
    idempotency_key: Key | None = None


class BulkAllocate(Body):
    """The same amount for each of some companies, or each its own. Each is done or refused by
    itself; a key is each one's."""

    tenant_ids: Tenants | None = None
    amount: Decimal | None = None
    allocations: (
        Annotated[list[Allocation], Meta(min_length=1, max_length=ALLOCATIONS_MAX)] | None
    ) = None
    reference_note: Note | None = None
    currency: Currency | None = None
    idempotency_key: Key | None = None


def what_was_allocated_to_many(caller: Caller, body: BulkAllocate, answer: Answer) -> Lines:
    """What is told of one for each that was done; each that was not is an error to Prometheus."""
    metrics.count_allocation_errors(sum(not result["success"] for result in answer["results"]))
    for result in answer["results"]:
        if result["success"] and not result.get("replayed"):
            yield from what_was_allocated(caller, body, result)


bulk = endpoint(
    Route(
        slug="allocations/bulk",
        paths=(f"{POINTS}/bulk-allocate",),
        procedure="bulk_allocate_to_tenants",
        body=BulkAllocate,
        callers=USERS | SERVICE,
        enabled=is_on,
        address=True,
        body_bytes_max=ALLOCATIONS_MAX * ALLOCATION_BYTES_MAX,
        log=what_was_allocated_to_many,
        **KEYED,
    )
)


class Clawback(Body):
    """From which company's pool, why, and how much: else all that the pool holds."""

    tenant_id: UUID
    reason: Reason
    amount: Decimal | None = None
    idempotency_key: Key | None = None


def what_was_clawed_back(caller: Caller, body: Clawback, answer: Answer) -> Lines:
    """One line a clawback."""
    fields = {name: answer[name] for name in ("tenant_id", "amount_clawed_back", "platform_log_id")}
    yield TENANTS_CLAWED_BACK, {"clawed_back_by": caller.user_id, **fields}


clawback = endpoint(
    Route(
        slug="allocations/clawback",
        paths=(f"{POINTS}/clawback", f"{POINTS}/clawback/{{tenant_id}}"),
        procedure="clawback_allocation",
        body=Clawback,
        callers=USERS | SERVICE,
        enabled=is_on,
        log=what_was_clawed_back,
        **KEYED,
    )
)


class ReverseAllocation(Body):
    """Which allocation to which company goes back, why, and how much of it: else all there is."""

    tenant_id: UUID
    allocation_id: UUID
    reason: Reason
    amount: Decimal | None = None
    idempotency_key: Key | None = None


def what_was_reversed(caller: Caller, body: ReverseAllocation, answer: Answer) -> Lines:
    """One line a reversal."""
    fields = {name: answer[name] for name in ("tenant_id", "amount_reversed", "allocation_log_id")}
    yield TENANTS_REVERSED, {"reversed_by": caller.user_id, **fields}


reverse = endpoint(
    Route(
        slug="allocations/reverse",
        paths=(f"{POINTS}/reverse-allocation",),
        procedure="reverse_allocation",
        body=ReverseAllocation,
        callers=USERS | SERVICE,
        enabled=is_on,
        log=what_was_reversed,
        **KEYED,
    )
)


class AdjustPool(Body):
    """To which balance a company's pool is brought, and why."""

    tenant_id: UUID
    balance: Decimal
    reason: Reason
    idempotency_key: Key | None = None


def what_was_adjusted(caller: Caller, _body: Body, answer: Answer) -> Lines:
    """One line an adjustment; none where the balance was right."""
    if answer["platform_log_id"] is not None:
        fields = {name: answer[name] for name in ("tenant_id", "adjusted_by", "platform_log_id")}
        yield TENANTS_ADJUSTED, {"by": caller.user_id, **fields}


adjust = endpoint(
    Route(
        slug="allocations/adjust",
        paths=(f"{POINTS}/adjust-pool", f"{POINTS}/adjust-pool/{{tenant_id}}"),
        procedure="adjust_tenant_pool_to",
        body=AdjustPool,
        callers=USERS | SERVICE,
        enabled=is_on,
        log=what_was_adjusted,
        **KEYED,
    )
)


class CreditWallet(Body):
    """Whose wallet gets how much from outside the pool, why, and from where: what an older system
    kept for them, or what puts something right."""

    tenant_id: UUID
    to_user_id: UUID
    amount: Decimal
    source: Literal["hr_allocation", "adjustment"]
    reason: Reason
    idempotency_key: Key | None = None


def entry_of_key(_runtime: Runtime, _caller: Caller, body: CreditWallet) -> dict[str, Any]:
    """The wallet's entry that bears the key: within a company one key is one entry. Consumes
    idempotency_key."""
    return {"entry_id": uuid5(ENTRIES, f"{body.tenant_id} {body.idempotency_key}")}


def what_was_credited(caller: Caller, _body: Body, answer: Answer) -> Lines:
    """One line a credit. The reason is for the audit log alone."""
    fields = {name: answer[name] for name in ("tenant_id", "user_id", "amount", "ledger_entry_id")}
    yield TENANTS_WALLET_CREDITED, {"credited_by": caller.user_id, **fields}


credit_wallet = endpoint(
    Route(
        slug="allocations/credit-wallet",
        paths=(f"{POINTS}/credit-wallet",),
        procedure="credit_wallet",
        body=CreditWallet,
        callers=USERS | SERVICE,
        enabled=is_on,
        consumed=frozenset({"idempotency_key"}),
        prepare=entry_of_key,
        log=what_was_credited,
        **KEYED,
    )
)


class DelegateToLead(Body):
    """Which lead gets how much of the pool. A manager of several companies names one."""

    lead_user_id: UUID
    amount: Decimal
    reference_note: Note | None = None
    tenant_id: UUID | None = None
    idempotency_key: Key | None = None


def what_was_delegated(caller: Caller, body: DelegateToLead, answer: Answer) -> Lines:
    """One line a delegation."""
    fields = {name: answer[name] for name in ("tenant_id", "lead_user_id", "amount")}
    yield TENANTS_DELEGATED, {"delegated_by": caller.user_id, **fields}


delegate = endpoint(
    Route(
        slug="allocations/delegate",
        paths=(f"{POINTS}/delegate-to-lead",),
        procedure="delegate_to_lead",
        body=DelegateToLead,
        enabled=is_on,
        log=what_was_delegated,
        **KEYED,
    )
)


class RecallFromLead(Body):
    """From which lead how much goes back into the pool: else all that the lead has left."""

    lead_user_id: UUID
    amount: Decimal | None = None
    reference_note: Note | None = None
    tenant_id: UUID | None = None
    idempotency_key: Key | None = None


def what_was_recalled(caller: Caller, body: RecallFromLead, answer: Answer) -> Lines:
    """One line for what was taken back."""
    fields = {name: answer[name] for name in ("tenant_id", "lead_user_id", "amount")}
    yield TENANTS_RECALLED, {"recalled_by": caller.user_id, **fields}


recall = endpoint(
    Route(
        slug="allocations/recall",
        paths=(f"{POINTS}/recall-from-lead",),
        procedure="recall_from_lead",
        body=RecallFromLead,
        enabled=is_on,
        log=what_was_recalled,
        **KEYED,
    )
)


class AwardToUser(Body):
    """Who gets how much, and for what. A program, or an administrator, names the company and
    awards in the system's name."""

    to_user_id: UUID
    amount: Decimal
    recognition_message: Annotated[str, Meta(min_length=1, max_length=2000)]
    tenant_id: UUID | None = None
    idempotency_key: Key | None = None


def what_was_awarded(caller: Caller, body: AwardToUser, answer: Answer) -> Lines:
    """One line an award."""
    fields = {name: answer[name] for name in ("recognition_id", "amount_awarded", "funded_by")}
    yield TENANTS_RECOGNIZED, {"from_user_id": caller.user_id, **fields}


award = endpoint(
    Route(
        slug="allocations/award",
        paths=(f"{POINTS}/award-to-user",),
        procedure="award_to_user",
        body=AwardToUser,
        callers=USERS | SERVICE,
        enabled=is_on,
        log=what_was_awarded,
        **KEYED,
    )
)


class Stats(Body):
    """Of which company: a member's own; an administrator and a program say which."""

    tenant_id: UUID | None = None


stats = endpoint(
    Route(
        slug="allocations/stats",
        paths=(f"GET {POINTS}/tenant-allocation-stats",),
        procedure="tenant_allocation_stats",
        body=Stats,
        callers=USERS | SERVICE,
    )
)
