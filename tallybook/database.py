"""The one way to the database: a procedure's name and its named arguments, a row or a refusal.

Two transports do the same: psycopg with a database URL, which gathers concurrent calls of
procedures that have a set-based core, and PostgREST with a secret key, for functions that hold no
database password. A function never knows which.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from tallybook import exact, library_logs
from tallybook.gather import CALL_SECONDS_MAX, Answer, Arguments, Gatherer, Overloaded
from tallybook.refusal import Refusal, unavailable
from tallybook.settings import Settings
from tallybook.sqlstate import AWAY, CONFLICTS, RESTARTS, refusal_of

CONNECT_SECONDS_MAX: Final = 2.0
CONNECTIONS_MAX: Final = 10
TRIES_MAX: Final = 4

T = TypeVar("T")
Pool = AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]]


class Database(Protocol):
    """What a function is given to work with."""

    async def call(self, procedure: str, arguments: Arguments) -> Answer:
        """The procedure's answer; argument names are without `p_`.

        Raises Refusal: the procedure's own, or `unavailable` when the database is away, does not
        answer in 5 s or keeps finding conflicts. Anything else it raises is a defect.
        """
        ...

    async def close(self) -> None:
        """Answer what is under way, then let go of every connection."""
        ...


def connect(settings: Settings) -> Database:
    """The transport that the environment asks for. Nothing is opened before the first call."""
    if settings.transport == "postgrest":
        # Imported here because its clients are dear to import and psycopg's users never need them.
        from tallybook.postgrest import PostgrestDatabase

        return PostgrestDatabase(settings)
    settings.require("DATABASE_URL")
    return PsycopgDatabase(settings.database_url or "")


class PsycopgDatabase:
    """Calls over a lazily opened pool; gathered ones over a connection that is kept for them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self._lanes: dict[str, _Lane] = {}
        self._gatherers: dict[str, Gatherer] = {}

    async def call(self, procedure: str, arguments: Arguments) -> Answer:
        try:
            pool = self._pool or await self._open()
            gatherer = self._gatherers.get(procedure)
            if gatherer is not None:
                # Its limits are the gatherer's and its lane's, which cost nothing per request.
                return await gatherer.call(arguments)
            async with asyncio.timeout(CALL_SECONDS_MAX):
                return await retried(lambda: _single(pool, procedure, arguments))
        except (TimeoutError, PoolTimeout, Overloaded) as error:
            raise unavailable("The database does not answer in time.") from error
        except psycopg.Error as error:
            raise answer_to(error) from error

    async def close(self) -> None:
        for procedure, gatherer in self._gatherers.items():
            await gatherer.drain()
            await self._lanes[procedure].close()
        if self._pool is not None:
            await self._pool.close(timeout=CALL_SECONDS_MAX)

    async def _open(self) -> Pool:
        """Open the pool, and learn which procedures have a core that this login may execute."""
        async with asyncio.timeout(CALL_SECONDS_MAX), self._opening:
            if self._pool is not None:
                return self._pool
            library_logs.adopt("psycopg")
            pool: Pool = AsyncConnectionPool(
                self._url,
                min_size=1,
                max_size=CONNECTIONS_MAX,
                open=False,
                timeout=CONNECT_SECONDS_MAX,
                kwargs={"autocommit": True, "connect_timeout": int(CONNECT_SECONDS_MAX)},
                configure=_configure,
                check=None,
            )
            await pool.open()
            try:
                async with pool.connection() as connection:
                    cursor = await connection.execute(
                        "select left(p.proname, -length('_batch')) from pg_catalog.pg_proc as p"
                        " join pg_catalog.pg_namespace as n on n.oid = p.pronamespace"
                        " where n.nspname = 'internal' and p.proname like '%\\_batch'"
                        " and pg_catalog.has_function_privilege(p.oid, 'execute')"
                    )
                    procedures = [name for (name,) in await cursor.fetchall()]
            except BaseException:
                await pool.close()
                raise
            for procedure in procedures:
                lane = self._lanes[procedure] = _Lane(self._url, procedure)
                self._gatherers[procedure] = Gatherer(lane.send)
            self._pool = pool
        return pool


async def _single(pool: Pool, procedure: str, arguments: Arguments) -> Answer:
    query = sql.SQL("select public.{}({})").format(
        sql.Identifier(procedure),
        sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(f"p_{name}"), sql.Placeholder(name))
            for name in arguments
        ),
    )
    values = {name: Jsonb(value) if _is_json(value) else value for name, value in arguments.items()}
    async with pool.connection() as connection:
        cursor = await connection.execute(query, values)
        row = await cursor.fetchone()
    answer: Answer = row[0] if row else {}
    return answer


def _is_json(value: Any) -> bool:
    """Objects, and lists of them; any other list is an array."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict | msgspec.Struct)


class _Lane:
    """One procedure's own connection: no checkout per batch, and batches keep their order."""

    def __init__(self, url: str, procedure: str) -> None:
        self._url = url
        self._query = sql.SQL(
            "select o.position, o.answer, o.refusal from internal.{}(%s::jsonb) as o"
        ).format(sql.Identifier(f"{procedure}_batch"))
        self._connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    async def send(self, requests: Sequence[Arguments]) -> Sequence[Answer | Exception]:
        """Each request's outcome in its place. Raises only what may be one request's fault."""
        payload = exact.encode(requests).decode()
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX):
                return await retried(lambda: self._try(payload, len(requests)))
        except (TimeoutError, psycopg.Error) as error:
            if not is_away(error):
                raise
            # Nobody in the batch is to blame, so nobody is tried again by himself.
            return [unavailable("The database cannot answer right now.") for _ in requests]

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _try(self, payload: str, count: int) -> Sequence[Answer | Exception]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, connect_timeout=int(CONNECT_SECONDS_MAX)
            )
            await _configure(self._connection)
        try:
            cursor = await self._connection.execute(self._query, (payload,), prepare=True)
            rows = await cursor.fetchall()
        except BaseException:
            # A call that was given up may still be running: its connection is of no more use.
            if self._connection.info.transaction_status != 0:
                await self._connection.close()
            raise
        outcomes: list[Answer | Exception] = [RuntimeError("the core left a request out")] * count
        for position, answer, refused in rows:
            outcomes[position - 1] = answer if refused is None else Refusal.from_entry(refused)
        return outcomes


async def retried(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again after a conflict or a lost connection: four times, waiting longer each time."""
    for tries in range(1, TRIES_MAX + 1):
        try:
            return await attempt()
        except psycopg.Error as error:
            lost = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
            if tries == TRIES_MAX or not (lost or error.sqlstate in CONFLICTS + RESTARTS):
                raise
        await asyncio.sleep(random.uniform(0.5, 1.5) * 0.01 * 4**tries)  # noqa: S311
    raise AssertionError


def is_away(error: Exception) -> bool:
    """Whether the database is gone, full or silent: no fault of what was asked."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate.startswith(AWAY)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | TimeoutError)


def answer_to(error: psycopg.Error) -> Exception:
    """What a client is told of a database error; the error itself when it is a defect of ours."""
    if error.sqlstate is None:
        return unavailable("The database cannot answer right now.") if is_away(error) else error
    diagnosis = error.diag
    message = diagnosis.message_primary or ""
    detail, hint = diagnosis.message_detail, diagnosis.message_hint
    return refusal_of(error.sqlstate, message, detail, hint) or error


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    """JSON goes in and out with its numbers exact."""
    set_json_loads(exact.decode, connection)
    set_json_dumps(exact.encode, connection)
