"""Times as people type them: an hour, a date, or so and so long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"(\d{1,6})([smhdw])")


def moment(text: str) -> datetime | timedelta:
    """`24h`, `30m`, `7d` as a duration; else an ISO time, in UTC when it names no offset."""
    try:
        return duration(text)
    except ValueError:
        at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def duration(text: str) -> timedelta:
    """`90s`, `30m`, `24h`, `7d`, `2w`. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a number and one of s, m, h, d, w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parsed_moment(text: str) -> datetime | timedelta:
    """`moment` for an option: what cannot be read is wrong usage."""
    try:
        return moment(text)
    except ValueError:
        raise typer.BadParameter(
            "must be like 24h or 7d, or a time like 2026-03-02T09:00Z"
        ) from None


def parsed_time(text: str) -> datetime:
    """A time for an option: what cannot be read is wrong usage."""
    at = parsed_moment(text)
    if not isinstance(at, datetime):
        raise typer.BadParameter("must be a time like 2026-03-02T09:00Z")
    return at


def parsed_duration(text: str) -> timedelta:
    """A duration for an option: what cannot be read is wrong usage."""
    try:
        return duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Since = Annotated[
    datetime | None,
    typer.Option(parser=parsed_moment, metavar="24h|TIME", help="Since when.", show_default=False),
]
