"""Changing a row of settings: what was given is set, everything else stays, and both are told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from psycopg import sql

from tallybook.cli.connection import UNUSABLE, fail
from tallybook.cli.operator import Missing, Operator
from tallybook.cli.tables import written
from tallybook.cli.times import parsed_time

NONE: Final = object()
"""What `none` on the command line becomes: the setting is taken away."""


def change_row(
    operator: Operator,
    table: str,
    key: tuple[str, Any],
    given: Mapping[str, Any],
    reason: str,
    *,
    missing: Missing,
) -> dict[str, Any]:
    """Set what is not None of the row with this key; {"before", "after"}.

    Ends with code 2 when nothing was given.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if not values:
        fail("Say what to change.", UNUSABLE)
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    )
    column, value = key
    query = sql.SQL(
        "with old as (select o.* from {table} as o where o.{key} = %(key)s for update)"
        " update {table} as r set {assignments}, updated_at = internal.clock()"
        " from old where r.{key} = old.{key}"
        " returning to_jsonb(old) as before, to_jsonb(r) as after"
    ).format(
        table=sql.Identifier("public", table), key=sql.Identifier(column), assignments=assignments
    )
    arguments = {name: None if value is NONE else value for name, value in values.items()}
    return operator.change(query, arguments | {"key": value}, reason, missing=missing)


def changes(answer: Mapping[str, Any]) -> str:
    """What became different, for people."""
    before, after = answer["before"], answer["after"]
    found = [
        f"{name} {written(before[name])} -> {written(after[name])}"
        for name in after
        if before[name] != after[name] and name not in ("updated_at", "version")
    ]
    return ", ".join(found) or "all as it was"


def _or_none(parse: Any, must_be: str) -> Any:
    def parsed(text: str) -> Any:
        if text.lower() == "none":
            return NONE
        try:
            return parse(text)
        except ValueError:
            raise typer.BadParameter(f"must be {must_be} or none") from None

    return parsed


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_INTEGER: Final = _or_none(int, "a whole number")

Limit = Annotated[int | None, typer.Option(parser=_INTEGER, metavar="N|none", show_default=False)]
Threshold = Annotated[
    float | None,
    typer.Option(parser=_or_none(_finite, "a finite number"), metavar="X|none", show_default=False),
]
Moment = Annotated[
    datetime | None,
    typer.Option(parser=_or_none(parsed_time, "a time"), metavar="TIME|none", show_default=False),
]
