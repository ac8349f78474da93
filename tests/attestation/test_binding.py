"""What a device signs: the documented bytes, and no others."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.attestation.binding import (
    base64url,
    base64url_decode,
    client_data_hash,
    request_hash,
)
from tests.attestation import document

PATH = "/functions/v1/submit-points-event"
VECTOR = dict(document.rows("A test vector"))
CHALLENGE = base64url_decode(VECTOR["challenge"])
BODY = VECTOR["body, in UTF-8"].encode()


def test_the_documented_vector_is_what_the_server_expects() -> None:
    assert list(CHALLENGE) == list(range(32))
    assert sha256(BODY).hexdigest() == VECTOR["SHA-256 of the body"]
    assert client_data_hash("POST", PATH, CHALLENGE, BODY).hex() == VECTOR["H"]
    assert request_hash("POST", PATH, CHALLENGE, BODY) == VECTOR["requestHash"]
    assert sha256(CHALLENGE).hexdigest() == VECTOR["clientDataHash, to register"]


def test_the_documented_bytes_are_what_is_hashed() -> None:
    message = bytes.fromhex(VECTOR["what is hashed"])
    assert sha256(message).hexdigest() == VECTOR["H"]
    parts = []
    for length, _ in document.rows("What is signed"):
        parts.append(message[: int(length)])
        message = message[int(length) :]
    assert message == b""
    assert parts == [
        b"tallybook/v1",
        b"\0\0\0\x04",
        b"POST",
        b"\0\0\0\x21",
        PATH.encode(),
        CHALLENGE,
        sha256(BODY).digest(),
    ]


Request = tuple[str, str, bytes, bytes]
REQUEST: Request = ("POST", PATH, CHALLENGE, BODY)


@pytest.mark.parametrize(
    "other",
    [
        ("PUT", PATH, CHALLENGE, BODY),
        ("POST", "/functions/v1/redeem-coupon", CHALLENGE, BODY),
        ("POST", PATH, sha256(CHALLENGE).digest(), BODY),
        ("POST", PATH, CHALLENGE, BODY + b" "),
        # A character that has moved from one word into the next.
        ("POST/", PATH[1:], CHALLENGE, BODY),
        ("POST", PATH + CHALLENGE[:1].decode(), CHALLENGE[1:], BODY),
    ],
)
def test_another_request_has_another_hash(other: Request) -> None:
    assert client_data_hash(*other) != client_data_hash(*REQUEST)


def test_a_method_has_one_spelling() -> None:
    assert client_data_hash("post", *REQUEST[1:]) == client_data_hash(*REQUEST)


@given(st.binary(max_size=64))
def test_base64url_goes_there_and_back(data: bytes) -> None:
    text = base64url(data)
    assert not set(text) & set("+/=")
    assert base64url_decode(text) == data


@pytest.mark.parametrize("text", ["AB", "AA=", "AA==", "A", "A+==", "A/AA", "ÄÄÄÄ", "AAA A", "A\n"])
def test_every_other_text_is_refused(text: str) -> None:
    """AB says what AA says, in bits that nobody reads: it would pass for another token."""
    with pytest.raises(ValueError, match="base64url"):
        base64url_decode(text)
