"""What could not be checked when it came is handed out again, and judged by what is found then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.attestation.devices import Devices, failed_for
from tests.world import NOW, World

NOTHING = {"due": [], "given_up": 0}


def waiting(world: World, devices: Devices, user: UUID | None = None, **request: Any) -> str:
    """An event whose evidence nobody could be asked about."""
    user = user or world.user()
    event_id: str = devices.submit(user, devices.unchecked(user), **request)["id"]
    return event_id


def user_of(world: World, event_id: str) -> UUID:
    user: UUID = world.value("select user_id from points_events where id = %s", (event_id,))
    return user


def said(world: World, event_id: str) -> str:
    """What is written of an event's evidence."""
    status: str = world.value("select attestation from points_events where id = %s", (event_id,))
    return status


def due_at(world: World) -> timedelta:
    at: timedelta = world.value("select due_at - internal.clock() from attestation_rechecks")
    return at


def ids(answer: Any) -> list[str]:
    return [due["event_id"] for due in answer["due"]]


# What is due


def test_what_could_not_be_checked_is_due_after_ten_seconds(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.unchecked(user, "the token")
    answer = devices.submit(user, evidence)
    assert (answer["status"], said(world, answer["id"])) == ("pending", "unavailable")
    assert devices.used_by(evidence["challenge_hash"]) == evidence["request_hash"]
    devices.wait(seconds=10, microseconds=-1)
    assert devices.due() == NOTHING
    devices.wait(microseconds=1)
    assert devices.due() == {
        "due": [
            {
                "user_id": str(user),
                "event_id": answer["id"],
                "token": "the token",
                "request_hash": evidence["request_hash"],
                "received_at": "2026-03-02T09:00:00+00:00",
            }
        ],
        "given_up": 0,
    }
    assert devices.due() == NOTHING


def test_each_time_it_waits_twice_as_long_and_never_longer_than_five_minutes(
    world: World, devices: Devices
) -> None:
    waiting(world, devices)
    waits = [due_at(world)]
    for tries in range(1, 8):
        world.pass_time(waits[-1])
        assert len(devices.due()["due"]) == 1
        assert world.value("select tries from attestation_rechecks") == tries
        waits.append(due_at(world))
    assert [int(each.total_seconds()) for each in waits] == [10, 20, 40, 80, 160, 300, 300, 300]


def test_the_oldest_come_first_and_no_more_than_asked(world: World, devices: Devices) -> None:
    events = []
    for _ in range(4):
        events.append(waiting(world, devices))
        devices.wait(seconds=1)
    devices.wait(seconds=8)
    assert ids(devices.due(2)) == events[:2]
    assert ids(devices.due(2)) == events[2:3]
    assert devices.due() == NOTHING
    devices.wait(seconds=1)
    assert ids(devices.due()) == events[3:]


def test_after_an_hour_nobody_asks_any_more(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    devices.wait(minutes=60, microseconds=-1)
    assert ids(devices.due()) == [event_id]
    devices.wait(microseconds=1)
    # It is with somebody, who may yet have an answer.
    assert devices.due() == NOTHING
    devices.wait(seconds=20)
    assert devices.due() == {"due": [], "given_up": 1}
    assert world.count("attestation_rechecks") == 0
    assert (said(world, event_id), world.status(event_id)) == ("unavailable", "pending")
    assert devices.due() == NOTHING


def test_an_hour_is_over_when_it_is(world: World, devices: Devices) -> None:
    waiting(world, devices)
    devices.wait(hours=1)
    assert devices.due() == {"due": [], "given_up": 1}


def test_a_replay_waits_once_and_a_refused_one_never(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.unchecked(user)
    request: dict[str, Any] = {"nonce": "n-1", "at": NOW}
    devices.submit(user, evidence, **request)
    assert devices.submit(user, evidence, **request)["replayed"] is True
    again = devices.unchecked(user, "another token")
    assert devices.submit(user, again, **request)["replayed"] is True
    assert world.count("attestation_rechecks") == 1
    other = devices.submit(user, {**evidence, "request_hash": "0" * 64})
    assert other == failed_for("challenge_not_valid")
    late = devices.unchecked(world.user())
    (outcome,) = world.submit_batch(
        world.event(world.user(), attestation=late, at=NOW - timedelta(days=8))
    )
    assert outcome.refusal
    assert world.rows("select token from attestation_rechecks") == [{"token": "a token"}]


def test_in_a_batch_each_keeps_its_own_token(world: World, devices: Devices) -> None:
    users = [world.user() for _ in range(4)]
    outcomes = world.submit_batch(
        world.event(users[0], attestation=devices.unchecked(users[0], "zero")),
        world.event(users[1], attestation=devices.integral(users[1])),
        world.event(users[2], attestation=devices.unchecked(users[2], "two")),
        world.event(users[3], attestation={"status": "missing"}),
    )
    rows = world.rows("select user_id, event_id::text, token from attestation_rechecks order by 3")
    assert [tuple(row.values()) for row in rows] == [
        (users[2], outcomes[2].answer and outcomes[2].answer["id"], "two"),
        (users[0], outcomes[0].answer and outcomes[0].answer["id"], "zero"),
    ]


def test_several_share_the_work(world: World, devices: Devices) -> None:
    events = {waiting(world, devices) for _ in range(24)}
    devices.wait(seconds=10)
    answers = world.at_once([lambda session: devices.due(6, session)] * 4, user="tallybook_worker")
    found = [event for answer in answers for event in ids(answer)]
    assert len(found) == len(set(found))
    assert {*found, *ids(devices.due())} == events


def test_nobody_waits_for_what_another_takes(world: World, devices: Devices) -> None:
    events = []
    for _ in range(2):
        events.append(waiting(world, devices))
        devices.wait(seconds=1)
    devices.wait(seconds=10)
    first = world.session("tallybook_worker", autocommit=False)
    assert ids(devices.due(1, first)) == events[:1]
    assert ids(devices.due()) == events[1:]
    # Who dies over one loses nothing.
    first.rollback()
    assert ids(devices.due()) == events[:1]


# What it is worth


@pytest.mark.parametrize("status", ["verified", "unsupported"])
def test_the_answer_is_written_to_the_event_and_the_token_goes(
    world: World, devices: Devices, status: str
) -> None:
    event_id = waiting(world, devices)
    devices.wait(seconds=10)
    assert devices.recheck(user_of(world, event_id), event_id, status) == {"rechecked": True}
    (event,) = world.rows("select attestation, validation_status, updated_at from points_events")
    assert tuple(event.values()) == (status, "pending", NOW + timedelta(seconds=10))
    assert world.count("attestation_rechecks") == 0
    devices.wait(hours=2)
    assert devices.due() == NOTHING
    assert devices.failures() == []


def test_what_is_false_is_written_down_with_its_event(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    devices.wait(seconds=10)
    devices.recheck(user, event_id, "failed", "wrong_package")
    assert said(world, event_id) == "failed"
    (row,) = world.rows("select * from attestation_failures")
    assert row == {
        "user_id": user,
        "hour": NOW,
        "reason": "wrong_package",
        "purpose": "submit",
        "platform": "android",
        "key_id": None,
        "event_id": UUID(event_id),
        "failures": 1,
        "detail": None,
        "request_id": None,
        "failed_at": world.now(),
    }


def test_a_failure_keeps_naming_its_event(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    devices.recheck(user, event_id, "failed", "wrong_package")
    false = {"platform": "android", "status": "failed", "reason": "wrong_package"}
    assert devices.submit(user, false) == failed_for("wrong_package")
    (row,) = world.rows("select event_id, failures from attestation_failures")
    assert tuple(row.values()) == (UUID(event_id), 2)
    later = waiting(world, devices, user)
    devices.recheck(user, later, "failed", "wrong_package")
    (row,) = world.rows("select event_id, failures from attestation_failures")
    assert tuple(row.values()) == (UUID(later), 3)


def test_an_answer_counts_once(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    devices.recheck(user, event_id, "verified")
    for status in ("failed", "verified", "unsupported"):
        assert devices.recheck(user, event_id, status, "wrong_package") == {"rechecked": False}
    assert said(world, event_id) == "verified"
    assert devices.failures() == []


def test_an_answer_is_about_one_event(world: World, devices: Devices) -> None:
    user = world.user()
    first, second = (waiting(world, devices, user) for _ in range(2))
    checked = devices.submit(user, devices.integral(user))["id"]
    stranger = world.user()
    for who, event in ((stranger, first), (user, checked)):
        assert devices.recheck(who, event, "failed", "r") == {"rechecked": False}
    devices.recheck(user, first, "verified")
    assert [said(world, event) for event in (first, second, checked)] == [
        "verified",
        "unavailable",
        "verified",
    ]
    assert world.count("attestation_rechecks", "event_id = %s", second) == 1


def test_what_was_decided_meanwhile_stays_decided(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    devices.wait(minutes=15)
    world.validate()
    assert (world.status(event_id), world.points(user)) == ("validated", 10)
    assert devices.recheck(user, event_id, "failed", "wrong_package") == {"rechecked": True}
    assert (world.status(event_id), said(world, event_id)) == ("validated", "failed")
    assert world.points(user) == 10
    # But a person hears of it.
    (insight,) = world.rows("select insight_type, related_event_ids from fraud_insights")
    assert tuple(insight.values()) == ("attestation_failure", [UUID(event_id)])


def test_what_a_person_wrote_meanwhile_stays_written(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    world.admin.execute("update points_events set attestation = 'unsupported'")
    assert devices.recheck(user_of(world, event_id), event_id, "verified") == {"rechecked": True}
    assert said(world, event_id) == "unsupported"


def test_of_eight_answers_at_once_one_counts(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    answers = world.at_once(
        [
            lambda s, n=n: devices.recheck(user, event_id, "failed", f"reason_{'abcdefgh'[n]}", s)
            for n in range(8)
        ],
        user="tallybook_worker",
    )
    assert sorted(answer["rechecked"] for answer in answers) == [False] * 7 + [True]
    assert len(devices.failures()) == 1


def test_who_judges_waits_for_the_answer_that_is_being_given(
    world: World, devices: Devices
) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    first = world.session("tallybook_worker", autocommit=False)
    devices.recheck(user, event_id, "failed", "wrong_package", first)
    with world.in_background(
        lambda s: world.validate(event_id, through=s), world.session("tallybook_worker")
    ) as judge:
        first.commit()
    assert judge.result()["rejected"] == 1
    assert world.status(event_id) == "rejected"


def test_an_answer_waits_for_who_judges(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    devices.wait(minutes=15)
    first = world.session("tallybook_worker", autocommit=False)
    world.validate(through=first)
    with world.in_background(
        lambda s: devices.recheck(user, event_id, "verified", through=s),
        world.session("tallybook_worker"),
    ) as answer:
        first.commit()
    assert answer.result() == {"rechecked": True}
    assert (world.status(event_id), said(world, event_id)) == ("validated", "verified")


def test_the_functions_and_operators_check_nothing_again(world: World, devices: Devices) -> None:
    event_id = waiting(world, devices)
    user = user_of(world, event_id)
    for session in (world.functions, world.operator):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            devices.due(through=session)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            devices.recheck(user, event_id, "verified", through=session)


def test_nobody_but_the_worker_ever_sees_a_token(world: World, devices: Devices) -> None:
    waiting(world, devices)
    for session in (world.functions, world.worker, world.operator):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select token from attestation_rechecks")
