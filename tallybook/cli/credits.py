"""`tallybook credits`: what a user has, and what an operator gives, takes and gives back."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final
from uuid import UUID

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, Reason, reading, told, writing
from tallybook.cli.tables import print_fields, print_line, show
from tallybook.cli.times import parsed_time

app = typer.Typer(no_args_is_help=True, help="Users' credits: shown, allocated, refunded.")

LAST: Final = 10

# Amounts may be below zero, and `-50` is no option.
NEGATIVE: Final = {"ignore_unknown_options": True}


def parsed_amount(text: str) -> Decimal:
    """A number of credits, exactly as it is written."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter("must be a number") from None
    if not amount.is_finite():
        raise typer.BadParameter("must be a number")
    return amount


Account = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="An id or an e-mail.", show_default=False)
]
Key = Annotated[str | None, typer.Option("--key", help="Under one key it is done once.")]


@app.command("show")
def show_credits(account: Account, database: DatabaseUrl = None, json: Json = False) -> None:
    """Show a user's credits: the terms, the lots, what moved last."""
    with reading(database, json=json) as operator:
        (row,) = operator.rows("select internal.user_of_account(%s) as user_id", (account,))
        user_id = row["user_id"]
        terms = operator.call("credit_balance", user_id=user_id)
        lots = operator.call("credit_lots", user_id=user_id)
        page = operator.call("credit_transactions_page", user_id=user_id, limit=LAST)
    found = {
        "user_id": user_id,
        "tier": terms["tier"],
        "monthly_cap": terms["monthly_cap"],
        **lots,
        "transactions": page["transactions"],
    }
    if json:
        print_json(found)
        return
    print_fields({n: v for n, v in found.items() if not isinstance(v, list | dict)})
    for name, columns in (
        ("lots", ("source", "remaining", "amount", "priority", "expires_at")),
        (
            "transactions",
            ("id", "created_at", "transaction_type", "amount", "balance_after", "reason"),
        ),
    ):
        print_line("")
        show(found[name], {column: column.replace("_", " ") for column in columns})


@app.command(context_settings=NEGATIVE)
def allocate(
    account: Account,
    amount: Annotated[
        Decimal,
        typer.Argument(
            parser=parsed_amount,
            metavar="AMOUNT",
            help="Below zero takes credits, as an adjustment.",
            show_default=False,
        ),
    ],
    reason: Reason,
    type: Annotated[
        str, typer.Option("--type", help="bonus, purchase, adjustment or allocation.")
    ] = "bonus",
    source: Annotated[
        str | None, typer.Option(help="The lot's; else the type.", show_default=False)
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(
            parser=parsed_time, metavar="TIME", help="When it ends; else never.", show_default=False
        ),
    ] = None,
    key: Key = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give a user credits, or take some: `tallybook credits allocate ACCOUNT 50 --reason …`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "allocate_credits",
            user_id=None,
            account=account,
            amount=amount,
            reason=reason,
            transaction_type=type,
            source=source,
            expires_at=expires,
            idempotency_key=key,
            actor=operator.actor,
        )
    words = f"{amount:+f} credits for {account}, who has {answer['new_balance']} now"
    if answer.get("replayed"):
        words += " (made before, under the same key)"
    told(answer, words, json=json, dry_run=dry_run)


@app.command()
def refund(
    account: Account,
    transaction: Annotated[UUID, typer.Argument(show_default=False)],
    reason: Reason,
    amount: Annotated[
        Decimal | None,
        typer.Option(
            parser=parsed_amount, metavar="N", help="Else all that is left.", show_default=False
        ),
    ] = None,
    key: Key = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give back what a usage cost: `tallybook credits refund ACCOUNT TRANSACTION --reason …`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "refund_credits",
            user_id=None,
            account=account,
            transaction_id=transaction,
            amount=amount,
            reason=reason,
            idempotency_key=key,
            actor=operator.actor,
        )
    words = f"{answer['refunded']} credits back for {account}, who has {answer['new_balance']} now"
    if answer.get("replayed"):
        words += " (made before, under the same key)"
    told(answer, words, json=json, dry_run=dry_run)


@app.command()
def tier(
    account: Account,
    tier: Annotated[str, typer.Argument(show_default=False)],
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put a user into another tier: `tallybook credits tier ACCOUNT professional`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "switch_tier", user_id=None, tier=tier, account=account, actor=operator.actor
        )
    words = f"{account} is in {answer['tier']}, and was in {answer['previous_tier']}"
    told(answer, words, json=json, dry_run=dry_run)
