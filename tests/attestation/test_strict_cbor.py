"""CBOR that can be read in two ways, or for ever, is not read at all."""

from __future__ import annotations

import time
from typing import Any

import cbor2
import pytest

from tallybook.attestation.strict_cbor import decode, decode_first
from tests.attestation.samples import refused


@pytest.mark.parametrize("item", [0, -1, b"b", "t", [], {}, {"a": [b"c", {1: -2}]}], ids=repr)
def test_plain_items_are_read(item: Any) -> None:
    assert decode(cbor2.dumps(item)) == item


def test_the_first_item_leaves_the_rest() -> None:
    assert decode_first(b"\x01\x02\x03") == (1, b"\x02\x03")
    assert decode_first(b"\x41\xff") == (b"\xff", b"")


MALFORMED = {
    "nothing": "",
    "half a number": "19ff",
    "a number too many": "0102",
    "a reserved length": "1c",
    "a break": "ff",
    "text that is not UTF-8": "62ffff",
    "a key twice": "a201010102",
    "a key twice, written differently": "a2010118010102",
    "a key twice, deep down": "8181a2616101616102",
    "a key twice, as part of a key": "a1a20101010201",
    "a list without a length": "9f01ff",
    "bytes without a length": "5f4101ff",
    "text without a length": "7f6161ff",
    "a map without a length": "bf0101ff",
    "a tag": "c11a514b67b0",
    "a bignum": "c24105",
    "a shared value": "d81c01",
    "a reference": "82d81c01d81d00",
    "a tag nobody knows": "d9fffe01",
    "a tag in a key": "a1c2410501",
    "self-described CBOR": "d9d9f701",
    "a list longer than the world": "9bffffffffffffffff",
    "bytes longer than the world": "5b7fffffffffffffff",
    "a map longer than the world": "bb00ffffffffffffff",
}


@pytest.mark.parametrize("hexadecimal", MALFORMED.values(), ids=MALFORMED)
def test_malformed_items_are_refused(hexadecimal: str) -> None:
    with refused("malformed_cbor"):
        decode(bytes.fromhex(hexadecimal))


@pytest.mark.parametrize("opening", ["81", "a101", "a1", "d8ff", "9f", "c1"])
def test_a_megabyte_of_nesting_is_refused_at_once(opening: str) -> None:
    nested = bytes.fromhex(opening) * (2**20 // len(opening) * 2)
    began = time.monotonic()
    with refused("malformed_cbor"):
        decode(nested)
    with refused("malformed_cbor"):
        decode(nested, bytes_max=len(nested))
    assert time.monotonic() - began < 0.5


def test_depth_and_size_have_limits() -> None:
    assert decode(b"\x81" * 3 + b"\x01", depth_max=3) == [[[1]]]
    with refused("malformed_cbor"):
        decode(b"\x81" * 4 + b"\x01", depth_max=3)
    assert decode(b"\x43abc", bytes_max=4) == b"abc"
    with refused("malformed_cbor"):
        decode(b"\x44abcd", bytes_max=4)
