"""The local stack's own keys, made on first use: for tokens, for programs, for coupon codes."""

from __future__ import annotations

import dataclasses
import os
import secrets
import tempfile
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self, cast
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER: Final = "urn:tallybook:local"
AUDIENCE: Final = "authenticated"
FILE: Final = "keys.json"


@dataclasses.dataclass(frozen=True)
class LocalKeys:
    """What `keys.json` holds; only its owner can read it, and `repr` shows no secret.

    `signing_key` is an ES256 key as a private JWK.
    """

    signing_key: dict[str, str] = dataclasses.field(repr=False)
    coupon_secret: str = dataclasses.field(repr=False)
    publishable_key: str
    secret_key: str = dataclasses.field(repr=False)

    @classmethod
    def load_or_create(cls, folder: Path) -> Self:
        """The keys of this folder. Two processes that make them at once agree on one set."""
        path = folder / FILE
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # Written whole under another name first, so that nobody reads half of it.
            with tempfile.NamedTemporaryFile("wb", dir=folder) as draft:
                draft.write(msgspec.json.encode(cls.new()))
                draft.flush()
                with suppress(FileExistsError):
                    os.link(draft.name, path)
        return msgspec.json.decode(path.read_bytes(), type=cls)

    @classmethod
    def new(cls) -> Self:
        """A new set of keys."""
        key = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
        names = {"alg": "ES256", "use": "sig", "kid": secrets.token_hex(8)}
        return cls(
            {**key, **names},
            secrets.token_urlsafe(48),
            f"sb_publishable_{secrets.token_urlsafe(24)}",
            f"sb_secret_{secrets.token_urlsafe(24)}",
        )

    @property
    def encryption_key(self) -> str:
        """A Fernet key for users' keys at providers; it comes with the secret, and goes with it."""
        return urlsafe_b64encode(
            sha256(b"encryption " + self.coupon_secret.encode()).digest()
        ).decode()

    @cached_property
    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The key set with the public half of the signing key."""
        return {"keys": [{name: v for name, v in self.signing_key.items() if name != "d"}]}

    def token(
        self,
        sub: UUID | str | None,
        role: str = "authenticated",
        seconds: int = 3600,
        **claims: Any,
    ) -> str:
        """A token that the local gateway and PostgREST accept for `seconds` from now.

        `claims` are added, or replace those that are there; one that is None is left out.
        """
        now = int(time.time())
        stated: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub and str(sub),
            "role": role,
            "iat": now,
            "exp": now + seconds,
        } | claims
        said = {name: value for name, value in stated.items() if value is not None}
        key_id = self.signing_key["kid"]
        return jwt.encode(said, self._private, algorithm="ES256", headers={"kid": key_id})

    @cached_property
    def _private(self) -> ec.EllipticCurvePrivateKey:
        return cast(ec.EllipticCurvePrivateKey, ECAlgorithm.from_jwk(self.signing_key))
