"""Limits: what one user can submit in an hour and a day, counted from the events themselves."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.world import NOW, Connection, World, code_of, refused

HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()


def limits(world: World, **maxima: int | None) -> None:
    """Set the program's limits as an operator does; what is not named has none."""
    names = (
        "events_per_hour_max",
        "events_per_day_max",
        "points_per_hour_max",
        "points_per_day_max",
    )
    world.operator.execute(
        f"update points_programs set {', '.join(f'{n} = %({n})s' for n in names)}",
        {name: maxima.get(name) for name in names},
    )


def again_in(world: World, user: UUID, **request: Any) -> int:
    """The seconds after which a refused submission may be made again."""
    with pytest.raises(Exception, match="rate_limited") as caught:
        world.submit(user, **request)
    detail = caught.value.diag.message_detail  # type: ignore[attr-defined]
    found = re.fullmatch(r"[a-z_]+: \d+ in \d+ s; again in (\d+) s", detail)
    assert found, detail
    return int(found[1])


def test_the_101st_event_of_an_hour_is_refused(world: World) -> None:
    user = world.user()
    for _ in range(100):
        world.submit(user, event_type="activity_completion", proof_type="google_fit")
        world.pass_time(timedelta(seconds=35))  # 100 events in 58 minutes
    # The mission's points limit of 1000 an hour is reached with them, and comes after.
    with refused("rate_limited", 429, "events_per_hour: 100 in 3600 s; again in 100 s"):
        world.submit(user, event_type="activity_completion")
    assert world.count("points_events") == world.count("used_nonces") == 100
    world.submit(world.user())


def test_after_the_time_it_names_there_is_room_for_exactly_one(world: World) -> None:
    limits(world, events_per_hour_max=3)
    user = world.user()
    for _ in range(3):
        world.submit(user)
        world.pass_time(10 * SECOND)
    seconds = again_in(world, user)
    assert seconds == 3570
    world.pass_time((seconds - 1) * SECOND)
    assert again_in(world, user) == 1
    world.pass_time(SECOND)
    world.submit(user)
    assert again_in(world, user) == 10


def test_a_day_has_its_own_limit(world: World) -> None:
    limits(world, events_per_day_max=4)
    user = world.user()
    for _ in range(4):
        world.submit(user)
        world.pass_time(HOUR)
    with refused("rate_limited", 429, "events_per_day: 4 in 86400 s; again in 72000 s"):
        world.submit(user)
    world.pass_time(20 * HOUR)
    world.submit(user)


def test_of_several_limits_the_one_that_lasts_longest_is_named(world: World) -> None:
    limits(world, events_per_hour_max=100, events_per_day_max=500)
    user = world.user()
    for hour in range(5):
        for _ in range(100):
            world.submit(user)
        if hour < 4:
            with refused("rate_limited", 429, "events_per_hour: 100 in 3600 s; again in 3600 s"):
                world.submit(user)
            world.pass_time(HOUR)
    with refused("rate_limited", 429, "events_per_day: 500 in 86400 s; again in 72000 s"):
        world.submit(user)
    world.pass_time(72000 * SECOND - SECOND)
    assert again_in(world, user) == 1
    world.pass_time(SECOND)
    world.submit(user)


@pytest.mark.parametrize("window", ["hour", "day"])
def test_points_have_limits_of_their_own(world: World, window: str) -> None:
    limits(world, **{f"points_per_{window}_max": 100})
    user = world.user()
    first = world.submit(user, event_type="goal_achieved")  # 50
    world.pass_time(60 * SECOND)
    world.submit(user, event_type="morning_reflection")  # 65
    with refused("rate_limited", 429, f"points_per_{window}: 100 in"):
        world.submit(user, event_type="goal_achieved")
    world.submit(user, event_type="workout")  # 85
    # What was rejected earns nothing and leaves its room to others.
    world.admin.execute(
        "update points_events set validation_status = 'rejected' where id = %s", (first["id"],)
    )
    world.refresh(user)
    world.submit(user, event_type="goal_achieved")


def test_the_time_named_for_points_is_when_enough_of_them_are_older(world: World) -> None:
    limits(world, points_per_hour_max=100)
    user = world.user()
    for event_type in ("workout", "goal_achieved", "workout"):  # 20, 50, 20
        world.submit(user, event_type=event_type)
        world.pass_time(60 * SECOND)
    # 90 + 50 is 40 too many: the first workout alone does not make room, the goal does.
    assert again_in(world, user, event_type="goal_achieved") == 3600 - 120
    assert again_in(world, user, event_type="workout") == 3600 - 180


def test_a_type_can_be_limited_to_so_many_a_day(world: World) -> None:
    world.operator.execute(
        "update points_rules set daily_max = 1 where event_type = 'morning_reflection'"
    )
    user = world.user()
    world.submit(user, event_type="morning_reflection")
    with refused("rate_limited", 429, "events_of_type_per_day: 1 in 86400 s; again in 86400 s"):
        world.submit(user, event_type="morning_reflection")
    world.submit(user, event_type="evening_reflection")


