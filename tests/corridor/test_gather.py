"""The gatherer: many requests, few calls, and nobody pays for a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tallybook.gather import REQUESTS_MAX, WAITING_MAX, Answer, Arguments, Gatherer, Overloaded


class Core:
    """A set-based core that answers when it is let go, and fails for whom it is told to."""

    def __init__(self, *fails_for: str) -> None:
        self.batches: list[list[str]] = []
        self.fails_for = set(fails_for)
        self.open = asyncio.Event()

    async def __call__(self, requests: Sequence[Arguments]) -> Sequence[Answer | Exception]:
        users = [request["user_id"] for request in requests]
        self.batches.append(users)
        await self.open.wait()
        if self.fails_for & set(users):
            raise ConnectionError
        return [{"user": user, "n": request.get("n")} for user, request in zip(users, requests)]  # noqa: B905


def calls(gatherer: Gatherer, *users: str, **more: Any) -> list[asyncio.Task[Answer]]:
    return [asyncio.create_task(gatherer.call({"user_id": user, **more})) for user in users]


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_lone_request_waits_for_nothing() -> None:
    core = Core()
    core.open.set()
    assert await Gatherer(core).call({"user_id": "a"}) == {"user": "a", "n": None}
    assert core.batches == [["a"]]


async def test_what_comes_during_a_call_goes_together() -> None:
    core = Core()
    gatherer = Gatherer(core)
    first = calls(gatherer, "a")
    await until(lambda: core.batches)
    later = calls(gatherer, "b", "c", "d")
    await until(lambda: len(gatherer._waiting) == 3)
    core.open.set()
    answers = await asyncio.gather(*first, *later)
    assert core.batches == [["a"], ["b", "c", "d"]]
    assert [answer["user"] for answer in answers] == ["a", "b", "c", "d"]


async def test_a_second_request_of_a_book_waits_for_the_next_batch() -> None:
    core = Core()
    gatherer = Gatherer(core)
    tasks = calls(gatherer, "x")
    await until(lambda: core.batches)
    for n in range(3):
        tasks += calls(gatherer, "a", n=n)
    tasks += calls(gatherer, "b")
    await until(lambda: len(gatherer._waiting) == 4)
    core.open.set()
    await asyncio.gather(*tasks)
    assert core.batches == [["x"], ["a", "b"], ["a"], ["a"]]
    assert [task.result()["n"] for task in tasks[1:4]] == [0, 1, 2]


async def test_one_failure_never_touches_its_neighbours() -> None:
    core = Core("bad")
    core.open.set()
    gatherer = Gatherer(core)
    users = [f"u{n}" for n in range(20)]
    tasks = calls(gatherer, *users[:7], "bad", *users[7:])
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(7), ConnectionError)
    assert [result["user"] for result in results] == users  # type: ignore[index]


async def test_whoever_gave_up_is_not_sent() -> None:
    core = Core()
    gatherer = Gatherer(core)
    first = calls(gatherer, "a")
    await until(lambda: core.batches)
    gone, stays = calls(gatherer, "gone", "stays")
    await until(lambda: len(gatherer._waiting) == 2)
    gone.cancel()
    core.open.set()
    await asyncio.gather(*first, stays)
    assert core.batches == [["a"], ["stays"]]


async def test_batches_have_a_limit_and_so_has_the_queue() -> None:
    core = Core()
    gatherer = Gatherer(core)
    tasks = calls(gatherer, "first")
    await until(lambda: core.batches)
    tasks += calls(gatherer, *(f"u{n}" for n in range(WAITING_MAX)))
    await until(lambda: len(gatherer._waiting) == WAITING_MAX)
    with pytest.raises(Overloaded):
        await gatherer.call({"user_id": "one too many"})
    core.open.set()
    await asyncio.gather(*tasks)
    assert max(map(len, core.batches)) == REQUESTS_MAX


async def test_whoever_waited_too_long_is_told_and_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Core()
    gatherer = Gatherer(core)
    first = calls(gatherer, "a")
    await until(lambda: core.batches)
    (late,) = calls(gatherer, "late")
    await until(lambda: len(gatherer._waiting) == 1)
    monkeypatch.setattr("tallybook.gather.WAITING_SECONDS_MAX", -1.0)
    core.open.set()
    await asyncio.gather(*first)
    with pytest.raises(TimeoutError):
        await late
    assert core.batches == [["a"]]
