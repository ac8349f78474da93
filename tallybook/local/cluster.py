"""A data directory and what lies beside it: who runs on it, what a dead server left, the secret."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tallybook.local.binaries import Binaries


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a running server says of itself in `postmaster.pid`."""

    pid: int
    port: int
    socket_directory: Path
    tcp: bool
    ready: bool

    @classmethod
    def read(cls, data: Path) -> Self | None:
        """None when there is no such file, or the server is still writing it."""
        try:
            line = (data / "postmaster.pid").read_text().splitlines()
            folder, tcp, ready = Path(line[4]), bool(line[5].strip()), line[7].strip() == "ready"
            return cls(int(line[0]), int(line[3]), folder, tcp, ready)
        except (FileNotFoundError, IndexError, ValueError):
            return None


def answering(binaries: Binaries, data: Path) -> Postmaster | None:
    """The server on this data directory, if it takes connections.

    A dying server still accepts them, so it is asked and not merely connected to.
    """
    found = Postmaster.read(data)
    if found is None:
        return None
    asked = [binaries.program("pg_isready"), "-q", "-t", "2", "-U", "postgres", "-d", "postgres"]
    where = ["-h", str(found.socket_directory), "-p", str(found.port)]
    return found if binaries.allows(*asked, *where) else None


def clear_leftovers(data: Path, sockets: Path) -> None:
    """Remove the pid file and socket locks of a server that is gone.

    Postgres takes a pid that now belongs to somebody else for a living server. A server stands
    in its data directory, so when no process does, there is none. Without /proc nothing is
    removed, and Postgres judges by itself.
    """
    if not Path("/proc/self/cwd").exists():
        return
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(data):
                return
    for leftover in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
        leftover.unlink(missing_ok=True)


def initialise(binaries: Binaries, data: Path, lock: int, deadline: float) -> None:
    """Make the data directory. Raises TimeoutError, and RuntimeError with initdb's own words.

    It is made elsewhere and then moved, so that an interrupted initdb is never taken for data.
    initdb inherits the lock: it outlives a caller that is killed, and must not meet a second one.
    """
    fresh = beside(data, "new")
    shutil.rmtree(fresh, ignore_errors=True)
    binaries.private_folder(fresh)
    # The built-in provider came with 17; where it exists, order does not depend on the system.
    locale = ["--locale=C.UTF-8"]
    if binaries.major >= 17:
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [binaries.program("initdb"), "-D", str(fresh), "-U", "postgres", "-E", "UTF8"]
    command += [*locale, "--auth-local=trust", "--auth-host=scram-sha-256"]
    try:
        done = subprocess.run(
            [*command, "--no-sync", "--no-instructions"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(1, deadline - time.monotonic()),
            pass_fds=[lock],
            **binaries.options,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"initdb did not finish {fresh} in time") from None
    if done.returncode != 0:
        raise RuntimeError(f"initdb: {done.stdout}{done.stderr}")
    fresh.rename(data)


@contextmanager
def locked(path: Path, deadline: float) -> Iterator[int]:
    """Hold a lock file; yields its descriptor. Raises TimeoutError at the deadline."""
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{path} is held by another process") from None
                time.sleep(0.02)
        yield file.fileno()


def local_secret(data: Path) -> str:
    """The password in `<data>.secret`, made on first use; only its owner can read it."""
    path = beside(data, "secret")
    if not path.exists():
        # Written whole under another name first, so that nobody reads half of it.
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:
            draft.write(secrets.token_hex(16))
            draft.flush()
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text()


def socket_folder(binaries: Binaries, data: Path) -> Path:
    """One folder per data directory; a short name, for a socket's path ends at 107 bytes."""
    tag = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    return Path(f"/tmp/.tallybook-{binaries.uid}-{tag}")  # noqa: S108 - made private, and checked


def beside(data: Path, kind: str) -> Path:
    """`<data>.<kind>`."""
    return data.with_name(f"{data.name}.{kind}")
