"""`tallybook points rules`, `set-rule`, `set-program`: what an event earns, and the limits."""

from __future__ import annotations

from typing import Annotated

import typer

from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, Reason, reading, told, writing
from tallybook.cli.setting import Limit, change_row, changes
from tallybook.cli.tables import print_fields, print_line, show, written


def rules(database: DatabaseUrl = None, json: Json = False) -> None:
    """Show what earns points: the rules, what streaks multiply, and the programs' limits."""
    with reading(database, json=json) as operator:
        found = {
            "rules": operator.rows("select r.* from public.points_rules as r order by 1"),
            "multipliers": operator.rows(
                "select m.* from public.streak_multipliers as m order by m.days_min"
            ),
            "programs": operator.rows("select p.* from public.points_programs as p order by 1"),
        }
    if json:
        print_json(found)
        return
    show(
        found["rules"],
        {
            "event_type": "event type",
            "points": "points",
            "daily_max": "a day",
            "multiplied_by_streak": "streak",
            "client_submittable": "by clients",
            "is_honeypot": "bait",
            "program": "program",
        },
    )
    streaks = ", ".join(
        f"{row['days_min']} days x{written(row['multiplier'])}" for row in found["multipliers"]
    )
    print_line(f"\nStreaks: {streaks or 'none'}")
    for program in found["programs"]:
        print_line("")
        print_fields({name: value for name, value in program.items() if name != "updated_at"})


def set_rule(
    event_type: Annotated[str, typer.Argument(show_default=False)],
    reason: Reason,
    points: Annotated[int | None, typer.Option(help="What one is worth.")] = None,
    daily_max: Limit = None,
    multiplied_by_streak: Annotated[
        bool | None, typer.Option("--streak/--no-streak", show_default=False)
    ] = None,
    client_submittable: Annotated[
        bool | None, typer.Option("--by-clients/--by-server-only", show_default=False)
    ] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change what an event type earns, from now on."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = change_row(
            operator,
            "points_rules",
            ("event_type", event_type),
            {
                "points": points,
                "daily_max": daily_max,
                "multiplied_by_streak": multiplied_by_streak,
                "client_submittable": client_submittable,
            },
            reason,
            missing=("unknown_event_type", f"event_type: there is no {event_type}"),
        )
    told(answer, f"{event_type}: {changes(answer)}", json=json, dry_run=dry_run)


def set_program(
    program: Annotated[str, typer.Argument(show_default=False)],
    reason: Reason,
    events_per_hour: Limit = None,
    events_per_day: Limit = None,
    points_per_hour: Limit = None,
    points_per_day: Limit = None,
    award_review_above: Limit = None,
    expires_after_days: Limit = None,
    time_zone: Annotated[str | None, typer.Option(show_default=False)] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change a program's limits and how long its points keep: `set-program standard …`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = change_row(
            operator,
            "points_programs",
            ("program", program),
            {
                "events_per_hour_max": events_per_hour,
                "events_per_day_max": events_per_day,
                "points_per_hour_max": points_per_hour,
                "points_per_day_max": points_per_day,
                "award_review_above": award_review_above,
                "expires_after_days": expires_after_days,
                "time_zone": time_zone,
            },
            reason,
            missing=("program_not_found", f"program: there is no {program}"),
        )
    told(answer, f"{program}: {changes(answer)}", json=json, dry_run=dry_run)
