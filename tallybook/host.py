"""An ASGI application under uvicorn: the limits it runs with, and how it comes to an end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

# Fast parsers, our own logs and none of uvicorn's, and a limit on everything.
OPTIONS: Final[dict[str, Any]] = {
    "loop": "uvloop",
    "http": "httptools",
    "ws": "none",
    "lifespan": "on",
    "access_log": False,
    "log_level": "warning",
    "server_header": False,
    "proxy_headers": False,
    "backlog": 2048,
    "timeout_keep_alive": 30,
    "timeout_graceful_shutdown": 20,
    # Bytes of a request's head; counts where httptools gives way to h11.
    "h11_max_incomplete_event_size": 32 * 1024,
}


class Host(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, answers what is under way, and returns; again: at once.

    uvicorn itself raises the signal anew in the end, which kills the process before it has closed
    what else it holds, and lets an orderly end look like a crash. `on_started` is called once it
    listens.
    """

    def __init__(
        self, config: uvicorn.Config, on_started: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Both signals ask for the orderly end, and are dealt with by it."""
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
