"""The worker: decides what clients submitted, in sets, and keeps house. `tallybook worker` runs it.

Any number of workers share the queue. Each looks for work, sleeps when there is none, and is woken
by the next submission; a look at growing intervals stands in for a notification that was missed.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import psycopg

from tallybook import logs
from tallybook.attestation.play import Play
from tallybook.attestation.recheck import recheck
from tallybook.database import PsycopgDatabase
from tallybook.doorbell import Doorbell
from tallybook.refusal import Refusal
from tallybook.validation import what_was_decided

SET_SIZE: Final = 1000

# Submissions that come while a set is being decided gather for the next one; without this pause
# a busy worker would decide them one by one.
GATHER_SECONDS: Final = 0.02

# How long to sleep at most, each time nothing came. The first ones are short for a submission that
# saw the worker awake and commits only after its last look: it rings for nobody.
SLEEPS_SECONDS: Final = (0.05, 0.2, 1.0, 5.0)

RETRIES_SECONDS: Final = (0.1, 0.3, 1.0, 3.0, 10.0)
UPKEEP_SECONDS: Final = 60.0
RECHECK_SECONDS: Final = 5.0
UPKEEP_CALLS_MAX: Final = 20


class Upkeep(NamedTuple):
    """A procedure, how much it takes at a time, and the members of its answer that count."""

    procedure: str
    limit: int
    counting: tuple[str, ...]


UPKEEP: Final = (
    Upkeep("expire_holds", 1_000, ("expired",)),
    Upkeep("cleanup_expired_nonces", 10_000, ("removed",)),
    Upkeep("forget_sealed_codes", 10_000, ("forgotten",)),
    Upkeep("mark_expired_coupons", 1_000, ("expired", "released")),
    Upkeep("expire_points", 1_000, ("expired",)),
    Upkeep("expire_credits", 1_000, ("expired",)),
    Upkeep("allocate_monthly_credits", 1_000, ("allocated",)),
    Upkeep("cleanup_expired_attestations", 10_000, ("removed",)),
    Upkeep("cleanup_coupon_attempts", 10_000, ("removed",)),
    Upkeep("fold_usage", 10_000, ("folded",)),
    Upkeep("expire_allocations", 1_000, ("expired",)),
    Upkeep("refill_pools", 1_000, ("refilled",)),
)

VERDICTS: Final = ("validated", "pending_review", "rejected", "flagged")


class Worker:
    """One worker on the database at `url`. `decided` counts verdicts since it was made.

    With `play` it checks again what Google could not be asked about when it came.
    """

    def __init__(
        self,
        url: str,
        *,
        set_size: int = SET_SIZE,
        sleeps_seconds: Sequence[float] = SLEEPS_SECONDS,
        upkeep_seconds: float = UPKEEP_SECONDS,
        play: Play | None = None,
    ) -> None:
        self.decided: Counter[str] = Counter()
        self._database = PsycopgDatabase(url)
        self._doorbell = Doorbell(url)
        self._set_size_max = self._set_size = set_size
        self._sleeps_seconds = sleeps_seconds
        self._upkeep_seconds = upkeep_seconds
        self._upkeep_at = 0.0
        self._play = play
        self._recheck_at = 0.0
        self._rechecking: asyncio.Task[None] | None = None
        self._sleeps = 0
        self._sleeping: asyncio.Task[bool] | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`. The loss of the database is waited out, whatever it takes."""
        logs.log("worker.started")
        failures = 0
        try:
            while not self._stopping.is_set():
                try:
                    await self._round()
                except Exception as error:
                    seconds = RETRIES_SECONDS[min(failures, len(RETRIES_SECONDS) - 1)]
                    failures += 1
                    self._report(error, "worker", seconds)
                    await self._pause(seconds)
                else:
                    if failures:
                        logs.log("worker.recovered", failures=failures)
                    failures = 0
        finally:
            await self.close()
            logs.log("worker.stopped", decided=dict(self.decided))

    async def drain(self) -> None:
        """Decide everything that is pending now, and keep house once. Raises Refusal."""
        if self._play is not None:
            await self._recheck(self._play)
        while not self._stopping.is_set() and await self._validate_set():
            pass
        failures = await self._keep_house()
        if failures:
            raise failures[0]

    def stop(self) -> None:
        """Finish the set that is under way, then come to an end."""
        self._stopping.set()
        if self._sleeping is not None:
            self._sleeping.cancel()

    async def close(self) -> None:
        """Let go of every connection."""
        if self._rechecking is not None:
            self._rechecking.cancel()
            await asyncio.wait([self._rechecking])
        await self._doorbell.close()
        await self._database.close()
        if self._play is not None:
            await self._play.close()

    async def _round(self) -> None:
        """Look for work. Only who has said that it is asleep, and has looked since, sleeps."""
        if time.monotonic() >= self._upkeep_at:
            # What fails is tried again when it is due, and holds nothing up.
            self._upkeep_at = time.monotonic() + self._upkeep_seconds
            await self._keep_house()
            await self._doorbell.sweep()
        if self._play is not None and time.monotonic() >= self._recheck_at:
            self._recheck_at = time.monotonic() + RECHECK_SECONDS
            # Beside the work: Google may take its time, and nobody waits for it.
            if self._rechecking is None or self._rechecking.done():
                self._rechecking = asyncio.create_task(self._recheck(self._play))
        wanted = self._set_size
        found = await self._validate_set()
        if found:
            self._sleeps = 0
            await self._doorbell.mark(asleep=False)
            if found < wanted:
                await self._pause(GATHER_SECONDS)
        elif not self._doorbell.asleep:
            await self._doorbell.mark(asleep=True)
        else:
            await self._sleep()

    async def _validate_set(self) -> int:
        """Decide one set of the oldest; how many there were."""
        try:
            answer = await self._database.call("validate_points_events", {"limit": self._set_size})
        except Refusal:
            # Perhaps it is too much for this database to do in time.
            self._set_size = max(1, self._set_size // 2)
            raise
        for event, fields in what_was_decided(answer):
            logs.log(event, **fields)
        counts = {verdict: answer.get(verdict, 0) for verdict in VERDICTS}
        self.decided.update(counts)
        self._set_size = min(self._set_size_max, self._set_size * 2)
        return sum(counts.values())

    async def _recheck(self, play: Play) -> None:
        try:
            await recheck(play, self._database)
        except Exception as error:
            self._report(error, "recheck", RECHECK_SECONDS)

    async def _keep_house(self) -> list[Exception]:
        """Do all that is due, each as far as it goes; what failed, which is reported already."""
        failures: list[Exception] = []
        for upkeep in UPKEEP:
            try:
                await self._keep(upkeep)
            except Exception as error:
                failures.append(error)
                self._report(error, upkeep.procedure, self._upkeep_seconds)
        return failures

    async def _keep(self, upkeep: Upkeep) -> None:
        """Call one procedure until nothing is left to do, or it has had its share of the time."""
        for _ in range(UPKEEP_CALLS_MAX):
            if self._stopping.is_set():
                return
            answer = await self._database.call(upkeep.procedure, {"limit": upkeep.limit})
            counts = {name: answer[name] for name in upkeep.counting}
            if any(counts.values()):
                logs.log("worker.upkeep", procedure=upkeep.procedure, **counts)
            if max(counts.values()) < upkeep.limit:
                return

    async def _sleep(self) -> None:
        """Wait for a ring, the end of this sleep, or `stop`."""
        if self._stopping.is_set():
            return
        seconds = self._sleeps_seconds[min(self._sleeps, len(self._sleeps_seconds) - 1)]
        self._sleeps += 1
        self._sleeping = asyncio.create_task(self._doorbell.wait(seconds))
        try:
            if await self._sleeping:
                logs.log("worker.woken", "debug")
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
        finally:
            self._sleeping = None

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _report(self, error: Exception, operation: str, seconds: float) -> None:
        away = isinstance(error, psycopg.OperationalError | TimeoutError | OSError)
        if away or (isinstance(error, Refusal) and error.retryable):
            logs.log(
                "worker.database_lost",
                "warning",
                operation=operation,
                error=type(error).__name__,
                detail=str(error),
                retry_seconds=seconds,
            )
        else:
            logs.log(
                logs.POINTS_ERROR,
                "error",
                operation=operation,
                error_message=str(error),
                stack_trace=traceback.format_exc(),
            )
