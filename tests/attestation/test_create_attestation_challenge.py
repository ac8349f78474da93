"""A device is asked something that nobody can guess, and only the question's hash is kept."""

from __future__ import annotations

import base64
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.attestation.devices import Devices, a_hash
from tests.world import NOW, World, code_of, refused

OPEN_MAX = 100


def ask_often(world: World, user: UUID, number: int) -> None:
    """So many open challenges of a user, as of now."""
    world.admin.execute(
        "insert into attestation_challenges (user_id, challenge_hash, purpose, platform)"
        " select %s, encode(sha256(gen_random_uuid()::text::bytea), 'hex'),"
        " case g %% 2 when 0 then 'register' else 'submit' end,"
        " case g %% 3 when 0 then 'ios' else 'android' end from generate_series(1, %s) as g",
        (user, number),
    )


@pytest.mark.parametrize("purpose", ["register", "submit"])
@pytest.mark.parametrize("platform", ["android", "ios"])
def test_it_asks_for_five_minutes(
    world: World, devices: Devices, purpose: str, platform: str
) -> None:
    user = world.user()
    asked = devices.ask(user, purpose, platform)
    assert set(asked) == {"challenge_id", "challenge", "expires_at"}
    assert asked["expires_at"] == "2026-03-02T09:05:00+00:00"
    assert len(asked["challenge"]) == 43
    question = base64.urlsafe_b64decode(asked["challenge"] + "=")
    assert len(question) == 32
    assert world.rows("select * from attestation_challenges") == [
        {
            "user_id": user,
            "challenge_hash": sha256(question).hexdigest(),
            "challenge_id": UUID(asked["challenge_id"]),
            "purpose": purpose,
            "platform": platform,
            "request_hash": None,
            "created_at": NOW,
            "expires_at": NOW + timedelta(minutes=5),
        }
    ]


def test_asked_again_it_is_another_question(world: World, devices: Devices) -> None:
    user = world.user()
    asked = [devices.ask(user) for _ in range(20)]
    assert len({each["challenge"] for each in asked}) == 20
    assert len({each["challenge_id"] for each in asked}) == 20
    # URL-safe, so that it can stand in a header as it is.
    assert not set("+/=").intersection("".join(each["challenge"] for each in asked))


def test_the_101st_open_question_is_refused(world: World, devices: Devices) -> None:
    user = world.user()
    ask_often(world, user, OPEN_MAX - 1)
    devices.ask(user)
    with refused("rate_limited", 429, "open_challenges: 100 in 300 s; again in 300 s"):
        devices.ask(user)
    assert world.count("attestation_challenges") == OPEN_MAX
    devices.ask(world.user())


def test_after_the_time_it_names_there_is_room_for_exactly_one(
    world: World, devices: Devices
) -> None:
    user = world.user()
    devices.ask(user)
    devices.wait(seconds=100)
    ask_often(world, user, OPEN_MAX - 1)
    with refused("rate_limited", 429, "open_challenges: 100 in 300 s; again in 200 s"):
        devices.ask(user)
    devices.wait(seconds=200, microseconds=-1)
    with refused("rate_limited", 429, "open_challenges: 100 in 300 s; again in 1 s"):
        devices.ask(user)
    devices.wait(microseconds=1)
    devices.ask(user)
    with refused("rate_limited", 429, "open_challenges: 100 in 300 s; again in 100 s"):
        devices.ask(user)


def test_a_question_that_was_answered_is_not_open(world: World, devices: Devices) -> None:
    user = world.user()
    evidence = devices.integral(user)
    ask_often(world, user, OPEN_MAX - 1)
    with refused("rate_limited", 429):
        devices.ask(user)
    devices.submit(user, evidence)
    devices.ask(user)
    with refused("rate_limited", 429):
        devices.ask(user)


@pytest.mark.parametrize(
    ("purpose", "platform"), [("spend", "ios"), ("submit", "web"), (None, "ios"), ("submit", None)]
)
def test_it_asks_nothing_else(world: World, devices: Devices, purpose: Any, platform: Any) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)):
        devices.ask(uuid4(), purpose, platform)
    assert world.count("attestation_challenges") == 0


def test_it_asks_somebody(devices: Devices) -> None:
    with pytest.raises(psycopg.errors.RaiseException):
        devices.ask(None)  # type: ignore[arg-type]


def test_sixteen_at_once_share_what_is_left(world: World, devices: Devices) -> None:
    user = world.user()
    ask_often(world, user, OPEN_MAX - 3)
    results = world.at_once([lambda session: devices.ask(user, through=session)] * 16)
    assert sum(isinstance(result, dict) for result in results) == 3
    codes = [code_of(result) for result in results if not isinstance(result, dict)]
    assert codes == ["rate_limited"] * 13
    assert world.count("attestation_challenges") == OPEN_MAX


def test_users_do_not_wait_for_each_other(world: World, devices: Devices) -> None:
    first = world.session("tallybook_functions", autocommit=False)
    devices.ask(world.user(), through=first)
    devices.ask(world.user())
    first.rollback()
    assert world.count("attestation_challenges") == 1


def test_a_procedure_sees_the_questions_of_its_subjects_and_no_others(
    world: World, devices: Devices
) -> None:
    """Row-level security says so, even where a procedure forgets to."""
    alice, bob = world.user(), world.user()
    hashes = {user: devices.challenge(user) for user in (alice, bob)}
    seen = "select challenge_hash from attestation_challenges"
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("set local role tallybook_procedures")
        assert world.rows(seen) == []
        world.admin.execute("select internal.act_for(array[%s])", (alice,))
        assert world.rows(seen) == [{"challenge_hash": hashes[alice]}]
        touched = world.admin.execute(
            "update attestation_challenges set request_hash = %s", (a_hash(),)
        )
        assert touched.rowcount == 1
    assert devices.used_by(hashes[bob]) is None


def test_the_worker_asks_nobody(world: World, devices: Devices) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        devices.ask(world.user(), through=world.worker)
