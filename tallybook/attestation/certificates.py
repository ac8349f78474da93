"""A chain of certificates from a leaf to a root that we trust, checked by hand.

The verifier of `cryptography` is made for web servers; with policies wide enough for Apple's
leaves it would take a certificate authority for a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tallybook.attestation.evidence import Rejected

CERTIFICATES_MAX: Final = 4

_UNDERSTOOD: Final = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage)


def verify_chain(
    chain: Sequence[bytes], roots: Sequence[x509.Certificate], at: datetime
) -> x509.Certificate:
    """The leaf of `chain`: certificates in DER, the leaf first, its issuer next, the root left out.

    `at` is an aware time. Raises Rejected `malformed_certificate`, `untrusted_chain` (not signed
    up to one of `roots`), `leaf_is_ca`, `issuer_is_no_ca` or `certificate_out_of_date`.
    """
    if not 1 <= len(chain) <= CERTIFICATES_MAX:
        raise Rejected("untrusted_chain", f"a chain of {len(chain)} certificates")
    certificates = [_load(der) for der in chain]
    root = next((root for root in roots if _is_issued_by(certificates[-1], root)), None)
    if root is None or not all(
        _is_issued_by(one, issuer) for one, issuer in pairwise(certificates)
    ):
        raise Rejected("untrusted_chain", "the chain does not lead to a trusted root")
    _refuse_a_ca(certificates[0])
    for position, issuer in enumerate([*certificates[1:], root]):
        _require_a_ca(issuer, issuers_below=position)
    for certificate in (*certificates, root):
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begins <= at <= ends:
            raise Rejected("certificate_out_of_date", f"valid from {begins} until {ends}")
    return certificates[0]


def p256_point(certificate: x509.Certificate) -> bytes:
    """The certificate's public key as an uncompressed X9.62 point, 65 bytes.

    Raises Rejected `wrong_key_type` for any key that is not on P-256.
    """
    try:
        key = certificate.public_key()
    except Exception as error:  # there is one kind for every way of being broken
        raise Rejected("wrong_key_type", str(error)) from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Rejected("wrong_key_type", "the certified key is not on P-256")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    """The DER inside an extension that `cryptography` has no type for; None where it is absent."""
    for found in certificate.extensions:
        if found.oid == oid and isinstance(found.value, x509.UnrecognizedExtension):
            return found.value.value
    return None


def _load(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        # All that is read lazily is read here, where a fault in it has a reason.
        critical = [found for found in certificate.extensions if found.critical]
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        signature = certificate.signature
    except Exception as error:  # ValueError, InvalidVersion, DuplicateExtension, and more
        raise Rejected("malformed_certificate", str(error)) from error
    # The signature comes last, behind the number of bits that are not in use. Nothing signs that
    # number, and one above zero would make other bytes of the same certificate.
    if not der.endswith(b"\0" + signature):
        raise Rejected("malformed_certificate", "the signature does not fill its bytes")
    for found in critical:
        if not isinstance(found.value, _UNDERSTOOD):
            raise Rejected("malformed_certificate", f"critical extension {found.oid.dotted_string}")
    return certificate


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name is the one stated, and its key made the signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # another name or signature, or an algorithm that nobody knows
        return False
    return True


def _refuse_a_ca(leaf: x509.Certificate) -> None:
    constraints, usage = _roles(leaf)
    if (constraints and constraints.ca) or (usage and usage.key_cert_sign):
        raise Rejected("leaf_is_ca", "the leaf may sign certificates itself")


def _require_a_ca(certificate: x509.Certificate, issuers_below: int) -> None:
    constraints, usage = _roles(certificate)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        raise Rejected("issuer_is_no_ca", "an issuer may not sign certificates")
    if constraints.path_length is not None and constraints.path_length < issuers_below:
        raise Rejected("issuer_is_no_ca", "more issuers than the path length allows")


def _roles(
    certificate: x509.Certificate,
) -> tuple[x509.BasicConstraints | None, x509.KeyUsage | None]:
    constraints: x509.BasicConstraints | None = None
    usage: x509.KeyUsage | None = None
    for found in certificate.extensions:
        if isinstance(found.value, x509.BasicConstraints):
            constraints = found.value
        elif isinstance(found.value, x509.KeyUsage):
            usage = found.value
    return constraints, usage
