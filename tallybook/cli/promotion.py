"""`tallybook promotion`: the promotional codes, which are public words that bring credits."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, OptionalReason, reading, told, writing
from tallybook.cli.tables import show
from tallybook.cli.times import parsed_time

app = typer.Typer(no_args_is_help=True, help="Promotional codes: made, listed, ended.")


class DiscountType(StrEnum):
    """What a code brings."""

    FIXED = "fixed"
    PERCENTAGE = "percentage"
    FREE_MONTH = "free_month"
    BONUS = "bonus"


def parsed_amount(text: str) -> Decimal:
    """A number for an option, exactly as it is written."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter("must be a number") from None
    if not amount.is_finite():
        raise typer.BadParameter("must be a number")
    return amount


CodeArgument = Annotated[str, typer.Argument(metavar="CODE", show_default=False)]
Number = Annotated[int | None, typer.Option(min=1, show_default=False)]
Text = Annotated[str | None, typer.Option(show_default=False)]
Moment = Annotated[
    datetime | None, typer.Option(parser=parsed_time, metavar="TIME", show_default=False)
]


@app.command()
def create(
    code: CodeArgument,
    type: Annotated[DiscountType, typer.Option("--type", help="What it brings.")],
    value: Annotated[
        Decimal,
        typer.Option(parser=parsed_amount, metavar="N", help="Credits, per cent, or months."),
    ],
    description: Text = None,
    max_uses: Number = None,
    per_user: Annotated[int, typer.Option(min=1)] = 1,
    tier: Annotated[
        str | None, typer.Option(help="Whose free months; else the user's own.", show_default=False)
    ] = None,
    expire_after_days: Number = None,
    valid_from: Moment = None,
    expires: Moment = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a promotional code. Without a number of uses or an end it has none."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        promotion = operator.call(
            "create_promotion",
            user_id=None,
            code=code,
            discount_type=str(type),
            discount_value=value,
            description=description,
            max_uses=max_uses,
            max_uses_per_user=per_user,
            tier=tier,
            credits_expire_after_days=expire_after_days,
            valid_from=valid_from,
            expires_at=expires,
            actor=operator.actor,
        )
    words = f"{promotion['code']}: {promotion['discount_type']} {promotion['discount_value']}"
    told(promotion, words, json=json, dry_run=dry_run)


@app.command("list")
def list_promotions(
    active: Annotated[
        bool | None,
        typer.Option("--active/--ended", help="What can be redeemed now.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show the promotional codes, the latest first."""
    with reading(database, json=json) as operator:
        answer = operator.call(
            "list_promotions", user_id=None, active=active, limit=limit, offset=offset
        )
    if json:
        print_json(answer)
        return
    columns = {
        "code": "code", "discount_type": "type", "discount_value": "value", "status": "status",
        "times_used": "used", "max_uses": "of", "expires_at": "expires",
    }  # fmt: skip
    show(answer["promotions"], columns, empty="No promotional codes.")


@app.command()
def delete(
    code: CodeArgument,
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """End a promotional code. One that was redeemed stays on the list."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "delete_promotion", user_id=None, code=code, reason=reason, actor=operator.actor
        )
    ended = "deleted" if answer["deleted"] else f"ended after {answer['times_used']} uses"
    told(answer, f"{answer['code']} is {ended}", json=json, dry_run=dry_run)
