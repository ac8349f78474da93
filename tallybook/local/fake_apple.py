"""A stand-in for Apple: App Attest under a root of its own, right or wrong.

Every kind of wrong is asked for by its name, and everything else stays right: what a verifier
then says is about that one thing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self, TypedDict, Unpack

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tallybook.attestation.app_attest import (
    AAGUIDS,
    FORMAT,
    NONCE_OID,
    NONCE_PREFIX,
    AppAttestPolicy,
    Environment,
)
from tallybook.local.fake_apple_key import FakeAppleKey, encoded, head
from tallybook.local.fake_certificates import Issuer, Plan

FILE: Final = "fake_apple.pem"
RECEIPT: Final = b"a receipt that only Apple could read"

_AAGUIDS: Final = {environment: aaguid for aaguid, environment in AAGUIDS.items()}


class Wrong(TypedDict, total=False):
    """What an attestation can have wrong, besides its app, its environment and its time."""

    format: str
    certified: ec.EllipticCurvePrivateKey  # another key in the certificate, on any curve
    nonce: bytes | None  # the whole extension's value; None leaves it out
    leaf_is_ca: bool
    leaf_signs_certificates: bool
    leaf_not_after: datetime
    leaf_extension: tuple[x509.UnrecognizedExtension, bool]  # one more, and whether critical
    issuer_is_ca: bool
    issuer_signs_certificates: bool
    issuer_not_after: datetime
    issuers: int  # this many one below the other, where the path length allows one
    credential_id: bytes
    cose_key: Mapping[int, Any] | bytes
    counter: int
    aaguid: bytes
    extensions: Mapping[str, Any] | bytes  # iOS 27's; bytes stay as they are
    receipt: bytes


@dataclass(frozen=True)
class FakeApple:
    """A root, and the authority below it that certifies devices' keys."""

    root: Issuer
    issuer: Issuer

    @classmethod
    def generate(cls, at: datetime) -> Self:
        """A new root, valid from a day before `at` for twenty years."""
        root = Issuer.root("Fake App Attestation Root CA", at)
        return cls(root, root.issuer("Fake App Attestation CA 1"))

    @classmethod
    def load_or_create(cls, folder: Path, at: datetime) -> Self:
        """The stand-in of this folder. Two processes that make it at once agree on one."""
        path = folder / FILE
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            made = cls.generate(at)
            # Written whole under another name first, so that nobody reads half of it; a
            # temporary file is its owner's alone.
            with tempfile.NamedTemporaryFile("wb", dir=folder) as draft:
                draft.write(made.root.to_pem() + made.issuer.to_pem())
                draft.flush()
                with suppress(FileExistsError):
                    os.link(draft.name, path)
        root, issuer = re.findall(
            rb"-----BEGIN CERTIFICATE.*?-----END PRIVATE KEY-----\n", path.read_bytes(), re.DOTALL
        )
        return cls(Issuer.from_pem(root), Issuer.from_pem(issuer))

    def policy(
        self, *app_ids: str, environments: tuple[Environment, ...] = ("production",)
    ) -> AppAttestPolicy:
        """A policy that trusts this stand-in instead of Apple."""
        roots = (self.root.certificate,)
        return AppAttestPolicy(frozenset(app_ids), frozenset(environments), roots)

    def attest(
        self,
        key: FakeAppleKey,
        app_id: str,
        client_data_hash: bytes,
        environment: Environment,
        at: datetime,
        **wrong: Unpack[Wrong],
    ) -> bytes:
        """An attestation object made `at` that time, for three days, wrong only as asked for."""
        x, y = key.public_key[1:33], key.public_key[33:]
        data = (
            head(app_id, wrong.get("counter", 0))
            + wrong.get("aaguid", _AAGUIDS[environment])
            + _counted(wrong.get("credential_id", key.key_id))
            + encoded(wrong.get("cose_key", {1: 2, 3: -7, -1: 1, -2: x, -3: y}))
            + encoded(wrong.get("extensions", b""))
        )
        nonce = NONCE_PREFIX + sha256(data + client_data_hash).digest()
        issuers = self._issuers(wrong)
        leaf = issuers[0].issue(_leaf_plan(key, nonce, at, wrong))
        chain = [leaf, *(issuer.certificate for issuer in issuers)]
        statement = {
            "x5c": [certificate.public_bytes(Encoding.DER) for certificate in chain],
            "receipt": wrong.get("receipt", RECEIPT),
        }
        return cbor2.dumps(
            {"fmt": wrong.get("format", FORMAT), "attStmt": statement, "authData": data}
        )

    def _issuers(self, wrong: Wrong) -> list[Issuer]:
        """Whoever signs the leaf, and those between them and the root."""
        plan = replace(
            self.issuer.plan(),
            not_after=wrong.get("issuer_not_after", self.issuer.certificate.not_valid_after_utc),
            authority=wrong.get("issuer_is_ca", True),
            path_length=0 if wrong.get("issuer_is_ca", True) else None,
            signs_certificates=wrong.get("issuer_signs_certificates", True),
        )
        issuers = [replace(self.issuer, certificate=self.root.issue(plan))]
        for number in range(1, wrong.get("issuers", 1)):
            issuers.insert(0, issuers[0].issuer(f"Fake CA {number + 1}"))
        return issuers


def _leaf_plan(key: FakeAppleKey, nonce: bytes, at: datetime, wrong: Wrong) -> Plan:
    said = wrong.get("nonce", nonce)
    extensions = [] if said is None else [(x509.UnrecognizedExtension(NONCE_OID, said), False)]
    if "leaf_extension" in wrong:
        extensions.append(wrong["leaf_extension"])
    return Plan(
        name=key.key_id.hex(),
        public_key=wrong.get("certified", key.private).public_key(),
        not_before=at - timedelta(hours=1),
        not_after=wrong.get("leaf_not_after", at + timedelta(days=3)),
        authority=wrong.get("leaf_is_ca", False),
        signs_certificates=wrong.get("leaf_signs_certificates", False),
        extensions=tuple(extensions),
    )


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
