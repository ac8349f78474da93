"""Striking secrets out of what is about to be logged: by the name they go under, and by shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

REDACTED: Final = "[redacted]"

DEPTH_MAX: Final = 6
ITEMS_MAX: Final = 100
TEXT_LENGTH_MAX: Final = 8_192

_NAMES: Final = frozenset(
    {
        "apikey",
        "api_key",
        "anon_key",
        "attestation",
        "authorization",
        "code",
        "cookie",
        "coupon_code",
        "database_url",
        "db_url",
        "dsn",
        "encryption_key",
        "jwt",
        "plaintext_code",
        "private_key",
        "proof",
        "proof_payload",
        "proxy_authorization",
        "reencrypted",
        "sealed_code",
        "secret_key",
        "service_role_key",
        "set_cookie",
        "token",
        "tokens",
    }
)
_FRAGMENTS: Final = ("secret", "password", "passwd", "credential")
_ENDINGS: Final = ("_token", "_tokens", "_jwt", "_api_key", "_apikey", "_private_key", "_encrypted")

# A JWT, a secret API key, OpenRouter's, what Fernet has encrypted, whatever follows "Bearer", a
# URL's user and password, a coupon code.
_SHAPES: Final = re.compile(
    rb"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    rb"|sb_secret_[\w-]+"
    rb"|sk-or-[\w-]+"
    rb"|gAAAA[\w-]{40,}={0,2}"
    rb"|(?<=[Bb]earer )[^\s\"\\]+"
    rb"|(?<=://)[^\s/\"@]+@"
    rb"|(?<![\w-])[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}-[0-9A-Z](?![\w-])"
)
_HINTS: Final = (b"eyJ", b"sb_secret_", b"sk-or-", b"gAAAA", b"earer ", b"://")


@lru_cache(maxsize=4_096)
def is_secret_name(name: str) -> bool:
    """True when a value under this name is never shown, however the name is spelled."""
    # coupon-code, couponCode and COUPON_CODE are one name.
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")
    return (
        snake in _NAMES
        or snake.endswith(_ENDINGS)
        or any(fragment in snake for fragment in _FRAGMENTS)
    )


def redacted(value: Any, depth: int = 0) -> Any:
    """A copy fit for a log: secret members struck out, depth, lengths and texts limited.

    What JSON has no form for is shown by its type; bytes by their number.
    """
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, str):
        return value if len(value) <= TEXT_LENGTH_MAX else value[:TEXT_LENGTH_MAX] + "…"
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth >= DEPTH_MAX:
            return "[too deep]"
        if isinstance(value, Mapping):
            return {
                str(name): REDACTED if is_secret_name(str(name)) else redacted(member, depth + 1)
                for name, member in _first(value.items())
            }
        return [redacted(member, depth + 1) for member in _first(value)]
    if type(value).__module__ in _PLAIN_MODULES:
        return str(value)
    return f"[{type(value).__name__}]"


# By exact type, which is quick: most of what is logged is one of these or a text.
_AS_THEY_ARE: Final = frozenset({type(None), bool, int, float})

# Types whose text is plain data: an object of ours might print what it guards.
_PLAIN_MODULES: Final = frozenset({"uuid", "datetime", "decimal", "ipaddress"})


def strike_out_shapes(line: bytes, *, thoroughly: bool) -> bytes:
    """Strike out what looks like a secret; unless `thoroughly`, only where a hint of one stands."""
    if thoroughly or any(hint in line for hint in _HINTS):
        return _SHAPES.sub(REDACTED.encode(), line)
    return line


def _first(items: Iterable[Any]) -> Iterable[Any]:
    for position, item in enumerate(items):
        if position == ITEMS_MAX:
            return
        yield item
