"""Signals: what makes each rule hit, in force and in the shadow, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from tests.trust.court import HOUR_AGO, assessment, features, in_review, spaced
from tests.world import NOW, World


def last_of(world: World, number: int, step: timedelta, **more: Any) -> str:
    """The last of so many events of one user in equal steps, sent in their order."""
    user = world.user()
    at = NOW - number * step
    return [world.submit(user, at=at + n * step, **more)["id"] for n in range(1, number + 1)][-1]


def an_hour_full(world: World) -> str:
    # Not in equal steps: that is another rule's matter.
    user = world.user()
    times = [NOW - timedelta(seconds=55 * n + n % 3 * 5) for n in range(60, -1, -1)]
    return [world.submit(user, at=at)["id"] for at in times][-1]


def measured(proof: dict[str, Any], by: str = "google_fit") -> dict[str, Any]:
    return {"proof_type": by, "proof_payload": proof}


def proven_twice(world: World) -> str:
    user, proof = world.user(), {"steps": 10_000, "source": "watch"}
    world.submit(user, at=HOUR_AGO, **measured(proof))
    event_id: str = world.submit(user, **measured(dict(reversed(proof.items()))))["id"]
    return event_id


def shared_device(number: int) -> Callable[[World], str]:
    def arranged(world: World) -> str:
        for _ in range(number - 1):
            world.submit(world.user(), device_id="tablet")
        event_id: str = world.submit(world.user(), device_id="tablet")["id"]
        return event_id

    return arranged


def of_age(age: timedelta) -> Callable[[World], str]:
    def arranged(world: World) -> str:
        user = world.user()
        world.admin.execute(
            "insert into auth.users (id, created_at) values (%s, %s)", (user, NOW - age)
        )
        event_id: str = world.submit(user)["id"]
        return event_id

    return arranged


def from_the_same_device(world: World) -> str:
    user = world.user()
    world.submit(user, device_id="phone")
    world.pass_time(timedelta(minutes=10))
    event_id: str = world.submit(user, device_id="phone")["id"]
    return event_id


def about_an_entity(world: World, owner: UUID | None) -> str:
    user, habit = world.user(), uuid4()
    world.operator.execute(
        "insert into entity_owners (entity_type, entity_id, user_id) values ('habit', %s, %s)",
        (habit, owner or user),
    )
    event_id: str = world.submit(user, related_entity_type="habit", related_entity_id=habit)["id"]
    return event_id


def under_suspicion(world: World) -> str:
    user = world.user()
    spaced(world, user, 0.5)
    world.validate()
    world.pass_time(timedelta(minutes=10))
    event_id: str = world.submit(user, at=NOW)["id"]
    return event_id


def submitted(**request: Any) -> Callable[[World], str]:
    return lambda world: str(world.submit(world.user(), **request)["id"])


class Signal(NamedTuple):
    """An event for which a rule hits: what the rule sees, and the score with it and without."""

    event: Callable[[World], str]
    observed: float
    score: int
    without: int


SIGNALS = {
    "spacing_under_ten_seconds": Signal(lambda w: spaced(w, w.user(), 5), 5, 50, 70),
    "spacing_under_one_second": Signal(lambda w: spaced(w, w.user(), 0.5), 0.5, 0, 50),
    "sixty_events_in_an_hour": Signal(an_hour_full, 60, 55, 70),
    "proof_sent_before": Signal(proven_twice, 1, 50, 70),
    "clock_ahead": Signal(submitted(at=NOW + timedelta(seconds=120)), 120, 55, 70),
    "device_of_three_accounts": Signal(shared_device(3), 3, 55, 70),
    "device_of_ten_accounts": Signal(shared_device(10), 10, 25, 55),
    "account_under_a_day": Signal(of_age(timedelta(hours=12)), 0.5, 60, 70),
    "account_over_a_week": Signal(of_age(timedelta(days=7)), 7, 75, 70),
    "known_device": Signal(from_the_same_device, 1, 75, 70),
    "entity_is_theirs": Signal(lambda w: about_an_entity(w, None), 1, 80, 70),
    "entity_of_another": Signal(lambda w: about_an_entity(w, w.user()), 0, 55, 70),
    "open_insights": Signal(under_suspicion, 1, 40, 70),
    "device_attested": Signal(submitted(attestation={"status": "verified"}), 1, 85, 70),
    "attestation_missing": Signal(submitted(attestation={"status": "missing"}), 0, 60, 70),
    "attestation_failed": Signal(submitted(attestation={"status": "failed"}), -1, 0, 70),
    "bait_taken": Signal(submitted(event_type="bonus_claim"), 1, 0, 70),
    "identical_timing": Signal(lambda w: last_of(w, 7, timedelta(minutes=1)), 0, 55, 70),
    "bulk_arrival": Signal(lambda w: last_of(w, 31, timedelta(minutes=2)), 30, 60, 70),
    "three_days_late": Signal(submitted(at=NOW - timedelta(hours=72)), 72, 65, 70),
}


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize("rule", SIGNALS)
def test_a_signal(world: World, rule: str, mode: str) -> None:
    """In force it counts, in the shadow it is noted only; either way it tells what it saw."""
    signal = SIGNALS[rule]
    event_id = signal.event(world)
    (row,) = world.rows("select * from trust_rules where rule_id = %s", (rule,))
    world.operator.execute("update trust_rules set mode = %s where rule_id = %s", (mode, rule))
    world.validate()
    found = assessment(world, event_id)
    assert found["trust_score"] == (signal.score if mode == "enforce" else signal.without)
    (hit,) = (hit for hit in found["hits"] if hit["rule"] == rule)
    assert hit == {
        "rule": rule,
        "version": 2,
        "mode": mode,
        "weight": row["weight"],
        "observed": signal.observed,
        **row["parameters"],
    }


def test_every_rule_has_its_signal(world: World) -> None:
    rows = world.rows("select rule_id from trust_rules")
    assert {row["rule_id"] for row in rows} == set(SIGNALS)


def test_four_rules_are_in_the_shadow(world: World) -> None:
    rows = world.rows("select rule_id from trust_rules where mode <> 'enforce' order by 1")
    assert [r["rule_id"] for r in rows] == [
        "attestation_missing",
        "bulk_arrival",
        "identical_timing",
        "three_days_late",
    ]


def test_an_honest_event_with_nothing_known(world: World) -> None:
    event_id = submitted()(world)
    known = features(world, event_id)
    assert known.pop("hours_late") > 0
    assert known == {
        "events_in_hour": 0,
        "arrived_in_minute": 0,
        "repeated_proof": 0,
        "seconds_ahead": 0,
        "open_insights": 0,
        "honeypot": 0,
    }
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"], found["hits"]) == (70, "validated", [])
    assert (found["policy_id"], found["policy_version"]) == ("default", 1)
    assert found["assessed_at"] == NOW


@pytest.mark.parametrize(
    "event",
    [
        lambda w: last_of(w, 7, timedelta(seconds=10)),
        submitted(at=NOW + timedelta(seconds=119.999)),
        shared_device(2),
        of_age(timedelta(days=1)),
        of_age(timedelta(days=6.99)),
        submitted(related_entity_type="habit", related_entity_id=uuid4()),
        submitted(device_id="new"),
    ],
    ids=["spaced", "clock", "couple", "a day old", "a week less a little", "unregistered", "new"],
)
def test_what_is_just_not_suspicious_scores_70(world: World, event: Any) -> None:
    event_id = event(world)
    world.validate()
    assert assessment(world, event_id)["trust_score"] == 70


def test_what_was_sent_later_says_nothing_about_an_event(world: World) -> None:
    user, proof = world.user(), {"steps": 1}
    first = world.submit(user, at=HOUR_AGO, **measured(proof))["id"]
    world.submit(user, at=HOUR_AGO, **measured(proof))
    known = features(world, first)
    assert (known["repeated_proof"], known["arrived_in_minute"]) == (0, 0)
    assert "seconds_to_nearest_event" not in known


def test_the_servers_own_events_are_no_company(world: World) -> None:
    user = world.user(points=5)
    known = features(world, world.submit(user, at=NOW)["id"])
    assert (known["events_in_hour"], known["arrived_in_minute"]) == (0, 0)


@pytest.mark.parametrize(
    ("before", "counted"),
    [(timedelta(0), 1), (timedelta(hours=1), 1), (timedelta(hours=1, seconds=1), 0)],
)
def test_an_hour_is_an_hour_before_the_events_own_time(
    world: World, before: timedelta, counted: int
) -> None:
    user = world.user()
    world.submit(user, at=HOUR_AGO - before)
    event_id = world.submit(user, at=HOUR_AGO)["id"]
    assert features(world, event_id)["events_in_hour"] == counted


def test_a_minute_of_arrivals_is_over_after_a_minute(world: World) -> None:
    user = world.user()
    world.submit(user)
    world.pass_time(timedelta(seconds=60))
    second = world.submit(user)["id"]
    world.pass_time(timedelta(seconds=1))
    third = world.submit(user)["id"]
    assert features(world, third)["arrived_in_minute"] == 1
    assert assessment(world, second)["features"]["arrived_in_minute"] == 1


def test_the_spread_of_the_gaps(world: World) -> None:
    user = world.user()
    at = HOUR_AGO
    for gap in (0, 60, 61, 59, 60, 60):
        at += timedelta(seconds=gap)
        event_id = world.submit(user, at=at)["id"]
    assert "timing_spread_seconds" not in features(world, event_id)
    event_id = world.submit(user, at=at + timedelta(seconds=90.5))["id"]
    assert features(world, event_id)["timing_spread_seconds"] == 31.5


def test_another_proof_and_none_are_not_the_same(world: World) -> None:
    user = world.user()
    world.submit(user, **measured({"steps": 1}))
    world.submit(user)
    last = world.submit(user)["id"]
    assert features(world, last)["repeated_proof"] == 0
    another = world.submit(user, **measured({"steps": 2}))["id"]
    assert features(world, another)["repeated_proof"] == 0


@pytest.mark.parametrize("by", ["google_fit", "apple_health"])
def test_a_measurement_does_not_repeat_itself(world: World, by: str) -> None:
    user = world.user()
    world.submit(user, at=HOUR_AGO, **measured({"steps": 1}, by))
    again = world.submit(user, **measured({"steps": 1}, by))["id"]
    assert features(world, again)["repeated_proof"] == 1


@pytest.mark.parametrize(
    ("proof", "by"),
    [({}, "internal"), ({"completed": True}, "internal"), ({}, "google_fit")],
    ids=["nothing", "done", "nothing measured"],
)
def test_who_says_the_same_every_day_is_not_doubted(
    world: World, proof: dict[str, Any], by: str
) -> None:
    user = world.user()
    events = [world.submit(user, **measured(proof, by))["id"] for _ in range(3)]
    world.validate()
    for event_id in events:
        found = assessment(world, event_id)
        assert (found["features"]["repeated_proof"], found["hits"]) == (0, [])
        assert (found["trust_score"], found["verdict"]) == (70, "validated")


def test_a_program_is_rejected_whatever_speaks_for_it(world: World) -> None:
    """An account of eight days, a known device that is attested, an entity of their own."""
    user, habit = world.user(), uuid4()
    world.admin.execute(
        "insert into auth.users (id, created_at) values (%s, %s)", (user, NOW - timedelta(days=8))
    )
    world.operator.execute(
        "insert into entity_owners (entity_type, entity_id, user_id) values ('habit', %s, %s)",
        (habit, user),
    )
    world.submit(user, device_id="phone", at=HOUR_AGO - timedelta(hours=1))
    world.validate()
    world.pass_time(timedelta(minutes=10))
    honest: dict[str, Any] = {
        "device_id": "phone",
        "attestation": {"status": "verified"},
        "related_entity_type": "habit",
        "related_entity_id": habit,
    }
    world.submit(user, at=HOUR_AGO, **honest)
    event_id = world.submit(user, at=HOUR_AGO + timedelta(seconds=0.5), **honest)["id"]
    assert world.validate()["rejected"] == 1
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"]) == (25, "rejected")
    (insight,) = world.rows("select * from fraud_insights")
    assert (insight["insight_type"], insight["score"]) == ("velocity_anomaly", 25)
    assert [str(i) for i in insight["related_event_ids"]] == [event_id]


def test_the_same_proof_of_another_user_is_theirs(world: World) -> None:
    world.submit(world.user(), **measured({"steps": 1}))
    event_id = world.submit(world.user(), **measured({"steps": 1}))["id"]
    assert features(world, event_id)["repeated_proof"] == 0


def test_a_new_device_of_somebody_who_has_others(world: World) -> None:
    user = world.user()
    first = world.submit(user, device_id="phone")["id"]
    world.pass_time(timedelta(minutes=1))
    second = world.submit(user, device_id="tablet")["id"]
    world.pass_time(timedelta(minutes=1))
    third = world.submit(user)["id"]
    world.validate()
    known = [assessment(world, event)["features"] for event in (first, second, third)]
    assert [k.get("device_is_known") for k in known] == [None, 0, None]
    assert [k.get("device_accounts") for k in known] == [1, 1, None]


def test_of_those_who_share_a_device_each_sees_who_came_before(world: World) -> None:
    """In one set as in three."""
    events = []
    for _ in range(3):
        events.append(world.submit(world.user(), device_id="tablet")["id"])
        world.pass_time(timedelta(minutes=1))
    world.validate()
    known = [assessment(world, event)["features"]["device_accounts"] for event in events]
    assert known == [1, 2, 3]


def test_a_device_is_remembered_once(world: World) -> None:
    user = world.user()
    for _ in range(2):
        world.submit(user, device_id="phone")
        world.validate()
        world.pass_time(timedelta(minutes=1))
    assert world.rows("select * from device_users") == [
        {"device_id": "phone", "user_id": user, "first_seen_at": NOW}
    ]


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ("resolved = true, resolved_at = internal.clock()", 0),
        ("severity = 'medium'", 0),
        ("severity = 'critical'", 1),
        ("created_at = created_at - interval '23 hours 50 minutes'", 1),
        ("created_at = created_at - interval '23 hours 51 minutes'", 0),
    ],
)
def test_an_insight_counts_while_it_is_grave_fresh_and_open(
    world: World, change: str, counted: int
) -> None:
    event_id = under_suspicion(world)
    world.operator.execute(f"update fraud_insights set {change}")
    assert features(world, event_id)["open_insights"] == counted


def test_an_event_in_review_does_not_drag_others_along(world: World) -> None:
    user = world.user()
    in_review(world, user)
    world.pass_time(timedelta(minutes=10))
    event_id = world.submit(user, at=NOW)["id"]
    assert features(world, event_id)["open_insights"] == 0


def test_who_takes_the_bait_is_filed_under_it(world: World) -> None:
    event_id = world.submit(world.user(), event_type="bonus_claim")["id"]
    assert world.validate()["rejected"] == 1
    (insight,) = world.rows("select * from fraud_insights")
    assert (insight["insight_type"], insight["severity"]) == ("honeypot_triggered", "critical")
    assert world.status(event_id) == "rejected"


def test_nobodys_age_is_known_where_accounts_cannot_be_read(world: World) -> None:
    event_id = of_age(timedelta(days=30))(world)
    world.admin.execute("create role reads_no_accounts")
    try:
        world.admin.execute("grant usage on schema auth, internal to reads_no_accounts")
        world.admin.execute("grant create on schema internal to reads_no_accounts")
        world.admin.execute(
            "alter function internal.account_created_at(uuid[]) owner to reads_no_accounts"
        )
        assert "account_age_days" not in features(world, event_id)
    finally:
        world.admin.execute("drop owned by reads_no_accounts cascade")
        world.admin.execute("drop role reads_no_accounts")