def test_a_replay_and_a_refused_request_use_nothing_up(world: World) -> None:
    limits(world, events_per_hour_max=2)
    user = world.user()
    request = {"at": NOW - HOUR, "nonce": "n-1"}
    first = world.submit(user, **request)
    for _ in range(5):
        assert world.submit(user, **request)["id"] == first["id"]
        with refused("event_in_future", 400):
            world.submit(user, at=NOW + HOUR)
    world.submit(user)
    with refused("rate_limited", 429):
        world.submit(user)
    # Over the limit an answer that was given is still given again, and a fault is still named.
    assert world.submit(user, **request) == {**first, "replayed": True}
    with refused("nonce_reused", 409):
        world.submit(user, nonce="n-1")


def test_what_the_server_records_does_not_count(world: World) -> None:
    limits(world, events_per_hour_max=1, points_per_day_max=20)
    user = world.user(points=5000)
    world.redeem(user, world.template())
    world.submit(user)


def test_an_answer_says_what_is_left(world: World) -> None:
    user = world.user()

    def left() -> Any:
        request = world.event(user)
        return world.call("public.submit_points_event", request, world.functions)["rate_limit"]

    policy = {"policy": "events_per_hour", "quota": 100, "window_seconds": 3600}
    assert left() == {**policy, "remaining": 99, "reset_seconds": 3600}
    world.pass_time(600 * SECOND)
    assert left() == {**policy, "remaining": 98, "reset_seconds": 3000}
    limits(world)
    assert left() is None


def test_a_changed_limit_holds_at_once_and_is_written_down(world: World) -> None:
    user = world.user()
    for _ in range(3):
        world.submit(user)
    world.operator.execute("set tallybook.reason = 'a quiet week'")
    world.operator.execute("update points_programs set events_per_hour_max = 3")
    with refused("rate_limited", 429):
        world.submit(user)
    (row,) = world.rows("select * from audit_log where subject_type = 'points_programs'")
    assert (row["action"], row["actor"]) == ("settings.update", "tallybook_operator")
    assert (row["subject_id"], row["reason"]) == ("standard", "a quiet week")
    assert row["before"]["events_per_hour_max"] == 100
    assert row["after"]["events_per_hour_max"] == 3


def test_at_once_exactly_as_many_pass_as_there_is_room(world: World) -> None:
    limits(world, events_per_hour_max=7)
    user = world.user()
    requests = [world.event(user) for _ in range(20)]

    def submit(request: dict[str, Any], session: Connection) -> Any:
        return world.call("public.submit_points_event", request, session)

    results = world.at_once([lambda s, r=r: submit(r, s) for r in requests])  # type: ignore[misc]
    accepted = [result for result in results if isinstance(result, dict)]
    assert len(accepted) == world.count("points_events") == 7
    assert sorted(answer["rate_limit"]["remaining"] for answer in accepted) == list(range(7))
    refusals = [code_of(result) for result in results if not isinstance(result, dict)]
    assert refusals == ["rate_limited"] * 13


def test_in_one_call_each_user_has_their_own_limit(world: World) -> None:
    limits(world, events_per_hour_max=1)
    full, free = world.user(), world.user()
    world.submit(full)
    outcomes = world.submit_batch(world.event(full), world.event(free))
    assert [(o.answer is not None, (o.refusal or {}).get("code")) for o in outcomes] == [
        (False, "rate_limited"),
        (True, None),
    ]


def test_a_kind_of_proof_must_be_one_that_counts(world: World) -> None:
    world.operator.execute(
        "update points_rules set proof_types = '{google_fit}' where event_type = 'workout'"
    )
    user = world.user()
    for proof_type in ("apple_health", "manual_admin", None):
        with refused("proof_type_not_accepted", 400, "proof_type: "):
            world.submit(user, event_type="workout", proof_type=proof_type)
    answer = world.submit(user, event_type="workout", proof_type="google_fit", nonce="n-1")
    assert world.value("select proof_type from points_events") == "google_fit"
    assert answer["status"] == "pending"


def test_another_kind_of_proof_is_another_payload(world: World) -> None:
    user = world.user()
    world.submit(user, at=NOW - HOUR, nonce="n-1", proof_type="google_fit")
    with refused("nonce_reused", 409):
        world.submit(user, at=NOW - HOUR, nonce="n-1", proof_type="apple_health")


def test_the_bait_is_in_no_list_that_a_user_can_read(world: World) -> None:
    assert world.count("points_rules", "is_honeypot") == 1
    with world.admin.transaction():
        world.admin.execute("set local role authenticated")
        seen = world.rows("select event_type from points_rules")
    assert {"workout", "habit_completion"} < {row["event_type"] for row in seen}
    assert "bonus_claim" not in {row["event_type"] for row in seen}


@pytest.mark.parametrize(
    "change",
    [
        "time_zone = 'Mars/Olympus'",
        "time_zone = ''",
        "expires_after_days = 0",
        "expires_after_days = 36501",
    ],
)
def test_a_program_takes_no_setting_that_would_fail_later(world: World, change: str) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.InvalidParameterValue)):
        world.operator.execute(f"update points_programs set {change}")  # type: ignore[call-overload]


def test_a_program_takes_the_longest_time_and_a_zone_that_exists(world: World) -> None:
    world.operator.execute(
        "update points_programs set time_zone = 'Asia/Tokyo', expires_after_days = 36500"
    )
    assert world.refresh(world.user(points=5)) == 5
