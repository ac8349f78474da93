"""Streaks: a habit kept for days in a row earns more, by the days that were validated."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from tests.world import NOW, World

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()
    world.operator.execute("update points_programs set points_per_day_max = null")


def kept(
    world: World, user: UUID, days: int, entity: UUID | None = None, until: datetime = NOW
) -> None:
    """A habit validated on each of the last `days` days before `until`, as history has it."""
    world.admin.execute(
        "insert into points_events (user_id, id, event_type, event_time, points_delta, nonce,"
        " related_entity_id, payload_hash, validation_status, created_at)"
        " select %s, internal.uuidv7_floor(now() - d * interval '1 day'), 'habit_completion',"
        " %s - d * interval '1 day', 0, g.text, %s, md5(g.text),"
        " 'validated', internal.clock() - d * interval '1 day' from generate_series(1, %s) as d,"
        " lateral (select gen_random_uuid()::text || d) as g(text)",
        (user, until, entity, days),
    )


def earned(
    world: World, user: UUID, entity: UUID | None = None, at: datetime = NOW
) -> tuple[int, int]:
    """The points and the streak of one more habit, validated now."""
    event_id = world.submit(user, at=at, related_entity_id=entity)["id"]
    world.validate(event_id)
    (row,) = world.rows(
        "select points_delta, streak_days, validation_status from points_events where id = %s",
        (event_id,),
    )
    assert row["validation_status"] == "validated"
    return row["points_delta"], row["streak_days"]


@pytest.mark.parametrize(
    ("days", "points"),
    [
        (1, 10),
        (6, 10),
        (7, 12),
        (13, 12),
        (14, 13),
        (29, 13),
        (30, 15),
        (89, 15),
        (90, 20),
        (400, 20),
    ],
)
def test_days_in_a_row_multiply_the_points(world: World, days: int, points: int) -> None:
    user = world.user()
    kept(world, user, days - 1)
    assert earned(world, user) == (points, min(days, 90))
    assert world.points(user) == points
    assert world.cache(user) == (points, 0, points, 0)


def test_fractions_of_a_point_are_dropped(world: World) -> None:
    world.operator.execute(
        "update points_rules set points = 9 where event_type = 'habit_completion'"
    )
    user = world.user()
    kept(world, user, 13)
    assert earned(world, user) == (11, 14)  # 11.7


def test_a_day_that_was_missed_starts_again(world: World) -> None:
    user = world.user()
    kept(world, user, 20, until=NOW - 1 * DAY)
    assert earned(world, user) == (10, 1)


def test_a_second_time_on_a_day_is_the_same_day(world: World) -> None:
    user = world.user()
    kept(world, user, 6)
    assert earned(world, user) == (12, 7)
    assert earned(world, user, at=NOW - timedelta(hours=3)) == (12, 7)


def test_another_habit_has_its_own_streak(world: World) -> None:
    user, running, reading = world.user(), uuid4(), uuid4()
    kept(world, user, 30, running)
    kept(world, world.user(), 30, reading)
    assert earned(world, user, reading) == (10, 1)
    assert earned(world, user, running, NOW - timedelta(hours=1)) == (15, 31)


def test_what_was_rejected_or_waits_keeps_no_streak(world: World) -> None:
    user = world.user()
    kept(world, user, 6)
    world.submit(user, at=NOW - 7 * DAY)
    assert earned(world, user) == (12, 7)
    world.validate()
    assert earned(world, user, at=NOW - timedelta(hours=2)) == (12, 8)


def test_the_days_of_one_set_count_for_one_another(world: World) -> None:
    user = world.user()
    kept(world, user, 4, until=NOW - 2 * DAY)
    for days in (2, 1, 0):
        world.submit(user, at=NOW - days * DAY)
    world.validate()
    rows = world.rows(
        "select points_delta, streak_days from points_events where streak_days is not null"
        " order by event_time"
    )
    assert [(r["points_delta"], r["streak_days"]) for r in rows] == [(10, 5), (10, 6), (12, 7)]


def test_what_no_rule_multiplies_has_no_streak(world: World) -> None:
    user = world.user()
    event_id = world.submit(user, event_type="workout")["id"]
    world.validate(event_id)
    assert world.rows("select points_delta, streak_days from points_events") == [
        {"points_delta": 20, "streak_days": None}
    ]


def test_the_days_begin_where_the_program_says(world: World) -> None:
    world.operator.execute("update points_programs set time_zone = 'Pacific/Auckland'")
    user = world.user()
    # In UTC two days, and in Auckland (UTC+13) one.
    evening = NOW.replace(hour=12) - 2 * DAY
    world.submit(user, at=evening)
    world.validate()
    assert earned(world, user, at=evening + timedelta(hours=14)) == (10, 1)


def test_multipliers_change_without_a_deploy(world: World) -> None:
    world.operator.execute("insert into streak_multipliers values (2, 3)")
    user = world.user()
    kept(world, user, 1)
    assert earned(world, user) == (30, 2)
    assert world.count("audit_log", "subject_type = 'streak_multipliers' and subject_id = '2'") == 1
