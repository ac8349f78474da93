"""A small world in one database: users, coupons on offer, and what happens to them, in sentences.

Everything goes through the roles that do it in production; `world.admin` alone is a superuser,
for what a test has to look at or break.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from itertools import count
from threading import Barrier
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

if TYPE_CHECKING:
    from tests.conftest import Database

Connection = psycopg.Connection[DictRow]
T = TypeVar("T")

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
WAIT_SECONDS_MAX = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a set-based core says to one request: an answer or a refusal, never both."""

    position: int
    answer: dict[str, Any] | None
    refusal: dict[str, Any] | None


@contextmanager
def refused(code: str, status: int, detail: str | None = None) -> Iterator[None]:
    """The block must be refused with this code and HTTP status, and a detail that begins so."""
    try:
        yield
    except psycopg.Error as error:
        assert (error.diag.message_primary, error.sqlstate) == (code, f"PT{status}")
        assert (error.diag.message_detail or "").startswith(detail or "")
    else:
        raise AssertionError(f"{code} was not refused")


def code_of(result: object) -> str:
    """The code of a refusal returned as an exception; any other result as text."""
    return (
        str(result.diag.message_primary)
        if isinstance(result, psycopg.Error) and (result.sqlstate or "").startswith("PT")
        else repr(result)
    )


