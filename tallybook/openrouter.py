"""Asking OpenRouter what it knows of a user's key: whose it is, and what is left to spend with it.

https://openrouter.ai/docs/api-reference
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from tallybook import logs
from tallybook.attestation.circuit_breaker import CircuitBreaker
from tallybook.attestation.evidence import Rejected, Unavailable
from tallybook.refusal import provider_key_rejected, unavailable

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS_MAX: Final = 2.0
SECONDS_MAX: Final = 5.0
ANSWER_BYTES_MAX: Final = 64 * 1024
RETRY_AFTER_SECONDS: Final = 10

_KEYS_FAULT: Final = frozenset({"malformed", "refused"})
# What a header can carry: anything else never was a key.
_KEY: Final = re.compile(r"[!-~]{1,500}")
_CREDITS_MAX: Final = Decimal(10) ** 12
_PLACES: Final = Decimal("0.000001")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpenRouterAccount:
    """What is known of a key: its owner's id, and the credits that it can still spend.

    Credits are None for a key without a limit that may not look at its owner's credits.
    """

    account_id: str | None
    free_credits: Decimal | None


class OpenRouter:
    """OpenRouter behind one connection pool and one circuit breaker. Close it with `aclose`."""

    def __init__(
        self,
        base_url: str,
        transport: httpx.AsyncBaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Imported here: httpx is slow to import, and most processes never ask.
        import httpx

        self._base_url = base_url
        self._breaker = CircuitBreaker(monotonic)
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
            follow_redirects=False,
        )

    async def account(self, api_key: str) -> OpenRouterAccount:
        """What OpenRouter says of this key, within SECONDS_MAX.

        Raises Refusal `provider_key_rejected` (400), or `unavailable` (503) when OpenRouter cannot
        be asked. What may pass is tried once more.
        """
        try:
            if not _KEY.fullmatch(api_key):
                raise Rejected("malformed")
            with self._breaker.call() as probe:
                try:
                    async with asyncio.timeout(SECONDS_MAX):
                        return await self._account(api_key, tries=1 if probe else 2)
                except TimeoutError:
                    raise Unavailable("timeout") from None
        except (Rejected, Unavailable) as error:
            reason = error.reason
        # Raised outside the handler: nothing is chained that might know the key.
        if reason in _KEYS_FAULT:
            raise provider_key_rejected("OpenRouter does not accept it.")
        logs.log(logs.OPENROUTER_AWAY, level="warning", reason=reason)
        raise unavailable("OpenRouter does not answer.", retry_after_seconds=RETRY_AFTER_SECONDS)

    async def aclose(self) -> None:
        """Close the connections, for good."""
        await self._client.aclose()

    async def _account(self, api_key: str, tries: int) -> OpenRouterAccount:
        key = await self._get("/key", api_key, _Key, tries)
        if key is None:
            raise Rejected("refused")
        limit = key.data.limit_remaining
        left = [] if limit is None else [_amount(limit)]
        # Only a key that manages others may look at its owner's credits.
        owner = await self._get("/credits", api_key, _Credits, tries)
        if owner is not None:
            left.append(_amount(owner.data.total_credits) - _amount(owner.data.total_usage))
        # Who has spent more than they had can spend nothing.
        return OpenRouterAccount(
            key.data.creator_user_id, max(min(left), Decimal(0)) if left else None
        )

    async def _get(self, path: str, api_key: str, kind: type[T], tries: int) -> T | None:
        """The answer; None where the key may not ask. Raises Unavailable."""
        while True:
            tries -= 1
            try:
                return await self._try(path, api_key, kind)
            except _Fleeting:
                if tries <= 0:
                    raise

    async def _try(self, path: str, api_key: str, kind: type[T]) -> T | None:
        import httpx

        headers = {
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        # Nothing is chained: what httpx raises holds the request, and the request holds the key.
        try:
            async with self._client.stream(
                "GET", self._base_url + path, headers=headers
            ) as response:
                if response.status_code in (401, 403):
                    return None
                _check(response)
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > ANSWER_BYTES_MAX:
                        raise Unavailable("answer")
        except (httpx.TimeoutException, httpx.TransportError, OSError):
            raise _Fleeting("unreachable") from None
        except httpx.HTTPError:
            raise Unavailable("answer") from None
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise Unavailable("answer") from None


class _Fleeting(Unavailable):
    """What another try may mend: a timeout, a lost connection, a server's own error."""


class _KeyData(msgspec.Struct):
    limit_remaining: Decimal | None
    creator_user_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class _Key(msgspec.Struct):
    data: _KeyData


class _CreditsData(msgspec.Struct):
    total_credits: Decimal
    total_usage: Decimal


class _Credits(msgspec.Struct):
    data: _CreditsData


def _check(response: httpx.Response) -> None:
    # That may be for this key alone, so it is no reason to leave OpenRouter alone.
    if response.status_code == 429:
        raise Rejected("rate_limited")
    if response.status_code >= 500:
        raise _Fleeting("error")
    # A small compressed answer could be a large one, and none was asked for.
    if response.status_code != 200 or "content-encoding" in response.headers:
        raise Unavailable("answer")


def _amount(amount: Decimal) -> Decimal:
    """An amount with as many places as are kept."""
    if not amount.is_finite() or abs(amount) >= _CREDITS_MAX:
        raise Unavailable("answer")
    return amount.quantize(_PLACES)
