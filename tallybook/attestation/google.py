"""Asking Google what a Play Integrity token says.

https://developer.android.com/google/play/integrity/reference/rest/v1/v1/decodeIntegrityToken
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tallybook.attestation import google_http
from tallybook.attestation.android_app import check_package_name
from tallybook.attestation.circuit_breaker import CircuitBreaker
from tallybook.attestation.evidence import Rejected, Unavailable
from tallybook.attestation.google_http import Fleeting, new_client, post
from tallybook.attestation.play_token import check_token_text
from tallybook.attestation.service_account import AccessTokens, ServiceAccount

if TYPE_CHECKING:
    import httpx

DECODE_URL: Final = "https://playintegrity.googleapis.com/v1/{package}:decodeIntegrityToken"


class PlayIntegrity:
    """Google's decodeIntegrityToken for one package, as one service account.

    `service_account` is its JSON key, as text or parsed; ValueError when it is none. `clock` tells
    seconds since 1970, `monotonic` paces tokens and the circuit breaker. Close it with `aclose`.
    """

    def __init__(
        self,
        service_account: str | Mapping[str, Any],
        package_name: str,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        check_package_name(package_name)
        self._url = DECODE_URL.format(package=package_name)
        self._tokens = AccessTokens(ServiceAccount.read(service_account), clock, monotonic)
        self._breaker = CircuitBreaker(monotonic)
        # Here and not at the first request, which would have to wait for certificates to load.
        self._client = new_client(transport)

    async def decode(self, token: str) -> dict[str, Any]:
        """What Google says of a standard or classic token; `judge` judges it.

        Raises Rejected `token_too_large`, `malformed_token`, or `token_undecodable`, when Google
        can make nothing of it. Raises Unavailable `google_timeout`, `google_unreachable`,
        `google_error`, `google_rate_limited`, `google_answer` or `circuit_open`; and, ours,
        `credentials_refused` at sign-in or `decode_refused`. A timeout, a lost connection and a
        5xx are tried once more; a try ends within TRY_SECONDS_MAX, signing in included.
        """
        check_token_text(token)
        with self._breaker.call() as probe:
            try:
                return await self._try(token)
            except Fleeting:
                if probe:
                    raise
            return await self._try(token)

    async def aclose(self) -> None:
        """Close the connections, for good."""
        await self._client.aclose()

    async def _try(self, token: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(google_http.TRY_SECONDS_MAX):
                return await self._ask(token)
        except TimeoutError:
            raise Fleeting("google_timeout") from None

    async def _ask(self, token: str) -> dict[str, Any]:
        access_token = await self._tokens.get(self._client)
        headers = {"Authorization": f"Bearer {access_token}", "Content-Type": "application/json"}
        body = msgspec.json.encode({"integrity_token": token})
        answer = await post(self._client, self._url, body, headers)
        if answer.status == 400:
            raise Rejected("token_undecodable", "Google can make nothing of the token")
        if 400 <= answer.status < 500:
            self._tokens.forget(access_token)
            raise Unavailable("decode_refused", ours=True)
        return answer.read(_Decoded).token_payload_external


class _Decoded(msgspec.Struct, rename="camel"):
    token_payload_external: dict[str, Any]
