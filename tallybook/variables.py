"""How one environment variable is read: its names, its parser and what it must be."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

Parser = Callable[[str], Any]

_T = TypeVar("_T")

SECRET_LENGTH_MIN: Final = 32
SERVICE_URL: Final = "an https URL (http only for a private or local host)"


class ConfigurationError(Exception):
    """A variable is missing or malformed. It names the variable and never tells its value."""

    def __init__(self, name: str, must_be: str) -> None:
        super().__init__(f"{name} must be {must_be}.")
        self.name = name


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """The names a value may come under, and its parser.

    The first name that is set wins; lists are joined, so that a key under either name counts.
    A parser takes the stripped text and raises ValueError when it does not fit.
    """

    names: tuple[str, ...]
    parse: Parser
    must_be: str

    def read(self, environ: Mapping[str, str]) -> Any:
        """The parsed value, or None when unset or empty; raises ConfigurationError."""
        found: Any = None
        for name in self.names:
            value = environ.get(name, "").strip()
            if value and found is None:
                found = self._parsed(name, value)
            elif value and isinstance(found, tuple):
                found += self._parsed(name, value)
        return found

    def _parsed(self, name: str, value: str) -> Any:
        try:
            return self.parse(value)
        except ValueError:
            pass
        # Raised outside the handler: a chained exception might carry the value along.
        raise ConfigurationError(name, self.must_be)


def text(value: str) -> str:
    """Any text."""
    return value


def digits(value: str) -> str:
    """Decimal digits, kept as text."""
    return _when(value.isascii() and value.isdecimal(), value)


def boolean(value: str) -> bool:
    """`true` or `false`, or their common spellings."""
    word = value.lower()
    _when(word in {"true", "1", "yes", "on", "false", "0", "no", "off"}, word)
    return word in {"true", "1", "yes", "on"}


def integer(least: int, most: int) -> Parser:
    """A whole number from `least` to `most`."""

    def parse(value: str) -> int:
        number = int(value)
        return _when(least <= number <= most, number)

    return parse


def one_of(*words: str) -> Parser:
    """One of the given words."""

    def parse(value: str) -> str:
        return _when(value.lower() in words, value.lower())

    return parse


def several(*words: str) -> Parser:
    """A comma list or a JSON array; where words are given, of these alone."""

    def parse(value: str) -> tuple[str, ...]:
        found = _several(value)
        return _when(not words or set(found) <= set(words), found)

    return parse


def header_name(value: str) -> str:
    """The name of an HTTP header, in lower case."""
    return _when(re.fullmatch(r"[a-z0-9-]+", value.lower()) is not None, value.lower())


def long_secret(value: str) -> str:
    """A secret of 32 characters or more."""
    return _when(len(value) >= SECRET_LENGTH_MIN, value)


def long_secrets(value: str) -> tuple[str, ...]:
    """Several secrets; a secret with a comma in it needs the JSON form."""
    return tuple(long_secret(secret) for secret in _several(value))


def hmac_secret(value: str) -> str:
    """An HS256 secret. A PEM key here is a public key about to be used as a shared secret."""
    return _when(len(value.encode()) >= SECRET_LENGTH_MIN and "-----BEGIN" not in value, value)


def api_keys(prefix: str, random_length_min: int = 1) -> Parser:
    """Supabase's new API keys, of one kind."""

    def parse(value: str) -> tuple[str, ...]:
        keys = _several(value)
        fits = all(
            key.startswith(prefix) and len(key) - len(prefix) >= random_length_min for key in keys
        )
        return _when(fits, keys)

    return parse


def legacy_key(role: str, prefix: str) -> Parser:
    """An old API key (a JWT that states its role), or a new one put under the old name.

    The role is read so that two keys swapped by mistake do not start a server.
    """

    def parse(value: str) -> str:
        if value.startswith("sb_"):
            return _when(value.startswith(prefix), value)
        _when(value.count(".") == 2, value)
        claims = msgspec.json.decode(_base64url(value.split(".")[1]))
        return _when(isinstance(claims, dict) and claims.get("role") == role, value)

    return parse


def key_set(value: str) -> tuple[Mapping[str, Any], ...]:
    """A JSON Web Key Set, or the bare array of its keys; private keys are refused."""
    keys = msgspec.json.decode(value)
    if isinstance(keys, dict):
        keys = keys.get("keys")
    _when(isinstance(keys, list) and all(isinstance(key, dict) for key in keys), keys)
    return _when(not any("d" in key for key in keys), tuple(keys))


def fernet_key(value: str) -> str:
    """A Fernet key."""
    return _when(len(_base64url(value)) == 32, value)


def fernet_keys(value: str) -> tuple[str, ...]:
    """Several Fernet keys."""
    return tuple(fernet_key(key) for key in _several(value))


def database_url(value: str) -> str:
    """A Postgres connection URL."""
    return _when(urlsplit(value).scheme in {"postgresql", "postgres"}, value)


def service_url(value: str) -> str:
    """The URL of a service, without its closing slash.

    Plain http is for hosts that no stranger can sit in front of: local and private ones.
    """
    _when(_is_safe(value, encrypted="https", plain="http"), value)
    return value.rstrip("/")


def redis_url(value: str) -> str:
    """The URL of a Redis; unencrypted for local and private hosts only, as above."""
    return _when(_is_safe(value, encrypted="rediss", plain="redis"), value)


def _is_safe(value: str, *, encrypted: str, plain: str) -> bool:
    url = urlsplit(value)
    host = url.hostname or ""
    _when((url.port or 1) > 0, url)  # raises ValueError for what is no port
    private = host == "localhost" or "." not in host or host.endswith((".internal", ".local"))
    with contextlib.suppress(ValueError):
        private = not ipaddress.ip_address(host).is_global
    return bool(host) and (url.scheme == encrypted or (url.scheme == plain and private))


def origins(value: str) -> tuple[str, ...]:
    """Web origins as a browser sends them; `*` may only stand alone."""
    found = tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
    origin_pattern = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]+)(:\d{1,5})?")
    return _when(found == ("*",) or all(map(origin_pattern.fullmatch, found)), found)


def _when(fits: bool, value: _T) -> _T:
    if not fits:
        raise ValueError
    return value


def _several(value: str) -> tuple[str, ...]:
    """Texts from a JSON object's values, a JSON array, or a comma list."""
    if value[0] in "{[":
        found = msgspec.json.decode(value)
        items = list(found.values()) if isinstance(found, dict) else found
    else:
        items = [item.strip() for item in value.split(",") if item.strip()]
    _when(bool(items) and all(isinstance(item, str) for item in items), items)
    return tuple(items)


def _base64url(value: str) -> bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4), altchars="-_", validate=True)
