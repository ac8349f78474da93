"""CBOR from strangers: one item, of plain types, in one reading only."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final, NoReturn

from cbor2 import CBORDecodeError, CBORDecoder

from tallybook.attestation.evidence import Rejected

BYTES_MAX: Final = 32 * 1024  # a real attestation has some 6,000
DEPTH_MAX: Final = 8  # a real attestation has 3


def decode(data: bytes, *, bytes_max: int = BYTES_MAX, depth_max: int = DEPTH_MAX) -> Any:
    """The one item that `data` is. Raises Rejected `malformed_cbor` when anything follows it."""
    value, rest = decode_first(data, bytes_max=bytes_max, depth_max=depth_max)
    if rest:
        raise Rejected("malformed_cbor", f"{len(rest)} bytes follow the item")
    return value


def decode_first(
    data: bytes, *, bytes_max: int = BYTES_MAX, depth_max: int = DEPTH_MAX
) -> tuple[Any, bytes]:
    """The first item of `data`, and the bytes behind it.

    Refused with `malformed_cbor`: tags, lengths that are not stated, a key that a map has twice,
    deeper nesting than `depth_max`, more than `bytes_max` bytes altogether.
    """
    if len(data) > bytes_max:
        raise Rejected("malformed_cbor", f"{len(data)} bytes are more than {bytes_max}")
    stream = BytesIO(data)
    try:
        value = CBORDecoder(
            stream,
            semantic_decoders=_NO_TAGS,
            max_depth=depth_max,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        ).decode()
    except Exception as error:  # whatever a decoder makes of hostile bytes, they are malformed
        raise Rejected("malformed_cbor", str(error)[:200]) from error
    return value, data[stream.tell() :]


class _NoTags(dict[int, Any]):
    """Every tag's decoder, and none of them decodes: also those that cbor2 knows by itself."""

    def __missing__(self, tag: int) -> NoReturn:
        raise CBORDecodeError(f"tag {tag} is not allowed")


_NO_TAGS: Final = _NoTags()
