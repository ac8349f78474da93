"""The project's own API keys, new (`sb_publishable_…`, `sb_secret_…`) and old (JWTs)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from tallybook.settings import Settings

NEW_KEY_PREFIX: Final = "sb_"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One configured key; `expires_at` is in seconds since 1970, and infinite for new keys."""

    digest: bytes
    role: Literal["anon", "service_role"]
    claims: Mapping[str, Any]
    expires_at: float


class ApiKeys:
    """Every API key in the settings, kept as SHA-256 digests."""

    def __init__(self, settings: Settings) -> None:
        publishable = (*settings.publishable_keys, settings.anon_key)
        secret = (*settings.secret_keys, settings.service_role_key)
        self._keys = (
            *(_api_key(key, "anon") for key in publishable if key),
            *(_api_key(key, "service_role") for key in secret if key),
        )

    def find(self, digest: bytes) -> ApiKey | None:
        """The key with this digest; all are compared, found or not, each in constant time."""
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def digest_of(key: str) -> bytes:
    """SHA-256 of a key or token."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _api_key(key: str, role: Literal["anon", "service_role"]) -> ApiKey:
    claims: dict[str, Any] = {}
    if not key.startswith(NEW_KEY_PREFIX):
        # Its signature need not be checked: who configured the key vouches for it.
        encoded = key.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    expires_at = claims.get("exp", float("inf"))
    return ApiKey(digest_of(key), role, claims, expires_at)
