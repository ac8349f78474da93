"""OpenRouter as far as it is asked about keys: over a transport, or over HTTP on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from tallybook import exact


@dataclass(frozen=True, slots=True)
class FakeKey:
    """One key: whose it is and what is left; only one that `manages` sees its owner's credits."""

    owner: str = "user_2dHFtVWx2n56w6HkM0000000000"
    limit_remaining: Decimal | None = None
    total_credits: Decimal = Decimal("100.5")
    total_usage: Decimal = Decimal("25.75")
    manages: bool = False


@dataclass(slots=True)
class FakeOpenRouter:
    """Knows these keys and no others; `asked` is what it was asked, oldest first."""

    keys: dict[str, FakeKey] = field(default_factory=dict, repr=False)
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str, authorization: str) -> tuple[int, Any]:
        """The status and the body of one GET."""
        self.asked.append(path)
        key = self.keys.get(authorization.removeprefix("Bearer "))
        if key is None:
            return _error(401, "User not found.")
        if path.endswith("/key"):
            return 200, {"data": _key(key)}
        if not path.endswith("/credits"):
            return _error(404, "Not Found")
        if not key.manages:
            return _error(403, "Only management keys can perform this operation")
        return 200, {"data": {"total_credits": key.total_credits, "total_usage": key.total_usage}}

    def transport(self) -> httpx.MockTransport:
        """For a client that never leaves the process."""

        def handle(request: httpx.Request) -> httpx.Response:
            authorization = request.headers.get("authorization", "")
            status, body = self.answer(request.url.path, authorization)
            return httpx.Response(status, content=exact.encode(body))

        return httpx.MockTransport(handle)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its base URL, until the block ends."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = fake.answer(self.path, self.headers.get("authorization", ""))
                content = exact.encode(body)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a test's output is its own."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}/api/v1"
            finally:
                server.shutdown()
                thread.join()


def _key(key: FakeKey) -> dict[str, Any]:
    return {
        "label": "sk-or-v1-au7...890",
        "usage": Decimal("25.5"),
        "limit": None if key.limit_remaining is None else key.limit_remaining + 10,
        "limit_remaining": key.limit_remaining,
        "is_free_tier": False,
        "is_management_key": key.manages,
        "creator_user_id": key.owner,
    }


def _error(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"code": status, "message": message}}