class World:
    """Verbs for what users, workers and operators do in one clone of the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._minutes = count(1)

    # Who acts

    def session(self, user: str = "postgres", autocommit: bool = True) -> Connection:
        """A new connection, closed after the test; without autocommit it holds its locks."""
        connection = self.database.connect(user)
        connection.execute(f"set statement_timeout = '{WAIT_SECONDS_MAX}s'")
        connection.autocommit = autocommit
        connection.row_factory = dict_row  # type: ignore[assignment]
        return connection  # type: ignore[return-value]

    @cached_property
    def admin(self) -> Connection:
        return self.session()

    @cached_property
    def functions(self) -> Connection:
        return self.session("tallybook_functions")

    @cached_property
    def worker(self) -> Connection:
        return self.session("tallybook_worker")

    @cached_property
    def operator(self) -> Connection:
        return self.session("tallybook_operator")

    # Time

    def now(self) -> datetime:
        """What the database takes for the present."""
        value: datetime = self.value("select internal.clock()")
        return value

    def freeze(self, at: datetime = NOW) -> None:
        """Stop the clock that decides, in this database only."""
        self.admin.execute(
            sql.SQL(
                "create or replace function internal.clock() returns timestamptz"
                " language plpgsql stable set search_path = ''"
                " as $$ begin return {}::timestamptz; end $$"
            ).format(sql.Literal(at.isoformat()))
        )

    def pass_time(self, delta: timedelta) -> None:
        """Move the frozen clock on."""
        self.freeze(self.now() + delta)

    # What exists

    def user(self, points: int = 0) -> UUID:
        """A new user, who was given these points as the operator's runbook gives them."""
        user = uuid4()
        if points:
            self.award(user, points)
        return user

    def award(self, user: UUID, points: int, event_type: str = "admin_award") -> int:
        """Points by an operator's hand, then refreshed; returns what the user can spend."""
        self.write_by_hand(user, points, event_type)
        return self.refresh(user)

    def write_by_hand(self, user: UUID, points: int, event_type: str = "admin_award") -> None:
        """The validated event an operator inserts, before anything has posted it."""
        self.operator.execute(
            "insert into points_events (user_id, event_type, event_time, points_delta,"
            " proof_type, validation_status, validated_by)"
            " values (%s, %s, internal.clock(), %s, 'manual_admin', 'validated', 'op@example.org')",
            (user, event_type, points),
        )

    def template(
        self,
        cost: int = 500,
        limit: int | None = 1,
        active: bool = True,
        days: int = 30,
        name: str = "Coffee",
        **columns: object,
    ) -> UUID:
        """A coupon on offer; its other columns by their names."""
        columns |= {
            "template_name": name,
            "points_cost": cost,
            "coupon_value_type": "fixed_amount",
            "coupon_value": "5.00",
            "max_redemptions_per_user": limit,
            "is_active": active,
            "expires_after_days": days,
        }
        template_id: UUID = self.value(
            f"insert into coupon_templates ({', '.join(columns)})"
            f" values ({', '.join(['%s'] * len(columns))}) returning template_id",
            tuple(columns.values()),
            through=self.operator,
        )
        return template_id

    # What happens

    def submit(self, user: UUID, through: Connection | None = None, **request: Any) -> Any:
        """Submit one event as the function does; by default a habit under a new nonce.

        Left to itself every event lies a minute before the one submitted last, so none is suspect.
        """
        answer = self.call(
            "public.submit_points_event", self.event(user, **request), through or self.functions
        )
        # What is left of the limit becomes headers and is no part of the answer.
        answer.pop("rate_limit", None)
        return answer

    def submit_batch(
        self, *requests: dict[str, Any], through: Connection | None = None
    ) -> list[Outcome]:
        """Submit events of several users in one call; build them with `world.event`."""
        outcomes = self.batch("internal.submit_points_event_batch", requests, through)
        for outcome in outcomes:
            (outcome.answer or {}).pop("rate_limit", None)
        return outcomes

    def event(self, user: UUID, **request: Any) -> dict[str, Any]:
        """A request to submit an event, by default a habit completed some minutes ago."""
        at = request.pop("at", None) or self.now() - timedelta(minutes=next(self._minutes))
        return {
            "user_id": user,
            "event_type": "habit_completion",
            "event_time": at,
            "nonce": uuid4().hex,
            **request,
        }

    def validate(
        self, event_id: str | None = None, limit: int = 1000, through: Connection | None = None
    ) -> Any:
        """Validate what is pending, or one event, as the worker does."""
        return self.call(
            "public.validate_points_events",
            {"event_id": event_id, "limit": limit},
            through or self.worker,
        )

    def redeem(
        self,
        user: UUID,
        template: UUID,
        key: str | None = None,
        through: Connection | None = None,
        **request: Any,
    ) -> Any:
        """Redeem one coupon as the function does, by default under a new key."""
        return self.call(
            "public.redeem_coupon",
            self.redemption(user, template, key, **request),
            through or self.functions,
        )

    def redeem_batch(
        self, *requests: dict[str, Any], through: Connection | None = None
    ) -> list[Outcome]:
        """Redeem coupons of several users in one call; build them with `world.redemption`."""
        return self.batch("internal.redeem_coupon_batch", requests, through)

    def redemption(
        self, user: UUID, template: UUID, key: str | None = None, **request: Any
    ) -> dict[str, Any]:
        """A request to redeem, with the hash and the sealed copy of a code nobody else has."""
        code = uuid4().hex
        return {
            "user_id": user,
            "template_id": template,
            "idempotency_key": key or uuid4().hex,
            "code_hash": sha256(code.encode()).hexdigest(),
            "key_id": "k1",
            "sealed_code": f"sealed:{code}",
            **request,
        }

    def refresh(self, user: UUID, through: Connection | None = None) -> int:
        """Refresh a user's cache row; returns the points they can spend."""
        points: int = self.value(
            "select public.refresh_user_points_cache(%s)", (user,), through or self.operator
        )
        return points

    def clean_nonces(self) -> None:
        """Remove the nonces that are past their time, as the worker does."""
        self.call("public.cleanup_expired_nonces", {}, self.worker)

    # What is there to see

    def points(self, user: UUID) -> int:
        """The points a user can spend, as the ledger keeps them."""
        rows = self.rows(
            "select balance - held as points from ledger.accounts"
            " where book_id = %s and account = 'points'",
            (user,),
        )
        return int(rows[0]["points"]) if rows else 0

    def cache(self, user: UUID) -> tuple[int, int, int, int] | None:
        """A user's cache row: available, pending, earned in all, spent in all."""
        rows = self.rows(
            "select available_points, pending_points, lifetime_earned, lifetime_spent"
            " from user_points_cache where user_id = %s",
            (user,),
        )
        return tuple(rows[0].values()) if rows else None  # type: ignore[return-value]

    def status(self, event_id: str) -> str:
        """Where an event stands."""
        status: str = self.value(
            "select validation_status from points_events where id = %s", (event_id,)
        )
        return status

    def count(self, table: str, where: str = "true", *arguments: object) -> int:
        """How many rows of a table satisfy a condition."""
        number: int = self.value(f"select count(*) from {table} where {where}", arguments)
        return number

    def discrepancies(self, through: Connection | None = None) -> list[DictRow]:
        """What does not agree, one row a fault."""
        return self.rows("select * from ledger.discrepancies order by 1, 2, 3", through=through)

    # How to ask

    def rows(
        self, query: str, arguments: Sequence[object] = (), through: Connection | None = None
    ) -> list[DictRow]:
        return (through or self.admin).execute(query, arguments or None).fetchall()  # type: ignore[call-overload,no-any-return]

    def value(
        self, query: str, arguments: Sequence[object] = (), through: Connection | None = None
    ) -> Any:
        """The only column of the only row."""
        (row,) = self.rows(query, arguments, through)
        (value,) = row.values()
        return value

    def call(self, procedure: str, arguments: dict[str, Any], through: Connection) -> Any:
        """Call a procedure by name, its arguments named without their p_."""
        named = ", ".join(f"p_{name} => %({name})s" for name in arguments)
        values = {
            name: json.dumps(value) if isinstance(value, dict) else value
            for name, value in arguments.items()
        }
        row = through.execute(f"select {procedure}({named}) as answer", values).fetchone()  # type: ignore[call-overload]
        return row["answer"]

    def batch(
        self, core: str, requests: Sequence[dict[str, Any]], through: Connection | None
    ) -> list[Outcome]:
        """Call a set-based core; the outcomes in the order of the requests."""
        rows = self.rows(
            f"select * from {core}(%s::jsonb) order by position",
            (json.dumps(requests, default=plain),),
            through or self.functions,
        )
        return [Outcome(**row) for row in rows]

    # Several at once

    def at_once(
        self, calls: Sequence[Callable[[Connection], T]], user: str = "tallybook_functions"
    ) -> list[T | psycopg.Error]:
        """Make every call from its own session at the same moment; an error is a result too."""
        sessions = [self.session(user) for _ in calls]
        start = Barrier(len(calls))

        def run(call: Callable[[Connection], T], session: Connection) -> T | psycopg.Error:
            start.wait(WAIT_SECONDS_MAX)
            try:
                return call(session)
            except psycopg.Error as error:
                return error

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(run, calls, sessions))

    @contextmanager
    def in_background(
        self, call: Callable[[Connection], T], session: Connection
    ) -> Iterator[Future[T]]:
        """Start a call that has to wait for somebody's lock; the block begins when it waits."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(call, session)
            try:
                self.until_blocked(session.info.backend_pid, future)
                yield future
            except BaseException:
                # Whoever waits is let go, or the block would never end.
                self.admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
                raise

    def until_blocked(self, pid: int, future: Future[Any] | None = None) -> None:
        """Return when a server process waits for a lock; fail when it never does."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not self.rows(
            "select from pg_stat_activity where pid = %s and wait_event_type = 'Lock'", (pid,)
        ):
            assert not (future and future.done()), f"it did not wait: {_result_of(future)}"
            assert time.monotonic() < deadline, "it waits for no lock"
            time.sleep(0.002)


def plain(value: object) -> str:
    """What JSON has no form for, as Postgres reads it."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _result_of(future: Future[Any] | None) -> object:
    return future and (future.exception() or future.result())
