"""What the server makes of the bytes of a request before anybody here sees them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from tallybook.host import OPTIONS
from tests.corridor.doubles import Served
from tests.corridor.test_addresses import served


@asynccontextmanager
async def listening(api: Served) -> AsyncIterator[int]:
    """The application under uvicorn, as `tallybook serve` runs it; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = {**OPTIONS, "loop": "asyncio", "lifespan": "off"}
        server = uvicorn.Server(uvicorn.Config(api.application, **options))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def status_of(port: int, head: bytes, body: bytes = b"") -> int:
    """The status of the answer to these very bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b"\r\nhost: a\r\nconnection: close\r\n\r\n" + body)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


THING = b"6f1a2b3c-4d5e-4f60-8a9b-0c1d2e3f4a5b"


WIRE = [
    (b"GET /things HTTP/1.1", 200),
    (b"GET /things?limit=5 HTTP/1.1", 200),
    (b"GET /things?limit=5#limit=6 HTTP/1.1", 200),
    (b"GET /things? HTTP/1.1", 200),
    (b"GET /things/" + THING + b" HTTP/1.1", 200),
    (b"GET /things/export HTTP/1.1", 200),
    (b"GET /things/%65xport HTTP/1.1", 200),
    (b"GET /things?limit=5&limit=5 HTTP/1.1", 400),
    (b"GET /things?type=%FF HTTP/1.1", 400),
    (b"GET /things?type=%00 HTTP/1.1", 400),
    (b"GET /things?type=\xff HTTP/1.1", 400),
    (b"GET /things/%FF HTTP/1.1", 400),
    (b"DELETE /codes/%FF HTTP/1.1", 400),
    (b"DELETE /codes/%00 HTTP/1.1", 400),
    (b"DELETE /codes/%zz HTTP/1.1", 400),
    (b"DELETE /codes/a%2Fb HTTP/1.1", 404),
    (b"DELETE /codes/a HTTP/1.1", 200),
    (b"DELETE /codes/a%253F HTTP/1.1", 200),
    (b"GET /things/../cap HTTP/1.1", 404),
    (b"GET /things/%2e%2e/cap HTTP/1.1", 404),
    (b"GET //things HTTP/1.1", 404),
    (b"PUT /things HTTP/1.1", 405),
    (b"HEAD /things HTTP/1.1", 405),
    (b"PATCH /codes/a HTTP/1.1", 405),
    (b"OPTIONS /codes/a HTTP/1.1", 204),
    (b"GET /things?type=" + b"x" * 5_000 + b" HTTP/1.1", 400),
    (b"GET /things?type=" + b"x" * 30_000 + b" HTTP/1.1", 400),
    (b"DELETE /codes/" + b"x" * 5_000 + b" HTTP/1.1", 400),
    (b"DELETE /codes/a HTTP/1.1\r\ncontent-length: 2", 400),
    (b"BREW /things HTTP/1.1", 400),
]


async def test_a_request_on_the_wire() -> None:
    async with listening(served()) as port:
        for line, status in WIRE:
            body = b"{}" if b"content-length" in line else b""
            assert await status_of(port, line, body) == status, line[:60]
