"""What was known of attestation tokens is forgotten when its hour is over."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from tests.world import NOW, Connection, World


def cached(world: World, number: int) -> None:
    for n in range(number):
        world.admin.execute(
            "insert into attestation_cache (attestation_token_hash, platform, is_valid)"
            " values (%s, 'ios', true)",
            (sha256(f"{world.now()} {n}".encode()).hexdigest(),),
        )


def clean(world: World, limit: int = 10_000, through: Connection | None = None) -> Any:
    return world.call(
        "public.cleanup_expired_attestations", {"limit": limit}, through or world.worker
    )


def test_it_lives_for_an_hour(world: World) -> None:
    cached(world, 2)
    (row,) = world.rows("select distinct created_at, expires_at from attestation_cache")
    assert tuple(row.values()) == (NOW, NOW + timedelta(hours=1))
    world.pass_time(timedelta(hours=1) - timedelta(microseconds=1))
    cached(world, 1)
    assert clean(world) == {"removed": 0}
    world.pass_time(timedelta(microseconds=1))
    assert clean(world) == {"removed": 2}
    assert clean(world) == {"removed": 0}
    assert world.count("attestation_cache") == 1


def test_the_oldest_go_first_and_no_more_than_asked(world: World) -> None:
    cached(world, 2)
    world.pass_time(timedelta(minutes=1))
    cached(world, 2)
    world.pass_time(timedelta(hours=1))
    assert clean(world, 3) == {"removed": 3}
    assert world.value("select created_at from attestation_cache") == NOW + timedelta(minutes=1)


def test_several_share_the_work(world: World) -> None:
    cached(world, 40)
    world.pass_time(timedelta(hours=1))
    results = world.at_once(
        [lambda session: clean(world, 10, session)] * 4, user="tallybook_worker"
    )
    assert sum(r["removed"] for r in results if isinstance(r, dict)) + clean(world)["removed"] == 40


def test_functions_and_clients_do_not_tend_it(world: World) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        clean(world, through=world.functions)
