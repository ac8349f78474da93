"""`tallybook price`: what using models costs, and from when on it costs something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import typer
from psycopg.types.json import Jsonb

from tallybook import exact
from tallybook.cli.connection import UNUSABLE, DatabaseUrl, DryRun, Json, fail, print_json
from tallybook.cli.operator import Actor, OptionalReason, reading, told, writing
from tallybook.cli.tables import print_line, show
from tallybook.cli.times import parsed_time

app = typer.Typer(no_args_is_help=True, help="What using models costs.")


@app.command("list")
def list_(
    version: Annotated[int | None, typer.Option(help="Else the one in force.")] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show a price list, and which there are."""
    with reading(database, json=json) as operator:
        found = operator.call("price_list", version=version)
        versions = operator.rows(
            "select v.version, v.effective_from, v.note, v.created_by"
            " from public.pricing_versions as v order by v.effective_from"
        )
    if json:
        print_json({**found, "versions": versions})
        return
    for part, heading in (("models", "model"), ("providers", "provider")):
        _show_prices(found[part], heading)
        print_line("")
    print_line(f"Any other: {_said(found['default_price'])}\n")
    for part, heading, order in (
        ("power_levels", "power level", "cost_multiplier"),
        ("tiers", "tier", "position"),
    ):
        rows = sorted(found[part].items(), key=lambda item: item[1][order])
        show({heading: name, **_in_words(row)} for name, row in rows)
        print_line("")
    show(versions)
    print_line(f"\nThis is version {found['version']}. Prices are credits for 1,000 tokens.")


@app.command()
def cost(
    model: Annotated[str, typer.Argument(show_default=False)],
    tokens: Annotated[int, typer.Option()] = 1000,
    power_level: Annotated[str, typer.Option()] = "balanced",
    provider: Annotated[str | None, typer.Option(show_default=False)] = None,
    tier: Annotated[str | None, typer.Option(help="Else free.", show_default=False)] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Tell what a use of a model costs now."""
    with reading(database, json=json) as operator:
        answer = operator.call(
            "calculate_credit_cost",
            user_id=None,
            tokens_used=tokens,
            model=model,
            power_level=power_level,
            provider=provider,
            tier=tier,
        )
    if json:
        print_json(answer)
    else:
        print_line(_said(answer["cost"]))


Changes = Annotated[list[str] | None, typer.Option(metavar="NAME=PRICE|none", show_default=False)]
Terms = Annotated[list[str] | None, typer.Option(metavar="NAME.FIELD=VALUE", show_default=False)]


@app.command()
def publish(
    note: Annotated[str, typer.Option(help="Why, for the price list and the audit log.")],
    model: Changes = None,
    provider: Changes = None,
    power_level: Terms = None,
    tier: Terms = None,
    default_price: Annotated[str | None, typer.Option(metavar="PRICE", show_default=False)] = None,
    effective_from: Annotated[
        datetime | None,
        typer.Option("--from", parser=parsed_time, metavar="TIME", help="Else at once."),
    ] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a new price list: the newest one with these changes."""
    changes = changes_of(
        {"models": model, "providers": provider},
        {"power_levels": power_level, "tiers": tier},
        default_price,
    )
    if not changes:
        fail("Say what to change.", UNUSABLE)
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "publish_prices",
            user_id=None,
            changes=Jsonb(changes, dumps=exact.encode),
            note=note,
            effective_from=effective_from,
            actor=operator.actor,
        )
    lines = "".join(f"\n  {line}" for line in _differences(answer["changes"]))
    words = f"version {answer['version']} from {answer['effective_from']}{lines}"
    if answer.get("replayed"):
        words = f"version {answer['version']} has all of this already"
    told(answer, words, json=json, dry_run=dry_run)


@app.command()
def withdraw(
    version: Annotated[int, typer.Argument(show_default=False)],
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take back a price list that is not in force yet."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "withdraw_prices", user_id=None, version=version, reason=reason, actor=operator.actor
        )
    told(answer, f"version {version} is withdrawn", json=json, dry_run=dry_run)


def changes_of(
    prices: Mapping[str, Iterable[str] | None],
    terms: Mapping[str, Iterable[str] | None],
    default_price: str | None,
) -> dict[str, Any]:
    """The options as `publish_prices` takes them; what a value may be is the procedure's to say."""
    changes: dict[str, Any] = {}
    for part, texts in prices.items():
        for text in texts or ():
            name, value = _pair(text)
            changes.setdefault(part, {})[name] = value
    for part, texts in terms.items():
        for text in texts or ():
            path, value = _pair(text)
            name, dot, field = path.partition(".")
            if dot:
                changes.setdefault(part, {}).setdefault(name, {})[field] = value
            else:
                changes.setdefault(part, {})[name] = value
    if default_price is not None:
        changes["default_price"] = _value(default_price)
    return changes


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.rpartition("=")
    if not (equals and name):
        raise typer.BadParameter(f"{text} must be like name=value")
    return name, _value(value)


def _value(text: str) -> Any:
    """JSON, `none`, or the text itself."""
    if text.lower() == "none":
        return None
    try:
        return exact.decode(text)
    except msgspec.DecodeError:
        return text


def _show_prices(prices: Mapping[str, float], heading: str) -> None:
    rows = sorted(prices.items(), key=lambda item: (item[1], item[0]))
    show(
        [{"name": name, "price": _said(price)} for name, price in rows],
        {"name": heading, "price": "price"},
    )


def _differences(changes: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Each change in words; of a power level or a tier only what is another."""
    for change in changes:
        before, after = change["before"], change["after"]
        if isinstance(before, dict) and isinstance(after, dict):
            before, after = (
                {name: value for name, value in one.items() if value != other[name]}
                for one, other in ((before, after), (after, before))
            )
        yield f"{change['path']}: {_said(before)} -> {_said(after)}"


def _in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.replace("_", " "): value if isinstance(value, int) else _said(value)
        for name, value in row.items()
    }


def _said(value: Any) -> str:
    """A value with all of its digits."""
    match value:
        case None:
            return "none"
        case float():
            return f"{Decimal(repr(value)):f}"
        case dict():
            return ", ".join(f"{name} {_said(each)}" for name, each in value.items())
        case list():
            return ", ".join(map(_said, value))
    return str(value)
