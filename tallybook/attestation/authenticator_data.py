"""What a device says of itself in authenticator data: bytes at fixed places, as WebAuthn has them.

The flags say nothing here: iOS 27 sets them without the data they stand for, and leaves them out
where the data is there. So everything is read by its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tallybook.attestation.evidence import Rejected
from tallybook.attestation.strict_cbor import decode, decode_first

VALIDATION_CATEGORY: Final = "apple_validation_category_01"

# Where each field begins: the hash of the App ID, flags, counter, and what only a new key has.
_FLAGS: Final = 32
_COUNTER: Final = 33
_AAGUID: Final = 37
_CREDENTIAL_ID_LENGTH: Final = 53
_CREDENTIAL_ID: Final = 55


@dataclass(frozen=True, slots=True)
class AuthenticatorData:
    """What every attestation and assertion has.

    `rp_id_hash` is the SHA-256 of the App ID. `validation_category` comes with iOS 27, and is
    2 for TestFlight, 3 development, 4 App Store, 5 enterprise; Apple knows others besides.
    """

    rp_id_hash: bytes
    counter: int
    validation_category: int | None


@dataclass(frozen=True, slots=True)
class AttestedData(AuthenticatorData):
    """What an attestation has besides: `aaguid` (16 bytes) and the new key.

    `public_key` is the COSE key's uncompressed X9.62 point, 65 bytes.
    """

    aaguid: bytes
    credential_id: bytes
    public_key: bytes


def read_asserted(data: bytes) -> AuthenticatorData:
    """An assertion's. Raises Rejected `malformed_authenticator_data`."""
    if len(data) < _AAGUID:
        raise _malformed("it ends before the counter does")
    return AuthenticatorData(data[:_FLAGS], _counter(data), _validation_category(data[_AAGUID:]))


def read_attested(data: bytes) -> AttestedData:
    """An attestation's. Raises Rejected `malformed_authenticator_data` or `wrong_key_type`."""
    length = int.from_bytes(data[_CREDENTIAL_ID_LENGTH:_CREDENTIAL_ID], "big")
    key_at = _CREDENTIAL_ID + length
    try:
        # Data that ends before it has no key here, which is malformed too.
        key, extensions = decode_first(data[key_at:])
    except Rejected as rejected:
        raise _malformed(f"the credential's key: {rejected.detail}") from rejected
    return AttestedData(
        rp_id_hash=data[:_FLAGS],
        counter=_counter(data),
        validation_category=_validation_category(extensions),
        aaguid=data[_AAGUID:_CREDENTIAL_ID_LENGTH],
        credential_id=data[_CREDENTIAL_ID:key_at],
        public_key=_point(key),
    )


def _counter(data: bytes) -> int:
    return int.from_bytes(data[_COUNTER:_AAGUID], "big")


def _point(key: Any) -> bytes:
    """The point of a COSE key that is nothing but an ES256 key on P-256."""
    match key:
        # Key type EC2, algorithm ES256, curve P-256; and the two coordinates.
        case {1: 2, 3: -7, -1: 1, -2: bytes() as x, -3: bytes() as y, **others}:
            if len(x) == len(y) == 32 and not others:
                return b"\x04" + x + y
    raise Rejected("wrong_key_type", "the credential's key is not an ES256 key on P-256")


def _validation_category(extensions: bytes) -> int | None:
    """From the map behind all the rest, where there is one; its other members are ignored.

    Devices send four bytes, the least significant first; Apple's documents speak of a number.
    """
    if not extensions:
        return None
    try:
        members = decode(extensions)
    except Rejected as rejected:
        raise _malformed(f"the extensions: {rejected.detail}") from rejected
    if not isinstance(members, dict):
        raise _malformed("the extensions are no map")
    match members.get(VALIDATION_CATEGORY):
        case None:
            return None
        case bool():
            pass
        case int() as number if 0 <= number < 2**32:
            return number
        case bytes() as four if len(four) == 4:
            return int.from_bytes(four, "little")
    raise _malformed("the validation category is neither four bytes nor a number")


def _malformed(detail: str) -> Rejected:
    return Rejected("malformed_authenticator_data", detail)
