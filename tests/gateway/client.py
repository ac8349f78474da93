"""A client of the gateway for tests: one user's requests, as sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.stack import Stack
from tests.world import World

_minutes = count(1)


@dataclass
class Client:
    """Speaks to the functions as one user, or with any other credentials given as headers."""

    stack: Stack
    user: UUID = field(default_factory=uuid4)
    credentials: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.credentials is None:
            token = self.stack.keys.token(self.user)
            self.credentials = {"authorization": f"Bearer {token}"}

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """POST `body` (JSON, or bytes as they are) with the user's credentials."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(
            f"{self.stack.url}{path}",
            headers={**(self.credentials or {}), **named},
            timeout=20,
            **sent,  # type: ignore[arg-type]
        )

    def submit(self, body: Any = None, **headers: str) -> httpx.Response:
        return self.post("/functions/v1/submit-points-event", body or event(), **headers)

    def redeem(self, template: UUID, key: str | None = None, **headers: str) -> httpx.Response:
        body = {"template_id": str(template), "idempotency_key": key or uuid4().hex}
        return self.post("/functions/v1/redeem-coupon", body, **headers)


def service(stack: Stack) -> Client:
    """A program that holds the secret key."""
    return Client(stack, credentials={"apikey": stack.keys.secret_key})


def administrator(stack: Stack, world: World, *, active: bool = True) -> Client:
    """Somebody whom an operator has made an administrator, or who was one."""
    somebody = Client(stack)
    world.operator.execute(
        "insert into system_admins (id, email, is_active) values (%s, %s, %s)",
        (somebody.user, f"{somebody.user}@example.com", active),
    )
    return somebody


def member(stack: Stack, world: World, partner: str) -> Client:
    """Somebody who stands behind a partner's counter."""
    somebody = Client(stack)
    world.operator.execute(
        "insert into partner_members (partner_id, user_id) values (%s, %s)",
        (partner, somebody.user),
    )
    return somebody


def event(**fields: Any) -> dict[str, Any]:
    """A valid submission, far enough from the others that none is suspect."""
    at = datetime.now(UTC) - timedelta(minutes=next(_minutes) % 9000)
    return {
        "event_type": "workout",
        "event_time": at.isoformat(),
        "nonce": uuid4().hex,
        **fields,
    }
