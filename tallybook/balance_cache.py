"""What a user's balance was a moment ago, for who only looks at it. Nothing is spent by it.

Every procedure that changes a user's credits answers with their account and its version, and what
is put here is never older than what was there. A change made elsewhere, by the command line, by
the worker or, without Redis, in another process, is seen when an entry's time is up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from tallybook import exact, logs, metrics
from tallybook.settings import Settings

ENTRIES_MAX: Final = 10_000
PREFIX: Final = "credits:balance:"

WAIT_SECONDS_MAX: Final = 0.1
"""For a connection, and for an answer."""
SECONDS_MAX: Final = 0.25
"""For everything that one request asks of Redis at a time."""
CONNECTIONS_MAX: Final = 8
REST_SECONDS: Final = 1.0
"""For how long a Redis that failed is left alone."""
LOG_SECONDS: Final = 60.0

_MEMBERS: Final = ("balance", "tier", "monthly_cap")

# One step, so that nothing comes between looking and writing.
_SET_IF_NEWER: Final = """
local old = redis.call('GET', KEYS[1])
if old then
  local read, account = pcall(cjson.decode, old)
  if read and type(account) == 'table' and (tonumber(account.version) or 0) > tonumber(ARGV[2]) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return 1
"""

Balance = dict[str, Any]
"""{balance, tier, monthly_cap}, amounts as int or Decimal."""


class BalanceCache(Protocol):
    """Balances by user. None of this raises: a cache that is away knows nothing."""

    async def get(self, user_id: UUID | str) -> Balance | None:
        """What was put last, or None."""

    async def put(self, user_id: UUID | str, account: Mapping[str, Any]) -> None:
        """Keep {balance, tier, monthly_cap, version}, unless a newer version is there."""

    async def forget(self, user_id: UUID | str) -> None:
        """Know nothing of this user."""

    async def close(self) -> None:
        """Let go of everything."""


def balance_cache_of(settings: Settings) -> BalanceCache:
    """In Redis where CREDIT_CACHE_URL says which; nowhere where CREDIT_CACHE_TTL is 0."""
    if settings.credit_cache_seconds == 0:
        return NoCache()
    if settings.credit_cache_url is None:
        return MemoryCache(settings.credit_cache_seconds)
    return RedisCache(settings.credit_cache_url, settings.credit_cache_seconds)


class NoCache:
    """Knows nothing of anybody."""

    async def get(self, user_id: UUID | str) -> Balance | None:
        return None

    async def put(self, user_id: UUID | str, account: Mapping[str, Any]) -> None: ...

    async def forget(self, user_id: UUID | str) -> None: ...

    async def close(self) -> None: ...


class MemoryCache:
    """In this process, for the users asked about last."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._entries: dict[str, tuple[float, int, Balance]] = {}

    async def get(self, user_id: UUID | str) -> Balance | None:
        until, _, balance = self._entries.get(str(user_id), (0.0, 0, None))
        found = balance is not None and self._monotonic() < until
        metrics.count_credit_cache("hit" if found else "miss")
        return dict(balance) if found and balance is not None else None

    async def put(self, user_id: UUID | str, account: Mapping[str, Any]) -> None:
        key, now, version = str(user_id), self._monotonic(), account["version"]
        until, older, _ = self._entries.get(key, (0.0, 0, None))
        if now < until and older > version:
            return
        # Taken out first: the dictionary stays in the order in which entries came.
        self._entries.pop(key, None)
        self._entries[key] = (now + self._seconds, version, _balance(account))
        if len(self._entries) > ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]

    async def forget(self, user_id: UUID | str) -> None:
        self._entries.pop(str(user_id), None)

    async def close(self) -> None:
        self._entries.clear()


class RedisCache:
    """In a Redis that all processes share, as JSON under `credits:balance:<user_id>`.

    While Redis is away it knows nothing, which is logged once a minute.
    """

    def __init__(
        self, url: str, seconds: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        # Imported here: it is slow to import, and who has no Redis never needs it.
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=WAIT_SECONDS_MAX,
            socket_connect_timeout=WAIT_SECONDS_MAX,
            socket_timeout=WAIT_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis = Redis.from_pool(pool)
        self._set_if_newer = self._redis.register_script(_SET_IF_NEWER)
        self._seconds = seconds
        self._monotonic = monotonic
        self._resting_until = self._silent_until = -float("inf")

    async def get(self, user_id: UUID | str) -> Balance | None:
        reached, kept = await self._ask(lambda: self._redis.get(PREFIX + str(user_id)))
        if not reached:
            metrics.count_credit_cache("error")
            return None
        if kept is None:
            metrics.count_credit_cache("miss")
            return None
        try:
            balance = _balance(exact.decode(kept))
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            # Not ours; what is put next takes its place.
            self._log(error)
            metrics.count_credit_cache("error")
            return None
        metrics.count_credit_cache("hit")
        return balance

    async def put(self, user_id: UUID | str, account: Mapping[str, Any]) -> None:
        version = account["version"]
        kept = exact.encode({**_balance(account), "version": version})
        await self._ask(
            lambda: self._set_if_newer(
                keys=[PREFIX + str(user_id)], args=[kept, version, self._seconds]
            )
        )

    async def forget(self, user_id: UUID | str) -> None:
        await self._ask(lambda: self._redis.delete(PREFIX + str(user_id)))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask(self, command: Callable[[], Any]) -> tuple[bool, Any]:
        """Whether Redis could be asked, and what it said."""
        from redis.exceptions import RedisError

        if self._monotonic() < self._resting_until:
            return False, None
        try:
            async with asyncio.timeout(SECONDS_MAX):
                return True, await command()
        except (RedisError, OSError, TimeoutError) as error:
            self._resting_until = self._monotonic() + REST_SECONDS
            self._log(error)
            return False, None

    def _log(self, error: Exception) -> None:
        if self._monotonic() >= self._silent_until:
            self._silent_until = self._monotonic() + LOG_SECONDS
            what = f"{type(error).__name__}: {error}"
            logs.log(logs.CREDIT_CACHE_AWAY, level="warning", error=what)


def _balance(account: Mapping[str, Any]) -> Balance:
    return {name: account[name] for name in _MEMBERS}
