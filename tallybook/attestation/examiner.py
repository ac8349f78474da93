"""What a request's device has to say for itself: read from the headers, verified, never believed.

The examiner answers with evidence and refuses nothing. The database settles it in the transaction
that stores what it was about: a challenge answers once, a counter only grows, a failure is kept.
The verifiers are imported where they are used: most processes verify nothing, and they are dear.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from tallybook import logs, metrics
from tallybook.attestation.binding import CHALLENGE_BYTES, base64url_decode, client_data_hash
from tallybook.attestation.evidence import Rejected, Status, Unavailable
from tallybook.database import Database
from tallybook.refusal import Refusal

if TYPE_CHECKING:
    from tallybook.attestation.app_attest import AppAttestPolicy
    from tallybook.attestation.play import Play

CHALLENGE_HEADER: Final = "x-attestation-challenge"
KEY_HEADER: Final = "x-attestation-key"
TOKEN_HEADER: Final = "x-attestation-token"  # noqa: S105
UNSUPPORTED_HEADER: Final = "x-attestation-unsupported"

REFUSALS: Final = ("attestation_failed", "device_key_taken")

KEY_ID_BYTES: Final = 32
KEYS_REMEMBERED_MAX: Final = 10_000

Evidence = dict[str, Any]
"""An internal.attestation_evidence, without what is not known."""


def utc_now() -> datetime:
    """The clock of every examiner that is given no other."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """One request as its device signed it; `path` is the documented one, whatever a proxy made."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    user_id: UUID | None


class Asked(NamedTuple):
    """What the device answers: the server's challenge, by its hash, and H, which it signed."""

    challenge_hash: str
    request_hash: bytes


