"""points-ledger/*: the logs of tenants' points, page by page or as a file, and what they come to.

A manager sees their own tenant's; an administrator and a program name one, or see all.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from msgspec import Meta

from tallybook import exact
from tallybook.body import Body, Key
from tallybook.caller import Caller
from tallybook.credits import PERIOD, Moment, period
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler, Rendered
from tallybook.refusal import invalid_body
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime
from tallybook.spreadsheet import as_csv, attachment

LEDGER: Final = "/api/v1/points/ledger"
PAGE_DEFAULT: Final = 25
PAGE_MAX: Final = 100
FILE_MAX: Final = 10_000

OF_ALLOCATIONS: Final = (
    "id", "created_at", "tenant_id", "tenant_name", "amount", "currency", "status",
    "reversed_amount", "allocated_by", "actor", "reference_note", "expires_at",
)  # fmt: skip
OF_BILLING: Final = (
    "id", "created_at", "tenant_id", "tenant_name", "amount", "currency", "transaction_type",
    "admin_id", "actor", "reference_note", "allocation_id",
)  # fmt: skip
OF_WALLETS: Final = (
    "id", "created_at", "tenant_id", "tenant_name", "user_id", "wallet_id", "transaction_type",
    "source", "points", "balance_after", "reference_type", "reference_id", "description",
    "created_by",
)  # fmt: skip


class Stats(Body):
    """Whose, and of which time: days in UTC, the last one included, or times with an offset."""

    tenant_id: UUID | None = None
    start_date: Moment | None = None
    end_date: Moment | None = None


class Page(Stats):
    """Which rows in which order, a page of 25 to 100, or a file of 10,000 as CSV or JSON."""

    search: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    amount_min: Decimal | None = None
    amount_max: Decimal | None = None
    sort: Literal["created_at", "amount"] = "created_at"
    direction: Literal["asc", "desc"] = "desc"
    page: Annotated[int, Meta(ge=1, le=FILE_MAX + 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=FILE_MAX)] | None = None
    cursor: Key | None = None
    with_total: bool = False
    format: Literal["csv", "json"] | None = None


class Allocations(Page):
    """What was allocated to tenants."""

    status: Literal["COMPLETED", "REVOKED", "EXPIRED"] | None = None


class Billing(Page):
    """What came into tenants and was taken from them."""

    type: (
        Literal["CREDIT_INJECTION", "CLAWBACK", "ADJUSTMENT", "REVERSAL", "EXPIRY", "REFILL"] | None
    ) = None


class Wallets(Page):
    """What came into wallets and went out of them."""

    type: Literal["credit", "debit"] | None = None
    source: (
        Literal["hr_allocation", "recognition", "redemption", "adjustment", "expiry", "reversal"]
        | None
    ) = None
    member_id: UUID | None = None


def rows_of(runtime: Runtime, caller: Caller, body: Page) -> Mapping[str, Any]:
    """The period, and how many rows: a file has as many as there may be, a page few."""
    limit = body.limit
    if body.format is None and limit is not None and limit > PAGE_MAX:
        raise invalid_body(f"A page has at most {PAGE_MAX} rows; a file has more.", "$.limit")
    most = PAGE_DEFAULT if body.format is None else FILE_MAX
    return {**period(runtime, caller, body), "limit": limit or most}


def looking(name: str, procedure: str, body: type[Body], **more: Any) -> Handler:
    """What shows something and changes nothing."""
    return endpoint(
        Route(
            slug=f"points-ledger/{name}",
            paths=(f"GET {LEDGER}/{name}",),
            procedure=procedure,
            body=body,
            callers=USERS | SERVICE,
            **more,
        )
    )


def log(name: str, procedure: str, body: type[Page], columns: tuple[str, ...]) -> Handler:
    """A log, to be looked at or taken away."""

    def as_file(body: Page, answer: Answer) -> Rendered | None:
        items, cursor = answer["items"], answer["next_cursor"]
        if body.format == "csv":
            return as_csv(name, columns, items, cursor)
        if body.format == "json":
            headers = attachment(f"{name}.json", cursor)
            return Rendered("application/json", exact.encode(items), headers)
        return None

    return looking(
        name,
        procedure,
        body,
        consumed=PERIOD | {"format", "limit"},
        prepare=rows_of,
        render=as_file,
    )


allocation_logs = log("allocation-logs", "allocation_logs_page", Allocations, OF_ALLOCATIONS)
platform_billing_logs = log(
    "platform-billing-logs", "platform_billing_logs_page", Billing, OF_BILLING
)
wallet_ledger = log("wallet-ledger", "wallet_ledger_page", Wallets, OF_WALLETS)
stats = looking("stats", "points_ledger_stats", Stats, consumed=PERIOD, prepare=period)
