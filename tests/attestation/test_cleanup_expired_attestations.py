"""What was known of tokens, and what nobody can answer any more, is forgotten in its time."""

from __future__ import annotations

from datetime import date, timedelta
from hashlib import sha256

import psycopg
import pytest

from tests.attestation.devices import Devices
from tests.world import NOW, World

TABLES = ["attestation_cache", "attestation_challenges"]
LIVES = {"attestation_cache": timedelta(hours=1), "attestation_challenges": timedelta(minutes=5)}
AN_INSTANT = timedelta(microseconds=1)


def remembered(world: World, table: str, number: int) -> None:
    """So many entries, as of now."""
    for n in range(number):
        some_hash = sha256(f"{world.now()} {n}".encode()).hexdigest()
        if table == "attestation_cache":
            world.admin.execute(
                "insert into attestation_cache (attestation_token_hash, platform, is_valid)"
                " values (%s, 'ios', true)",
                (some_hash,),
            )
        else:
            world.admin.execute(
                "insert into attestation_challenges (user_id, challenge_hash, purpose, platform)"
                " values (gen_random_uuid(), %s, 'submit', 'ios')",
                (some_hash,),
            )


@pytest.mark.parametrize("table", TABLES)
def test_it_lives_for_its_time(world: World, devices: Devices, table: str) -> None:
    remembered(world, table, 2)
    (row,) = world.rows(f"select distinct created_at, expires_at from {table}")
    assert tuple(row.values()) == (NOW, NOW + LIVES[table])
    world.pass_time(LIVES[table] - AN_INSTANT)
    remembered(world, table, 1)
    assert devices.clean() == {"removed": 0}
    world.pass_time(AN_INSTANT)
    assert devices.clean() == {"removed": 2}
    assert devices.clean() == {"removed": 0}
    assert world.count(table) == 1


@pytest.mark.parametrize("table", TABLES)
def test_the_oldest_go_first_and_no_more_than_asked(
    world: World, devices: Devices, table: str
) -> None:
    remembered(world, table, 2)
    world.pass_time(timedelta(minutes=1))
    remembered(world, table, 2)
    world.pass_time(LIVES[table])
    assert devices.clean(3) == {"removed": 3}
    assert world.value(f"select created_at from {table}") == NOW + timedelta(minutes=1)


@pytest.mark.parametrize(("tokens", "challenges"), [(2, 5), (5, 2)])
def test_it_comes_again_while_there_is_more_of_either(
    world: World, devices: Devices, tokens: int, challenges: int
) -> None:
    """The worker calls it until it removes less than it may."""
    remembered(world, "attestation_cache", tokens)
    remembered(world, "attestation_challenges", challenges)
    devices.wait(hours=1)
    assert [devices.clean(3)["removed"] for _ in range(3)] == [3, 2, 0]
    assert world.count("attestation_cache") == world.count("attestation_challenges") == 0


def test_a_challenge_goes_whether_it_was_answered_or_not(world: World, devices: Devices) -> None:
    user = world.user()
    devices.submit(user, devices.integral(user))
    devices.challenge(user)
    devices.register(user)
    devices.wait(minutes=5)
    assert devices.clean() == {"removed": 3}


def test_counts_of_decodes_are_kept_for_ninety_days(world: World, devices: Devices) -> None:
    world.admin.execute(
        "insert into attestation_decodes (day, decodes)"
        " select internal.clock()::date - n, 1 from unnest(array[0, 1, 89, 90, 91, 400]) as n"
    )
    assert devices.clean() == {"removed": 0}
    days = [row["day"] for row in world.rows("select day from attestation_decodes order by 1 desc")]
    assert days == [date(2026, 3, 2) - timedelta(days=n) for n in (0, 1, 89, 90)]


def test_what_is_proven_stays_and_what_failed_is_forgotten_after_90_days(
    world: World, devices: Devices
) -> None:
    user = world.user()
    key = devices.key(user)
    devices.submit(user, devices.signed(user, key, 1))
    devices.submit(user, devices.signed(user, key, 1))
    kept = ["device_keys", "device_key_users", "attestation_failures"]
    before = {table: world.rows(f"select * from {table}") for table in kept}
    assert all(before.values())
    devices.wait(days=90)
    devices.clean()
    assert {table: world.rows(f"select * from {table}") for table in kept} == before
    devices.wait(days=1)
    devices.clean()
    assert world.count("attestation_failures") == 0
    kept.remove("attestation_failures")
    assert all(world.rows(f"select * from {table}") == before[table] for table in kept)


def test_a_token_that_nobody_checks_again_is_gone_after_an_hour(
    world: World, devices: Devices
) -> None:
    user = world.user()
    devices.submit(user, devices.unchecked(user))
    devices.wait(minutes=59)
    devices.clean()
    assert world.count("attestation_rechecks") == 1
    devices.wait(minutes=1)
    devices.clean()
    assert world.count("attestation_rechecks") == 0


@pytest.mark.parametrize("table", TABLES)
def test_several_share_the_work(world: World, devices: Devices, table: str) -> None:
    remembered(world, table, 40)
    world.pass_time(LIVES[table])
    results = world.at_once(
        [lambda session: devices.clean(10, session)] * 4, user="tallybook_worker"
    )
    removed = sum(r["removed"] for r in results if isinstance(r, dict))
    assert removed + devices.clean()["removed"] == 40
    assert world.count(table) == 0


@pytest.mark.parametrize("table", TABLES)
def test_nobody_waits_for_what_another_has(world: World, devices: Devices, table: str) -> None:
    remembered(world, table, 3)
    world.pass_time(LIVES[table])
    first = world.session(autocommit=False)
    first.execute(f"select from {table} limit 1 for update")
    assert devices.clean() == {"removed": 2}
    first.rollback()
    assert devices.clean() == {"removed": 1}


def test_operators_tend_it_and_functions_do_not(world: World, devices: Devices) -> None:
    assert devices.clean(through=world.operator) == {"removed": 0}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        devices.clean(through=world.functions)
