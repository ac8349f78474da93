"""What a device proved counts when its event is judged, and what it forged is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.attestation.devices import Devices, Evidence, a_hash, failed_for
from tests.trust.court import HOUR_AGO, assessment, features
from tests.world import NOW, World


def assertion(world: World, devices: Devices, user: UUID) -> Evidence:
    return devices.signed(user, devices.key(user), 1)


def token(world: World, devices: Devices, user: UUID) -> Evidence:
    return devices.integral(user)


def of_status(status: str) -> Callable[[World, Devices, UUID], Evidence]:
    return lambda world, devices, user: {"status": status}


def nothing(world: World, devices: Devices, user: UUID) -> None:
    return None


def insights(world: World) -> list[dict[str, Any]]:
    """What was found, oldest first."""
    rows = world.rows(
        "select user_id, insight_type, severity, score, details, related_event_ids, resolved"
        " from fraud_insights order by created_at, details ->> 'reason'"
    )
    return [dict(row) for row in rows]


def hits(world: World, event_id: str) -> dict[str, tuple[str, int]]:
    """Which rules hit an event, their mode and their weight."""
    return {h["rule"]: (h["mode"], h["weight"]) for h in assessment(world, event_id)["hits"]}


# What is known and what it is worth


@pytest.mark.parametrize(
    ("evidence", "known", "score", "hit"),
    [
        (assertion, 1, 85, {"device_attested": ("enforce", 15)}),
        (token, 1, 85, {"device_attested": ("enforce", 15)}),
        (of_status("missing"), 0, 70, {"attestation_missing": ("shadow", -10)}),
        (of_status("unsupported"), 0, 70, {"attestation_missing": ("shadow", -10)}),
        (of_status("not_configured"), None, 70, {}),
        (nothing, None, 70, {}),
    ],
    ids=["assertion", "token", "missing", "unsupported", "not configured", "nothing"],
)
def test_what_evidence_is_worth(
    world: World,
    devices: Devices,
    evidence: Callable[[World, Devices, UUID], Evidence | None],
    known: int | None,
    score: int,
    hit: dict[str, tuple[str, int]],
) -> None:
    user = world.user()
    event_id = world.submit(user, attestation=evidence(world, devices, user))["id"]
    assert features(world, event_id).get("attestation") == known
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"]) == (score, "validated")
    assert hits(world, event_id) == hit
    assert world.points(user) == 10
    assert insights(world) == []


@pytest.mark.parametrize(
    ("evidence", "score"),
    [(assertion, 85), (of_status("missing"), 60), (of_status("not_configured"), 70)],
    ids=["verified", "missing", "not configured"],
)
def test_once_every_app_attests_who_does_not_loses_ten(
    world: World,
    devices: Devices,
    evidence: Callable[[World, Devices, UUID], Evidence],
    score: int,
) -> None:
    world.operator.execute(
        "update trust_rules set mode = 'enforce' where rule_id = 'attestation_missing'"
    )
    user = world.user()
    event_id = devices.submit(user, evidence(world, devices, user))["id"]
    world.validate()
    assert assessment(world, event_id)["trust_score"] == score


def test_an_attested_device_makes_up_for_a_little(world: World, devices: Devices) -> None:
    """A doubt of 20 is one too many for who proves nothing, and not for who proves the device."""
    user = world.user()
    world.submit(user, at=HOUR_AGO)
    proven = devices.submit(user, devices.integral(user), at=HOUR_AGO + timedelta(seconds=5))["id"]
    world.validate()
    found = assessment(world, proven)
    assert (found["trust_score"], found["verdict"]) == (65, "validated")


# What could not be checked


def test_who_could_not_be_checked_waits_a_quarter_of_an_hour_and_is_judged_neutrally(
    world: World, devices: Devices
) -> None:
    user, other = world.user(), world.user()
    event_id = devices.submit(user, devices.unchecked(user))["id"]
    devices.wait(minutes=15, microseconds=-1)
    neighbour = world.submit(other)["id"]
    assert world.validate()["validated"] == 1
    assert (world.status(event_id), world.status(neighbour)) == ("pending", "validated")
    assert world.cache(user) == (0, 10, 0, 0)
    devices.wait(microseconds=1)
    assert world.validate()["validated"] == 1
    found = assessment(world, event_id)
    assert (found["trust_score"], found["hits"]) == (70, [])
    assert "attestation" not in found["features"]
    assert world.points(user) == 10
    assert insights(world) == []


def test_those_who_wait_hold_up_nobody(world: World, devices: Devices) -> None:
    waiting = []
    for _ in range(3):
        user = world.user()
        waiting.append(devices.submit(user, devices.unchecked(user))["id"])
    event_id = world.submit(world.user())["id"]
    assert world.validate(limit=1)["validated"] == 1
    assert world.status(event_id) == "validated"
    assert {world.status(each) for each in waiting} == {"pending"}


def test_a_person_need_not_wait(world: World, devices: Devices) -> None:
    user = world.user()
    event_id = devices.submit(user, devices.unchecked(user))["id"]
    assert world.validate(event_id)["validated"] == 1
    assert assessment(world, event_id)["trust_score"] == 70


@pytest.mark.parametrize(
    ("status", "score", "known"), [("verified", 85, 1), ("unsupported", 70, 0)]
)
def test_what_is_found_out_in_time_counts_at_once(
    world: World, devices: Devices, status: str, score: int, known: int
) -> None:
    user = world.user()
    event_id = devices.submit(user, devices.unchecked(user))["id"]
    assert world.validate()["validated"] == 0
    devices.recheck(user, event_id, status)
    assert features(world, event_id)["attestation"] == known
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"]) == (score, "validated")


def test_what_turns_out_to_be_forged_is_rejected(world: World, devices: Devices) -> None:
    user = world.user()
    event_id = devices.submit(user, devices.unchecked(user))["id"]
    devices.wait(seconds=10)
    devices.recheck(user, event_id, "failed", "wrong_package")
    assert world.validate()["rejected"] == 1
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"]) == (0, "rejected")
    assert found["features"]["attestation"] == -1
    assert hits(world, event_id) == {"attestation_failed": ("enforce", -100)}
    assert world.points(user) == 0
    assert world.cache(user) == (0, 0, 0, 0)
    both = insights(world)
    assert [(i["insight_type"], i["severity"], i["related_event_ids"]) for i in both] == [
        ("attestation_failure", "high", [UUID(event_id)])
    ] * 2
    of_the_check, of_the_judge = sorted(both, key=lambda insight: insight["score"] is not None)
    assert of_the_check["details"] == {
        "reason": "wrong_package",
        "purpose": "submit",
        "platform": "android",
    }
    assert of_the_judge["score"] == 0
    (rule,) = of_the_judge["details"]["rules"]
    assert (rule["rule"], rule["observed"]) == ("attestation_failed", -1)


# Whose device it is


@pytest.mark.parametrize(
    ("accounts", "score", "rules"),
    [
        (1, 85, set()),
        (2, 85, set()),
        (3, 70, {"device_of_three_accounts"}),
        (9, 70, {"device_of_three_accounts"}),
        (10, 40, {"device_of_three_accounts", "device_of_ten_accounts"}),
    ],
)
def test_a_key_that_many_sign_with_is_a_shared_device(
    world: World, devices: Devices, accounts: int, score: int, rules: set[str]
) -> None:
    """No matter what they say that their devices are called: the last of them stands here."""
    users = [world.user() for _ in range(accounts)]
    key = devices.key(users[0])
    events = [
        devices.submit(user, devices.signed(user, key, n), device_id=f"phone {n}")["id"]
        for n, user in enumerate(users, 1)
    ]
    assert features(world, events[-1])["device_accounts"] == accounts
    assert assessment(world, events[-1])["trust_score"] == score
    assert set(hits(world, events[-1])) == {"device_attested", *rules}


def test_a_key_needs_no_name_for_its_device(world: World, devices: Devices) -> None:
    users = [world.user() for _ in range(3)]
    key = devices.key(users[0])
    events = [
        devices.submit(user, devices.signed(user, key, n))["id"] for n, user in enumerate(users, 1)
    ]
    assert features(world, events[-1])["device_accounts"] == 3
    assert "device_is_known" not in assessment(world, events[-1])["features"]


def test_who_came_later_to_a_key_says_nothing_about_an_event(
    world: World, devices: Devices
) -> None:
    users = [world.user() for _ in range(3)]
    key = devices.key(users[0])
    events = []
    for n, user in enumerate(users, 1):
        events.append(devices.submit(user, devices.signed(user, key, n))["id"])
        devices.wait(minutes=1)
    world.validate()
    known = [assessment(world, event)["features"]["device_accounts"] for event in events]
    assert known == [1, 2, 3]


def test_of_a_device_and_its_key_the_more_shared_one_counts(world: World, devices: Devices) -> None:
    for _ in range(3):
        world.submit(world.user(), device_id="tablet")
    user = world.user()
    event_id = devices.submit(user, assertion(world, devices, user), device_id="tablet")["id"]
    assert features(world, event_id)["device_accounts"] == 4


def test_evidence_that_is_refused_makes_nobody_share_a_key(world: World, devices: Devices) -> None:
    owner = world.user()
    key = devices.key(owner)
    for _ in range(9):
        stranger = world.user()
        devices.submit(stranger, devices.signed(stranger, key, 1, challenge=a_hash()))
    event_id = devices.submit(owner, devices.signed(owner, key, 1))["id"]
    assert features(world, event_id)["device_accounts"] == 1
    assert assessment(world, event_id)["trust_score"] == 85


# What is found


def test_refused_evidence_is_a_finding_about_its_user(world: World, devices: Devices) -> None:
    user = world.user()
    key = devices.key(user)
    devices.submit(user, devices.signed(user, key, 1))
    replayed = devices.submit(user, devices.signed(user, key, 1), request_id="r-7")
    assert replayed == failed_for("counter_not_greater")
    assert insights(world) == [
        {
            "user_id": user,
            "insight_type": "attestation_failure",
            "severity": "medium",
            "score": None,
            "details": {
                "reason": "counter_not_greater",
                "purpose": "submit",
                "platform": "ios",
                "key_id": key,
                "request_id": "r-7",
            },
            "related_event_ids": [],
            "resolved": False,
        }
    ]


def test_a_registration_that_is_refused_is_one_as_well(world: World, devices: Devices) -> None:
    user = world.user()
    devices.register(user, evidence=devices.vouched(a_hash(), detail="Why."))
    (insight,) = insights(world)
    assert insight["details"] == {
        "reason": "challenge_not_valid",
        "detail": "Why.",
        "purpose": "register",
        "platform": "ios",
        "request_id": "r-1",
    }


def test_there_is_one_finding_an_hour_and_reason(world: World, devices: Devices) -> None:
    user, other = world.user(), world.user()
    key = devices.key(user)
    for _ in range(5):
        devices.submit(user, devices.integral(user, challenge=a_hash()))
    devices.submit(user, devices.signed(user, key, 0))
    devices.submit(other, devices.integral(other, challenge=a_hash()))
    found = [(insight["user_id"], insight["details"]["reason"]) for insight in insights(world)]
    once = [
        (user, "challenge_not_valid"),
        (other, "challenge_not_valid"),
        (user, "counter_not_greater"),
    ]
    assert sorted(found) == sorted(once)
    devices.wait(hours=1, microseconds=-1)
    devices.submit(user, devices.integral(user, challenge=a_hash()))
    assert len(insights(world)) == 3
    devices.wait(microseconds=1)
    devices.submit(user, devices.integral(user, challenge=a_hash()))
    assert len(insights(world)) == 4
    counted = [number for who, reason, number in devices.failures() if who == user]
    assert sorted(counted) == [1, 1, 6]


def test_sixteen_failures_at_once_are_one_finding(world: World, devices: Devices) -> None:
    user = world.user()
    requests = [
        world.event(user, attestation=devices.integral(user, challenge=a_hash())) for _ in range(16)
    ]
    world.at_once([lambda s, r=r: world.call("public.submit_points_event", r, s) for r in requests])
    assert devices.failures() == [(user, "challenge_not_valid", 16)]
    assert len(insights(world)) == 1


def test_who_was_only_late_is_not_doubted(world: World, devices: Devices) -> None:
    user = world.user()
    devices.submit(user, devices.integral(user, challenge=a_hash()))
    devices.wait(minutes=1)
    event_id = devices.submit(user, devices.integral(user))["id"]
    world.validate()
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"]) == (85, "validated")


def test_who_failed_is_looked_at_for_a_day(world: World, devices: Devices) -> None:
    """An honest event after a forged one waits for a person, until one has looked."""
    user = world.user()
    forged = {"status": "failed", "reason": "wrong_signature", "platform": "ios"}
    devices.submit(user, forged)
    devices.wait(minutes=1)
    event_id = devices.submit(user, devices.integral(user))["id"]
    world.validate()
    found = assessment(world, event_id)
    assert (found["trust_score"], found["verdict"]) == (55, "pending_review")
    assert found["features"]["open_insights"] == 1
    devices.wait(hours=24)
    event_id = devices.submit(user, devices.integral(user))["id"]
    assert world.now() == NOW + timedelta(hours=24, minutes=1)
    assert features(world, event_id)["open_insights"] == 0
