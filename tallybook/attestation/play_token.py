"""Opening a classic Play Integrity token with the keys that the Play console hands out.

A token is a JWE in compact form (RFC 7516) around a JWS (RFC 7515), each in the one algorithm that
Google uses. No header ever chooses.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Final, Self

import jwt
import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tallybook.attestation.binding import base64url_decode
from tallybook.attestation.evidence import Rejected

TOKEN_LENGTH_MAX: Final = 32 * 1024
KEY_BYTES: Final = 32
WRAPPED_KEY_BYTES: Final = KEY_BYTES + 8
IV_BYTES: Final = 12
TAG_BYTES: Final = 16

_OUTER: Final = {"alg": "A256KW", "enc": "A256GCM"}
_INNER: Final = {"alg": "ES256"}
_LABELS: Final = frozenset({"kid", "typ", "cty"})  # they name things, and change nothing
_json: Final = msgspec.json.Decoder(dict[str, Any])
# A ValueError is what it raises for a text that is not UTF-8.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True)
class ClassicKeys:
    """The app's response keys: 32 bytes for AES, and Google's public key on P-256."""

    decryption_key: bytes = field(repr=False)
    verification_key: ec.EllipticCurvePublicKey

    def __post_init__(self) -> None:
        if len(self.decryption_key) != KEY_BYTES:
            raise ValueError(f"the decryption key has {KEY_BYTES} bytes")
        if not isinstance(self.verification_key.curve, ec.SECP256R1):
            raise ValueError("the verification key is on P-256")

    @classmethod
    def from_console(cls, decryption_key: str, verification_key: str) -> Self:
        """From the two base64 texts of the Play console. ValueError, which repeats neither."""
        try:
            secret = base64.b64decode(decryption_key.strip(), validate=True)
            public = load_der_public_key(base64.b64decode(verification_key.strip(), validate=True))
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("the Play console's keys are not readable") from None
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise ValueError("the verification key is on P-256")
        return cls(secret, public)


def open_token(token: str, keys: ClassicKeys) -> dict[str, Any]:
    """The payload of a classic token, which Google sealed and signed; `judge` judges it.

    Raises Rejected, checked in this order: token_too_large, malformed_token (also for base64 that
    is not in its one form), token_algorithm, token_undecryptable, token_signature,
    malformed_payload.
    """
    check_token_text(token)
    parts = token.split(".")
    if len(parts) != 5:
        raise Rejected("malformed_token", "not five parts")
    header, wrapped_key, iv, ciphertext, tag = (_decoded(part) for part in parts)
    _check_header(header, _OUTER)
    if (len(wrapped_key), len(iv), len(tag)) != (WRAPPED_KEY_BYTES, IV_BYTES, TAG_BYTES):
        raise Rejected("malformed_token", "a part has another length than its algorithm makes")
    try:
        key = aes_key_unwrap(keys.decryption_key, wrapped_key)
        signed = AESGCM(key).decrypt(iv, ciphertext + tag, parts[0].encode())
    except (InvalidUnwrap, InvalidTag):
        raise Rejected("token_undecryptable", "sealed with another key, or changed") from None
    return _verified(signed, keys.verification_key)


def check_token_text(token: str) -> None:
    """Rejected `token_too_large` or `malformed_token` for what is a token of neither kind."""
    if len(token) > TOKEN_LENGTH_MAX:
        raise Rejected("token_too_large", f"{len(token)} characters")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Rejected("malformed_token", "not one word of plain text")


def _verified(signed: bytes, key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    header, _, _ = signed.partition(b".")
    try:
        text = header.decode("ascii")
    except UnicodeDecodeError:
        raise Rejected("malformed_token", "what was sealed is not a JWS") from None
    # Looked at before PyJWT sees it, so that `none`, `crit` and `b64` are never its business.
    _check_header(_decoded(text), _INNER)
    try:
        payload = jwt.PyJWS().decode(signed, key, algorithms=["ES256"])
    except jwt.InvalidSignatureError:
        raise Rejected("token_signature", "signed by somebody else, or changed") from None
    except jwt.PyJWTError:
        raise Rejected("malformed_token", "what was sealed is not a JWS") from None
    try:
        return _json.decode(payload)
    except _UNREADABLE:
        raise Rejected("malformed_payload", "not a JSON object") from None


def _check_header(header: bytes, expected: dict[str, str]) -> None:
    """Exactly the expected members, but for labels: zip and crit would ask for something more."""
    try:
        stated = _json.decode(header)
    except _UNREADABLE:
        raise Rejected("malformed_token", "a header is not a JSON object") from None
    if {name: value for name, value in stated.items() if name not in _LABELS} != expected:
        raise Rejected("token_algorithm", "a header that Google does not write")


def _decoded(part: str) -> bytes:
    try:
        return base64url_decode(part)
    except ValueError:
        raise Rejected("malformed_token", "not base64url") from None
