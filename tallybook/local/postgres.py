"""An embedded Postgres for development and tests: started, shared, and never left behind.

One process owns the server; others that start it on the same data directory attach to it and
never stop it. When the owner stops or dies, kill -9 included, the server goes down with it and
the attached processes lose their connections; the first of them to call `start` again becomes
the owner. Children that the owner forks without exec keep the server alive as long as they live.

Linux and macOS. Beside the data directory lie `<data>.log`, `<data>.lock` and `<data>.secret`,
the password of every local role over TCP.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from tallybook.local.binaries import Binaries
from tallybook.local.cluster import (
    Postmaster,
    answering,
    beside,
    clear_leftovers,
    initialise,
    local_secret,
    locked,
    socket_folder,
)
from tallybook.local.watched import Watched

# For tests. synchronous_commit stays on, so that commits become visible as they do for real.
FAST: Mapping[str, str] = MappingProxyType({"fsync": "off", "full_page_writes": "off"})
DURABLE: Mapping[str, str] = MappingProxyType({})

LOGIN_ROLES = ("tallybook_functions", "tallybook_worker", "tallybook_operator", "authenticator")


class EmbeddedPostgres:
    """A server on `data`, over a unix socket that trusts whoever can reach it.

    With `tcp` it also listens on 127.0.0.1, at `port` or at a free one, and asks for a password.
    `settings` are server settings such as `{"max_connections": "300"}`; they and `port` count
    for the owner only.
    """

    def __init__(
        self,
        data: Path,
        *,
        tcp: bool = False,
        port: int | None = None,
        settings: Mapping[str, str] = DURABLE,
    ) -> None:
        self.data = data
        self._tcp = tcp
        self._port = port
        self._settings = dict(settings)
        self._postmaster: Postmaster | None = None
        self._server: Watched | None = None
        self._sockets: Path | None = None

    def start(self, timeout: float = 60) -> Self:
        """Start the server, or attach to the one that runs on this data directory.

        `timeout` is in seconds. Raises TimeoutError, RuntimeError with the server's own words
        when it does not come up, and RuntimeError when the running one lacks TCP.
        """
        try:
            self._start(time.monotonic() + timeout)
        except BaseException:
            # Nobody calls `stop` after a start that failed.
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server if this process owns it; otherwise only let go of it."""
        self._postmaster = None
        if self._sockets is None:
            return
        self._end()
        # Whoever holds the lock is starting a server and needs the folder.
        with suppress(OSError), locked(beside(self.data, "lock"), time.monotonic()):
            self._sockets.rmdir()
        self._sockets = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def owned(self) -> bool:
        """Whether this process started the server and will stop it."""
        return self._server is not None

    @property
    def socket_directory(self) -> Path:
        """The folder of the unix socket, 0700."""
        return self._running.socket_directory

    @property
    def port(self) -> int:
        """The TCP port, which is also part of the unix socket's name."""
        return self._running.port

    def dsn(self, database: str = "postgres", user: str = "postgres", tcp: bool = False) -> str:
        """A connection URI for libpq and, with `tcp`, for every other client."""
        database, user = quote(database, safe=""), quote(user, safe="")
        if not tcp:
            folder = quote(str(self.socket_directory), safe="")
            return f"postgresql://{user}@/{database}?host={folder}&port={self.port}"
        if not self._running.tcp:
            raise RuntimeError(f"the server on {self.data} runs without TCP")
        secret = local_secret(self.data)
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def _running(self) -> Postmaster:
        if self._postmaster is None:
            raise RuntimeError("the server is not started")
        return self._postmaster

    def _start(self, deadline: float) -> None:
        if self._server is not None and not self._server.alive:
            self._end()
        binaries = Binaries.find()
        self.data = binaries.reachable(self.data)
        with locked(beside(self.data, "lock"), deadline) as lock:
            local_secret(self.data)
            if not (self.data / "PG_VERSION").exists():
                initialise(binaries, self.data, lock, deadline)
            while (found := answering(binaries, self.data)) is None:
                self._end()
                clear_leftovers(self.data, socket_folder(binaries, self.data))
                self._launch(binaries, deadline)
        if self._tcp and not found.tcp:
            raise RuntimeError(f"the server on {self.data} runs without TCP; stop its owner first")
        self._postmaster = found
        if self.owned and self._tcp:
            # Set at every start, so that a lost secret file heals.
            enable_logins(self.dsn(), ["postgres"])

    def _launch(self, binaries: Binaries, deadline: float) -> None:
        """Run the server until it is ready; return without one when it is worth another try."""
        self._sockets = sockets = socket_folder(binaries, self.data)
        binaries.private_folder(sockets)
        port = self._port or (free_port() if self._tcp else 5432)
        command = [binaries.program("postgres"), "-D", str(self.data), "-k", str(sockets)]
        command += ["-p", str(port), "-h", "127.0.0.1" if self._tcp else ""]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with beside(self.data, "log").open("ab") as log:
            seen = log.tell()
            self._server = Watched(command, self.data / "postmaster.pid", log, binaries.options)
        while self._server.alive and time.monotonic() < deadline:
            found = Postmaster.read(self.data)
            if found is not None and found.pid == self._server.pid and found.ready:
                self._server.ready()
                return
            time.sleep(0.01)
        self._end()
        said = beside(self.data, "log").read_bytes()[seen:].decode(errors="replace")
        if time.monotonic() >= deadline:
            raise TimeoutError(f"the server on {self.data} did not start in time: {said}")
        # An earlier server is still winding down, or somebody took the free port meanwhile.
        if "lock file" not in said and (self._port or "already in use" not in said):
            raise RuntimeError(f"the server on {self.data} did not start: {said}")
        time.sleep(0.1)

    def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.end()


def enable_logins(dsn: str, roles: Sequence[str] = LOGIN_ROLES) -> None:
    """Let roles log in, over TCP with the local secret as their password.

    `dsn` is a superuser's connection to an embedded server of this machine. Raises
    psycopg.errors.UndefinedObject when a role is missing.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        [(data,)] = connection.execute("show data_directory").fetchall()
        secret = local_secret(Path(data))
        for role in roles:
            connection.execute(
                sql.SQL("alter role {} login password {}").format(
                    sql.Identifier(role), sql.Literal(secret)
                )
            )


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
