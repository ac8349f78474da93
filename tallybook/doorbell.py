"""How a submission wakes a worker that sleeps, and leaves one alone that is awake.

A notification makes the commits that carry one wait for one another, so submissions send it only
while some row of `internal.workers` says that its worker is asleep. Rows are named by the server
process behind the worker's connection: when that is gone, the row is a lie and any worker removes
it. A lie costs notifications, never an event.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import psycopg

CHANNEL: Final = "points_events"
ANSWER_SECONDS_MAX: Final = 5.0

_MARK: Final = (
    "insert into internal.workers as w (worker, asleep) values (%s, %s)"
    " on conflict (worker) do update set asleep = excluded.asleep"
)
_REMOVE: Final = "delete from internal.workers as w where w.worker = %s"
_SWEEP: Final = (
    "delete from internal.workers as w where not exists ("
    "select from pg_catalog.pg_stat_activity as a where a.pid::text = w.worker)"
)


class Doorbell:
    """A connection that listens. Every method raises psycopg.Error or TimeoutError when it is lost.

    It needs a connection of its own to the server: behind a pooler in transaction mode it never
    rings, and the worker lives on its timeouts.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._name = ""
        self._asleep = False

    @property
    def asleep(self) -> bool:
        """Whether submissions will ring: we said so, and the connection that hears it is there."""
        return self._asleep and self._connection is not None and not self._connection.closed

    async def mark(self, *, asleep: bool) -> None:
        """Tell submissions whether to ring; committed on return, and free when nothing changes."""
        connection = await self._listening()
        if asleep != self._asleep:
            await self._run(connection, _MARK, (self._name, asleep))
            self._asleep = asleep

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring, also one since the last wait; False when none came in time.

        Returns at once when nobody would ring, because the connection is not there any more.
        """
        rung, connection = False, self._connection
        if connection is None or not self.asleep:
            return rung
        # Read to its end, so that the connection is free again when this returns.
        async for _ in connection.notifies(timeout=seconds, stop_after=1):
            rung = True
        return rung

    async def sweep(self) -> None:
        """Remove the rows of workers that died."""
        await self._run(await self._listening(), _SWEEP, ())

    async def close(self) -> None:
        """Leave no row behind, if the database can still be told; never raises for that."""
        connection, self._connection, self._asleep = self._connection, None, False
        if connection is not None:
            # A row that cannot be removed names a process that is gone: the next sweep finds it.
            with suppress(psycopg.Error, TimeoutError):
                await self._run(connection, _REMOVE, (self._name,))
            await connection.close()

    async def _listening(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self._asleep = False
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            connection = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=int(ANSWER_SECONDS_MAX),
                # A server that vanished without a word is noticed after half a minute.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=4,
                application_name="tallybook worker",
            )
        try:
            # A mark that a crash of the server loses is of a worker that lost its connection then.
            await self._run(connection, "set synchronous_commit = off", ())
            await self._run(connection, f"listen {CHANNEL}", ())
            # Our own old row among others, if this is not the first connection.
            await self._run(connection, _SWEEP, ())
        except BaseException:
            await connection.close()
            raise
        self._connection, self._name = connection, str(connection.info.backend_pid)
        return connection

    async def _run(
        self, connection: psycopg.AsyncConnection[Any], query: str, values: tuple[Any, ...]
    ) -> None:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            await connection.execute(query.encode(), values or None)
