"""Submitting: an event is recorded once, whatever arrives twice, and earns nothing yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.world import NOW, Connection, World, refused

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()


def said(world: World, request: dict[str, Any], through: Connection) -> Any:
    """The answer to this very request, without what is left of the limit."""
    answer = world.call("public.submit_points_event", request, through)
    answer.pop("rate_limit", None)
    return answer


def test_a_submission_is_recorded_as_it_was_said(world: World) -> None:
    user, entity = world.user(), uuid4()
    answer = world.submit(
        user,
        event_type="workout",
        at=NOW - timedelta(hours=2),
        nonce="n-1",
        related_entity_type="gym",
        related_entity_id=entity,
        proof_payload={"km": 5.25},
        attestation={"status": "not_configured"},
        device_id="phone",
        device_info={"os": "android"},
        ip_address="2001:db8::1",
        request_id="r-1",
    )
    assert answer == {
        "id": answer["id"],
        "status": "pending",
        "event_type": "workout",
        "event_time": "2026-03-02T07:00:00+00:00",
        "created_at": "2026-03-02T09:00:00+00:00",
        "replayed": False,
    }
    (row,) = world.rows("select * from points_events")
    assert len(row.pop("payload_hash")) == 64
    assert str(row.pop("ip_address")) == "2001:db8::1"
    assert row == {
        "user_id": user,
        "id": row["id"],
        "event_type": "workout",
        "event_time": NOW - timedelta(hours=2),
        "points_delta": 20,
        "proof_type": "internal",
        "proof_payload": {"km": 5.25},
        "validation_status": "pending",
        "validated_at": None,
        "validated_by": None,
        "validation_notes": None,
        "trust_score": None,
        "streak_days": None,
        "related_entity_type": "gym",
        "related_entity_id": entity,
        "nonce": "n-1",
        "device_id": "phone",
        "device_info": {"os": "android"},
        "attestation": "not_configured",
        "device_key": None,
        "request_id": "r-1",
        "transfer_id": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    assert str(row["id"]) == answer["id"]


def test_its_nonce_is_kept_for_seven_days(world: World) -> None:
    user = world.user()
    world.submit(user, nonce="n-1")
    (nonce,) = world.rows("select * from used_nonces")
    assert (nonce["user_id"], nonce["nonce"], nonce["event_type"]) == (
        user,
        "n-1",
        "habit_completion",
    )
    assert (nonce["created_at"], nonce["expires_at"]) == (NOW, NOW + 7 * DAY)
    assert nonce["payload_hash"] == world.value("select payload_hash from points_events")
    assert nonce["sealed"] is None


def test_what_is_submitted_is_pending_and_not_available(world: World) -> None:
    user = world.user(points=100)
    world.submit(user, event_type="workout")
    world.submit(user, event_type="goal_achieved")
    assert world.cache(user) == (100, 70, 100, 0)
    assert world.points(user) == 100


@pytest.mark.parametrize(
    ("event_type", "points"),
    [
        ("habit_completion", 10),
        ("workout", 20),
        ("morning_reflection", 15),
        ("evening_reflection", 15),
        ("goal_achieved", 50),
        ("streak_milestone", 25),
        ("activity_completion", 10),
    ],
)
def test_the_server_says_what_an_event_earns(world: World, event_type: str, points: int) -> None:
    world.submit(world.user(), event_type=event_type)
    assert world.value("select points_delta from points_events") == points


def test_the_same_submission_again_is_the_same_event(world: World) -> None:
    user = world.user()
    request = world.event(user, proof_payload={"km": 5})
    first = said(world, request, world.functions)
    world.pass_time(SECOND)
    again = said(world, request, world.functions)
    assert again == {**first, "replayed": True}
    assert world.count("points_events") == 1
    assert world.cache(user) == (0, 10, 0, 0)


def test_it_is_the_same_event_after_eight_days_and_without_its_nonce(world: World) -> None:
    request = world.event(world.user())
    first = said(world, request, world.functions)
    world.validate()
    world.pass_time(8 * DAY)
    world.clean_nonces()
    assert world.count("used_nonces") == 0
    again = said(world, request, world.functions)
    assert again == {**first, "replayed": True}
    assert world.count("points_events") == 1


def test_it_is_the_same_event_while_it_would_still_be_new_but_for_its_nonce(world: World) -> None:
    # Dated ahead, it is not too old on the day on which its nonce is forgotten.
    request = world.event(world.user(), at=NOW + timedelta(minutes=10))
    first = said(world, request, world.functions)
    world.pass_time(7 * DAY + timedelta(minutes=5))
    world.clean_nonces()
    again = said(world, request, world.functions)
    assert again == {**first, "replayed": True}
    assert world.count("points_events") == 1


def test_key_order_and_white_space_do_not_make_another_payload(world: World) -> None:
    user = world.user()
    request = {"at": NOW - SECOND, "nonce": "n-1"}
    first = world.submit(user, **request, proof_payload='{"a": 1, "b": {"x": [1, 2], "y": null}}')
    again = world.submit(user, **request, proof_payload='{"b":{"y":null,"x":[1,2]},"a":1}')
    assert (again["id"], again["replayed"]) == (first["id"], True)


def test_the_same_moment_in_another_time_zone_is_not_another_payload(world: World) -> None:
    user = world.user()
    first = world.submit(user, nonce="n-1", at="2026-03-02T08:00:00Z")
    again = world.submit(user, nonce="n-1", at="2026-03-02T13:30:00+05:30")
    assert (again["id"], again["replayed"]) == (first["id"], True)


@pytest.mark.parametrize(
    "change",
    [
        {"event_type": "workout"},
        {"at": NOW - 2 * SECOND},
        {"related_entity_type": "gym"},
        {"related_entity_id": uuid4()},
        {"proof_payload": {"km": 6, "route": {"laps": [1, 2]}}},
        {"proof_payload": {"km": 5, "route": {"laps": [1, 3]}}},
        {"proof_payload": None},
        {"device_id": "tablet"},
        {"device_info": {"os": "ios"}},
    ],
    ids=lambda change: "-".join(change),
)
def test_the_same_nonce_with_another_payload_is_refused(
    world: World, change: dict[str, Any]
) -> None:
    user = world.user()
    request = {
        "at": NOW - SECOND,
        "nonce": "n-1",
        "proof_payload": {"km": 5, "route": {"laps": [1, 2]}},
        "device_id": "phone",
    }
    world.submit(user, **request)
    with refused("nonce_reused", 409, "nonce: "):
        world.submit(user, **{**request, **change})
    assert world.count("points_events") == 1


def test_what_the_network_adds_does_not_make_another_payload(world: World) -> None:
    user = world.user()
    request = {"at": NOW - SECOND, "nonce": "n-1"}
    first = world.submit(user, **request, ip_address="192.0.2.1", request_id="r-1")
    again = world.submit(user, **request, ip_address="192.0.2.2", request_id="r-2")
    assert again["id"] == first["id"]
    assert world.value("select request_id from points_events") == "r-1"


def test_a_nonce_belongs_to_one_user(world: World) -> None:
    first = world.submit(world.user(), nonce="n-1")
    second = world.submit(world.user(), nonce="n-1")
    assert first["id"] != second["id"]
    assert not second["replayed"]


@pytest.mark.parametrize(
    ("request_", "code", "status", "detail"),
    [
        ({"event_type": "sleeping"}, "unknown_event_type", 400, "event_type: "),
        ({"event_type": None}, "unknown_event_type", 400, "event_type: "),
        ({"event_type": "admin_award"}, "event_type_not_submittable", 403, "event_type: "),
        ({"event_type": "admin_deduction"}, "event_type_not_submittable", 403, "event_type: "),
        ({"event_type": "redeem_coupon"}, "event_type_not_submittable", 403, "event_type: "),
        ({"event_type": "coupon_refund"}, "event_type_not_submittable", 403, "event_type: "),
        ({"event_type": "history_import"}, "event_type_not_submittable", 403, "event_type: "),
        (
            {"at": NOW + timedelta(minutes=10, microseconds=1)},
            "event_in_future",
            400,
            "event_time: ",
        ),
        ({"at": datetime(9999, 1, 1, tzinfo=UTC)}, "event_in_future", 400, "event_time: "),
        ({"at": NOW - 7 * DAY - timedelta(microseconds=1)}, "event_too_old", 400, "event_time: "),
        ({"at": datetime(1, 1, 1, tzinfo=UTC)}, "event_too_old", 400, "event_time: "),
    ],
)
def test_a_refused_submission_leaves_nothing(
    world: World, request_: dict[str, Any], code: str, status: int, detail: str
) -> None:
    user = world.user()
    with refused(code, status, detail):
        world.submit(user, nonce="n-1", **request_)
    assert world.count("points_events") == world.count("used_nonces") == 0
    assert world.cache(user) is None
    # So its nonce is still good.
    assert world.submit(user, nonce="n-1")["replayed"] is False


@pytest.mark.parametrize("at", [NOW + timedelta(minutes=10), NOW, NOW - 7 * DAY])
def test_the_limits_of_time_are_still_inside(world: World, at: datetime) -> None:
    assert world.submit(world.user(), at=at)["status"] == "pending"


def test_the_first_reason_in_the_documented_order_is_given(world: World) -> None:
    user = world.user()
    world.submit(user, nonce="n-1")
    ancient = NOW - 30 * DAY
    with refused("nonce_reused", 409):
        world.submit(user, nonce="n-1", event_type="sleeping", at=ancient)
    with refused("unknown_event_type", 400):
        world.submit(user, event_type="sleeping", at=ancient)
    with refused("event_type_not_submittable", 403):
        world.submit(user, event_type="admin_award", at=ancient)


@pytest.mark.parametrize("missing", ["user_id", "nonce", "event_time"])
def test_what_the_function_fills_in_is_not_optional_here(world: World, missing: str) -> None:
    request = {**world.event(uuid4()), missing: None}
    with pytest.raises(psycopg.Error):
        said(world, request, world.functions)
    assert world.count("points_events") == world.count("used_nonces") == 0


def test_a_batch_answers_each_of_its_users(world: World) -> None:
    users = [world.user() for _ in range(50)]
    outcomes = world.submit_batch(*(world.event(user) for user in users))
    assert [o.position for o in outcomes] == list(range(1, 51))
    assert all(o.refusal is None and o.answer["status"] == "pending" for o in outcomes if o.answer)
    owners = {
        str(r["id"]): r["user_id"] for r in world.rows("select id, user_id from points_events")
    }
    assert [owners[o.answer["id"]] for o in outcomes if o.answer] == users
    assert world.count("user_points_cache", "pending_points = 10") == 50


def test_who_is_refused_in_a_batch_leaves_the_neighbours_alone(world: World) -> None:
    old, replaying = world.user(), world.user()
    replay = world.event(replaying)
    world.submit_batch(replay)
    world.submit(old, nonce="n-1")
    outcomes = world.submit_batch(
        world.event(world.user()),
        world.event(world.user(), at=NOW + timedelta(minutes=11)),
        replay,
        world.event(old, nonce="n-1", event_type="workout"),
        world.event(world.user(), event_type="admin_award"),
        world.event(world.user()),
    )
    assert [o.answer and o.answer["replayed"] for o in outcomes] == [
        False,
        None,
        True,
        None,
        None,
        False,
    ]
    refusals = [(o.position, o.refusal["code"], o.refusal["status"]) for o in outcomes if o.refusal]
    assert refusals == [
        (2, "event_in_future", 400),
        (4, "nonce_reused", 409),
        (5, "event_type_not_submittable", 403),
    ]
    assert outcomes[1].refusal == {
        "code": "event_in_future",
        "status": 400,
        "detail": outcomes[1].refusal and outcomes[1].refusal["detail"],
        "hint": "Check the clock of the device.",
    }
    assert world.count("points_events") == 4


def test_a_batch_holds_one_request_of_a_user(world: World) -> None:
    user = world.user()
    with pytest.raises(psycopg.errors.RaiseException):
        world.submit_batch(world.event(user), world.event(world.user()), world.event(user))
    assert world.count("points_events") == 0


@pytest.mark.parametrize("users", [[], [None]], ids=["nobody", "no name"])
def test_a_batch_acts_for_somebody(world: World, users: list[None]) -> None:
    with pytest.raises(psycopg.errors.RaiseException):
        world.submit_batch(*({**world.event(uuid4()), "user_id": user} for user in users))


def test_of_two_sessions_with_one_nonce_the_other_replays(world: World) -> None:
    request = world.event(world.user())
    first = world.session("tallybook_functions", autocommit=False)
    answer = said(world, request, first)
    with world.in_background(
        lambda session: said(world, request, session),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    assert second.result() == {**answer, "replayed": True}
    assert world.count("points_events") == 1


def test_of_two_sessions_with_one_nonce_and_two_payloads_the_other_is_refused(
    world: World,
) -> None:
    user = world.user()
    first = world.session("tallybook_functions", autocommit=False)
    world.submit(user, nonce="n-1", through=first)
    with world.in_background(
        lambda session: world.submit(user, nonce="n-1", event_type="workout", through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    with refused("nonce_reused", 409, "nonce: "):
        second.result()
    assert world.count("points_events") == 1
    assert world.cache(user) == (0, 10, 0, 0)


def test_a_nonce_whose_session_gave_up_is_free(world: World) -> None:
    user = world.user()
    first = world.session("tallybook_functions", autocommit=False)
    world.submit(user, nonce="n-1", through=first)
    with world.in_background(
        lambda session: world.submit(user, nonce="n-1", event_type="workout", through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.rollback()
    assert second.result()["replayed"] is False
    assert world.value("select event_type from points_events") == "workout"


def test_a_lost_race_inside_a_batch_keeps_everybodys_place(world: World) -> None:
    user = world.user()
    request = world.event(user)
    first = world.session("tallybook_functions", autocommit=False)
    answer = said(world, request, first)
    neighbours = [world.event(world.user()), world.event(world.user(), event_type="admin_award")]
    with world.in_background(
        lambda session: world.submit_batch(neighbours[0], request, neighbours[1], through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    stored, replayed, refusal = second.result()
    assert stored.answer and stored.answer["replayed"] is False
    assert replayed.answer == {**answer, "replayed": True}
    assert refusal.refusal and refusal.refusal["code"] == "event_type_not_submittable"
    assert world.count("points_events") == 2


def test_twenty_sessions_with_one_nonce_store_one_event(world: World) -> None:
    request = world.event(world.user())
    answers = world.at_once([lambda s: said(world, request, s)] * 20)
    assert len({answer["id"] for answer in answers}) == 1
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 19
    assert world.count("points_events") == 1


def test_many_events_of_one_user_at_once_are_all_pending(world: World) -> None:
    user = world.user()
    requests = [world.event(user) for _ in range(20)]
    answers = world.at_once([lambda s, r=r: said(world, r, s) for r in requests])
    assert len({answer["id"] for answer in answers}) == 20
    assert world.cache(user) == (0, 200, 0, 0)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            "insert into used_nonces (user_id, nonce, event_type, payload_hash)"
            " select user_id, nonce, event_type, 'another' from used_nonces",
            "used_nonces_pkey",
        ),
        (
            "insert into points_events"
            " (user_id, event_type, event_time, points_delta, payload_hash)"
            " select user_id, event_type, event_time, points_delta, payload_hash"
            " from points_events",
            "points_events_user_id_payload_hash_key",
        ),
    ],
    ids=["nonce", "payload hash"],
)
def test_the_constraints_stand_behind_the_procedure(
    world: World, statement: str, constraint: str
) -> None:
    world.submit(world.user())
    with pytest.raises(psycopg.errors.UniqueViolation) as violation:
        world.admin.execute(statement)
    assert violation.value.diag.constraint_name == constraint


def test_nobody_is_woken_unless_a_worker_sleeps(world: World) -> None:
    listener = world.session()
    listener.execute("listen points_events")
    world.submit(world.user())
    assert list(listener.notifies(timeout=0)) == []
    world.worker.execute("insert into internal.workers values ('w-1', true)")
    world.submit(world.user())
    (notification,) = listener.notifies(timeout=5, stop_after=1)
    assert notification.channel == "points_events"
