"""credits/*: what a user has, what using a model takes from it, and the statement of all of it."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from msgspec import Meta

from tallybook.body import Body, Key, Name
from tallybook.caller import Caller
from tallybook.credits import (
    CUSTOMERS,
    PERIOD,
    ForCustomer,
    ForPeriod,
    Model,
    PowerLevel,
    Provider,
    Tokens,
    cached_balance,
    is_on,
    period,
    remember_account,
    remember_balance,
    take_account,
)
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler, Rendered
from tallybook.logs import CREDITS_DEDUCTED
from tallybook.route import ANYBODY, Route
from tallybook.runtime import Runtime
from tallybook.spreadsheet import as_csv

CREDITS: Final = "/api/v1/credits"
COLUMNS: Final = (
    "id", "created_at", "transaction_type", "amount", "balance_after", "reason", "provider",
    "model", "power_level", "tokens_used", "cost", "refund_of", "metadata",
)  # fmt: skip
Type = Literal["usage", "purchase", "bonus", "refund", "adjustment", "allocation", "expiry"]


class Balance(ForCustomer):
    """Whose balance, and whether the last transactions are wanted with it."""

    include_history: bool = False


class CalculateCost(Body):
    """What would be used, and at which tier it is reckoned: else the user's own, or free."""

    tokens_used: Tokens
    model: Model
    power_level: PowerLevel = "balanced"
    provider: Provider | None = None
    tier: Name | None = None


class Deduct(ForCustomer, kw_only=True):
    """What it cost, and what it was: the metadata's provider, model and tokens_used count."""

    amount: Decimal
    reason: Annotated[str, Meta(max_length=1000)] | None = None
    metadata: dict[str, Any] | None = None
    idempotency_key: Key | None = None


class CalculateAndDeduct(ForCustomer, kw_only=True):
    """What was used, to be charged at its price."""

    tokens_used: Tokens
    model: Model
    power_level: PowerLevel = "balanced"
    provider: Provider | None = None
    service: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    reason: Annotated[str, Meta(max_length=1000)] | None = None
    metadata: dict[str, Any] | None = None
    idempotency_key: Key | None = None


class Transactions(ForPeriod):
    """Which transactions, newest first: of a type, of a time, from a cursor or an offset on."""

    type: Type | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    offset: Annotated[int, Meta(ge=0, le=10_000)] = 0
    cursor: Key | None = None


class Export(ForPeriod):
    """Which transactions, and as what they are wanted: a table for a spreadsheet, or JSON."""

    format: Literal["csv", "json"] = "csv"
    type: Type | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    cursor: Key | None = None


class Transaction(ForCustomer, kw_only=True):
    """Which transaction."""

    transaction_id: UUID


class Lots(ForCustomer):
    """Whose lots."""


def what_was_charged(
    caller: Caller, body: Any, answer: Answer
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """One line that says who was charged how much for which model."""
    fields = {name: answer.get(name) for name in ("transaction_id", "cost", "model")}
    yield CREDITS_DEDUCTED, {"user_id": caller.user_id or body.customer, **fields}


def in_order(runtime: Runtime, caller: Caller, body: Any, answer: Answer) -> Answer:
    """The balance as the guide prints it; the database's JSON has its own order."""
    shown = take_account(runtime, caller, body, answer)
    return {name: shown.pop(name) for name in ("balance", "tier", "monthly_cap")} | shown


def as_table(body: Export, answer: Answer) -> Rendered | None:
    """The transactions as CSV."""
    if body.format == "json":
        return None
    return as_csv("credit-transactions", COLUMNS, answer["transactions"], answer["next_cursor"])


def reading(slug: str, procedure: str, body: type[ForCustomer], path: str, **more: Any) -> Handler:
    """What shows something and changes nothing."""
    return endpoint(
        Route(
            slug=slug,
            paths=(f"GET {CREDITS}/{path}",),
            procedure=procedure,
            body=body,
            callers=CUSTOMERS,
            on_behalf=True,
            enabled=is_on,
            **more,
        )
    )


def charging(slug: str, body: type[ForCustomer]) -> Handler:
    """What takes credits: both ways are the same procedure."""
    return endpoint(
        Route(
            slug=f"credits/{slug}",
            paths=(f"{CREDITS}/{slug}",),
            procedure="deduct_credits",
            body=body,
            callers=CUSTOMERS,
            on_behalf=True,
            enabled=is_on,
            key="idempotency_key",
            key_required=False,
            after=remember_account,
            finish=take_account,
            log=what_was_charged,
        )
    )


balance = reading(
    "credits/balance",
    "credit_balance",
    Balance,
    "balance",
    before=cached_balance,
    after=remember_balance,
    finish=in_order,
)
lots = reading("credits/lots", "credit_lots", Lots, "lots")
transactions = reading(
    "credits/transactions",
    "credit_transactions_page",
    Transactions,
    "transactions",
    consumed=PERIOD,
    prepare=period,
)
export = reading(
    "credits/export",
    "credit_transactions_page",
    Export,
    "transactions/export",
    consumed=PERIOD | {"format"},
    prepare=period,
    render=as_table,
)
transaction = reading(
    "credits/transaction", "credit_transaction", Transaction, "transactions/{transaction_id}"
)

calculate_cost = endpoint(
    Route(
        slug="credits/calculate-cost",
        paths=(f"{CREDITS}/calculate-cost",),
        procedure="calculate_credit_cost",
        body=CalculateCost,
        callers=CUSTOMERS | ANYBODY,
        open=True,
        enabled=is_on,
    )
)
deduct = charging("deduct", Deduct)
calculate_and_deduct = charging("calculate-and-deduct", CalculateAndDeduct)
