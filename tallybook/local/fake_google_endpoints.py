"""The two endpoints of Google that Play Integrity needs, as a transport for httpx."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol
from urllib.parse import parse_qs

import httpx
import jwt
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa

from tallybook.attestation.evidence import Rejected
from tallybook.attestation.google import DECODE_URL
from tallybook.attestation.service_account import GRANT_TYPE, SCOPE, TOKEN_URL

TOKEN_SECONDS: Final = 3599

Endpoint = Literal["token", "decode"]
Failure = int | Literal["timeout", "unreachable", "hang"]
"""A status, or what comes instead of an answer; a `hang` ends with the caller's patience only."""


class FakeEndpoints(httpx.AsyncBaseTransport):
    """Plays both endpoints, and checks what it is sent; every other address is unreachable.

    `exchanges` and `decodes` count what came in, `requests` holds it.
    """

    def __init__(self, google: Google, clock: Callable[[], float]) -> None:
        self.exchanges = 0
        self.decodes = 0
        self.requests: list[httpx.Request] = []
        self._google = google
        self._clock = clock
        self._decode_url = DECODE_URL.format(package=google.package_name)
        self._failures: dict[Endpoint, deque[Failure]] = {"token": deque(), "decode": deque()}
        self._valid_until: dict[str, float] = {}

    def fail(self, endpoint: Endpoint, *failures: Failure) -> None:
        """Let the endpoint's next requests fail in these ways, one each."""
        self._failures[endpoint].extend(failures)

    def revoke_access_tokens(self) -> None:
        """Take none of the access tokens that were granted so far."""
        self._valid_until.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """What httpx calls."""
        await request.aread()
        self.requests.append(request)
        url = str(request.url)
        if request.method == "POST" and url == TOKEN_URL:
            self.exchanges += 1
            return await self._failure("token", request) or self._grant(request)
        if request.method == "POST" and url == self._decode_url:
            self.decodes += 1
            return await self._failure("decode", request) or self._decode(request)
        raise httpx.ConnectError("there is nothing here", request=request)

    async def _failure(self, endpoint: Endpoint, request: httpx.Request) -> httpx.Response | None:
        if not self._failures[endpoint]:
            return None
        failure = self._failures[endpoint].popleft()
        if isinstance(failure, int):
            return _error(failure, "PLANNED")
        if failure == "timeout":
            raise httpx.ReadTimeout("no answer came", request=request)
        if failure == "unreachable":
            raise httpx.ConnectError("nobody is there", request=request)
        await asyncio.Event().wait()
        return None

    def _grant(self, request: httpx.Request) -> httpx.Response:
        now = self._clock()
        try:
            form = parse_qs(request.content.decode(), strict_parsing=True)
            fits = form["grant_type"] == [GRANT_TYPE] and self._vouches(form["assertion"][0], now)
        except (KeyError, ValueError, TypeError, jwt.PyJWTError):
            fits = False
        if not fits:
            return httpx.Response(400, json={"error": "invalid_grant"})
        token = f"fake-access-{secrets.token_urlsafe(24)}"
        self._valid_until[token] = now + TOKEN_SECONDS
        granted = {"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}
        return httpx.Response(200, json=granted)

    def _vouches(self, assertion: str, now: float) -> bool:
        account = self._google.service_account
        claims = jwt.decode(
            assertion,
            self._google.account_key.public_key(),
            algorithms=["RS256"],
            audience=TOKEN_URL,
            issuer=account["client_email"],
            # By the clock at hand, below.
            options={"verify_exp": False, "verify_iat": False},
        )
        key_id = jwt.get_unverified_header(assertion).get("kid")
        made_at, ends_at = claims["iat"], claims["exp"]
        return bool(
            key_id == account["private_key_id"]
            and claims["scope"] == SCOPE
            and made_at - 60 <= now < ends_at <= made_at + 3600
        )

    def _decode(self, request: httpx.Request) -> httpx.Response:
        scheme, _, access_token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or self._valid_until.get(access_token, 0) <= self._clock():
            return _error(401, "UNAUTHENTICATED")
        try:
            asked = msgspec.json.decode(request.content, type=_Asked)
            said = self._google.open(asked.integrity_token)
        except (ValueError, InvalidTag, Rejected):
            return _error(400, "INVALID_ARGUMENT")
        return httpx.Response(200, json={"tokenPayloadExternal": said})


class Google(Protocol):
    """What the endpoints know of their FakeGoogle."""

    @property
    def package_name(self) -> str: ...
    @property
    def account_key(self) -> rsa.RSAPrivateKey: ...
    @property
    def service_account(self) -> dict[str, str]: ...
    def open(self, token: str) -> Any: ...


class _Asked(msgspec.Struct):
    integrity_token: str


def _error(status: int, name: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": status, "status": name}})
