"""Request bodies: JSON into a declared struct, or a refusal with the path of the fault."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

import msgspec

from tallybook import exact
from tallybook.refusal import Refusal, invalid_body


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every request body derives from: its fields are all there may be."""


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
"""A short word that the server knows or keeps: an event type, an entity type."""

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""What makes a request unique: a nonce, an idempotency key."""

Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""RFC 3339 with an offset."""

DECIMAL_DIGITS_MAX: Final = 30
"""On either side of the point; what a procedure takes is for the procedure to say."""

BodyT = TypeVar("BodyT", bound=Body)

# msgspec puts the path at the end of its sentence, and names a missing or unknown field before it.
_AT: Final = re.compile(r" - at `(?:key in )?(\$[^`]*)`$")
_FIELD: Final = re.compile(r"(?:missing required|unknown) field `([^`]*)`")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DATE: Final = re.compile(r"[0-9]{4}-")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([Ee][+-]?[0-9]+)?")


def decode(
    decoder: msgspec.json.Decoder[BodyT], raw: bytes, *, has_decimals: bool = False
) -> BodyT:
    """The body. Raises Refusal invalid_body whose path points at what is wrong."""
    try:
        body = decoder.decode(raw)
        if has_decimals:
            _check_numbers(body, exact.decode(raw), "$")
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


def from_texts(kind: type[BodyT], texts: Mapping[str, str]) -> BodyT:
    """The body whose fields an address says. Raises Refusal invalid_body like `decode`."""
    try:
        body = msgspec.convert(texts, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from None
    _check_numbers(body, texts, "$")
    for name, sent in zip(body.__struct_fields__, body.__struct_encode_fields__, strict=True):
        # A number would be taken for seconds since 1970, and a year is a number too.
        if isinstance(getattr(body, name), datetime) and not _DATE.match(texts.get(sent, "0000-")):
            raise invalid_body("Expected a time of RFC 3339.", f"$.{sent}")
    return body


def with_parameters(raw: bytes, parameters: Mapping[str, str]) -> bytes:
    """The JSON of a body to which an address adds fields."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(raw, error) from None
    for name, text in parameters.items():
        if name in fields:
            raise invalid_body("The address says it already.", f"$.{name}")
        fields[name] = msgspec.Raw(msgspec.json.encode(text))
    return msgspec.json.encode(fields)


def has_decimals(kind: type[Body]) -> bool:
    """Whether a body has a Decimal in it, however deep."""
    return "DecimalType" in repr(msgspec.inspect.type_info(kind))


def _check_numbers(value: Any, given: Any, path: str) -> None:
    """JSON's numbers, in a text too, and none that is infinite or endless.

    Python's Decimal reads more than that: `NaN`, `1_000`, other scripts' digits.
    """
    if isinstance(value, Decimal):
        if isinstance(given, str) and not _NUMBER.fullmatch(given):
            raise invalid_body("Expected a number.", path)
        digits = DECIMAL_DIGITS_MAX
        if not (value.adjusted() < digits and -int(value.as_tuple().exponent) <= digits):
            raise invalid_body(f"At most {digits} digits on either side of the point.", path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise invalid_body("A number must be finite.", path)
    elif isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        for name, sent in names:
            if sent in given:
                _check_numbers(getattr(value, name), given[sent], f"{path}.{sent}")
    elif isinstance(value, list):
        for index, (item, its) in enumerate(zip(value, given, strict=True)):
            _check_numbers(item, its, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_numbers(item, given[name], _child(path, name))


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
