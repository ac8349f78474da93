"""What a device signs: the very bytes of one request, and a challenge that is used once."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Final

CHALLENGE_BYTES: Final = 32


def client_data_hash(method: str, path: str, challenge: bytes, body: bytes) -> bytes:
    """The 32 bytes that App Attest calls clientDataHash.

    SHA-256 of "tallybook/v1", the method and the path, each behind its length in four bytes
    (big-endian), the challenge, and the SHA-256 of the body as it was sent. The lengths keep a
    path from flowing into a method.
    """
    hashed = sha256(b"tallybook/v1")
    for word in (method.upper(), path):
        encoded = word.encode()
        hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    hashed.update(challenge)
    hashed.update(sha256(body).digest())
    return hashed.digest()


def request_hash(method: str, path: str, challenge: bytes, body: bytes) -> str:
    """The same for Play Integrity, which takes text: URL-safe base64 without padding."""
    return base64url(client_data_hash(method, path, challenge, body))


def base64url(data: bytes) -> str:
    """URL-safe base64 without padding, as every token and header here has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def base64url_decode(text: str) -> bytes:
    """The bytes of a text that `base64url` made; ValueError for every other text.

    Each sequence of bytes has exactly one text: otherwise a token could be changed into another
    that says the same, and would pass for one that was not seen before.
    """
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raise ValueError("not base64url") from None
    if base64url(data) != text:
        raise ValueError("not base64url in its one form")
    return data
