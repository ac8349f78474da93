"""`tallybook tenant allocate`, `clawback`, `reverse`, and `tallybook adjust`: points that come to a
company's pool from the platform and go back there."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json
from tallybook.cli.credits import Key, parsed_amount
from tallybook.cli.operator import Actor, Reason, told, writing
from tallybook.cli.tenant import Points, Tenant, tenant_id

Amount = Annotated[
    Decimal, typer.Argument(parser=parsed_amount, metavar="AMOUNT", show_default=False)
]


def allocate(
    tenant: Tenant,
    amount: Amount,
    note: Annotated[str | None, typer.Option(help="Why, for the log.", show_default=False)] = None,
    key: Key = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a company's pool points: `tallybook tenant allocate Acme 50000`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "allocate_to_tenant",
            user_id=None,
            tenant_id=tenant_id(operator, tenant),
            amount=amount,
            reference_note=note,
            idempotency_key=key,
            actor=operator.actor,
        )
    words = f"{answer['amount_allocated']} points for {tenant}"
    _told(answer, words, answer["new_allocation_balance"], json=json, dry_run=dry_run)


def clawback(
    tenant: Tenant,
    reason: Reason,
    amount: Points = None,
    key: Key = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take points out of a company's pool, else all: `tallybook tenant clawback Acme …`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "clawback_allocation",
            user_id=None,
            tenant_id=tenant_id(operator, tenant),
            amount=amount,
            reason=reason,
            idempotency_key=key,
            actor=operator.actor,
        )
    words = f"{answer['amount_clawed_back']} points back from {tenant}"
    _told(answer, words, answer["new_balance"], json=json, dry_run=dry_run)


def reverse(
    tenant: Tenant,
    allocation: Annotated[UUID, typer.Argument(show_default=False)],
    reason: Reason,
    amount: Points = None,
    key: Key = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take one allocation back, as far as the pool still holds points."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "reverse_allocation",
            user_id=None,
            tenant_id=tenant_id(operator, tenant),
            allocation_id=allocation,
            amount=amount,
            reason=reason,
            idempotency_key=key,
            actor=operator.actor,
        )
    words = f"{answer['amount_reversed']} points of the allocation back from {tenant}"
    _told(answer, words, answer["new_balance"], json=json, dry_run=dry_run)


def adjust(
    tenant: Tenant,
    balance: Annotated[
        Decimal, typer.Argument(parser=parsed_amount, metavar="BALANCE", show_default=False)
    ],
    reason: Reason,
    key: Key = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Bring a company's pool to a balance: `tallybook adjust Acme 50000 --reason …`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "adjust_tenant_pool_to",
            user_id=None,
            tenant_id=tenant_id(operator, tenant),
            balance=balance,
            reason=reason,
            idempotency_key=key,
            actor=operator.actor,
        )
    words = f"{tenant} is adjusted by {answer['adjusted_by']} points"
    _told(answer, words, answer["new_allocation_balance"], json=json, dry_run=dry_run)


def _told(
    answer: Mapping[str, Any], words: str, balance: str, *, json: bool, dry_run: bool
) -> None:
    words += f"; the pool holds {balance} now"
    if answer.get("replayed"):
        words += " (made before, under the same key)"
    told(answer, words, json=json, dry_run=dry_run)
