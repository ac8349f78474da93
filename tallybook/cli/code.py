"""A coupon's code on the command line: read so that no shell keeps it, hashed, and forgotten."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final

import typer

from tallybook.cli import project
from tallybook.cli.connection import DATABASE_URLS, UNUSABLE, fail
from tallybook.coupon_code import CouponKeys
from tallybook.local.signing import FILE, LocalKeys
from tallybook.refusal import Refusal
from tallybook.settings import ConfigurationError, Settings

FROM_INPUT: Final = "-"

CodeArgument = Annotated[
    str, typer.Argument(help="The code; `-` reads it from standard input.", show_default=False)
]


def hashes_of(code: str, database: str | None) -> list[str]:
    """The hashes under which a code may be found in this database, the current secret's first.

    Raises Refusal when it cannot be a code; ends with code 2 without COUPON_SECRET.
    """
    typed = sys.stdin.readline() if code == FROM_INPUT else code
    try:
        return list(_keys(database).hashes(typed).values())
    except ValueError as error:
        raise Refusal("coupon_not_valid", 404, str(error)) from None


def _keys(database: str | None) -> CouponKeys:
    """COUPON_SECRET's keys; those of the local stack where the local database is meant."""
    folder = project.local_folder()
    elsewhere = database or any(map(os.environ.get, ("COUPON_SECRET", *DATABASE_URLS)))
    if not elsewhere and (folder / FILE).exists():
        return CouponKeys(LocalKeys.load_or_create(folder).coupon_secret)
    try:
        return CouponKeys.from_settings(Settings.from_environment())
    except ConfigurationError as error:
        fail(str(error), UNUSABLE)
