"""Apple's App Attest, verified without asking anybody: a new key, and then what it signs.

What is wrong raises Rejected with one of these reasons:

- `malformed_cbor`, `malformed_attestation`, `malformed_assertion`, `malformed_certificate`,
  `malformed_authenticator_data`: the bytes are not such as Apple's devices send
- `wrong_format`: an attestation, but not one of App Attest
- `untrusted_chain`, `leaf_is_ca`, `issuer_is_no_ca`, `certificate_out_of_date`
- `wrong_challenge`: made for another challenge, or for other authenticator data
- `wrong_key_type`, `wrong_key_id`, `wrong_public_key`: not a P-256 key, or not the one it names
- `wrong_app_id`, `wrong_counter`, `wrong_environment`: what the device says of itself
- `wrong_signature`: an assertion by another key, or about something else
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from tallybook.attestation.apple_root import APPLE_ROOT
from tallybook.attestation.authenticator_data import read_asserted, read_attested
from tallybook.attestation.certificates import extension, p256_point, verify_chain
from tallybook.attestation.evidence import Rejected
from tallybook.attestation.strict_cbor import decode

Environment = Literal["production", "development"]

FORMAT: Final = "apple-appattest"
AAGUIDS: Final[dict[bytes, Environment]] = {
    b"appattest\0\0\0\0\0\0\0": "production",
    b"appattestdevelop": "development",
}
NONCE_OID: Final = x509.ObjectIdentifier("1.2.840.113635.100.8.2")
# A sequence of one octet string of 32 bytes, under the explicit tag 1: the nonce follows.
NONCE_PREFIX: Final = bytes.fromhex("3024a1220420")
ASSERTION_BYTES_MAX: Final = 4 * 1024


@dataclass(frozen=True, slots=True)
class AppAttestPolicy:
    """Whose attestations count. An App ID is the team's id, a dot, and the bundle's id."""

    app_ids: frozenset[str]
    environments: frozenset[Environment]
    roots: tuple[x509.Certificate, ...] = (APPLE_ROOT,)


@dataclass(frozen=True, slots=True)
class AttestedKey:
    """A key that Apple says belongs to the app on a real device; to be stored, once.

    `key_id` has 32 bytes, `public_key` is an uncompressed X9.62 point of 65. Nothing binds
    `receipt` to the rest: only Apple can say whether it is genuine. `validation_category` is
    what iOS 27 tells of the app's origin (2 TestFlight, 3 development, 4 App Store, 5 enterprise).
    """

    key_id: bytes
    public_key: bytes
    app_id: str
    environment: Environment
    receipt: bytes
    validation_category: int | None


@dataclass(frozen=True, slots=True)
class Assertion:
    """A request signed by an attested key. Whether `sign_count` grew, its keeper must see."""

    sign_count: int
    app_id: str


def verify_attestation(
    attestation: bytes,
    key_id: bytes,
    client_data_hash: bytes,
    policy: AppAttestPolicy,
    at: datetime,
) -> AttestedKey:
    """The new key of an attestation object, which is bound to `client_data_hash`.

    `key_id` is the 32 bytes that the app's key is named by; the certificates must be valid `at`
    that (aware) time. Raises Rejected, and nothing else, whatever the bytes are.
    """
    chain, receipt, data = _attestation_parts(decode(attestation))
    leaf = verify_chain(chain, policy.roots, at)
    _require_nonce(leaf, sha256(data + client_data_hash).digest())
    point = p256_point(leaf)
    attested = read_attested(data)
    for named in (sha256(point).digest(), attested.credential_id):
        _require_equal(named, key_id, "wrong_key_id")
    _require_equal(attested.public_key, point, "wrong_public_key")
    app_id = _app_id(attested.rp_id_hash, policy.app_ids)
    if attested.counter != 0:
        raise Rejected("wrong_counter", f"a new key's counter is {attested.counter}")
    environment = AAGUIDS.get(attested.aaguid)
    if environment is None or environment not in policy.environments:
        raise Rejected("wrong_environment", f"{environment or attested.aaguid!r} is not allowed")
    return AttestedKey(key_id, point, app_id, environment, receipt, attested.validation_category)


def verify_assertion(
    assertion: bytes, public_key: bytes, client_data_hash: bytes, policy: AppAttestPolicy
) -> Assertion:
    """What the key signed over `client_data_hash`; `public_key` is the point that was stored.

    Raises Rejected, and nothing else, whatever the bytes are.
    """
    signature, data = _assertion_parts(decode(assertion, bytes_max=ASSERTION_BYTES_MAX))
    nonce = sha256(data + client_data_hash).digest()
    try:
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), public_key)
        key.verify(signature, nonce, ECDSA(SHA256()))  # which hashes the nonce once more
    except Exception as error:  # a signature can be no signature in many ways
        raise Rejected("wrong_signature", "the key did not sign this") from error
    asserted = read_asserted(data)
    app_id = _app_id(asserted.rp_id_hash, policy.app_ids)
    if asserted.counter == 0:
        raise Rejected("wrong_counter", "an assertion's counter is zero")
    return Assertion(asserted.counter, app_id)


def _attestation_parts(attestation: Any) -> tuple[list[bytes], bytes, bytes]:
    """The chain, the receipt and the authenticator data; members that iOS adds are ignored."""
    match attestation:
        case {
            "fmt": str() as fmt,
            "attStmt": {"x5c": [bytes(), *_] as chain, "receipt": bytes() as receipt},
            "authData": bytes() as data,
        } if all(isinstance(certificate, bytes) for certificate in chain):
            if fmt != FORMAT:
                raise Rejected("wrong_format", f"{fmt[:40]!r} is not {FORMAT!r}")
            return chain, receipt, data
    raise Rejected("malformed_attestation", "a member is missing or of another type")


def _assertion_parts(assertion: Any) -> tuple[bytes, bytes]:
    match assertion:
        case {"signature": bytes() as signature, "authenticatorData": bytes() as data}:
            return signature, data
    raise Rejected("malformed_assertion", "a member is missing or of another type")


def _require_nonce(leaf: x509.Certificate, nonce: bytes) -> None:
    found = extension(leaf, NONCE_OID)
    if found is None:
        raise Rejected("malformed_certificate", "the leaf has no nonce")
    _require_equal(found, NONCE_PREFIX + nonce, "wrong_challenge")


def _require_equal(given: bytes, expected: bytes, reason: str) -> None:
    if not compare_digest(given, expected):
        raise Rejected(reason, f"{given.hex()} is not {expected.hex()}")


def _app_id(rp_id_hash: bytes, app_ids: Iterable[str]) -> str:
    for app_id in app_ids:
        if compare_digest(sha256(app_id.encode()).digest(), rp_id_hash):
            return app_id
    raise Rejected("wrong_app_id", "the App ID is none of ours")
