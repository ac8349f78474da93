"""A corridor without a token service and without a database: both say what a test tells them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import unquote
from uuid import UUID

import pytest

from tallybook import logs, server
from tallybook.caller import Caller, Verifier
from tallybook.gather import Answer, Arguments
from tallybook.http import AsgiRequest, Handler, Message, Response
from tallybook.runtime import SCOPE_KEY, Runtime
from tallybook.schema import ROOT
from tallybook.server import Application
from tallybook.settings import Settings

USER_ID = UUID("6f1a2b3c-4d5e-4f60-8a9b-0c1d2e3f4a5b")
USER = Caller(USER_ID, "authenticated", MappingProxyType({}))
PROGRAM = Caller(None, "service_role", MappingProxyType({}))

SECRET = "s" * 32


@dataclass
class Procedures:
    """A database that keeps what it is asked and gives one answer, or raises it."""

    answer: Answer | Exception = field(default_factory=dict)
    calls: int = 0
    procedure: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    async def call(self, procedure: str, arguments: Arguments) -> Answer:
        self.calls += 1
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
    raw: bytes = b""

    @property
    def fault(self) -> tuple[int, str, str | None]:
        """Status, code and path of a refusal."""
        return self.status, self.body["code"], (self.body["details"] or {}).get("path")


@dataclass
class Served:
    """Our own server around some handlers."""

    application: Application
    database: Procedures

    async def __call__(
        self,
        method: str,
        target: str | bytes,
        sent: Any = None,
        *,
        headers: Mapping[str, str] | list[tuple[str, str]] = MappingProxyType({}),
    ) -> Answered:
        """One request, whose `target` is taken apart as uvicorn does it."""
        raw = target.encode() if isinstance(target, str) else target
        raw_path, _, query = raw.partition(b"?")
        content = sent if isinstance(sent, bytes) else b""
        if sent is not None and not isinstance(sent, bytes):
            content = json.dumps(sent, default=str).encode()
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        if content:
            pairs.append(("content-length", str(len(content))))

        async def receive() -> Message:
            return {"type": "http.request", "body": content}

        scope = {
            "type": "http",
            "method": method,
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
            "client": None,
        }
        self.database.procedure, self.database.arguments = "", {}
        response = await self.application.answer(scope, receive)
        logs.flush()
        lowered = {name.lower(): value for name, value in response.headers.items()}
        is_json = "json" in lowered.get("content-type", "")
        return Answered(
            response.status,
            json.loads(response.body) if is_json else None,
            lowered,
            self.database.procedure,
            self.database.arguments,
            response.body,
        )


def serve(
    *handlers: Handler,
    answer: Answer | Exception | None = None,
    caller: Caller = USER,
    verifier: Verifier | None = None,
    **environment: str,
) -> Served:
    """These handlers under our own server; everybody is `caller` unless there is a `verifier`."""
    settings = Settings.from_environment({"COUPON_SECRET": SECRET, **environment})
    database = Procedures({} if answer is None else answer)
    runtime = Runtime(settings, verifier or cast(Verifier, Doorman(caller)), database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "find_functions", lambda _root: iter(handlers))
        return Served(Application(runtime, ROOT), database)


async def ask(
    handler: Handler,
    body: Mapping[str, Any],
    answer: Answer | Exception | None = None,
    *,
    caller: Caller = USER,
    headers: Mapping[str, str] | list[tuple[str, str]] = MappingProxyType({}),
    client: tuple[str, int] | None = None,
    method: str = "POST",
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
        "method": method,
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
        response.body,
    )
