"""A corridor without a token service and without a database: both say what a test tells them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

from tallybook import logs
from tallybook.caller import Caller, Verifier
from tallybook.gather import Answer, Arguments
from tallybook.http import AsgiRequest, Handler, Message, Response
from tallybook.runtime import SCOPE_KEY, Runtime
from tallybook.settings import Settings

USER_ID = UUID("6f1a2b3c-4d5e-4f60-8a9b-0c1d2e3f4a5b")
USER = Caller(USER_ID, "authenticated", MappingProxyType({}))
PROGRAM = Caller(None, "service_role", MappingProxyType({}))

SECRET = "s" * 32


@dataclass
class Procedures:
    """A database that keeps what it is asked and gives one answer, or raises it."""

    answer: Answer | Exception = field(default_factory=dict)
    procedure: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    async def call(self, procedure: str, arguments: Arguments) -> Answer:
        self.procedure, self.arguments = procedure, dict(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None: ...


@dataclass
class Doorman:
    """A verifier that takes everybody for the same caller."""

    caller: Caller

    async def verify(self, headers: Mapping[str, str]) -> Caller:
        return self.caller

    async def verify_session(self, token: str) -> Caller:
        return self.caller


@dataclass(frozen=True)
class Answered:
    """What came back, and what the database was asked."""

    status: int
    body: Any
    headers: Mapping[str, str]
    procedure: str
    arguments: Mapping[str, Any]


async def ask(
    handler: Handler,
    body: Mapping[str, Any],
    answer: Answer | Exception | None = None,
    *,
    caller: Caller = USER,
    headers: Mapping[str, str] | list[tuple[str, str]] = MappingProxyType({}),
    client: tuple[str, int] | None = None,
    **environment: str,
) -> Answered:
    """Send one request to a handler; `environment` is what else the process was told."""
    settings = Settings.from_environment({"COUPON_SECRET": SECRET, **environment})
    database = Procedures({} if answer is None else answer)
    runtime = Runtime(settings, cast(Verifier, Doorman(caller)), database)
    sent = json.dumps(body, default=str).encode()
    pairs = headers.items() if isinstance(headers, Mapping) else headers

    async def receive() -> Message:
        return {"type": "http.request", "body": sent}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/here",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        "client": client,
        SCOPE_KEY: runtime,
    }
    response: Response = await handler(AsgiRequest(scope, receive))
    # What it said is written while it is the test's to see.
    logs.flush()
    return Answered(
        response.status,
        json.loads(response.body),
        {name.lower(): value for name, value in response.headers.items()},
        database.procedure,
        database.arguments,
    )
