"""`tallybook trust list`: users, devices and addresses that a person has decided about."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Annotated, Final
from uuid import UUID

import typer

from tallybook.cli.connection import UNUSABLE, DatabaseUrl, DryRun, Json, fail, print_json
from tallybook.cli.operator import Actor, Reason, reading, told, writing
from tallybook.cli.tables import show, written
from tallybook.cli.times import parsed_time

app = typer.Typer(no_args_is_help=True, help="Whom a person has decided about.")

# By the version of the address. Events are looked up by these and by no others.
NETWORKS: Final = {4: (8, 16, 24), 6: (32, 48, 56, 64)}


class List(StrEnum):
    """A denied subject is never believed, a watched one is looked at, an allowed one always is."""

    DENY = "deny"
    WATCH = "watch"
    ALLOW = "allow"


class Kind(StrEnum):
    """What stands on a list."""

    USER = "user"
    DEVICE = "device"
    ADDRESS = "address"


ListArgument = Annotated[List, typer.Argument(metavar="deny|watch|allow", show_default=False)]
KindArgument = Annotated[Kind, typer.Argument(metavar="user|device|address", show_default=False)]
SubjectArgument = Annotated[str, typer.Argument(metavar="SUBJECT", show_default=False)]


@app.command("show")
def show_list(
    which: Annotated[
        List | None, typer.Argument(metavar="[deny|watch|allow]", show_default=False)
    ] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show who is on the lists, or on one, and until when."""
    with reading(database, json=json) as operator:
        found = operator.rows(
            "select l.list, l.subject_type, l.subject, l.reason, l.expires_at, l.created_by,"
            "       l.created_at, l.expires_at <= internal.clock() is true as expired"
            "  from public.trust_lists as l"
            " where %(list)s::text is null or l.list = %(list)s"
            " order by l.list, l.subject_type, l.subject",
            {"list": which and str(which)},
        )
    if json:
        print_json({"entries": found})
    else:
        show(
            [row | {"until": "past" if row["expired"] else row["expires_at"]} for row in found],
            {
                "list": "list",
                "subject_type": "",
                "subject": "subject",
                "until": "until",
                "reason": "reason",
            },
            empty="Nobody.",
        )


@app.command()
def add(
    which: ListArgument,
    kind: KindArgument,
    subject: SubjectArgument,
    reason: Reason,
    until: Annotated[
        datetime | None, typer.Option(parser=parsed_time, metavar="TIME", show_default=False)
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, show_default=False)] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put a subject on a list, for good or until a time. Who is there gets the new reason."""
    if until and days:
        fail("Give --until or --days.", UNUSABLE)
    known_as = _written(kind, subject)
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        entry = operator.change(
            "insert into public.trust_lists as l"
            " (list, subject_type, subject, reason, expires_at, created_by)"
            " values (%s, %s, %s, %s, coalesce(%s, internal.clock() + %s::interval), %s)"
            " on conflict (subject_type, subject, list) do update"
            "    set reason = excluded.reason, expires_at = excluded.expires_at,"
            "        created_by = excluded.created_by"
            " returning l.list, l.subject_type, l.subject, l.reason, l.expires_at, l.created_by",
            (
                str(which),
                str(kind),
                known_as,
                reason,
                until,
                days and timedelta(days=days),
                operator.actor,
            ),
            reason,
        )
    until_when = f" until {written(entry['expires_at'])}" if entry["expires_at"] else ""
    told(entry, f"{which}: {kind} {known_as}{until_when}", json=json, dry_run=dry_run)


@app.command()
def remove(
    which: ListArgument,
    kind: KindArgument,
    subject: SubjectArgument,
    reason: Reason,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take a subject off a list."""
    known_as = _written(kind, subject)
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        entry = operator.change(
            "delete from public.trust_lists as l"
            " where l.list = %s and l.subject_type = %s and l.subject = %s"
            " returning l.list, l.subject_type, l.subject",
            (str(which), str(kind), known_as),
            reason,
            missing=("not_listed", f"subject: {kind} {known_as} is not on the list {which}"),
        )
    told(entry, f"no longer on {which}: {kind} {known_as}", json=json, dry_run=dry_run)


def _network(text: str) -> str:
    """A network of a length that events are looked up by. Raises ValueError."""
    network = ip_network(text)
    if network.prefixlen not in NETWORKS[network.version]:
        raise ValueError(text)
    return str(network)


def _written(kind: Kind, subject: str) -> str:
    """A subject as events have it. Ends with code 2 when it is none."""
    try:
        match kind:
            case Kind.USER:
                return str(UUID(subject))
            case Kind.ADDRESS:
                return _network(subject) if "/" in subject else str(ip_address(subject))
            case Kind.DEVICE:
                return subject
    except ValueError:
        needed = {
            Kind.USER: "user id",
            Kind.ADDRESS: "address, nor a network of /8, /16, /24 or in IPv6 /32, /48, /56, /64",
        }
        fail(f"{subject} is no {needed.get(kind, kind)}.", UNUSABLE)
