"""Who we are to Google: a service account, and the access tokens that it gets for itself.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from urllib.parse import urlencode

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tallybook.attestation.evidence import Unavailable
from tallybook.attestation.google_http import post

if TYPE_CHECKING:
    import httpx

TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a token
SCOPE: Final = "https://www.googleapis.com/auth/playintegrity"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_SECONDS: Final = 3600
RENEW_SECONDS_BEFORE: Final = 60.0
RSA_BITS_MIN: Final = 2048
# Of a try's time: an exchange that hangs has ended before those who wait for it try again.
TRY_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A service account's e-mail address and key, as its JSON file has them."""

    email: str
    key_id: str
    private_key: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def read(cls, document: str | Mapping[str, Any]) -> Self:
        """From the file's text, or what was parsed of it. ValueError, which repeats nothing of it.

        The addresses in it are not read: nobody who can change the file may say where we sign in.
        """
        try:
            if isinstance(document, str):
                file = msgspec.json.decode(document, type=_File)
            else:
                file = msgspec.convert(document, _File)
            key = load_pem_private_key(file.private_key.encode(), password=None)
        except (msgspec.MsgspecError, ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("the service account is not one of Google's JSON keys") from None
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < RSA_BITS_MIN:
            raise ValueError(f"the service account's key is not RSA of {RSA_BITS_MIN} bits")
        return cls(file.client_email, file.private_key_id, key)

    def assertion(self, now: float) -> str:
        """The signed statement that is exchanged for an access token; `now` in seconds of 1970."""
        claims = {
            "iss": self.email,
            "scope": SCOPE,
            "aud": TOKEN_URL,
            "iat": int(now),
            "exp": int(now) + ASSERTION_SECONDS,
        }
        return jwt.encode(claims, self.private_key, "RS256", headers={"kid": self.key_id})


class AccessTokens:
    """The access token in use. It is renewed a minute before it ends, by one exchange at a time."""

    def __init__(
        self,
        account: ServiceAccount,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._clock = clock
        self._monotonic = monotonic
        self._token = ""
        self._renew_at = -float("inf")
        self._exchanging: asyncio.Task[str | Unavailable] | None = None

    async def get(self, client: httpx.AsyncClient) -> str:
        """A token with a minute left.

        Raises what `post` raises, and Unavailable `credentials_refused`, ours.
        """
        if self._monotonic() < self._renew_at:
            return self._token
        # Shielded: one impatient caller must not end the exchange that others wait for.
        outcome = await asyncio.shield(self._in_flight() or self._start(client))
        if isinstance(outcome, Unavailable):
            # A fresh one for each who waited: an exception remembers where it was raised.
            raise type(outcome)(outcome.reason, ours=outcome.ours)
        return outcome

    def forget(self, token: str) -> None:
        """Do not use this token again: Google no longer takes it."""
        if token == self._token:
            self._renew_at = -float("inf")

    def _in_flight(self) -> asyncio.Task[str | Unavailable] | None:
        task = self._exchanging
        # A task of a loop that is gone will never end; tests have a loop each.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            return None
        return task

    def _start(self, client: httpx.AsyncClient) -> asyncio.Task[str | Unavailable]:
        self._exchanging = asyncio.create_task(self._exchange(client))
        return self._exchanging

    async def _exchange(self, client: httpx.AsyncClient) -> str | Unavailable:
        # Returned and not raised: when everybody has gone, nobody is left to take an exception.
        try:
            granted = await self._grant(client)
        except Unavailable as failure:
            return failure
        self._token = granted.access_token
        self._renew_at = self._monotonic() + granted.expires_in - RENEW_SECONDS_BEFORE
        return self._token

    async def _grant(self, client: httpx.AsyncClient) -> _Granted:
        asked_at = self._clock()
        # Signing takes a millisecond or two, once an hour.
        form = {"grant_type": GRANT_TYPE, "assertion": self._account.assertion(asked_at)}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await post(client, TOKEN_URL, urlencode(form).encode(), headers, TRY_SHARE)
        if 400 <= answer.status < 500:
            # Also the 400 that Google has for a key it does not know and for a clock that is off.
            raise Unavailable("credentials_refused", ours=True)
        return answer.read(_Granted)


class _File(msgspec.Struct):
    type: Literal["service_account"]
    client_email: str
    private_key_id: str
    private_key: str


class _Granted(msgspec.Struct):
    # What fits into a header, and into a clock.
    access_token: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,8192}$")]
    expires_in: Annotated[int, msgspec.Meta(ge=0, le=86_400)]
    token_type: Literal["Bearer"]
