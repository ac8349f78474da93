"""Devices in the test's own world: what they are asked, and what a function found out about them.

The evidence is what the function hands on once it has verified; how it verifies is tested beside.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from tests.world import Connection, World

Evidence = dict[str, Any]

PUBLIC_KEY = base64.b64encode(b"\x04" + bytes(64)).decode()
REASON_HINT = "Ask for a new challenge and attest the request again."


class Devices:
    """Verbs of a device, of the function that verified what it said, and of the worker."""

    def __init__(self, world: World) -> None:
        self.world = world

    # What a device is asked

    def ask(
        self,
        user: UUID,
        purpose: str = "submit",
        platform: str = "ios",
        through: Connection | None = None,
    ) -> Any:
        return self.world.call(
            "public.create_attestation_challenge",
            {"user_id": user, "purpose": purpose, "platform": platform},
            through or self.world.functions,
        )

    def challenge(self, user: UUID, purpose: str = "submit", platform: str = "ios") -> str:
        """The hash of a new challenge."""
        asked: str = self.ask(user, purpose, platform)["challenge"]
        return sha256(base64.urlsafe_b64decode(asked + "=")).hexdigest()

    def used_by(self, challenge: str) -> str | None:
        """The request that a challenge was used for."""
        return self.world.value(  # type: ignore[no-any-return]
            "select request_hash from attestation_challenges where challenge_hash = %s",
            (challenge,),
        )

    # Keys

    def vouched(self, challenge: str, **more: Any) -> Evidence:
        """What App Attest said of a new key."""
        return {
            "status": "verified",
            "platform": "ios",
            "challenge_hash": challenge,
            "request_hash": challenge,
            "public_key": PUBLIC_KEY,
            "app_id": "TEAM123456.dev.tallybook.example",
            "environment": "production",
            "validation_category": 4,
            "receipt": "cmVjZWlwdA==",
            **more,
        }

    def register(
        self,
        user: UUID,
        key: str | None = None,
        evidence: Evidence | None = None,
        through: Connection | None = None,
    ) -> Any:
        """Register a key, by default a new one under a new challenge."""
        arguments = {
            "user_id": user,
            "key_id": key or a_key_id(),
            "attestation": evidence or self.vouched(self.challenge(user, "register")),
            "request_id": "r-1",
        }
        return self.world.call(
            "public.register_device_key", arguments, through or self.world.functions
        )

    def key(self, user: UUID) -> str:
        """A new key that this user registered."""
        key: str = self.register(user)["key_id"]
        return key

    def revoke(self, key: str) -> None:
        self.world.operator.execute(
            "update device_keys set revoked_at = now() where key_id = %s", (key,)
        )

    def counted(self, key: str) -> int:
        """The number that the key's device counted last."""
        number: int = self.world.value(
            "select sign_count from device_keys where key_id = %s", (key,)
        )
        return number

    def users(self, key: str) -> set[UUID]:
        """Who has signed with a key."""
        rows = self.world.rows("select user_id from device_key_users where key_id = %s", (key,))
        return {row["user_id"] for row in rows}

    # Evidence

    def signed(self, user: UUID, key: str, count: int, **more: Any) -> Evidence:
        """An assertion of a key, by default over a new challenge and a new request."""
        return {
            "status": "verified",
            "platform": "ios",
            "challenge_hash": more.pop("challenge", None) or self.challenge(user),
            "request_hash": a_hash(),
            "key_id": key,
            "sign_count": count,
            **more,
        }

    def integral(self, user: UUID, **more: Any) -> Evidence:
        """A Play Integrity token that was verified."""
        return {
            "status": "verified",
            "platform": "android",
            "challenge_hash": more.pop("challenge", None)
            or self.challenge(user, platform="android"),
            "request_hash": a_hash(),
            **more,
        }

    def unchecked(self, user: UUID, token: str = "a token", **more: Any) -> Evidence:
        """A token about which nobody could be asked."""
        return self.integral(user, **{"status": "unavailable", "token": token, **more})

    # What becomes of it

    def submit(self, user: UUID, evidence: Evidence, **request: Any) -> Any:
        return self.world.submit(user, attestation=evidence, **request)

    def due(self, limit: int = 100, through: Connection | None = None) -> Any:
        """What the worker is to check again."""
        return self.world.call(
            "public.due_attestations", {"limit": limit}, through or self.world.worker
        )

    def recheck(
        self,
        user: UUID,
        event_id: str,
        status: str,
        reason: str | None = None,
        through: Connection | None = None,
    ) -> Any:
        arguments = {"user_id": user, "event_id": event_id, "status": status, "reason": reason}
        return self.world.call(
            "public.recheck_points_event", arguments, through or self.world.worker
        )

    def clean(self, limit: int = 10_000, through: Connection | None = None) -> Any:
        """Forget what is past its time, as the worker does."""
        return self.world.call(
            "public.cleanup_expired_attestations", {"limit": limit}, through or self.world.worker
        )

    def wait(self, **time: float) -> None:
        self.world.pass_time(timedelta(**time))

    # What is there to see

    def failures(self) -> list[tuple[UUID, str, int]]:
        """Whose evidence was refused, why and how often."""
        rows = self.world.rows(
            "select user_id, reason, failures from attestation_failures order by failed_at, reason"
        )
        return [(row["user_id"], row["reason"], row["failures"]) for row in rows]

    def stored(self) -> int:
        """How many events there are."""
        return self.world.count("points_events")


def a_hash() -> str:
    """A SHA-256 that nothing else has."""
    return sha256(uuid4().bytes).hexdigest()


def a_key_id() -> str:
    """The SHA-256 of a public key that nobody else has."""
    return base64.b64encode(sha256(uuid4().bytes).digest()).decode()


def failed_for(reason: str) -> dict[str, Any]:
    """The refusal of evidence, as it is returned."""
    return {
        "refusal": {
            "code": "attestation_failed",
            "status": 403,
            "detail": f"reason: {reason}",
            "hint": REASON_HINT,
        }
    }
