"""A proxy that loses answers: the server has done what it was asked, and its client never hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

BYTES_MAX = 65536


class DroppingProxy:
    """Stands before `upstream`, a port of this machine. Its own port is `port` once it listens.

    When an answer begins to come, the work behind it is committed. Then the connection is cut with
    this probability: before the first byte, or in the middle of the answer. `dropped` counts.
    """

    def __init__(self, upstream: int, seed: str, probability: float) -> None:
        self.port = 0
        self.dropped = 0
        self._upstream = upstream
        self._random = Random(seed)
        self._probability = probability

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[DroppingProxy]:
        """Listen during the block; the connections that are left are cut with it."""
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connection(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(connections):
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            await server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs: asyncio.StreamWriter | None = None
        try:
            answers, theirs = await asyncio.open_connection("127.0.0.1", self._upstream)
            asked = asyncio.Event()
            directions = [
                asyncio.create_task(self._pass_requests(reader, theirs, asked)),
                asyncio.create_task(self._pass_answers(answers, writer, asked)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            pass  # The server is not there: the client's connection is cut as well.
        finally:
            writer.transport.abort()
            if theirs is not None:
                theirs.transport.abort()

    async def _pass_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(BYTES_MAX):
                asked.set()
                writer.write(data)
                await writer.drain()

    async def _pass_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(BYTES_MAX):
                # A client asks one thing at a time, so this is the first part of one answer.
                if asked.is_set():
                    asked.clear()
                    if self._random.random() < self._probability:
                        self.dropped += 1
                        if self._random.random() < 0.5:
                            writer.write(data[: self._random.randrange(len(data))])
                            await writer.drain()
                        return
                writer.write(data)
                await writer.drain()
