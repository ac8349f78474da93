"""Lists: what a person has decided about somebody comes before what any rule says, for a time."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from tests.trust.court import assessment, audited, spaced
from tests.world import NOW, World

ADDRESS = "203.0.113.7"


def put(
    world: World, name: str, subject: object, subject_type: str = "user", hours: int | None = None
) -> None:
    world.operator.execute(
        "insert into trust_lists (list, subject_type, subject, reason, expires_at)"
        " values (%s, %s, %s, %s, %s)",
        (
            name,
            subject_type,
            str(subject),
            f"the {subject_type} is to {name}",
            NOW + timedelta(hours=hours) if hours is not None else None,
        ),
    )


@pytest.mark.parametrize("subject_type", ["user", "device", "address"])
@pytest.mark.parametrize(
    ("name", "score", "verdict"),
    [("deny", 0, "rejected"), ("watch", 59, "pending_review"), ("allow", 100, "validated")],
)
def test_a_subject_on_a_list(
    world: World, name: str, score: int, verdict: str, subject_type: str
) -> None:
    user = world.user()
    put(
        world,
        name,
        {"user": user, "device": "phone", "address": ADDRESS}[subject_type],
        subject_type,
    )
    event_id = world.submit(user, device_id="phone", ip_address=ADDRESS)["id"]
    other = world.submit(world.user(), device_id="other", ip_address="203.0.113.8")["id"]
    world.validate()
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"]) == (score, verdict)
    listed = {key: value for key, value in found["features"].items() if key.startswith("list")}
    assert listed == {
        "list": name,
        "list_subject": subject_type,
        "list_reason": f"the {subject_type} is to {name}",
    }
    assert assessment(world, other)["trust_score"] == 70


def test_the_denied_are_filed_under_a_persons_flag(world: World) -> None:
    user = world.user()
    put(world, "deny", user)
    world.submit(user)
    world.validate()
    (insight,) = world.rows("select * from fraud_insights")
    assert (insight["insight_type"], insight["severity"]) == ("manual_flag", "critical")
    assert insight["details"] == {
        "rules": [],
        "validate_at": 60,
        "review_at": 30,
        "list": {"list": "deny", "subject_type": "user", "reason": "the user is to deny"},
    }


def test_the_watched_who_did_nothing_are_filed_so_too(world: World) -> None:
    user = world.user()
    put(world, "watch", user)
    world.submit(user)
    world.validate()
    (insight,) = world.rows("select * from fraud_insights")
    assert (insight["insight_type"], insight["severity"]) == ("manual_flag", "medium")


def test_the_watched_score_no_more_than_the_rules_say(world: World) -> None:
    user = world.user()
    put(world, "watch", user)
    event_id = spaced(world, user, 0.5)
    world.validate()
    assert assessment(world, event_id)["trust_score"] == 0
    assert world.count("fraud_insights", "insight_type = 'velocity_anomaly'") == 1


def test_the_allowed_may_be_as_fast_as_they_like(world: World) -> None:
    user = world.user()
    put(world, "allow", user)
    event_id = spaced(world, user, 0)
    assert world.validate()["validated"] == 2
    # It is still told what would have been found.
    assert [hit["rule"] for hit in assessment(world, event_id)["hits"]] == [
        "spacing_under_one_second",
        "spacing_under_ten_seconds",
    ]


def test_the_strictest_list_decides(world: World) -> None:
    user = world.user()
    for name, subject, subject_type in (
        ("allow", user, "user"),
        ("watch", ADDRESS, "address"),
        ("deny", "phone", "device"),
    ):
        put(world, name, subject, subject_type)
    denied = world.submit(user, device_id="phone", ip_address=ADDRESS)["id"]
    watched = world.submit(user, device_id="tablet", ip_address=ADDRESS)["id"]
    allowed = world.submit(user, device_id="tablet")["id"]
    world.validate()
    scores = [assessment(world, event)["trust_score"] for event in (denied, watched, allowed)]
    assert scores == [0, 59, 100]


def test_a_list_ends(world: World) -> None:
    user = world.user()
    put(world, "deny", user, hours=1)
    world.pass_time(timedelta(hours=1) - timedelta(microseconds=1))
    before = world.submit(user)["id"]
    world.validate()
    world.operator.execute(
        "update fraud_insights set resolved = true, resolved_at = internal.clock()"
    )
    world.pass_time(timedelta(microseconds=1))
    after = world.submit(user)["id"]
    world.validate()
    assert [assessment(world, event)["trust_score"] for event in (before, after)] == [0, 70]


def test_an_ended_entry_gives_way_to_a_weaker_one(world: World) -> None:
    user = world.user()
    put(world, "deny", user, hours=0)
    put(world, "allow", user)
    event_id = world.submit(user)["id"]
    world.validate()
    assert assessment(world, event_id)["trust_score"] == 100


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
        ("203.0.0.0/16", "203.0.0.1", "203.1.0.0"),
        ("203.0.0.0/8", "203.255.255.255", "204.0.0.0"),
        ("2001:db8:1:2::/64", "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
    ],
)
def test_a_network_is_on_a_list(world: World, network: str, inside: str, outside: str) -> None:
    put(world, "deny", network, "address")
    denied = world.submit(world.user(), ip_address=inside)["id"]
    other = world.submit(world.user(), ip_address=outside)["id"]
    world.validate()
    assert assessment(world, denied)["features"]["list_subject"] == "address"
    assert (assessment(world, denied)["trust_score"], assessment(world, other)["trust_score"]) == (
        0,
        70,
    )


def test_a_subject_is_on_a_list_once(world: World) -> None:
    put(world, "deny", "phone", "device")
    with pytest.raises(psycopg.errors.UniqueViolation):
        put(world, "deny", "phone", "device")


@pytest.mark.parametrize(
    ("subject_type", "subject"),
    [
        ("address", "203.0.113.007"),
        ("address", "2001:DB8::1"),
        ("address", "203.0.113.1/24"),
        ("address", "203.0.113.0/25"),
        ("address", "203.0.113.7/32"),
        ("user", "alice"),
        ("device", ""),
    ],
)
def test_what_no_event_could_match_is_not_taken(
    world: World, subject_type: str, subject: str
) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.DataError)):
        put(world, "deny", subject, subject_type)


def test_every_change_of_a_list_is_written_down(world: World) -> None:
    world.operator.execute("set tallybook.actor = 'ada@example.org'")
    world.operator.execute("set tallybook.reason = 'a call from the bank'")
    put(world, "deny", "phone", "device")
    world.operator.execute("delete from trust_lists")
    (put_on,), (taken_off,) = audited(world, "settings.insert"), audited(world, "settings.delete")
    for row in (put_on, taken_off):
        assert (row["actor"], row["reason"]) == ("ada@example.org", "a call from the bank")
        assert (row["subject_type"], row["subject_id"]) == ("trust_lists", "phone")
    assert put_on["after"] == taken_off["before"]
