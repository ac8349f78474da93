"""`tallybook coupon templates` and `template`: what is on offer, for how many points."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from psycopg import sql

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, Reason, reading, told, writing
from tallybook.cli.setting import NONE, Limit, Moment, change_row, changes
from tallybook.cli.tables import show

app = typer.Typer(no_args_is_help=True, help="What is on offer.")


class ValueType(StrEnum):
    """What kind of thing a coupon is worth."""

    PERCENTAGE = "percentage"
    FIXED_AMOUNT = "fixed_amount"
    PRODUCT = "product"


# Which column an option sets.
_COLUMNS: Final = {
    "name": "template_name",
    "cost": "points_cost",
    "value_type": "coupon_value_type",
    "value": "coupon_value",
    "description": "description",
    "partner": "partner_name",
    "partner_id": "partner_id",
    "terms": "terms_and_conditions",
    "expires_after_days": "expires_after_days",
    "per_user": "max_redemptions_per_user",
    "limit": "max_redemptions",
    "budget": "budget_points",
    "valid_from": "valid_from",
    "valid_until": "valid_until",
    "active": "is_active",
}

Name = Annotated[str, typer.Option("--name", help="What users read.")]
Cost = Annotated[int, typer.Option("--cost", help="In points.")]
Type = Annotated[ValueType, typer.Option("--value-type", help="What it is worth.")]
Value = Annotated[str, typer.Option("--value", help="Like 5.00, or 20, or a product's name.")]
Text = Annotated[str | None, typer.Option(show_default=False)]
Number = Annotated[int | None, typer.Option(show_default=False)]
Active = Annotated[bool | None, typer.Option("--active/--inactive", show_default=False)]


def templates(
    only_active: Annotated[bool, typer.Option("--active", help="What is on offer.")] = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show the templates, and how much of each is sold."""
    with reading(database, json=json) as operator:
        found = operator.rows(
            "select t.*, s.issued, s.points as issued_points"
            "  from public.coupon_templates as t"
            "  left join public.coupon_stock as s on s.template_id = t.template_id"
            " where t.is_active or not %s"
            " order by t.is_active desc, t.points_cost, t.template_name",
            (only_active,),
        )
    if json:
        print_json({"templates": found})
        return
    rows = [
        {
            **row,
            "each": row["max_redemptions_per_user"] or "any",
            "left": "any" if row["max_redemptions"] is None
            else max(row["max_redemptions"] - (row["issued"] or 0), 0),
        }
        for row in found
    ]  # fmt: skip
    columns = {
        "template_id": "template", "points_cost": "cost", "coupon_value": "value", "each": "each",
        "left": "left", "is_active": "active", "template_name": "name",
    }  # fmt: skip
    show(rows, columns, empty="No templates.")


@app.command()
def add(
    name: Name,
    cost: Cost,
    value_type: Type,
    value: Value,
    reason: Reason,
    description: Text = None,
    partner: Text = None,
    partner_id: Text = None,
    terms: Text = None,
    expires_after_days: Number = None,
    per_user: Limit = None,
    limit: Limit = None,
    budget: Limit = None,
    valid_from: Moment = None,
    valid_until: Moment = None,
    active: Active = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Offer a new coupon. Budget and cost are points; each user may have one unless you say so."""
    given = _columns(locals())
    values = {column: value for column, value in given.items() if value is not None}
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        template = operator.change(
            sql.SQL(
                "insert into public.coupon_templates as t ({}) values ({}) returning t.*"
            ).format(
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(map(sql.Placeholder, values)),
            ),
            {column: None if value is NONE else value for column, value in values.items()},
            reason,
        )
    words = f"{template['template_id']}: {name} for {cost} points"
    told(template, words, json=json, dry_run=dry_run)


@app.command("set")
def set_template(
    template: Annotated[UUID, typer.Argument(metavar="TEMPLATE_ID", show_default=False)],
    reason: Reason,
    name: Text = None,
    cost: Number = None,
    value_type: Annotated[ValueType | None, typer.Option(show_default=False)] = None,
    value: Text = None,
    description: Text = None,
    partner: Text = None,
    partner_id: Text = None,
    terms: Text = None,
    expires_after_days: Number = None,
    per_user: Limit = None,
    limit: Limit = None,
    budget: Limit = None,
    valid_from: Moment = None,
    valid_until: Moment = None,
    active: Active = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change what is on offer. Coupons that are sold keep what they were sold as."""
    given = _columns(locals())
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = change_row(
            operator,
            "coupon_templates",
            ("template_id", template),
            given,
            reason,
            missing=("template_not_found", f"template_id: {template}"),
        )
    told(answer, f"{template}: {changes(answer)}", json=json, dry_run=dry_run)


def _columns(options: dict[str, Any]) -> dict[str, Any]:
    """What a command was given, by the columns that it sets."""
    values = {column: options[option] for option, column in _COLUMNS.items()}
    return {
        column: str(value) if isinstance(value, ValueType) else value
        for column, value in values.items()
    }
