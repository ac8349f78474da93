"""One client's connection, HTTP by hand: the usual clients cost more than the server they ask."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec


class NoAnswer(Exception):
    """The connection ended before the whole answer was here: nobody knows what was done."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"


class Wire:
    """A connection that is opened when it is needed, and again after it was cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, credentials: str, body: dict[str, Any]) -> Answer:
        """Raises NoAnswer; `credentials` is a whole header line."""
        content = msgspec.json.encode(body)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: test\r\n{credentials}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        try:
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write(head.encode() + content)
            return await _read(self._reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self.close()
            raise NoAnswer from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Answer:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    named = (line.split(": ", 1) for line in lines[1:] if line)
    headers = {name.lower(): value for name, value in named}
    content = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(lines[0].split()[1]), headers, msgspec.json.decode(content))
