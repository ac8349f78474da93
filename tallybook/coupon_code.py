"""Coupon codes: making one, reading what a person typed, hashing it, and sealing a copy.

A code is 16 characters of 5 random bits each and a check character, written
`XXXX-XXXX-XXXX-XXXX-C`. Only its keyed hash is stored; a sealed copy lives for a short time so
that a replayed redemption can answer with the same code.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallybook.settings import Settings

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Digits and capitals without I, L and O (taken for 1 and 0) and U (spares some words)."""

RANDOM_BITS: Final = 80
TYPED_LENGTH_MAX: Final = 64

_DATA_LENGTH: Final = 16
_NONCE_BYTES: Final = 12
_KEY_ID_BYTES: Final = 4
_VALUES: Final = {character: value for value, character in enumerate(ALPHABET)}
_SEPARATORS: Final = re.compile("[\\s_\u00ad\u200b\u2010-\u2015\u2212-]+")
_LOOK_ALIKES: Final = str.maketrans("abcdefghjkmnpqrstvwxyzIiLlOo", "ABCDEFGHJKMNPQRSTVWXYZ111100")


def _weights() -> tuple[int, ...]:
    """Powers 1 to 16 of x in GF(32) (x^5 + x^2 + 1): all different, none 0 or 1."""
    weights, weight = [], 1
    for _ in range(_DATA_LENGTH):
        weight <<= 1
        weight ^= 0b100101 if weight & 32 else 0
        weights.append(weight)
    return tuple(weights)


def _products() -> tuple[tuple[int, ...], ...]:
    """For each position, every value times that position's weight in GF(32)."""

    def times(a: int, b: int) -> int:
        product = 0
        while b:
            product ^= a if b & 1 else 0
            a = a << 1 ^ (0b100101 if a & 16 else 0)
            b >>= 1
        return product

    return tuple(tuple(times(value, weight) for value in range(32)) for weight in _weights())


_PRODUCTS: Final = _products()


def new_code() -> str:
    """A new code for a person to read, from 80 random bits."""
    number = secrets.randbits(RANDOM_BITS)
    data = "".join(ALPHABET[number >> shift & 31] for shift in range(RANDOM_BITS - 5, -1, -5))
    return written(data + check_character(data))


def check_character(data: str) -> str:
    """The character that closes the 16 of `data`: their sum over GF(32), each times its weight.

    The weights of the 17 places (the check's is 1) are different and none is zero, so any one
    wrong character and any two exchanged ones, neighbours or not, always show, as does a pair
    `aa` that became `bb`. Of all other mistakes one in 32 goes unnoticed.
    """
    total = 0
    for position, character in enumerate(data):
        total ^= _PRODUCTS[position][_VALUES[character]]
    return ALPHABET[total]


def normalise(code: str) -> str:
    """The 17 characters of a code as a person may have typed it: any case, spaces and dashes,
    O for 0, I and L for 1. Raises ValueError when it cannot be a code; the text does not tell it.
    """
    if len(code) <= TYPED_LENGTH_MAX:
        plain = _SEPARATORS.sub("", code).translate(_LOOK_ALIKES)
        if (
            len(plain) == _DATA_LENGTH + 1
            and all(character in _VALUES for character in plain)
            and check_character(plain[:-1]) == plain[-1]
        ):
            return plain
    raise ValueError("This is not a coupon code.")


def written(normalised: str) -> str:
    """The form to show: `XXXX-XXXX-XXXX-XXXX-C`."""
    return "-".join(normalised[start : start + 4] for start in range(0, len(normalised), 4))


def redemption_context(user_id: UUID, idempotency_key: str) -> str:
    """What a sealed copy is bound to: one user's one request. A UUID's length is fixed, so no
    two pairs give the same text."""
    return f"{user_id}:{idempotency_key}"


@dataclass(frozen=True, slots=True)
class _Key:
    key_id: str
    hashing: bytes = field(repr=False)
    sealing: AESGCM = field(repr=False)


class CouponKeys:
    """Hashes and seals codes under COUPON_SECRET; still finds and opens what older secrets made.

    To rotate: put a new secret first and keep the old one among `previous` for as long as codes
    issued under it may come back. Every secret gives separate subkeys for hashing and sealing
    (HKDF-SHA-256), and a key id, 8 hexadecimal digits, which is stored beside each hash.
    """

    def __init__(self, secret: str, previous: Iterable[str] = ()) -> None:
        self._current = _key(secret)
        self._keys = {self._current.key_id: self._current}
        for older in previous:
            key = _key(older)
            self._keys.setdefault(key.key_id, key)

    @classmethod
    def from_settings(cls, settings: Settings) -> CouponKeys:
        """Raises ConfigurationError when COUPON_SECRET is not set."""
        settings.require("COUPON_SECRET")
        return cls(settings.coupon_secret or "", settings.coupon_secrets_previous)

    @property
    def key_id(self) -> str:
        """Of the key that new codes are hashed and sealed under."""
        return self._current.key_id

    def hash_code(self, code: str) -> str:
        """HMAC-SHA-256 of the normalised code under the current key, 64 hexadecimal digits.

        Raises ValueError when `code` is malformed.
        """
        return _hash(self._current, normalise(code))

    def hashes(self, code: str) -> dict[str, str]:
        """Key id -> hash, under every key, the current first: to find a code of any age.

        Raises ValueError when `code` is malformed.
        """
        normalised = normalise(code)
        return {key_id: _hash(key, normalised) for key_id, key in self._keys.items()}

    def hashes_of_typed(self, text: str) -> list[str]:
        """What to look for when somebody typed `text`: its hashes as a code under every key.

        What cannot be a code is hashed as it stands and so finds nothing. It is refused then, and
        counted, as a code that nobody has: the answer does not tell how codes are made.
        """
        try:
            return list(self.hashes(text).values())
        except ValueError:
            return [_hash(key, f"malformed:{text}") for key in self._keys.values()]

    def seal(self, code: str, context: str) -> str:
        """The code under AES-256-GCM, openable with the same `context` only; base64url text.

        Nonces are random: keep below 2^32 codes a key, then rotate.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        key_id = bytes.fromhex(self._current.key_id)
        sealed = self._current.sealing.encrypt(
            nonce, normalise(code).encode(), key_id + context.encode()
        )
        return base64.urlsafe_b64encode(key_id + nonce + sealed).rstrip(b"=").decode()

    def open(self, sealed: str, context: str) -> str:
        """The code as it is shown. Raises ValueError when altered, bound to another context, or
        sealed under a key that is not here."""
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
            key_id, rest = raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:]
            opened = self._keys[key_id.hex()].sealing.decrypt(
                rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], key_id + context.encode()
            )
        except (ValueError, KeyError, InvalidTag):
            raise ValueError("This sealed copy does not open here.") from None
        return written(opened.decode())


def _key(secret: str) -> _Key:
    def subkey(purpose: str, length: int) -> bytes:
        info = f"tallybook/coupon/{purpose}/v1".encode()
        return HKDF(SHA256(), length, salt=None, info=info).derive(secret.encode())

    return _Key(
        key_id=subkey("key id", _KEY_ID_BYTES).hex(),
        hashing=subkey("hash", 32),
        sealing=AESGCM(subkey("seal", 32)),
    )


def _hash(key: _Key, normalised: str) -> str:
    return hmac.digest(key.hashing, normalised.encode(), "sha256").hex()