@dataclass
class Examiner:
    """Both platforms, each None where nobody configured it. The roots are in the policies."""

    app_attest: AppAttestPolicy | None = None
    play: Play | None = None
    clock: Callable[[], datetime] = utc_now
    _public_keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    async def close(self) -> None:
        """Let go of Google."""
        if self.play is not None:
            await self.play.close()

    async def examine(self, question: Question, database: Database) -> Evidence:
        """What the request's evidence is worth. Raises Refusal when the database is away."""
        headers = question.headers
        if self.app_attest is None and self.play is None:
            return {"status": Status.NOT_CONFIGURED}
        platform = "ios" if KEY_HEADER in headers else "android"
        examine: Callable[[Question, Asked, Database], Awaitable[Evidence]] | None = None
        if platform == "ios" and self.app_attest is not None:
            examine = partial(self._assertion, self.app_attest)
        elif platform == "android" and self.play is not None:
            examine = partial(self._token, self.play)
        # Evidence of a platform that nobody configured is none, or a script would just send some.
        if TOKEN_HEADER not in headers or examine is None:
            said = UNSUPPORTED_HEADER in headers
            return {"status": Status.UNSUPPORTED if said else Status.MISSING}
        evidence: Evidence = {"platform": platform}
        try:
            challenge = read_challenge(headers.get(CHALLENGE_HEADER, ""))
            asked = Asked(
                sha256(challenge).hexdigest(),
                client_data_hash("POST", question.path, challenge, question.body),
            )
            evidence["challenge_hash"] = asked.challenge_hash
            evidence["request_hash"] = asked.request_hash.hex()
            evidence |= await examine(question, asked, database)
        except Rejected as rejected:
            evidence |= {
                "status": Status.FAILED,
                "reason": rejected.reason,
                "detail": rejected.detail,
            }
        except Unavailable as unavailable:
            evidence |= {
                "status": Status.UNAVAILABLE,
                "reason": unavailable.reason,
                "token": headers[TOKEN_HEADER],
            }
        else:
            evidence["status"] = Status.VERIFIED
        return evidence

    def note(self, evidence: Evidence, user_id: UUID | None, refused: Refusal | None) -> None:
        """Count what evidence was worth in the end, and log why it was refused.

        The database has the last word: a challenge or a counter may have been used before.
        """
        platform, status = evidence.get("platform", "none"), evidence["status"]
        if refused is not None and refused.code in REFUSALS:
            status = Status.FAILED
            reason = (refused.detail or "").removeprefix("reason: ")
            logs.log(
                logs.ATTESTATION_FAILED,
                "warning",
                user_id=user_id,
                platform=platform,
                reason=reason if refused.code == REFUSALS[0] else refused.code,
                detail=evidence.get("detail"),
            )
        metrics.count_attestation(platform, status)

    async def _assertion(
        self, policy: AppAttestPolicy, question: Question, asked: Asked, database: Database
    ) -> Evidence:
        from tallybook.attestation.app_attest import verify_assertion

        key_id = question.headers[KEY_HEADER]
        assertion = read_base64(question.headers[TOKEN_HEADER], "malformed_assertion")
        if len(read_base64(key_id, "unknown_key")) != KEY_ID_BYTES:
            raise Rejected("unknown_key", "It is no SHA-256.")
        public_key = await self._public_key(key_id, question.user_id, database)
        verified = verify_assertion(assertion, public_key, asked.request_hash, policy)
        return {"key_id": key_id, "sign_count": verified.sign_count}

    async def _public_key(self, key_id: str, user_id: UUID | None, database: Database) -> bytes:
        """A key never changes, so it is remembered; whether it still counts is settled later."""
        if key_id not in self._public_keys:
            found = await database.call("device_public_key", {"user_id": user_id, "key_id": key_id})
            if found["public_key"] is None:
                raise Rejected("unknown_key", "It was never registered.")
            if len(self._public_keys) >= KEYS_REMEMBERED_MAX:
                self._public_keys.pop(next(iter(self._public_keys)))
            self._public_keys[key_id] = base64.b64decode(found["public_key"])
        return self._public_keys[key_id]

    async def _token(
        self, play: Play, question: Question, asked: Asked, database: Database
    ) -> Evidence:
        token = question.headers[TOKEN_HEADER]
        whose = (question.user_id, asked.challenge_hash)
        await play.judge(token, asked.request_hash, self.clock(), database, *whose)
        return {}

    def register(self, key_id: str, challenge: str, attestation: str) -> Evidence:
        """What a new key's attestation is worth: evidence, and all that is kept of the key.

        Raises ValueError where App Attest is not configured.
        """
        from tallybook.attestation.app_attest import verify_attestation

        if self.app_attest is None:
            raise ValueError("App Attest is not configured")
        evidence: Evidence = {"platform": "ios", "key_id": key_id}
        try:
            asked = sha256(read_challenge(challenge)).digest()
            evidence |= {"challenge_hash": asked.hex(), "request_hash": asked.hex()}
            key = verify_attestation(
                read_base64(attestation, "malformed_attestation"),
                read_base64(key_id, "wrong_key_id"),
                asked,
                self.app_attest,
                self.clock(),
            )
        except Rejected as rejected:
            return evidence | {
                "status": Status.FAILED,
                "reason": rejected.reason,
                "detail": rejected.detail,
            }
        return evidence | {
            "status": Status.VERIFIED,
            "public_key": base64.b64encode(key.public_key).decode(),
            "app_id": key.app_id,
            "environment": key.environment,
            "validation_category": key.validation_category,
            "receipt": base64.b64encode(key.receipt).decode(),
        }


def read_challenge(text: str) -> bytes:
    """The bytes of a challenge. Raises Rejected malformed_challenge."""
    try:
        challenge = base64url_decode(text)
    except ValueError:
        raise Rejected("malformed_challenge", "It is no URL-safe base64.") from None
    if len(challenge) != CHALLENGE_BYTES:
        raise Rejected("malformed_challenge", f"It has {len(challenge)} bytes.")
    return challenge


def read_base64(text: str, reason: str) -> bytes:
    """The bytes behind standard base64 with its padding, in the one form that iOS writes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Rejected(reason, "It is no base64.") from None
    # The bits that fill the last character up could be anything: one key would have four names.
    if base64.b64encode(data).decode() != text:
        raise Rejected(reason, "It is not base64 in its one form.")
    return data
