"""Requests and responses: as much of HTTP as a handler needs, and nothing of a framework.

A handler takes anything that has an ASGI `scope` and `receive`, and a Response is itself an ASGI
application. So the same handler runs under our own server and under functions-framework, whose
Starlette requests have both and whose routes send whatever is an ASGI application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tallybook.refusal import body_too_large, invalid_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_BYTES_MAX: Final = 64 * 1024
BODY_SECONDS_MAX: Final = 10.0


class Request(Protocol):
    """What a handler is given: our own server's requests, and Starlette's."""

    @property
    def scope(self) -> Scope: ...
    @property
    def receive(self) -> Receive: ...


Handler = Callable[[Request], Awaitable["Response"]]


class AsgiRequest:
    """A request of our own server."""

    __slots__ = ("receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive


class Response:
    """A whole answer in memory, sent by being called as an ASGI application."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = {"content-length": str(len(body))}
        if body:
            self.headers["content-type"] = media_type
        if headers:
            self.headers.update(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers.items()
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer in another form than JSON; `headers` are added to those of every answer."""

    media_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A name that somebody gave to a file must not become a header of its own.
        for value in (self.media_type, *self.headers, *self.headers.values()):
            if not value.isprintable():
                raise ValueError("a header has a character that no header may have")


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers with names in lower case; of a repeated one, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(
    request: Request, headers: dict[str, str], bytes_max: int = BODY_BYTES_MAX
) -> bytes:
    """The whole body. Raises Refusal body_too_large over the limit, invalid_body after 10 s."""
    if int(headers.get("content-length", "0") or "0") > bytes_max:
        raise body_too_large(bytes_max)
    message = await _receive(request)
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await _receive(request)
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise body_too_large(bytes_max)
    return body


def refuse_body(headers: Mapping[str, str]) -> None:
    """Raises Refusal invalid_body where a request brings a body that nobody would read."""
    if headers.get("content-length", "0").strip("0") or "transfer-encoding" in headers:
        raise invalid_body("With this method everything is said in the query.", "$")


async def _receive(request: Request) -> Message:
    """The next part of the body; a client that stops sending is not waited for."""
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            message = await request.receive()
    except TimeoutError:
        raise invalid_body("The body did not arrive in time.") from None
    if message["type"] == "http.disconnect":
        raise invalid_body("The connection closed before the body was complete.")
    return message
