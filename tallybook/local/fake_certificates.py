"""Certificates for the stand-ins of whoever vouches for devices: right, or wrong on purpose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Plan:
    """What a certificate is to say. An authority may issue certificates."""

    name: str
    public_key: ec.EllipticCurvePublicKey
    not_before: datetime
    not_after: datetime
    authority: bool
    path_length: int | None = None
    signs_certificates: bool | None = None  # as an authority does
    extensions: tuple[tuple[x509.UnrecognizedExtension, bool], ...] = ()  # and whether critical


@dataclass(frozen=True)
class Issuer:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def root(cls, name: str, at: datetime, years: int = 20) -> Self:
        """An authority that vouches for itself, from a day before `at`."""
        key = ec.generate_private_key(ec.SECP384R1())
        not_before, not_after = at - timedelta(days=1), at + timedelta(days=365 * years)
        plan = Plan(name, key.public_key(), not_before, not_after, authority=True)
        return cls(_sign(plan, name, key), key)

    def issue(self, plan: Plan) -> x509.Certificate:
        """A certificate of this issuer's."""
        return _sign(plan, _name(self.certificate.subject), self.key)

    def issuer(self, name: str, path_length: int | None = 0) -> Issuer:
        """An authority below this one, as long-lived as this one is."""
        key = ec.generate_private_key(ec.SECP384R1())
        plan = replace(self.plan(), name=name, public_key=key.public_key(), path_length=path_length)
        return Issuer(self.issue(plan), key)

    def plan(self) -> Plan:
        """What a certificate like this one's says: to be replaced in part."""
        return Plan(
            _name(self.certificate.subject),
            self.key.public_key(),
            self.certificate.not_valid_before_utc,
            self.certificate.not_valid_after_utc,
            authority=True,
        )

    def to_pem(self) -> bytes:
        """The certificate, and the key behind it, which nobody else may read."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.certificate.public_bytes(Encoding.PEM) + key

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """What `to_pem` gave."""
        key = load_pem_private_key(pem[pem.index(b"-----BEGIN PRIVATE KEY") :], None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the key is not an elliptic curve's")
        return cls(x509.load_pem_x509_certificate(pem), key)


def _sign(plan: Plan, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    signs = plan.authority if plan.signs_certificates is None else plan.signs_certificates
    builder = (
        x509.CertificateBuilder(_named(issuer), _named(plan.name), plan.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(plan.not_before)
        .not_valid_after(plan.not_after)
        .add_extension(x509.BasicConstraints(plan.authority, plan.path_length), critical=True)
        .add_extension(_usage(signs), critical=True)
    )
    for extension, critical in plan.extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, SHA384() if plan.authority else SHA256())


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _name(named: x509.Name) -> str:
    return str(named.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
