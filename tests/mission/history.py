"""A million events of a thousand users, and how the database walks through one user's history."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from tests.world import Connection, World

EVENTS = 1_000_000
HEAVY = 20_000
USERS = 1_000

# Each user's events lie scattered among the others', as they come in real life. They earned
# nothing, so the books still agree.
LOAD = """
    insert into points_events (
           user_id, id, event_type, event_time, points_delta, proof_payload, nonce, payload_hash,
           device_id, validation_status, validated_at, validated_by, trust_score, created_at)
    select case when g %% %(stride)s = 0 then %(heavy)s else (%(users)s::uuid[])[1 + g %% %(others)s] end,
           lpad(to_hex(g), 32, '0')::uuid, 'habit_completion', at, 0, '{"steps": 8000, "source": "watch"}',
           'nonce-' || g, md5(g::text),
           'device-' || g %% 3000, 'validated', at, 'system', 70, at
      from generate_series(1, %(events)s) as g,
   lateral (select now() - (%(events)s - g) * interval '30 seconds' as at) as t
"""  # noqa: E501


class Walk(NamedTuple):
    """How a query was answered."""

    nodes: list[str]
    rows: int
    pages: int
    milliseconds: float


# What a table's indexes are called, and how each is taken away and made again as it was.
INDEXES = """
    select coalesce('alter table points_events drop constraint ' || c.conname,
                    'drop index ' || i.indexrelid::regclass) as drop,
           coalesce('alter table points_events add ' || pg_get_constraintdef(c.oid),
                    pg_get_indexdef(i.indexrelid)) as make
      from pg_index as i
      left join pg_constraint as c on c.conindid = i.indexrelid and c.contype in ('p', 'u')
     where i.indrelid = 'points_events'::regclass
"""


def fill(world: World) -> tuple[UUID, UUID]:
    """A million events; one user who has 20,000 of them, and one of the others.

    The indexes are made after the rows, which takes a third of the time.
    """
    heavy, *others = [
        row["id"]
        for row in world.rows(f"select gen_random_uuid() as id from generate_series(1, {USERS})")
    ]
    session = world.admin
    session.execute("set statement_timeout = 0")
    with session.transaction():
        indexes = world.rows(INDEXES)
        for index in indexes:
            session.execute(index["drop"])
        session.execute(
            LOAD,
            {
                "events": EVENTS,
                "stride": EVENTS // HEAVY,
                "heavy": heavy,
                "users": others,
                "others": len(others),
            },
        )
        for index in indexes:
            session.execute(index["make"])
    session.execute("vacuum (analyze) points_events")
    return heavy, others[0]


def walk(query: str, through: Connection) -> Walk:
    """Run a query under EXPLAIN ANALYZE, as the runbook does, and say how it went."""
    row = through.execute(f"explain (analyze, buffers, format json) {query}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    ((explained,),) = row.values()
    plan = explained["Plan"]
    return Walk(
        _nodes(plan),
        plan["Actual Rows"],
        plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        explained["Execution Time"],
    )


def _nodes(plan: dict[str, Any]) -> list[str]:
    below = [node for child in plan.get("Plans", []) for node in _nodes(child)]
    return [plan["Node Type"], *below]
