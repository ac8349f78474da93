"""A stand-in for an Apple device: a key that signs what the app sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Self

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

_FLAGS: Final = b"\x40"  # as devices set them, with or without what they stand for


@dataclass
class FakeAppleKey:
    """A key in a device, and how often it signed."""

    private: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    counter: int = 0

    @property
    def public_key(self) -> bytes:
        """The uncompressed X9.62 point, 65 bytes."""
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def key_id(self) -> bytes:
        """What the app names the key by, 32 bytes."""
        return sha256(self.public_key).digest()

    def assert_(
        self,
        client_data_hash: bytes,
        app_id: str,
        counter: int | None = None,
        extensions: Mapping[str, Any] | bytes = b"",
    ) -> bytes:
        """An assertion about `client_data_hash`, with the next counter unless one is given."""
        if counter is None:
            counter = self.counter = self.counter + 1
        data = head(app_id, counter) + encoded(extensions)
        nonce = sha256(data + client_data_hash).digest()
        signature = self.private.sign(nonce, ec.ECDSA(SHA256()))
        return cbor2.dumps({"signature": signature, "authenticatorData": data})

    def to_pem(self) -> bytes:
        """The private key; the counter is to be kept beside it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @classmethod
    def from_pem(cls, pem: bytes, counter: int = 0) -> Self:
        """What `to_pem` gave."""
        key = load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the key is not an elliptic curve's")
        return cls(key, counter)


def head(app_id: str, counter: int) -> bytes:
    """The 37 bytes that all authenticator data begins with."""
    return sha256(app_id.encode()).digest() + _FLAGS + counter.to_bytes(4, "big")


def encoded(members: Mapping[Any, Any] | bytes) -> bytes:
    """Members as CBOR; bytes stay as they are."""
    return members if isinstance(members, bytes) else cbor2.dumps(members)
