"""Who is calling: a bearer token or an API key, verified, becomes a Caller or a 401."""

from __future__ import annotations

import base64
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, cast
from uuid import UUID

import msgspec
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from tallybook.api_keys import NEW_KEY_PREFIX, ApiKeys, digest_of
from tallybook.key_set import ALGORITHMS, KeySet
from tallybook.refusal import unauthorized
from tallybook.settings import Settings

Role = Literal["anon", "authenticated", "service_role"]

AUDIENCE: Final = "authenticated"
LEEWAY_SECONDS: Final = 30
TOKEN_BYTES_MAX: Final = 8 * 1024
CACHED_TOKENS_MAX: Final = 10_000

_ROLES: Final = frozenset({"anon", "authenticated", "service_role"})
_JWS: Final = PyJWS(algorithms=["ES256", "RS256", "HS256"])


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller. `user_id` is set for role `authenticated` and for no other.

    `claims` are the token's, without `user_metadata`: users write that themselves, so nothing may
    be decided by it. They are empty for the new API keys.
    """

    user_id: UUID | None
    role: Role
    claims: Mapping[str, Any]

    def __post_init__(self) -> None:
        # Procedures take null for a program that holds the secret key, and let it do more.
        if (self.role == "authenticated") != (self.user_id is not None):
            raise ValueError("a user, and nobody else, has a user id")


class Verifier:
    """Turns request headers into a Caller.

    One credential is chosen by its form and checked in one way; a bad one is refused and never
    tried in another way. Verified tokens are remembered until they expire or the keys change.
    `clock` tells seconds since 1970, `monotonic` paces the fetching of keys.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._issuer = settings.jwt_issuer
        self._hmac_secret = settings.jwt_secret.encode() if settings.jwt_secret else None
        self._keys = KeySet(settings.jwks, settings.key_set_url, monotonic)
        self._api_keys = ApiKeys(settings)
        # SHA-256 of the token -> (caller, when it is no longer good), the latest used last.
        self._cache: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._cache_version = self._keys.version

    async def verify(self, headers: Mapping[str, str]) -> Caller:
        """The caller behind these headers (names in lower case).

        Raises Refusal `unauthorized`, or `unavailable` when the keys to check with cannot be had.
        """
        authorization = headers.get("authorization")
        api_key = headers.get("apikey")
        if authorization is None:
            if api_key is None:
                raise unauthorized("No credentials were sent.")
            token = api_key
        else:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise unauthorized("The Authorization header must be a bearer token.")
        if not 0 < len(token) <= TOKEN_BYTES_MAX or not token.isascii():
            raise unauthorized("The credentials are malformed.")
        digest = digest_of(token)
        if token.startswith(NEW_KEY_PREFIX):
            if authorization and not hmac.compare_digest(digest, digest_of(api_key or "")):
                raise unauthorized("The bearer key and the apikey header differ.")
            caller = self._caller_with_key(digest)
            if caller is None:
                raise unauthorized("The API key is not known.")
            return caller
        caller = await self._caller_with_token(token, digest)
        if authorization is None and caller.role == "authenticated":
            raise unauthorized("A user's token belongs in the Authorization header.")
        return caller

    async def verify_session(self, token: str) -> Caller:
        """The user behind the token in a session cookie; programs do not come with cookies."""
        if not 0 < len(token) <= TOKEN_BYTES_MAX or not token.isascii():
            raise unauthorized("The session is malformed.")
        caller = await self._caller_with_token(token, digest_of(token))
        if caller.role != "authenticated":
            raise unauthorized("A session is a user's.")
        return caller

    async def load(self) -> bool:
        """Get ready: fetch the public keys if need be. True when tokens can be checked."""
        return await self._keys.load() or self._hmac_secret is not None

    async def _caller_with_token(self, token: str, digest: bytes) -> Caller:
        self._keys.refresh_when_old()
        self._forget_if_keys_changed()
        known = self._cache.get(digest)
        if known is not None:
            if self._clock() < known[1]:
                self._cache.move_to_end(digest)
                return known[0]
            del self._cache[digest]
        caller = self._caller_with_key(digest)
        if caller is not None:
            return caller
        caller, good_until = await self._check(token)
        # Waiting for keys may have brought new ones, under which this token was verified.
        self._forget_if_keys_changed()
        self._cache[digest] = caller, good_until
        if len(self._cache) > CACHED_TOKENS_MAX:
            self._cache.popitem(last=False)
        return caller

    def _forget_if_keys_changed(self) -> None:
        if self._cache_version != self._keys.version:
            self._cache.clear()
            self._cache_version = self._keys.version

    def _caller_with_key(self, digest: bytes) -> Caller | None:
        key = self._api_keys.find(digest)
        if key is None:
            return None
        if self._clock() >= key.expires_at + LEEWAY_SECONDS:
            raise unauthorized("The API key has expired.")
        return Caller(None, key.role, MappingProxyType(dict(key.claims)))

    async def _check(self, token: str) -> tuple[Caller, float]:
        """Verify signature and claims; the caller, and the time from which it is so no more."""
        header = _header(token)
        key: Any
        if header.alg == "HS256":
            key = self._hmac_secret
        elif header.alg in ALGORITHMS:
            key = await self._keys.find(header.alg, header.kid)
        else:
            key = None
        if key is None:
            raise unauthorized("The token is not signed with a key that is accepted here.")
        # No await from here on: what is judged by these keys is also remembered under them.
        try:
            payload = _JWS.decode_complete(token, key, algorithms=[header.alg])["payload"]
            claims = msgspec.json.decode(payload, type=dict[str, Any])
        except (PyJWTError, ValueError, RecursionError):
            claims = None
        if claims is None:
            raise unauthorized("The token does not verify.")
        return self._judge(claims, shared_secret=header.alg == "HS256")

    def _judge(self, claims: dict[str, Any], *, shared_secret: bool) -> tuple[Caller, float]:
        role = claims.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise unauthorized("The token's role is not accepted here.")
        is_user = role == "authenticated"
        now = self._clock()
        good_until = _seconds(claims.get("exp")) + LEEWAY_SECONDS
        if now >= good_until:
            raise unauthorized("The token has expired.")
        if "nbf" in claims and now < _seconds(claims["nbf"]) - LEEWAY_SECONDS:
            raise unauthorized("The token is not valid yet.")
        # The old anon and service_role keys say iss "supabase", name no audience and no user.
        if self._issuer and (is_user or not shared_secret) and claims.get("iss") != self._issuer:
            raise unauthorized("The token is from another issuer.")
        audience = claims.get("aud", [] if is_user else AUDIENCE)
        if audience != AUDIENCE and not (isinstance(audience, list) and AUDIENCE in audience):
            raise unauthorized("The token is for another audience.")
        user_id = _user_id(claims.get("sub")) if is_user else None
        claims.pop("user_metadata", None)
        return Caller(user_id, cast(Role, role), MappingProxyType(claims)), good_until


class _Header(msgspec.Struct):
    """What counts in a token's header. The keys it may carry or point to are never looked at."""

    alg: str
    kid: str | None = None
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def _header(token: str) -> _Header:
    try:
        encoded = token[: token.index(".")]
        header = msgspec.json.decode(
            base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=_Header
        )
    except (ValueError, RecursionError):
        header = None
    # An extension that must be understood is not understood here, whatever it is.
    if header is None or header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise unauthorized("The token is malformed.")
    return header


def _seconds(claim: object) -> float:
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        raise unauthorized("The token lacks its times.")
    try:
        return float(claim)
    except OverflowError:
        return float("inf")


def _user_id(subject: object) -> UUID:
    """The user in `sub`, which must be a UUID in its usual form and no other that UUID() takes."""
    try:
        user_id = UUID(str(subject))
    except ValueError:
        user_id = None
    if user_id is None or str(user_id) != str(subject).lower():
        raise unauthorized("The token names no user.")
    return user_id
