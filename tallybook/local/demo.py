"""The demo world: what is on offer, who can afford it, who takes it and who administers it all."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg

from tallybook.history import Columns, Plan, import_file
from tallybook.schema import ROOT

USER: Final = UUID("d0000000-0000-4000-8000-000000000001")
USER_EMAIL: Final = "test@example.com"
"""The user whose token `tallybook dev` prints, and their address."""

ADMIN: Final = UUID("d0000000-0000-4000-8000-0000000000ad")
ADMIN_EMAIL: Final = "admin@example.com"
"""The administrator, and what the audit log knows them by."""

PARTNER: Final = UUID("d0000000-0000-4000-8000-0000000000ba")
PARTNER_ID: Final = "starbucks"
"""Who stands behind the partner's counter, and may look at coupons by their codes."""

COMPANY: Final = UUID("d0000000-0000-4000-8000-0000000000c0")
COMPANY_NAME: Final = "Acme"
REWARD: Final = UUID("d0000000-0000-4000-8000-0000000000ce")
"""A company with an empty pool, and what its people can spend points on: docs/tenants.md."""

MEMBERS: Final = (
    (UUID("d0000000-0000-4000-8000-0000000000c1"), "tenant_manager", "Mona"),
    (UUID("d0000000-0000-4000-8000-0000000000c2"), "tenant_lead", "Leo"),
    (UUID("d0000000-0000-4000-8000-0000000000c3"), "employee", "Ella"),
    (UUID("d0000000-0000-4000-8000-0000000000c4"), "employee", "Emil"),
)
"""Who belongs to it; `tallybook token --sub` prints their tokens."""

POINTS: Final = 5000
POINTS_MIN: Final = 1000
"""With less than this the user is given POINTS again: every start has something to spend."""

HISTORY: Final = Path("examples/cdnow/cdnow_sample.csv")
HISTORY_COLUMNS: Final = Columns(user="customer", time="date", points="dollars")
HISTORY_LINES: Final = 300


class Template(NamedTuple):
    """A coupon on offer; `limit` is how often one user may redeem it, None for always."""

    template_id: UUID
    name: str
    points_cost: int
    value_type: str
    value: str
    partner: str
    partner_id: str
    terms: str
    limit: int | None


STARBUCKS: Final = UUID("c0000000-0000-4000-8000-000000000001")

TEMPLATES: Final = (
    # Without a limit, because the printed command is there to be pasted again.
    Template(
        STARBUCKS,
        "$5 Starbucks Gift Card",
        500,
        "fixed_amount",
        "5.00",
        "Starbucks",
        PARTNER_ID,
        "",
        None,
    ),
    Template(
        UUID("c0000000-0000-4000-8000-000000000002"),
        "10% off at Amazon",
        1000,
        "percentage",
        "10",
        "Amazon",
        "amazon",
        "At most $50 off.",
        1,
    ),
    Template(
        UUID("c0000000-0000-4000-8000-000000000003"),
        "20% off a gym membership",
        2000,
        "percentage",
        "20",
        "Gym",
        "gym",
        "",
        1,
    ),
    Template(
        UUID("c0000000-0000-4000-8000-000000000004"),
        "A premium month of meditation",
        1500,
        "product",
        "premium",
        "Meditation",
        "meditation",
        "",
        1,
    ),
)


@dataclass(frozen=True, slots=True)
class Demo:
    """What was found or made: the user's points, and how many lines of history came in now."""

    user_id: UUID
    points: int
    imported: int


def load(dsn: str, root: Path = ROOT) -> Demo:
    """Bring the demo world into a database, or what is missing of it. `dsn` is its owner's."""
    with psycopg.connect(dsn) as connection:
        points = _fill(connection)
    return Demo(USER, points, _import(dsn, root / HISTORY))


def _fill(connection: psycopg.Connection[Any]) -> int:
    # So that the audit log says whose doing the demo's people are.
    connection.execute("select set_config('tallybook.actor', 'demo', true)")
    connection.execute(
        "insert into public.system_admins (id, email) values (%s, %s) on conflict do nothing",
        (ADMIN, ADMIN_EMAIL),
    )
    # Their addresses, by which an administrator may name them. Old accounts, which are believed.
    connection.cursor().executemany(
        "insert into auth.users (id, email, created_at) values (%s, %s, now() - interval '1 year')"
        " on conflict do nothing",
        [(USER, USER_EMAIL), (ADMIN, ADMIN_EMAIL)],
    )
    connection.execute(
        "insert into public.coupon_codes (code, discount_type, discount_value, max_uses,"
        " expires_at) values ('WELCOME100', 'fixed', 100.00, 1000, now() + interval '30 days'),"
        " ('SAVE50', 'percentage', 50, 500, now() + interval '60 days') on conflict do nothing"
    )
    connection.execute(
        "insert into public.partner_members (partner_id, user_id) values (%s, %s)"
        " on conflict do nothing",
        (PARTNER_ID, PARTNER),
    )
    connection.cursor().executemany(
        "insert into public.coupon_templates (template_id, template_name, points_cost,"
        " coupon_value_type, coupon_value, partner_name, partner_id, terms_and_conditions,"
        " max_redemptions_per_user) values (%s, %s, %s, %s, %s, %s, %s, nullif(%s, ''), %s)"
        " on conflict (template_id) do nothing",
        TEMPLATES,
    )
    _found(connection)
    points = _points(connection)
    if points >= POINTS_MIN:
        return points
    # As the runbook has it: a validated event by hand, and the refresh that posts it.
    connection.execute(
        "insert into public.points_events (user_id, event_type, event_time, points_delta,"
        " proof_type, validation_status, validated_by, validation_notes)"
        " values (%s, 'admin_award', now(), %s, 'manual_admin', 'validated', 'demo',"
        " 'So that there is something to spend')",
        (USER, POINTS - points),
    )
    return _points(connection)


def _found(connection: psycopg.Connection[Any]) -> None:
    """The company, its people, and one reward. What is there stays as it was made since."""
    connection.execute(
        "insert into public.tenants (id, name) values (%s, %s) on conflict do nothing",
        (COMPANY, COMPANY_NAME),
    )
    connection.cursor().executemany(
        "insert into auth.users (id, email, created_at) values (%s, %s, now() - interval '1 year')"
        " on conflict do nothing",
        [(user_id, f"{name.lower()}@example.com") for user_id, _, name in MEMBERS],
    )
    connection.cursor().executemany(
        "insert into public.tenant_members (tenant_id, user_id, role, display_name)"
        " values (%s, %s, %s, %s) on conflict do nothing",
        [(COMPANY, *member) for member in MEMBERS],
    )
    connection.execute(
        "insert into public.rewards (tenant_id, id, name, points_cost)"
        " values (%s, %s, 'Lunch for two', 500) on conflict do nothing",
        (COMPANY, REWARD),
    )


def _points(connection: psycopg.Connection[Any]) -> int:
    ((points,),) = connection.execute(
        "select public.refresh_user_points_cache(%s)", (USER,)
    ).fetchall()
    return int(points)


def _import(dsn: str, path: Path) -> int:
    """The first lines of the sample, under the source that an import of all of it has."""
    if not path.exists():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / path.name
        with path.open() as lines:
            part.write_text("".join(islice(lines, HISTORY_LINES + 1)))
        plan = Plan(source=Plan.source_of(path), columns=HISTORY_COLUMNS)
        return import_file(dsn, part, plan).imported
