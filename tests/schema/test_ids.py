"""Ids sort by the time at which they were made, and no two are the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import RFC_4122, UUID

import psycopg
import pytest

from tests.world import Connection, World


def milliseconds(id_: UUID) -> int:
    return id_.int >> 80


def several(count: int | None, session: Connection) -> list[UUID]:
    row = session.execute("select internal.uuidv7s(%s) as ids", (count,)).fetchone()
    ids: list[UUID] = (row or {})["ids"]
    return ids


def test_one_is_of_its_time(world: World) -> None:
    before = datetime.now(UTC)
    rows = world.rows("select internal.uuidv7() as id from generate_series(1, 500)")
    after = datetime.now(UTC)
    ids = [row["id"] for row in rows]
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, RFC_4122)}
    assert len(set(ids)) == 500
    times = [id_.int >> 64 for id_ in ids]
    assert times == sorted(times)
    slack = timedelta(milliseconds=1)
    made = datetime.fromtimestamp(milliseconds(ids[0]) / 1000, UTC)
    assert before - slack <= made <= after
    # Of a millisecond that is over none is made any more, and its parts are told apart.
    assert len({id_.int >> 64 & 4095 for id_ in ids}) > 10


@pytest.mark.parametrize("count", [1, 2, 200, 20_000])
def test_several_at_once_count_on(world: World, count: int) -> None:
    before = datetime.now(UTC)
    ids = several(count, world.admin)
    assert len(ids) == count
    assert all(one < other for one, other in pairwise(ids))
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, RFC_4122)}
    made = datetime.fromtimestamp(milliseconds(ids[0]) / 1000, UTC)
    assert abs(made - before) < timedelta(seconds=5)
    # 4096 of them take a millisecond.
    assert milliseconds(ids[-1]) - milliseconds(ids[0]) in (count // 4096, count // 4096 + 1)


@pytest.mark.parametrize("count", [0, None])
def test_of_none_there_are_none(world: World, count: int | None) -> None:
    assert several(count, world.admin) == []


def test_no_two_are_the_same_whoever_makes_them(world: World) -> None:
    def make(session: Connection) -> list[UUID]:
        made: list[UUID] = []
        for _ in range(100):
            ids = several(50, session)
            # Who asks again later is given greater ones.
            assert not made or milliseconds(made[0]) <= milliseconds(ids[0])
            made += ids
        return made

    made = world.at_once([make] * 8, user="postgres")
    assert [m for m in made if isinstance(m, psycopg.Error)] == []
    ids = [id_ for each in made for id_ in each]  # type: ignore[union-attr]
    assert len(set(ids)) == 8 * 100 * 50
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, RFC_4122)}
    # Not the time alone tells them apart: what is behind it is every call's own.
    tails = [id_.int & (1 << 62) - 1 for id_ in ids]
    assert len(set(tails)) == len(tails)
