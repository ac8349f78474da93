"""Keys and access tokens as Supabase's sign-in gives them: ES256, an hour, one a user."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

KEY_ID = "bench"
SECONDS = 3 * 3600


class Issuer:
    """A signing key, its public key set, and tokens under it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self.jwks = json.dumps({"keys": [{**public, "kid": KEY_ID, "alg": "ES256", "use": "sig"}]})

    def users(self, user_ids: Iterable[str]) -> list[str]:
        """A user's token each, with the claims that Supabase puts into one."""
        return [
            self._sign(
                {
                    "sub": user_id,
                    "role": "authenticated",
                    "email": "somebody@example.com",
                    "app_metadata": {"provider": "email", "providers": ["email"]},
                    "user_metadata": {},
                    "session_id": user_id,
                    "is_anonymous": False,
                }
            )
            for user_id in user_ids
        ]

    def service(self) -> str:
        """A token of the service."""
        return self._sign({"role": "service_role"})

    def _sign(self, claims: dict[str, object]) -> str:
        now = int(time.time())
        claims = {**claims, "aud": "authenticated", "iat": now, "exp": now + SECONDS}
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": KEY_ID})
