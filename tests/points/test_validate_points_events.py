"""Validating: what is pending is believed, doubted or rejected, and only what is believed earns."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.trust.court import administrator, review
from tests.world import NOW, Connection, World, refused

HOUR_AGO = NOW - timedelta(hours=1)


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()


def spaced(world: World, user: UUID, seconds: float, at: datetime = HOUR_AGO) -> tuple[str, str]:
    """Two events of one user, so far apart; the later to arrive is the second."""
    first = world.submit(user, at=at)["id"]
    return first, world.submit(user, at=at + timedelta(seconds=seconds))["id"]


def decisions(answer: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {e["event_id"]: (e["validation_status"], e["trust_score"]) for e in answer["events"]}


def test_a_believed_event_earns_its_points(world: World) -> None:
    user = world.user(points=100)
    event_id = world.submit(user, event_type="workout")["id"]
    world.pass_time(timedelta(seconds=3))
    assert world.validate() == {
        "validated": 1,
        "pending_review": 0,
        "rejected": 0,
        "flagged": 0,
        "events": [
            {
                "event_id": event_id,
                "user_id": str(user),
                "validation_status": "validated",
                "trust_score": 70,
                "points_awarded": 20,
            }
        ],
        "insights": [],
    }
    (event,) = world.rows("select * from points_events where id = %s", (event_id,))
    assert (event["validation_status"], event["trust_score"]) == ("validated", 70)
    assert (event["validated_by"], event["validated_at"]) == ("system", world.now())
    assert event["updated_at"] == world.now()
    assert str(event["transfer_id"]) == event_id
    assert world.points(user) == 120
    assert world.cache(user) == (120, 0, 120, 0)
    assert str(world.value("select last_event_id from user_points_cache")) == event_id


def test_its_transfer_says_what_happened_and_when(world: World) -> None:
    user = world.user()
    event_id = world.submit(user, event_type="workout", at=HOUR_AGO)["id"]
    world.validate()
    (transfer,) = world.rows("select * from ledger.transfers")
    assert (str(transfer["transfer_id"]), transfer["book_id"]) == (event_id, user)
    assert (transfer["from_account"], transfer["to_account"]) == ("points.issued", "points")
    assert (transfer["amount"], transfer["kind"], transfer["asset"]) == (20, "workout", "points")
    assert (transfer["source_type"], str(transfer["source_id"])) == ("points_event", event_id)
    assert (transfer["effective_at"], transfer["recorded_at"]) == (HOUR_AGO, NOW)


def test_a_set_of_many_users_and_of_several_events_each(world: World) -> None:
    users = [world.user() for _ in range(100)]
    for _ in range(5):
        world.submit_batch(*(world.event(user) for user in users))
    answer = world.validate()
    assert (answer["validated"], len(answer["events"])) == (500, 500)
    assert {world.cache(user) for user in users} == {(50, 0, 50, 0)}


def test_a_second_run_finds_nothing(world: World) -> None:
    user = world.user()
    world.submit(user)
    assert world.validate()["validated"] == 1
    nothing = world.validate()
    assert nothing.pop("events") == nothing.pop("insights") == []
    assert nothing == {"validated": 0, "pending_review": 0, "rejected": 0, "flagged": 0}
    assert world.cache(user) == (10, 0, 10, 0)


def test_the_oldest_to_arrive_go_first_when_there_are_too_many(world: World) -> None:
    user = world.user()
    first, second, third = (world.submit(user)["id"] for _ in range(3))
    answer = world.validate(limit=2)
    assert set(decisions(answer)) == {first, second}
    assert world.status(third) == "pending"
    assert world.cache(user) == (20, 10, 20, 0)


def test_events_less_than_a_second_apart_are_rejected_and_noted(world: World) -> None:
    user = world.user()
    first, second = spaced(world, user, 0.5)
    answer = world.validate()
    assert decisions(answer) == {first: ("validated", 70), second: ("rejected", 0)}
    assert answer["events"][1]["points_awarded"] == 0
    assert answer["insights"] == [
        {
            "user_id": str(user),
            "insight_type": "velocity_anomaly",
            "severity": "high",
            "score": 0,
        }
    ]
    (insight,) = world.rows("select * from fraud_insights")
    assert (insight["user_id"], insight["insight_type"]) == (user, "velocity_anomaly")
    assert (insight["severity"], insight["score"], insight["resolved"]) == ("high", 0, False)
    assert [str(i) for i in insight["related_event_ids"]] == [second]
    assert insight["created_at"] == NOW
    assert insight["details"] == {
        "review_at": 30,
        "validate_at": 60,
        "rules": [
            {
                "rule": "spacing_under_one_second",
                "version": 1,
                "mode": "enforce",
                "weight": -60,
                "below": 1,
                "observed": 0.5,
            },
            {
                "rule": "spacing_under_ten_seconds",
                "version": 1,
                "mode": "enforce",
                "weight": -20,
                "below": 10,
                "observed": 0.5,
            },
        ],
    }
    # What is rejected waits no longer and never earns.
    assert world.cache(user) == (10, 0, 10, 0)
    (event,) = world.rows("select * from points_events where id = %s", (second,))
    assert (event["transfer_id"], event["validated_at"], event["validated_by"]) == (None,) * 3


@pytest.mark.parametrize("seconds", [1, 9.999999, -5])
def test_events_less_than_ten_seconds_apart_go_to_review_and_wait(
    world: World, seconds: float
) -> None:
    user = world.user()
    first, second = spaced(world, user, seconds)
    answer = world.validate()
    assert decisions(answer) == {first: ("validated", 70), second: ("pending_review", 50)}
    (insight,) = world.rows("select * from fraud_insights")
    assert (insight["severity"], insight["score"]) == ("medium", 50)
    assert world.cache(user) == (10, 10, 10, 0)
    # The worker leaves it to a person.
    assert world.validate()["events"] == []


@pytest.mark.parametrize("seconds", [10, 59, 3600])
def test_events_ten_seconds_apart_are_believed(world: World, seconds: float) -> None:
    user = world.user()
    spaced(world, user, seconds)
    assert world.validate()["validated"] == 2
    assert world.count("fraud_insights") == 0


def test_other_users_and_the_servers_own_events_are_no_neighbours(world: World) -> None:
    user = world.user(points=5)  # an award at this very moment
    world.submit(user, at=NOW)
    world.submit(world.user(), at=NOW)
    assert world.validate()["validated"] == 2


def test_a_neighbour_decided_long_ago_still_counts(world: World) -> None:
    user = world.user()
    world.submit(user, at=HOUR_AGO)
    world.validate()
    second = world.submit(user, at=HOUR_AGO + timedelta(milliseconds=10))["id"]
    assert decisions(world.validate()) == {second: ("rejected", 0)}


def test_one_update_moves_the_thresholds(world: World) -> None:
    user = world.user()
    _, second = spaced(world, user, 5)
    world.operator.execute(
        "update trust_policies set validate_at = 50, review_at = 0 where is_active"
    )
    assert decisions(world.validate())[second] == ("validated", 50)
    _, fourth = spaced(world, user, 0.5, at=HOUR_AGO - timedelta(hours=1))
    assert decisions(world.validate())[fourth] == ("pending_review", 0)


def test_what_nothing_was_found_against_can_still_be_doubted(world: World) -> None:
    event_id = world.submit(world.user())["id"]
    world.operator.execute("update trust_policies set base_score = 40 where is_active")
    assert decisions(world.validate()) == {event_id: ("pending_review", 40)}
    assert world.value("select insight_type from fraud_insights") == "low_trust_score"


def test_a_rule_that_is_off_says_nothing(world: World) -> None:
    _, second = spaced(world, world.user(), 0.5)
    world.operator.execute("update trust_rules set mode = 'off'")
    assert decisions(world.validate())[second] == ("validated", 70)


def test_a_rule_in_the_shadow_is_noted_and_does_not_count(world: World) -> None:
    _, second = spaced(world, world.user(), 0.5)
    world.operator.execute(
        "update trust_rules set mode = 'shadow' where rule_id = 'spacing_under_one_second'"
    )
    assert decisions(world.validate())[second] == ("pending_review", 50)
    (rules,) = world.rows("select details -> 'rules' as rules from fraud_insights")
    assert [(r["rule"], r["mode"]) for r in rules["rules"]] == [
        ("spacing_under_one_second", "shadow"),
        ("spacing_under_ten_seconds", "enforce"),
    ]


@pytest.mark.parametrize(("weight", "score"), [(-500, 0), (500, 100)])
def test_a_score_stays_between_nothing_and_a_hundred(world: World, weight: int, score: int) -> None:
    _, second = spaced(world, world.user(), 5)
    world.operator.execute("update trust_rules set weight = %s", (weight,))
    assert decisions(world.validate())[second][1] == score


def test_one_event_is_validated_by_its_name(world: World) -> None:
    user = world.user()
    first, second = world.submit(user)["id"], world.submit(user)["id"]
    answer = world.validate(second)
    assert decisions(answer) == {second: ("validated", 70)}
    assert world.status(first) == "pending"
    assert world.cache(user) == (10, 10, 10, 0)


def test_an_event_that_is_not_there_is_refused(world: World) -> None:
    with refused("event_not_found", 404):
        world.validate(str(uuid4()))


@pytest.mark.parametrize("seconds", [60, 5, 0.5], ids=["validated", "pending_review", "rejected"])
def test_an_event_that_is_decided_is_refused(world: World, seconds: float) -> None:
    user = world.user()
    _, second = spaced(world, user, seconds)
    world.validate()
    with refused("event_not_found", 404):
        world.validate(second)


def test_whoever_names_an_event_a_worker_has_waits_and_finds_it_decided(world: World) -> None:
    event_id = world.submit(world.user())["id"]
    first = world.session("tallybook_worker", autocommit=False)
    world.validate(through=first)
    with world.in_background(
        lambda session: world.validate(event_id, through=session),
        world.session("tallybook_worker"),
    ) as second:
        first.commit()
    with refused("event_not_found", 404):
        second.result()


def test_two_workers_share_and_do_not_wait(world: World) -> None:
    events = [world.submit(world.user())["id"] for _ in range(6)]
    first = world.session("tallybook_worker", autocommit=False)
    mine = set(decisions(world.validate(limit=3, through=first)))
    world.worker.execute("set lock_timeout = '2s'")
    others = set(decisions(world.validate()))
    first.commit()
    assert (mine, others) == (set(events[:3]), set(events[3:]))
    assert world.count("points_events", "validation_status = 'validated'") == 6


def test_what_a_worker_took_and_lost_is_pending_again(world: World) -> None:
    user = world.user()
    event_id = world.submit(user)["id"]
    first = world.session("tallybook_worker", autocommit=False)
    world.validate(through=first)
    first.rollback()
    assert world.status(event_id) == "pending"
    assert world.validate()["validated"] == 1
    assert world.points(user) == 10


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_never_decide_an_event_twice(world: World, workers: int) -> None:
    users = [world.user() for _ in range(40)]
    for _ in range(10):
        # Everybody has a device of their own, which every worker meets.
        world.submit_batch(*(world.event(user, device_id=str(user)) for user in users))

    def work(session: Connection) -> list[str]:
        taken: list[str] = []
        while found := decisions(world.validate(limit=4, through=session)):
            taken += found
        return taken

    shares = world.at_once([work] * workers, user="tallybook_worker")
    assert not [share for share in shares if isinstance(share, psycopg.Error)]
    taken = Counter(event for share in shares for event in share)  # type: ignore[union-attr]
    assert (len(taken), max(taken.values())) == (400, 1)
    assert world.count("ledger.transfers") == world.count("trust_assessments") == 400
    assert world.count("device_users") == 40
    assert {world.cache(user) for user in users} == {(100, 0, 100, 0)}


def test_submitting_goes_on_while_a_worker_validates(world: World) -> None:
    user = world.user()
    world.submit(user)
    first = world.session("tallybook_worker", autocommit=False)
    world.validate(through=first)
    request = world.event(user)
    with world.in_background(
        # The two meet at the user's cache row, and neither change is lost.
        lambda session: world.call("public.submit_points_event", request, session),
        world.session("tallybook_functions"),
    ):
        first.commit()
    assert world.cache(user) == (10, 10, 10, 0)


def test_what_takes_more_than_there_is_goes_to_a_person(world: World) -> None:
    user = world.user(points=10)
    world.operator.execute(
        "insert into points_events (user_id, event_type, event_time, points_delta)"
        " values (%s, 'admin_deduction', internal.clock(), -50)",
        (user,),
    )
    world.refresh(user)
    assert world.validate()["pending_review"] == 1
    assert world.points(user) == 10
    assert world.rows(
        "select validation_status, transfer_id from points_events where points_delta < 0"
    ) == [{"validation_status": "pending_review", "transfer_id": None}]


@pytest.mark.parametrize("points", [50, -50])
def test_what_a_person_gave_is_for_a_person_to_decide(world: World, points: int) -> None:
    """However it came to wait here."""
    user, other, third = world.user(points=100), world.user(), world.user()
    for name in ("allow", "deny"):
        world.operator.execute(
            "insert into trust_lists (list, subject_type, subject, reason)"
            " values (%s, 'user', %s, 'known')",
            (name, str(user if name == "allow" else other)),
        )
    world.operator.execute(
        "insert into points_events"
        " (user_id, event_type, event_time, points_delta, proof_type)"
        " select u, 'admin_award', internal.clock(), %s, 'manual_admin' from unnest(%s::uuid[]) u",
        (points, [user, other, third]),
    )
    for each in (user, other, third):
        world.refresh(each)
    answer = world.validate()
    # What is denied stays denied.
    assert (answer["validated"], answer["pending_review"], answer["rejected"]) == (0, 2, 1)
    assert world.points(user) == 100
    lists = world.rows(
        "select features ->> 'list' as list, features ->> 'list_subject' as subject, verdict"
        " from trust_assessments order by verdict, subject"
    )
    assert [tuple(row.values()) for row in lists] == [
        ("watch", "award", "pending_review"),
        ("watch", "user", "pending_review"),
        ("deny", "user", "rejected"),
    ]


def test_without_an_active_policy_nothing_is_decided(world: World) -> None:
    event = world.submit(world.user())["id"]
    world.operator.execute("update trust_policies set is_active = false")
    with refused("unavailable", 503):
        world.validate()
    assert world.status(event) == "pending"


def test_an_administrator_may_ask_and_nobody_else(world: World) -> None:
    event = world.submit(world.user())["id"]
    admin = administrator(world)
    asked = {"event_id": event, "user_id": uuid4()}
    with refused("forbidden", 403):
        world.call("public.validate_points_events", asked, world.functions)
    assert world.status(event) == "pending"
    asked["user_id"] = admin
    assert world.call("public.validate_points_events", asked, world.functions)["validated"] == 1


def test_what_an_event_is_worth_is_settled_when_it_is_validated(world: World) -> None:
    """What waited is what it was worth when it was sent; what is earned is what it is worth now."""
    user = world.user()
    believed, doubted = spaced(world, user, 5)
    assert world.cache(user) == (0, 20, 0, 0)
    world.admin.execute(WORTH_DOUBLE)
    answer = world.validate()
    assert [e["points_awarded"] for e in answer["events"]] == [20, 0]
    assert world.cache(user) == (20, 10, 20, 0)
    rows = world.rows("select id, points_delta, streak_days from points_events order by id")
    assert [tuple(row.values()) for row in rows] == [
        (UUID(believed), 20, 14),
        (UUID(doubted), 10, None),
    ]


def test_what_is_worth_nothing_any_more_moves_nothing(world: World) -> None:
    user = world.user()
    event_id = world.submit(user)["id"]
    world.admin.execute(WORTH_DOUBLE.replace("points_delta * 2", "points_delta * 0"))
    assert world.validate()["validated"] == 1
    assert world.cache(user) == (0, 0, 0, 0)
    assert world.rows(
        "select points_delta, transfer_id from points_events where id = %s", (event_id,)
    ) == [{"points_delta": 0, "transfer_id": None}]


# An event that cannot be decided


def test_an_event_that_cannot_be_decided_holds_nobody_up(world: World) -> None:
    users = [world.user() for _ in range(3)]
    events = [
        world.submit(user, event_type=kind)["id"]
        for user, kind in zip(users, ("workout", "goal_achieved", "workout"), strict=True)
    ]
    world.admin.execute(RAISES_FOR_GOALS.format("numeric_value_out_of_range"))
    answer = world.validate()
    assert (answer["validated"], answer["flagged"]) == (2, 1)
    assert {e["event_id"]: e["validation_status"] for e in answer["events"]} == dict(
        zip(events, ("validated", "flagged", "validated"), strict=True)
    )
    assert [world.cache(user) for user in users] == [(20, 0, 20, 0), (0, 50, 0, 0), (20, 0, 20, 0)]
    (event,) = world.rows("select * from points_events where id = %s", (events[1],))
    assert event["validation_notes"] == "It could not be decided: 22003"
    assert (event["trust_score"], event["transfer_id"]) == (None, None)
    (line,) = world.rows("select * from audit_log where action = 'points_event.flagged'")
    assert (line["actor"], line["subject_id"]) == ("system", events[1])
    assert line["reason"] == "a goal is beyond me"
    assert world.validate()["events"] == []


@pytest.mark.parametrize("condition", ["check_violation", "program_limit_exceeded"])
def test_such_an_event_alone_is_taken_out_too_and_a_person_decides_it(
    world: World, condition: str
) -> None:
    user = world.user()
    event_id = world.submit(user, event_type="goal_achieved")["id"]
    world.admin.execute(RAISES_FOR_GOALS.format(condition))
    assert world.validate(event_id)["flagged"] == 1
    world.admin.execute(WORTH_DOUBLE)
    assert review(world, event_id, administrator(world))["points_awarded"] == 100
    assert world.cache(user) == (100, 0, 100, 0)


def test_when_all_of_several_fail_none_is_to_blame(world: World) -> None:
    events = [world.submit(world.user(), event_type="goal_achieved")["id"] for _ in range(2)]
    world.admin.execute(RAISES_FOR_GOALS.format("division_by_zero"))
    with pytest.raises(psycopg.errors.DivisionByZero):
        world.validate()
    assert {world.status(event) for event in events} == {"pending"}
    assert world.count("audit_log", "action = 'points_event.flagged'") == 0


def test_a_defect_of_ours_is_no_events_fault(world: World) -> None:
    event = world.submit(world.user(), event_type="goal_achieved")["id"]
    world.admin.execute(RAISES_FOR_GOALS.format("undefined_column"))
    with pytest.raises(psycopg.errors.UndefinedColumn):
        world.validate()
    assert world.status(event) == "pending"


WORTH_DOUBLE = """
create or replace function internal.points_awarded(p_events public.points_events[])
returns table (event_id uuid, streak_days int, points int)
language plpgsql stable set search_path = '' as $$
begin
  return query select e.id, 14, e.points_delta * 2 from unnest(p_events) as e;
end $$
"""
RAISES_FOR_GOALS = """
create or replace function internal.points_awarded(p_events public.points_events[])
returns table (event_id uuid, streak_days int, points int)
language plpgsql stable set search_path = '' as $$
begin
  if exists (select from unnest(p_events) as e where e.event_type = 'goal_achieved') then
    raise exception using errcode = '{}', message = 'a goal is beyond me';
  end if;
  return query select e.id, null::int, e.points_delta from unnest(p_events) as e;
end $$
"""
