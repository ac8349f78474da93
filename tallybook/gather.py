"""The gatherer: concurrent requests of one procedure become one call of its set-based core.

Requests are gathered while a call is in flight, without a timer, so a lone request waits for
nothing. A batch holds at most one request of a book; a second one waits for the next batch and so
sees what came before. One request's refusal never touches its neighbours.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

REQUESTS_MAX: Final = 256
"""What one call carries at most."""

WAITING_MAX: Final = 5_000
"""What waits at most; more is overload, and said at once instead of being answered too late."""

CALL_SECONDS_MAX: Final = 5.0
"""How long a call of the database takes at most, over either transport."""

WAITING_SECONDS_MAX: Final = 5.0
"""How long a request waits to be sent. A limit kept here costs nothing while all goes well."""

Arguments = Mapping[str, Any]
Answer = dict[str, Any]
Send = Callable[[Sequence[Arguments]], Awaitable[Sequence[Answer | Exception]]]
Batch = list[tuple[Arguments, asyncio.Future[Answer], float]]


class Overloaded(Exception):
    """More requests wait than will be answered in time."""


class Gatherer:
    """Sends what has gathered through `send`, which answers each request in its place."""

    def __init__(self, send: Send) -> None:
        self._send = send
        # What is asked, who waits for the answer, and since when on the monotonic clock.
        self._waiting: deque[tuple[Arguments, asyncio.Future[Answer], float]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def call(self, arguments: Arguments) -> Answer:
        """The answer to one request; raises what `send` gave in its place.

        Raises Overloaded when too much waits, and TimeoutError when its turn does not come.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((arguments, future, time.monotonic()))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await future

    async def drain(self) -> None:
        """Wait until everything that was gathered is answered."""
        if self._sender is not None:
            await asyncio.wait([self._sender])

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._deliver(self._take())
        finally:
            self._sender = None

    async def _deliver(self, batch: Batch) -> None:
        """Send a batch; one that fails as a whole is split until the failure is one request's."""
        # Whoever stopped waiting has cancelled its future. It may ask again under the same key.
        batch = [item for item in batch if not item[1].done()]
        if not batch:
            return
        try:
            answers = await self._send([arguments for arguments, _, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            middle = len(batch) // 2
            await self._deliver(batch[:middle])
            await self._deliver(batch[middle:])
            return
        for (_, future, _), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _take(self) -> Batch:
        """The next batch in order of arrival, without a second request of a book that it has."""
        batch: Batch = []
        later: Batch = []
        books = set()
        oldest = time.monotonic() - WAITING_SECONDS_MAX
        while self._waiting and len(batch) < REQUESTS_MAX:
            item = self._waiting.popleft()
            book = item[0]["user_id"]
            if item[2] < oldest:
                if not item[1].done():
                    item[1].set_exception(TimeoutError())
            elif book in books:
                later.append(item)
            else:
                books.add(book)
                batch.append(item)
        self._waiting.extendleft(reversed(later))
        return batch
