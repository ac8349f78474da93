"""Play Integrity tokens: opened here or by Google, each once, and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec

from tallybook import logs, metrics
from tallybook.attestation.evidence import Rejected, Unavailable
from tallybook.attestation.google import PlayIntegrity
from tallybook.attestation.play_integrity import PlayIntegrityPolicy, PlayVerdict, judge
from tallybook.attestation.play_token import ClassicKeys, check_token_text, open_token
from tallybook.database import Database

JWE_PARTS: Final = 5


@dataclass(frozen=True)
class Play:
    """The ways to a token's content: Google's for every token, our keys for a classic one."""

    policy: PlayIntegrityPolicy
    project_number: str
    google: PlayIntegrity | None = None
    classic_keys: ClassicKeys | None = None
    daily_decodes: int = 10_000

    async def close(self) -> None:
        """Let go of Google, for good."""
        if self.google is not None:
            await self.google.aclose()

    async def judge(
        self,
        token: str,
        request_hash: bytes,
        at: datetime,
        database: Database,
        user_id: UUID | None = None,
        challenge_hash: str | None = None,
    ) -> PlayVerdict:
        """Raises Rejected, and Unavailable when Google cannot be asked now.

        Without a user it is the worker who asks, about what was accepted before.
        """
        check_token_text(token)
        google, keys = self.google, self.classic_keys
        if keys is not None and (google is None or token.count(".") == JWE_PARTS - 1):
            payload: Mapping[str, Any] = open_token(token, keys)
        elif google is None:
            raise ValueError("there is no way to the content of any token")
        else:
            asked = {
                "user_id": user_id,
                "challenge_hash": challenge_hash,
                "request_hash": request_hash.hex(),
            }
            payload = await self._decoded(google, token, asked, database)
        details = payload.get("requestDetails")
        classic = isinstance(details, Mapping) and "nonce" in details
        return judge(payload, request_hash, self.policy, at, classic=classic)

    async def _decoded(
        self, google: PlayIntegrity, token: str, asked: Mapping[str, Any], database: Database
    ) -> Mapping[str, Any]:
        """What Google says, or said: a token that is decoded twice loses its verdicts."""
        token_hash = sha256(token.encode()).hexdigest()
        named = {**asked, "token_hash": token_hash, "budget": self.daily_decodes}
        claim = await database.call("claim_attestation", named)
        if claim["state"] == "known":
            if not claim["is_valid"]:
                raise Rejected("token_undecodable", "Google has said so before.")
            known: Mapping[str, Any] = claim["verdict"]
            return known
        if claim["state"] == "challenge":
            raise Rejected("challenge_not_valid", "Google was not asked.")
        if claim["state"] == "failing":
            raise Rejected("too_many_failures", "Google was not asked.")
        if claim["state"] == "busy":
            raise Unavailable("decode_busy")
        if claim["state"] == "spent":
            self._alert("decodes_spent")
            raise Unavailable("decode_spent")
        metrics.set_decodes(claim["decodes"])
        if claim["alert"]:
            self._alert("decodes_at_80_percent", decodes=claim["decodes"])
        said: dict[str, Any] = {}
        try:
            verdict = await google.decode(token)
            if b"\\u0000" in msgspec.json.encode(verdict):
                # Nothing honest has it, and no database keeps it.
                raise Rejected("malformed_payload", "It has the character U+0000.")
            said = {"is_valid": True, "verdict": verdict}
        except Rejected:
            said = {"is_valid": False}
            raise
        except Unavailable as unavailable:
            if unavailable.ours:
                self._alert(unavailable.reason)
            raise
        finally:
            kept = {"token_hash": token_hash, "until": claim["until"], **said}
            await database.call("record_attestation", kept)
        return verdict

    def _alert(self, reason: str, **fields: Any) -> None:
        logs.log(
            logs.ATTESTATION_ALERT, "error", reason=reason, budget=self.daily_decodes, **fields
        )
