"""Google as far as Play Integrity needs it: tokens, both kinds, and the keys they take.

Nothing here is trusted by anything but a policy and keys that were made from the same FakeGoogle.
"""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, cast

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from tallybook.attestation.android_app import check_package_name
from tallybook.attestation.binding import base64url, base64url_decode
from tallybook.attestation.play_integrity import PlayIntegrityPolicy
from tallybook.attestation.play_token import ClassicKeys, open_token
from tallybook.attestation.service_account import TOKEN_URL
from tallybook.local.fake_google_endpoints import FakeEndpoints

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FILE: Final = "google.json"
STANDARD_PREFIX: Final = "fake-standard."


@dataclass(frozen=True, slots=True)
class FakeGoogle:
    """One app's Google: `payload` says something, `standard_token` and `classic_token` seal it.

    `transport` plays the endpoints. The app's server is given `service_account`, `policy()` and,
    to open classic tokens itself, `classic_keys`.
    """

    package_name: str
    certificate_sha256: str
    decryption_key: bytes = field(repr=False)
    signing_key: ec.EllipticCurvePrivateKey = field(repr=False)
    account_key: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def generate(cls, package_name: str = "com.example.app") -> Self:
        """New keys, and a new certificate's digest, for an app of this name."""
        check_package_name(package_name)
        return cls(
            package_name,
            base64url(secrets.token_bytes(32)),
            secrets.token_bytes(32),
            ec.generate_private_key(ec.SECP256R1()),
            rsa.generate_private_key(65537, 2048),
        )

    @classmethod
    def load_or_create(cls, folder: Path, package_name: str = "com.example.app") -> Self:
        """The one of this folder, whose file only its owner can read; the name is for a new one."""
        path = folder / FILE
        if not path.exists():
            cls.generate(package_name).save(folder)
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        return cls(
            kept.package_name,
            kept.certificate_sha256,
            base64url_decode(kept.decryption_key),
            cast(ec.EllipticCurvePrivateKey, _from_pem(kept.signing_key)),
            cast(rsa.RSAPrivateKey, _from_pem(kept.account_key)),
        )

    def save(self, folder: Path) -> None:
        """Keep the keys in this folder, if it holds none yet."""
        kept = _Kept(
            self.package_name,
            self.certificate_sha256,
            base64url(self.decryption_key),
            _to_pem(self.signing_key),
            _to_pem(self.account_key),
        )
        folder.mkdir(parents=True, exist_ok=True)
        # Written whole under another name first, so that nobody reads half of it.
        with tempfile.NamedTemporaryFile("wb", dir=folder) as draft:
            draft.write(msgspec.json.encode(kept))
            draft.flush()
            with suppress(FileExistsError):
                os.link(draft.name, folder / FILE)

    @property
    def service_account(self) -> dict[str, str]:
        """The JSON key of the app's server, as Google hands it out."""
        return {
            "type": "service_account",
            "project_id": "fake-project",
            "private_key_id": "fake-google-1",
            "private_key": _to_pem(self.account_key),
            "client_email": "server@fake-project.iam.gserviceaccount.com",
            "token_uri": TOKEN_URL,
        }

    @property
    def console_keys(self) -> tuple[str, str]:
        """The decryption and the verification key, as the Play console shows them."""
        public = self.signing_key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return b64encode(self.decryption_key).decode(), b64encode(public).decode()

    @property
    def classic_keys(self) -> ClassicKeys:
        """What `open_token` opens this Google's classic tokens with."""
        return ClassicKeys(self.decryption_key, self.signing_key.public_key())

    def policy(self, **other: Any) -> PlayIntegrityPolicy:
        """A policy that this Google's good payloads meet, or one that is other than that."""
        stated: dict[str, Any] = {
            "package_name": self.package_name,
            "certificate_sha256": frozenset({self.certificate_sha256}),
        }
        return PlayIntegrityPolicy(**stated | other)

    def payload(
        self, request_hash: str, at: datetime, classic: bool = False, **wrong: Any
    ) -> dict[str, Any]:
        """A good payload for this base64url hash, made at this time.

        `wrong` names members by their paths, such as `appIntegrity__packageName`; None takes one
        away.
        """
        said: dict[str, Any] = {
            "requestDetails": {
                "requestPackageName": self.package_name,
                "nonce" if classic else "requestHash": request_hash,
                "timestampMillis": str((at - EPOCH) // timedelta(milliseconds=1)),
            },
            "appIntegrity": {
                "appRecognitionVerdict": "PLAY_RECOGNIZED",
                "packageName": self.package_name,
                "certificateSha256Digest": [self.certificate_sha256],
                "versionCode": "42",
            },
            "deviceIntegrity": {
                "deviceRecognitionVerdict": ["MEETS_BASIC_INTEGRITY", "MEETS_DEVICE_INTEGRITY"]
            },
            "accountDetails": {"appLicensingVerdict": "LICENSED"},
        }
        for path, value in wrong.items():
            *above, name = path.split("__")
            members = said
            for step in above:
                members = members.setdefault(step, {})
            if value is None:
                members.pop(name, None)
            else:
                members[name] = value
        return said

    def standard_token(self, payload: Mapping[str, Any]) -> str:
        """A token that only this Google can decode, in any process that loaded it."""
        iv = secrets.token_bytes(12)
        sealed = AESGCM(self.decryption_key).encrypt(iv, msgspec.json.encode(payload), None)
        return STANDARD_PREFIX + base64url(iv + sealed)

    def classic_token(
        self,
        payload: Mapping[str, Any] | bytes,
        *,
        header: Mapping[str, Any] | None = None,
        inner_header: Mapping[str, Any] | None = None,
        signature: bytes | None = None,
        signing_key: ec.EllipticCurvePrivateKey | None = None,
        decryption_key: bytes | None = None,
    ) -> str:
        """A JWE around a JWS; the options make it wrong, in headers, signature or keys."""
        said = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        stated = inner_header or {"alg": "ES256"}
        signed = f"{_part(stated)}.{base64url(said)}"
        if signature is None:
            signature = self._sign(str(stated.get("alg")), signed, signing_key or self.signing_key)
        outer = header or {"alg": "A256KW", "enc": "A256GCM"}
        return seal(
            f"{signed}.{base64url(signature)}".encode(),
            outer,
            decryption_key or self.decryption_key,
        )

    def open(self, token: str) -> Any:
        """What was sealed. Rejected, ValueError or InvalidTag for what this Google did not seal."""
        if not token.startswith(STANDARD_PREFIX):
            return open_token(token, self.classic_keys)
        sealed = base64url_decode(token.removeprefix(STANDARD_PREFIX))
        said = AESGCM(self.decryption_key).decrypt(sealed[:12], sealed[12:], None)
        return msgspec.json.decode(said)

    def transport(self, clock: Callable[[], float] = time.time) -> FakeEndpoints:
        """Google's endpoints for this app, new and with nothing counted."""
        return FakeEndpoints(self, clock)

    def _sign(self, algorithm: str, text: str, key: ec.EllipticCurvePrivateKey) -> bytes:
        if algorithm == "none":
            return b""
        if algorithm == "HS256":
            # The confusion: a secret that everybody knows, for it is the public key.
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            return hmac.digest(public, text.encode(), "sha256")
        r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def seal(signed: bytes, header: Mapping[str, Any], decryption_key: bytes) -> str:
    """A compact JWE around these bytes, by A256KW and A256GCM whatever the header says."""
    key, iv = secrets.token_bytes(32), secrets.token_bytes(12)
    stated = _part(header)
    sealed = AESGCM(key).encrypt(iv, signed, stated.encode())
    parts = [aes_key_wrap(decryption_key, key), iv, sealed[:-16], sealed[-16:]]
    return ".".join([stated, *(base64url(part) for part in parts)])


class _Kept(msgspec.Struct):
    package_name: str
    certificate_sha256: str
    decryption_key: str
    signing_key: str
    account_key: str


def _part(header: Mapping[str, Any]) -> str:
    return base64url(msgspec.json.encode(header))


def _to_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _from_pem(text: str) -> Any:
    return load_pem_private_key(text.encode(), password=None)
