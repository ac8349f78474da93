"""Request bodies: JSON into a declared struct, or a refusal with the path of the fault."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from tallybook.refusal import Refusal, invalid_body


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every request body derives from: its fields are all there may be."""


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
"""A short word that the server knows or keeps: an event type, an entity type."""

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""What makes a request unique: a nonce, an idempotency key."""

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""RFC 3339 with an offset."""

BodyT = TypeVar("BodyT", bound=Body)

# msgspec puts the path at the end of its sentence, and names a missing or unknown field before it.
_AT: Final = re.compile(r" - at `(?:key in )?(\$[^`]*)`$")
_FIELD: Final = re.compile(r"(?:missing required|unknown) field `([^`]*)`")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def decode(decoder: msgspec.json.Decoder[BodyT], raw: bytes) -> BodyT:
    """The body. Raises Refusal invalid_body whose path points at what is wrong."""
    try:
        body = decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(raw, error) from None
    # PostgreSQL's text cannot hold it; said here, it names the field and spoils nobody's batch.
    if b"\\u0000" in raw:
        for path, value in _leaves(msgspec.to_builtins(body), "$"):
            if isinstance(value, str) and "\0" in value:
                raise invalid_body("A text must not contain the character U+0000.", path)
    return body


def _fault(sentence: str) -> Refusal:
    at = _AT.search(sentence)
    path = at[1] if at else "$"
    words = sentence[: at.start()] if at else sentence
    field = _FIELD.search(words)
    if field:
        path = _child(path, field[1])
    return invalid_body(f"{words}.", path)


def _malformed(raw: bytes, error: Exception) -> Refusal:
    """JSON has no NaN and no Infinity, but Python's own parser reads them, and so finds where."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return invalid_body(f"{error}.", "$")
    for path, leaf in _leaves(value, "$"):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            return invalid_body("A number must be finite.", path)
        if isinstance(leaf, str) and any("\ud800" <= character <= "\udfff" for character in leaf):
            return invalid_body("A text must be valid Unicode.", path)
    return invalid_body(f"{error}.", "$")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every scalar in a JSON value, and every key, with its path."""
    stack = [(path, value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack += [(_child(path, key), child) for key, child in value.items()]
            stack += [(_child(path, key), key) for key in value]
        elif isinstance(value, list):
            stack += [(f"{path}[{index}]", child) for index, child in enumerate(value)]
        else:
            yield path, value


def _child(path: str, key: str) -> str:
    return f"{path}.{key}" if _NAME.fullmatch(key) else f"{path}[{json.dumps(key)}]"
