"""What a device proved is used up with the event that it proves: once, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.attestation.devices import Devices, Evidence, a_hash, a_key_id, failed_for
from tests.world import NOW, Outcome, World, refused


def codes(outcomes: list[Outcome]) -> list[str | None]:
    """What became of each of a batch: None where it was stored, or why its evidence is no good."""
    found: list[str | None] = []
    for outcome in outcomes:
        refusal = outcome.refusal
        assert (outcome.answer is None) == (refusal is not None)
        if refusal is not None:
            assert (refusal["code"], refusal["status"]) == ("attestation_failed", 403)
        found.append(refusal and refusal["detail"].removeprefix("reason: "))
    return found


def consumed(world: World) -> int:
    return world.count("attestation_challenges", "request_hash is not null and purpose = 'submit'")


# It does


def test_an_assertion_is_used_up_with_its_event(world: World, devices: Devices) -> None:
    user = world.user()
    key = devices.key(user)
    devices.wait(minutes=1)
    evidence = devices.signed(user, key, 1)
    answer = devices.submit(user, evidence)
    assert (answer["status"], answer["replayed"]) == ("pending", False)
    (event,) = world.rows("select id, attestation, device_key from points_events")
    assert (str(event["id"]), event["attestation"]) == (answer["id"], "verified")
    assert event["device_key"] == key
    assert devices.used_by(evidence["challenge_hash"]) == evidence["request_hash"]
    (kept,) = world.rows("select sign_count, request_hash, last_used_at from device_keys")
    assert tuple(kept.values()) == (1, evidence["request_hash"], NOW + timedelta(minutes=1))
    assert devices.failures() == []


def test_a_token_is_used_up_with_its_event(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.integral(user)
    devices.submit(user, evidence)
    (event,) = world.rows("select attestation, device_key from points_events")
    assert tuple(event.values()) == ("verified", None)
    assert devices.used_by(evidence["challenge_hash"]) == evidence["request_hash"]
    assert world.count("device_keys") == 0


@pytest.mark.parametrize("status", ["missing", "unsupported", "not_configured"])
def test_who_proves_nothing_uses_nothing_up(world: World, devices: Devices, status: str) -> None:
    user = world.user()
    challenge = devices.challenge(user)
    assert devices.submit(user, {"status": status})["status"] == "pending"
    assert world.value("select attestation from points_events") == status
    assert devices.used_by(challenge) is None
    assert devices.failures() == []


def test_a_token_that_is_bound_to_nothing_proves_nothing(world: World, devices: Devices) -> None:
    for evidence in ({"token": "t"}, {"status": "unsupported", "token": "t"}):
        assert devices.submit(world.user(), evidence)["status"] == "pending"
    assert world.count("points_events", "attestation is distinct from 'verified'") == 2
    assert world.count("attestation_rechecks") == 0


@pytest.mark.parametrize("count", [2, 1000, 2**31, 2**32 - 1])
def test_a_counter_may_jump(world: World, devices: Devices, count: int) -> None:
    user = world.user()
    key = devices.key(user)
    devices.submit(user, devices.signed(user, key, 1))
    devices.submit(user, devices.signed(user, key, count))
    assert devices.counted(key) == count
    assert world.count("points_events", "attestation = 'verified'") == 2


def test_whoever_signs_in_on_a_device_signs_with_its_key(world: World, devices: Devices) -> None:
    owner, guest = world.user(), world.user()
    key = devices.key(owner)
    devices.wait(minutes=1)
    devices.submit(guest, devices.signed(guest, key, 1))
    devices.wait(minutes=1)
    devices.submit(guest, devices.signed(guest, key, 2))
    rows = world.rows("select user_id, first_seen_at from device_key_users order by 2")
    assert [tuple(row.values()) for row in rows] == [
        (owner, NOW),
        (guest, NOW + timedelta(minutes=1)),
    ]
    assert world.value("select user_id from device_keys") == owner


@pytest.mark.parametrize("counts", [(1, 2), (2, 1)])
def test_two_users_of_one_device_come_in_one_batch(
    world: World, devices: Devices, counts: tuple[int, int]
) -> None:
    users = [world.user(), world.user()]
    key = devices.key(users[0])
    evidence = [devices.signed(u, key, n) for u, n in zip(users, counts, strict=True)]
    outcomes = world.submit_batch(
        *(world.event(u, attestation=e) for u, e in zip(users, evidence, strict=True))
    )
    assert codes(outcomes) == [None, None]
    assert world.count("points_events", "attestation = 'verified' and device_key = %s", key) == 2
    assert devices.counted(key) == 2
    last = evidence[counts.index(2)]["request_hash"]
    assert world.value("select request_hash from device_keys") == last
    assert devices.users(key) == set(users)


# It replays


@pytest.mark.parametrize("platform", ["ios", "android"])
def test_the_very_same_request_again_is_a_replay(
    world: World, devices: Devices, platform: str
) -> None:
    user = world.user()
    evidence = (
        devices.signed(user, devices.key(user), 1) if platform == "ios" else devices.integral(user)
    )
    request: dict[str, Any] = {"nonce": "n-1", "at": NOW}
    first = devices.submit(user, evidence, **request)
    assert devices.submit(user, evidence, **request) == {**first, "replayed": True}
    # Not even what is past its time, and gone, makes another answer.
    devices.wait(days=1)
    devices.clean()
    assert world.count("attestation_challenges") == 0
    assert devices.submit(user, evidence, **request) == {**first, "replayed": True}
    assert (devices.stored(), devices.failures()) == (1, [])


def test_a_replay_uses_nothing_up_whatever_it_comes_with(world: World, devices: Devices) -> None:
    user = world.user()
    key = devices.key(user)
    request: dict[str, Any] = {"nonce": "n-1", "at": NOW}
    first = devices.submit(user, devices.signed(user, key, 1), **request)
    again = devices.signed(user, key, 2)
    failed = {**devices.signed(user, key, 3), "status": "failed", "reason": "wrong_signature"}
    for evidence in (again, failed, devices.signed(user, a_key_id(), 1), {"status": "missing"}):
        assert devices.submit(user, evidence, **request) == {**first, "replayed": True}
    assert devices.counted(key) == 1
    assert consumed(world) == 1
    assert devices.failures() == []
    assert world.value("select attestation from points_events") == "verified"


def test_what_was_refused_for_another_reason_comes_again_as_it_is(
    world: World, devices: Devices
) -> None:
    """What its device proved is used up, and for this very request it is still good."""
    user = world.user()
    key = devices.key(user)
    evidence = devices.signed(user, key, 1)
    request = world.event(user, at=NOW + timedelta(minutes=11), attestation=evidence)
    (outcome,) = world.submit_batch(request)
    assert outcome.refusal and outcome.refusal["code"] == "event_in_future"
    assert (devices.counted(key), devices.stored()) == (1, 0)
    devices.wait(minutes=6)
    (outcome,) = world.submit_batch(request)
    assert outcome.answer and outcome.answer["replayed"] is False
    assert (devices.counted(key), devices.failures()) == (1, [])
    assert world.value("select attestation from points_events") == "verified"


def test_a_refusal_that_is_raised_takes_back_what_was_used_up(
    world: World, devices: Devices
) -> None:
    user = world.user()
    key = devices.key(user)
    evidence = devices.signed(user, key, 1)
    with refused("unknown_event_type", 400):
        devices.submit(user, evidence, event_type="swimming")
    assert (devices.counted(key), devices.used_by(evidence["challenge_hash"])) == (0, None)


def test_one_request_that_was_signed_twice_leaves_the_greater_number(
    world: World, devices: Devices
) -> None:
    user = world.user()
    key = devices.key(user)
    later = devices.signed(user, key, 6)
    earlier = {**later, "sign_count": 5}
    ahead = NOW + timedelta(hours=1)
    for evidence in (later, earlier):
        (outcome,) = world.submit_batch(world.event(user, at=ahead, attestation=evidence))
        assert outcome.refusal and outcome.refusal["code"] == "event_in_future"
        assert devices.counted(key) == 6
    assert devices.submit(user, devices.signed(user, key, 6)) == failed_for("counter_not_greater")


# It refuses


@pytest.mark.parametrize("count", [0, 4, 5])
def test_a_counter_that_does_not_grow_is_refused(
    world: World, devices: Devices, count: int
) -> None:
    user = world.user()
    key = devices.key(user)
    devices.submit(user, devices.signed(user, key, 5))
    assert devices.submit(user, devices.signed(user, key, count)) == failed_for(
        "counter_not_greater"
    )
    assert (devices.stored(), devices.counted(key)) == (1, 5)
    assert world.count("used_nonces") == 1
    assert world.cache(user) == (0, 10, 0, 0)
    assert devices.submit(user, devices.signed(user, key, 6))["replayed"] is False


def test_a_counter_counts_for_whoever_signs(world: World, devices: Devices) -> None:
    owner, guest = world.user(), world.user()
    key = devices.key(owner)
    devices.submit(owner, devices.signed(owner, key, 5))
    assert devices.submit(guest, devices.signed(guest, key, 5)) == failed_for("counter_not_greater")
    assert devices.users(key) == {owner}


def of_another_user(world: World, devices: Devices, user: UUID, platform: str) -> str:
    return devices.challenge(world.user(), "submit", platform)


def for_another_purpose(world: World, devices: Devices, user: UUID, platform: str) -> str:
    return devices.challenge(user, "register", platform)


def for_another_platform(world: World, devices: Devices, user: UUID, platform: str) -> str:
    return devices.challenge(user, "submit", "android" if platform == "ios" else "ios")


def expired(world: World, devices: Devices, user: UUID, platform: str) -> str:
    challenge = devices.challenge(user, "submit", platform)
    devices.wait(minutes=5)
    return challenge


def used_by_another_request(world: World, devices: Devices, user: UUID, platform: str) -> str:
    challenge = devices.challenge(user, "submit", platform)
    if platform == "ios":
        devices.submit(user, devices.signed(user, devices.key(user), 1, challenge=challenge))
    else:
        devices.submit(user, devices.integral(user, challenge=challenge))
    return challenge


def never_asked(world: World, devices: Devices, user: UUID, platform: str) -> str:
    return a_hash()


@pytest.mark.parametrize(
    ("platform", "status"),
    [("ios", "verified"), ("android", "verified"), ("android", "unavailable")],
)
@pytest.mark.parametrize(
    "arranged",
    [
        of_another_user,
        for_another_purpose,
        for_another_platform,
        expired,
        used_by_another_request,
        never_asked,
    ],
    ids=lambda arranged: arranged.__name__,
)
def test_a_challenge_that_is_not_for_this_is_not_valid(
    world: World,
    devices: Devices,
    arranged: Callable[[World, Devices, UUID, str], str],
    platform: str,
    status: str,
) -> None:
    user = world.user()
    challenge = arranged(world, devices, user, platform)
    key = devices.key(user)
    if platform == "ios":
        evidence = devices.signed(user, key, 3, challenge=challenge)
    else:
        evidence = devices.integral(user, challenge=challenge, status=status)
    if status == "unavailable":
        evidence["token"] = "a token"
    asked = "select * from attestation_challenges order by challenge_id"
    before, stored = world.rows(asked), devices.stored()
    assert devices.submit(user, evidence) == failed_for("challenge_not_valid")
    assert (world.rows(asked), devices.stored()) == (before, stored)
    assert devices.counted(key) == 0
    assert world.count("attestation_rechecks") == 0
    assert devices.failures() == [(user, "challenge_not_valid", 1)]


def test_five_minutes_are_not_over_before_they_are(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.integral(user)
    devices.wait(minutes=5, microseconds=-1)
    assert devices.submit(user, evidence)["status"] == "pending"


def test_what_is_bound_to_no_request_proves_nothing(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.integral(user, request_hash=None)
    assert devices.submit(user, evidence) == failed_for("challenge_not_valid")
    assert devices.used_by(evidence["challenge_hash"]) is None


def test_a_key_that_nobody_registered_is_unknown(world: World, devices: Devices) -> None:
    user = world.user()
    assert devices.submit(user, devices.signed(user, a_key_id(), 1)) == failed_for("unknown_key")
    assert devices.stored() == world.count("device_key_users") == 0


def test_a_revoked_key_is_unknown(world: World, devices: Devices) -> None:
    user = world.user()
    key = devices.key(user)
    devices.submit(user, devices.signed(user, key, 1))
    devices.revoke(key)
    assert devices.submit(user, devices.signed(user, key, 2)) == failed_for("unknown_key")
    assert (devices.stored(), devices.counted(key)) == (1, 1)


def test_an_operator_revokes_a_key_and_changes_nothing_else(world: World, devices: Devices) -> None:
    key = devices.key(world.user())
    devices.revoke(key)
    assert world.count("device_keys", "revoked_at is not null") == 1
    for change in ("sign_count = 9", "public_key = public_key", "user_id = user_id"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            world.operator.execute(f"update device_keys set {change}")


def test_evidence_that_is_false_is_written_down_and_uses_nothing_up(
    world: World, devices: Devices
) -> None:
    user = world.user()
    key = devices.key(user)
    evidence = devices.signed(user, key, 1, status="failed", reason="wrong_signature", detail="D")
    answer = devices.submit(user, evidence, request_id="r-9")
    assert answer == failed_for("wrong_signature")
    assert devices.stored() == world.count("used_nonces") == 0
    assert devices.used_by(evidence["challenge_hash"]) is None
    assert devices.counted(key) == 0
    (row,) = world.rows("select * from attestation_failures")
    assert row == {
        "user_id": user,
        "hour": NOW,
        "reason": "wrong_signature",
        "purpose": "submit",
        "platform": "ios",
        "key_id": key,
        "event_id": None,
        "failures": 1,
        "detail": "D",
        "request_id": "r-9",
        "failed_at": NOW,
    }


def test_the_reason_of_the_body_comes_after_that_of_the_device(
    world: World, devices: Devices
) -> None:
    user = world.user()
    world.submit(user, nonce="n-1")
    false = {"platform": "ios", "status": "failed", "reason": "wrong_signature"}
    with refused("nonce_reused", 409):
        devices.submit(user, false, nonce="n-1")
    answer = devices.submit(user, false, event_type="swimming")
    assert answer == failed_for("wrong_signature")


def test_who_fails_in_a_batch_leaves_the_neighbours_alone(world: World, devices: Devices) -> None:
    users = [world.user() for _ in range(8)]
    keys = [devices.key(user) for user in users]
    devices.submit(users[5], devices.signed(users[5], keys[5], 9))
    devices.revoke(keys[3])
    replay = world.event(users[7], attestation=devices.signed(users[7], keys[7], 1))
    world.submit_batch(replay)
    evidence: list[Evidence] = [
        devices.signed(users[0], keys[0], 1),
        devices.signed(users[1], keys[1], 1, status="failed", reason="wrong_signature"),
        devices.integral(users[2]),
        devices.signed(users[3], keys[3], 1),
        devices.signed(users[4], keys[4], 1, challenge=a_hash()),
        devices.signed(users[5], keys[5], 9),
        {"status": "missing"},
    ]
    outcomes = world.submit_batch(
        *(world.event(u, attestation=e) for u, e in zip(users[:7], evidence, strict=True)), replay
    )
    assert codes(outcomes) == [
        None,
        "wrong_signature",
        None,
        "unknown_key",
        "challenge_not_valid",
        "counter_not_greater",
        None,
        None,
    ]
    assert outcomes[7].answer and outcomes[7].answer["replayed"] is True
    assert [devices.counted(key) for key in keys] == [1, 0, 0, 0, 0, 9, 0, 1]
    rows = world.rows("select user_id, reason from attestation_failures")
    assert {(row["user_id"], row["reason"]) for row in rows} == {
        (users[1], "wrong_signature"),
        (users[3], "unknown_key"),
        (users[4], "challenge_not_valid"),
        (users[5], "counter_not_greater"),
    }


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_with_one_number_in_a_batch_the_first_counts(
    world: World, devices: Devices, first: int
) -> None:
    users = [world.user(), world.user()]
    key = devices.key(users[0])
    evidence = [devices.signed(user, key, 4) for user in users]
    order = [first, 1 - first]
    outcomes = world.submit_batch(*(world.event(users[n], attestation=evidence[n]) for n in order))
    assert codes(outcomes) == [None, "counter_not_greater"]
    assert world.value("select user_id from points_events") == users[first]
    assert world.value("select request_hash from device_keys") == evidence[first]["request_hash"]


def test_a_refused_one_takes_no_number_from_another(world: World, devices: Devices) -> None:
    """Its own challenge is not valid, so that it bears the same number spoils nothing."""
    honest, other = world.user(), world.user()
    key = devices.key(honest)
    evidence = devices.signed(honest, key, 4)
    outcomes = world.submit_batch(
        world.event(other, attestation=devices.signed(other, key, 4, challenge=a_hash())),
        world.event(honest, attestation=evidence),
        world.event(
            third := world.user(),
            attestation=devices.signed(third, key, 4, status="failed", reason="wrong_signature"),
        ),
    )
    assert codes(outcomes) == ["challenge_not_valid", None, "wrong_signature"]
    assert world.value("select user_id from points_events") == honest
    assert devices.users(key) == {honest}


def test_nobody_uses_up_the_challenge_of_another(world: World, devices: Devices) -> None:
    alice, mallory = world.user(), world.user()
    key = devices.key(alice)
    evidence = devices.signed(alice, key, 1)
    assert devices.submit(mallory, evidence) == failed_for("challenge_not_valid")
    assert devices.used_by(evidence["challenge_hash"]) is None
    assert devices.submit(alice, evidence)["replayed"] is False
    assert devices.users(key) == {alice}


def test_nobody_uses_up_the_challenge_of_a_neighbour(world: World, devices: Devices) -> None:
    """In one batch, where row-level security shows the rows of both."""
    alice, mallory = world.user(), world.user()
    theirs = devices.integral(alice)
    stolen = devices.integral(mallory, challenge=theirs["challenge_hash"])
    outcomes = world.submit_batch(
        world.event(mallory, attestation=stolen),
        world.event(alice, attestation=devices.integral(alice)),
    )
    assert codes(outcomes) == ["challenge_not_valid", None]
    assert devices.used_by(theirs["challenge_hash"]) is None
    assert devices.submit(alice, theirs)["replayed"] is False


# It races


def test_of_sixteen_with_one_counter_one_is_stored(world: World, devices: Devices) -> None:
    """Another user, another nonce, another request each: the device has signed but one of them."""
    users = [world.user() for _ in range(16)]
    key = devices.key(users[0])
    requests = [world.event(user, attestation=devices.signed(user, key, 1)) for user in users]
    answers = world.at_once(
        [lambda s, r=r: world.call("public.submit_points_event", r, s) for r in requests]
    )
    assert sum(answer.get("status") == "pending" for answer in answers) == 1
    assert sum(answer == failed_for("counter_not_greater") for answer in answers) == 15
    (event,) = world.rows("select user_id from points_events")
    assert (devices.counted(key), world.count("used_nonces")) == (1, 1)
    assert devices.users(key) == {users[0], event["user_id"]}
    assert world.count("attestation_failures", "reason = 'counter_not_greater'") == 15


def test_of_sixteen_of_one_user_with_one_counter_one_is_stored(
    world: World, devices: Devices
) -> None:
    user = world.user()
    key = devices.key(user)
    requests = [world.event(user, attestation=devices.signed(user, key, 1)) for _ in range(16)]
    answers = world.at_once(
        [lambda s, r=r: world.call("public.submit_points_event", r, s) for r in requests]
    )
    assert sum(answer.get("status") == "pending" for answer in answers) == 1
    assert sum(answer == failed_for("counter_not_greater") for answer in answers) == 15
    assert devices.stored() == world.count("used_nonces") == 1
    assert devices.failures() == [(user, "counter_not_greater", 15)]
    assert world.cache(user) == (0, 10, 0, 0)


def test_of_sixteen_with_one_challenge_one_is_stored(world: World, devices: Devices) -> None:
    user = world.user()
    challenge = devices.challenge(user, platform="android")
    requests = [
        world.event(user, attestation=devices.integral(user, challenge=challenge))
        for _ in range(16)
    ]
    answers = world.at_once(
        [lambda s, r=r: world.call("public.submit_points_event", r, s) for r in requests]
    )
    assert sum(answer.get("status") == "pending" for answer in answers) == 1
    assert sum(answer == failed_for("challenge_not_valid") for answer in answers) == 15
    assert devices.stored() == 1


def test_the_very_same_request_sixteen_times_at_once_is_stored_once(
    world: World, devices: Devices
) -> None:
    user = world.user()
    request = world.event(user, attestation=devices.signed(user, devices.key(user), 1))
    answers = world.at_once([lambda s: world.call("public.submit_points_event", request, s)] * 16)
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 15
    assert (devices.stored(), devices.failures()) == (1, [])


def test_batches_that_share_keys_crosswise_wait_and_do_not_lock_each_other_out(
    world: World, devices: Devices
) -> None:
    """Every batch comes with every key, in another order; numbers grow, so some are too late."""
    keys = [devices.key(world.user()) for _ in range(6)]
    batches = []
    for number in range(8):
        users = [world.user() for _ in keys]
        order = keys[number % 6 :] + keys[: number % 6]
        batches.append(
            [
                world.event(user, attestation=devices.signed(user, key, number + 1))
                for user, key in zip(users, order, strict=True)
            ]
        )
    results = world.at_once(
        [lambda s, b=batch: world.submit_batch(*b, through=s) for batch in batches]
    )
    assert all(isinstance(result, list) for result in results), results
    assert [devices.counted(key) for key in keys] == [8] * 6
    refusals = sum(code is not None for result in results for code in codes(result))
    assert devices.stored() == 48 - refusals


def test_a_number_that_is_just_being_counted_is_waited_for(world: World, devices: Devices) -> None:
    users = [world.user(), world.user()]
    key = devices.key(users[0])
    evidence = [devices.signed(user, key, 1) for user in users]
    first = world.session("tallybook_functions", autocommit=False)
    devices.submit(users[0], evidence[0], through=first)
    with world.in_background(
        lambda s: devices.submit(users[1], evidence[1], through=s),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    assert second.result() == failed_for("counter_not_greater")
    assert world.value("select user_id from points_events") == users[0]
    assert devices.users(key) == {users[0]}


def test_a_number_that_was_given_back_is_free(world: World, devices: Devices) -> None:
    users = [world.user(), world.user()]
    key = devices.key(users[0])
    evidence = [devices.signed(user, key, 1) for user in users]
    first = world.session("tallybook_functions", autocommit=False)
    devices.submit(users[0], evidence[0], through=first)
    with world.in_background(
        lambda s: devices.submit(users[1], evidence[1], through=s),
        world.session("tallybook_functions"),
    ) as second:
        first.rollback()
    assert second.result()["replayed"] is False
    assert devices.counted(key) == 1


def test_a_key_that_is_revoked_meanwhile_is_unknown(world: World, devices: Devices) -> None:
    user = world.user()
    key = devices.key(user)
    evidence = devices.signed(user, key, 1)
    operator = world.session("tallybook_operator", autocommit=False)
    operator.execute("update device_keys set revoked_at = now()")
    with world.in_background(
        lambda s: devices.submit(user, evidence, through=s), world.session("tallybook_functions")
    ) as submission:
        operator.commit()
    assert submission.result() == failed_for("unknown_key")
    assert devices.stored() == 0
