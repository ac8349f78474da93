"""`tallybook rotate-key`: a new COUPON_SECRET, while codes of the old ones go on working."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from tallybook.cli import env_file
from tallybook.cli.connection import (
    UNUSABLE,
    DatabaseUrl,
    DryRun,
    Json,
    fail,
    print_json,
    stderr,
)
from tallybook.cli.operator import reading, refuse
from tallybook.cli.tables import print_line, show
from tallybook.coupon_code import CouponKeys
from tallybook.refusal import Refusal
from tallybook.settings import ConfigurationError, Settings

CURRENT: Final = "COUPON_SECRET"
PREVIOUS: Final = "COUPON_SECRETS_PREVIOUS"
SECRET_BYTES: Final = 48

_LIVE: Final = """
select c.key_id, count(*) as live
  from public.coupons as c
 where c.status in ('issued', 'held') and c.expires_at > internal.clock()
 group by c.key_id
"""


def rotate_key(
    file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            help="The file to rewrite; else the environment is read, and "
            "the lines to put there are printed.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    retire: Annotated[
        str | None,
        typer.Option(
            metavar="KEY_ID", help="Make no new secret, drop this previous one.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Retire a secret that coupons still need.")
    ] = False,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a new secret for coupon codes; the old one stays among the previous ones.

    Give every function the new lines before you retire a secret. A previous secret can go when
    no live coupon is under it: `tallybook rotate-key --retire KEY_ID`.
    """  # fmt: skip
    current, previous = _secrets(file)
    live = _live_coupons(database, json, needed=retire is not None and not force)
    if retire is None:
        current, previous = secrets.token_urlsafe(SECRET_BYTES), (current, *previous)
    else:
        previous = _without(retire, current, previous, live, force=force, json=json)
    lines = {CURRENT: current, PREVIOUS: _joined(previous)}
    keys = _describe(current, previous, live)
    if file and not dry_run:
        try:
            env_file.write(file, lines)
        except OSError as error:
            fail(f"{file}: {error}", UNUSABLE)
    # A secret that nobody keeps is not shown: a dry run's, and one that is safe in its file.
    _tell(keys, {} if file or dry_run else lines, file, dry_run=dry_run, json=json)


def _secrets(file: Path | None) -> tuple[str, tuple[str, ...]]:
    """The secret in use and those before it. Ends with code 2 when there is none."""
    try:
        found: Mapping[str, str] = env_file.read(file) if file else os.environ
        told = {name: found[name] for name in (CURRENT, PREVIOUS) if name in found}
        settings = Settings.from_environment(told).require(CURRENT)
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        fail(f"{file}: {error}" if file else str(error), UNUSABLE)
    return settings.coupon_secret or "", settings.coupon_secrets_previous


def _live_coupons(database: str | None, json: bool, *, needed: bool) -> dict[str, int] | None:
    """How many coupons that can still be used each key has; None when no database answers."""
    try:
        with reading(database, json=json) as operator:
            return {row["key_id"]: row["live"] for row in operator.rows(_LIVE)}
    except typer.Exit:
        if needed:
            raise
        stderr.print("Live coupons were not counted.", style="dim")
        return None


def _without(
    retire: str,
    current: str,
    previous: tuple[str, ...],
    live: Mapping[str, int] | None,
    *,
    force: bool,
    json: bool,
) -> tuple[str, ...]:
    """The previous secrets without one of them."""
    if retire == CouponKeys(current).key_id:
        refuse(Refusal("key_in_use", 409, f"key_id: new codes are made under {retire}"), json=json)
    left = tuple(secret for secret in previous if CouponKeys(secret).key_id != retire)
    if left == previous:
        refuse(Refusal("key_not_found", 404, f"key_id: no secret has {retire}"), json=json)
    if count := (live or {}).get(retire, 0):
        if not force:
            detail = f"key_id: {count} live coupons are under {retire}"
            refuse(Refusal("key_in_use", 409, detail), json=json)
        stderr.print(f"{count} live coupons will not be found any more.", style="yellow")
    return left


def _describe(
    current: str, previous: tuple[str, ...], live: Mapping[str, int] | None
) -> list[dict[str, Any]]:
    """Every key there is or ought to be, the current first, with its live coupons."""
    states = {CouponKeys(current).key_id: "current"}
    for secret in previous:
        states.setdefault(CouponKeys(secret).key_id, "previous")
    for key_id in live or {}:
        states.setdefault(key_id, "missing")
    return [
        {
            "key_id": key_id,
            "state": state,
            "live_coupons": None if live is None else live.get(key_id, 0),
        }
        for key_id, state in states.items()
    ]


def _joined(previous: tuple[str, ...]) -> str:
    """Several secrets as the setting takes them: a comma list, else JSON, by key id."""
    if all("," not in secret and secret[0] not in "{[" for secret in previous):
        return ",".join(previous)
    named = {CouponKeys(secret).key_id: secret for secret in previous}
    return msgspec.json.encode(named).decode()


def _tell(
    keys: list[dict[str, Any]],
    lines: Mapping[str, str],
    file: Path | None,
    *,
    dry_run: bool,
    json: bool,
) -> None:
    if json:
        print_json({"dry_run": dry_run, "keys": keys, "variables": lines})
        return
    if dry_run:
        print_line("Dry run, nothing changed, and the new key will be another.")
    for name, value in lines.items():
        print_line(env_file.line(name, value))
    if file and not dry_run:
        print_line(f"{file} is rewritten.")
    show(keys, {"key_id": "key", "state": "state", "live_coupons": "live coupons"})
    if any(key["state"] == "missing" for key in keys):
        stderr.print("Nobody finds a coupon whose key is missing here.", style="yellow")
