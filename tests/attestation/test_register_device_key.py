"""A key is registered once, by whom it was vouched for, and counts from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.attestation.devices import PUBLIC_KEY, Devices, Evidence, a_hash, a_key_id, failed_for
from tests.world import NOW, World


def taken(key: str) -> dict[str, Any]:
    return {
        "refusal": {
            "code": "device_key_taken",
            "status": 409,
            "detail": f"key_id: {key}",
            "hint": "Make a new key on the device.",
        }
    }


def public_key(world: World, user: UUID | None, key: str) -> Any:
    asked = {"user_id": user, "key_id": key}
    return world.call("public.device_public_key", asked, world.functions)["public_key"]


def test_a_key_is_kept_as_it_was_vouched_for(world: World, devices: Devices) -> None:
    user, key = world.user(), a_key_id()
    challenge = devices.challenge(user, "register")
    devices.wait(seconds=30)
    assert devices.register(user, key, devices.vouched(challenge)) == {
        "key_id": key,
        "environment": "production",
        "registered_at": "2026-03-02T09:00:30+00:00",
        "replayed": False,
    }
    assert world.rows("select * from device_keys") == [
        {
            "key_id": key,
            "public_key": PUBLIC_KEY,
            "user_id": user,
            "app_id": "TEAM123456.dev.tallybook.example",
            "environment": "production",
            "validation_category": 4,
            "receipt": "cmVjZWlwdA==",
            "challenge_hash": challenge,
            "sign_count": 0,
            "request_hash": None,
            "registered_at": world.now(),
            "last_used_at": None,
            "revoked_at": None,
            "request_id": "r-1",
        }
    ]
    assert devices.users(key) == {user}
    assert world.value("select first_seen_at from device_key_users") == world.now()
    assert devices.used_by(challenge) == challenge
    assert devices.failures() == []


def test_a_device_that_does_not_tell_its_category_has_none(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.vouched(devices.challenge(user, "register"), validation_category=None)
    devices.register(user, evidence=evidence)
    assert world.value("select validation_category from device_keys") is None


def test_the_same_registration_again_is_the_same_key(world: World, devices: Devices) -> None:
    user, key = world.user(), a_key_id()
    evidence = devices.vouched(devices.challenge(user, "register"))
    first = devices.register(user, key, evidence)
    devices.wait(minutes=1)
    assert devices.register(user, key, evidence) == {**first, "replayed": True}
    devices.submit(user, devices.signed(user, key, 1))
    devices.wait(days=1)
    devices.clean()
    assert world.count("attestation_challenges") == 0
    assert devices.register(user, key, evidence) == {**first, "replayed": True}
    assert world.count("device_keys") == world.count("device_key_users") == 1
    assert (devices.counted(key), devices.failures()) == (1, [])


def of_another_user(world: World, devices: Devices, user: UUID) -> str:
    return devices.challenge(world.user(), "register")


def for_another_purpose(world: World, devices: Devices, user: UUID) -> str:
    return devices.challenge(user, "submit")


def for_another_platform(world: World, devices: Devices, user: UUID) -> str:
    return devices.challenge(user, "register", "android")


def expired(world: World, devices: Devices, user: UUID) -> str:
    challenge = devices.challenge(user, "register")
    devices.wait(minutes=5)
    return challenge


def never_asked(world: World, devices: Devices, user: UUID) -> str:
    return a_hash()


@pytest.mark.parametrize(
    "arranged",
    [of_another_user, for_another_purpose, for_another_platform, expired, never_asked],
    ids=lambda arranged: arranged.__name__,
)
def test_a_challenge_that_is_not_for_this_is_not_valid(
    world: World, devices: Devices, arranged: Callable[[World, Devices, UUID], str]
) -> None:
    user, key = world.user(), a_key_id()
    evidence = devices.vouched(arranged(world, devices, user))
    assert devices.register(user, key, evidence) == failed_for("challenge_not_valid")
    assert world.count("device_keys") == world.count("device_key_users") == 0
    assert world.count("attestation_challenges", "request_hash is not null") == 0
    assert devices.failures() == [(user, "challenge_not_valid", 1)]
    # Whoever begins anew is let in.
    assert devices.register(user, key)["replayed"] is False


def test_five_minutes_are_not_over_before_they_are(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.vouched(devices.challenge(user, "register"))
    devices.wait(minutes=5, microseconds=-1)
    assert devices.register(user, evidence=evidence)["replayed"] is False


def test_a_challenge_is_good_for_one_key(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.vouched(devices.challenge(user, "register"))
    key = devices.register(user, evidence=evidence)["key_id"]
    assert devices.register(user, evidence=evidence) == failed_for("challenge_not_valid")
    assert world.value("select key_id from device_keys") == key


def test_a_replay_is_the_same_users_and_the_same_challenges(world: World, devices: Devices) -> None:
    """Whoever repeats the words of another, or knows a key of their own, is answered nothing."""
    user, stranger = world.user(), world.user()
    evidence = devices.vouched(devices.challenge(user, "register"))
    key = devices.register(user, evidence=evidence)["key_id"]
    assert devices.register(stranger, key, evidence) == failed_for("challenge_not_valid")
    other = devices.vouched(a_hash())
    assert devices.register(user, key, other) == failed_for("challenge_not_valid")
    assert devices.users(key) == {user}


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({"status": "failed", "reason": "wrong_nonce"}, "wrong_nonce"),
        ({"status": "unavailable"}, "unavailable"),
        ({"status": None}, "missing"),
        ({"request_hash": None}, "challenge_not_valid"),
    ],
)
def test_evidence_that_is_not_verified_registers_nothing(
    world: World, devices: Devices, evidence: Evidence, reason: str
) -> None:
    user, key = world.user(), a_key_id()
    challenge = devices.challenge(user, "register")
    said = devices.vouched(challenge, key_id=key, detail="Why.", **evidence)
    assert devices.register(user, key, said) == failed_for(reason)
    assert devices.used_by(challenge) is None
    assert world.count("device_keys") == 0
    assert world.rows("select * from attestation_failures") == [
        {
            "user_id": user,
            "hour": NOW,
            "reason": reason,
            "purpose": "register",
            "platform": "ios",
            "key_id": key,
            "event_id": None,
            "failures": 1,
            "detail": "Why.",
            "request_id": "r-1",
            "failed_at": NOW,
        }
    ]


@pytest.mark.parametrize("whose", ["another's", "their own"])
def test_a_key_is_registered_once(world: World, devices: Devices, whose: str) -> None:
    user, owner = world.user(), world.user()
    if whose == "their own":
        owner = user
    key = devices.key(owner)
    devices.submit(owner, devices.signed(owner, key, 7))
    before = world.rows("select * from device_keys")
    other = devices.vouched(devices.challenge(user, "register"), environment="development")
    assert devices.register(user, key, other) == taken(key)
    assert world.rows("select * from device_keys") == before
    assert devices.users(key) == {owner}
    assert devices.failures() == [(user, "key_taken", 1)]


def test_a_revoked_key_is_not_registered_again(world: World, devices: Devices) -> None:
    user = world.user()
    key = devices.key(user)
    devices.revoke(key)
    assert devices.register(user, key) == taken(key)
    assert world.count("device_keys", "revoked_at is null") == 0


@pytest.mark.parametrize("key", ["", "AAAA", "=" * 44, a_key_id()[:-1], a_key_id().upper() + "="])
def test_a_key_is_named_by_its_hash(world: World, devices: Devices, key: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        devices.world.call(
            "public.register_device_key",
            {
                "user_id": (user := world.user()),
                "key_id": key,
                "attestation": devices.vouched(devices.challenge(user, "register")),
            },
            world.functions,
        )
    # The challenge is still good for the right one.
    assert world.count("attestation_challenges", "request_hash is null") == 1


def test_failures_are_counted_and_not_piled_up(world: World, devices: Devices) -> None:
    user = world.user()
    for number in range(3):
        devices.register(user, evidence=devices.vouched(a_hash(), detail=f"{number}"))
        devices.wait(minutes=10)
    (row,) = world.rows("select hour, failures, detail, failed_at from attestation_failures")
    assert (row["hour"], row["failures"], row["detail"]) == (NOW, 3, "2")
    assert (row["failed_at"] - NOW).total_seconds() == 20 * 60
    devices.wait(minutes=30)
    devices.register(user, evidence=devices.vouched(a_hash()))
    assert devices.failures() == [
        (user, "challenge_not_valid", 3),
        (user, "challenge_not_valid", 1),
    ]


def test_everybody_learns_a_public_key_and_nobody_one_that_is_not_there(
    world: World, devices: Devices
) -> None:
    """Whether it still counts is settled with what it signed."""
    key = devices.key(world.user())
    assert public_key(world, world.user(), key) == PUBLIC_KEY
    assert public_key(world, world.user(), a_key_id()) is None
    devices.revoke(key)
    assert public_key(world, world.user(), key) == PUBLIC_KEY


def test_the_same_registration_sixteen_times_at_once_is_one_and_no_failure(
    world: World, devices: Devices
) -> None:
    user, key = world.user(), a_key_id()
    evidence = devices.vouched(devices.challenge(user, "register"))
    answers = world.at_once([lambda s: devices.register(user, key, evidence, s)] * 16)
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 15
    assert {answer["key_id"] for answer in answers} == {key}
    assert devices.failures() == []


def test_a_registration_that_waited_for_itself_is_a_replay(world: World, devices: Devices) -> None:
    user, key = world.user(), a_key_id()
    evidence = devices.vouched(devices.challenge(user, "register"))
    first = world.session("tallybook_functions", autocommit=False)
    answer = devices.register(user, key, evidence, first)
    with world.in_background(
        lambda s: devices.register(user, key, evidence, s), world.session("tallybook_functions")
    ) as second:
        first.commit()
    assert second.result() == {**answer, "replayed": True}
    assert devices.failures() == []


def test_a_registration_that_waited_for_one_that_gave_up_is_the_first(
    world: World, devices: Devices
) -> None:
    user, key = world.user(), a_key_id()
    evidence = devices.vouched(devices.challenge(user, "register"))
    first = world.session("tallybook_functions", autocommit=False)
    devices.register(user, key, evidence, first)
    with world.in_background(
        lambda s: devices.register(user, key, evidence, s), world.session("tallybook_functions")
    ) as second:
        first.rollback()
    assert second.result()["replayed"] is False
    assert world.count("device_keys") == 1


def test_of_sixteen_users_with_one_key_one_has_it(world: World, devices: Devices) -> None:
    key, users = a_key_id(), [world.user() for _ in range(16)]
    evidence = [devices.vouched(devices.challenge(user, "register")) for user in users]
    answers = world.at_once(
        [
            lambda s, u=user, e=each: devices.register(u, key, e, s)
            for user, each in zip(users, evidence, strict=True)
        ]
    )
    assert sum("key_id" in answer for answer in answers) == 1
    assert sum(answer == taken(key) for answer in answers) == 15
    assert world.count("device_keys") == world.count("device_key_users") == 1
    assert world.count("attestation_failures", "reason = 'key_taken'") == 15


def test_of_sixteen_keys_with_one_challenge_one_is_registered(
    world: World, devices: Devices
) -> None:
    user = world.user()
    evidence = devices.vouched(devices.challenge(user, "register"))
    answers = world.at_once([lambda s: devices.register(user, None, evidence, s)] * 16)
    assert sum("key_id" in answer for answer in answers) == 1
    assert sum(answer == failed_for("challenge_not_valid") for answer in answers) == 15
    assert world.count("device_keys") == 1
    assert devices.failures() == [(user, "challenge_not_valid", 15)]


def test_the_worker_registers_nothing(world: World, devices: Devices) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        devices.register(world.user(), through=world.worker)
