"""The servers under load, each a process of its own: ours, functions-framework's, the peers."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pgbench import Missing
from tallybook.local.postgres import free_port

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
START_SECONDS_MAX = 20


@dataclass(frozen=True, slots=True)
class Host:
    """A running server and where its functions are: `prefix` comes before a function's name."""

    process: subprocess.Popen[bytes]
    port: int
    prefix: str = "/functions/v1/"

    def memory_mb(self) -> float | None:
        """Megabytes of the process and its children, shared pages split; None off Linux."""
        total = 0
        for pid in _family(self.process.pid):
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total / 1024 if total else None


@contextmanager
def tallybook(environ: Mapping[str, str], *, verify_every_token: bool = False) -> Iterator[Host]:
    """Our own server."""
    command = [sys.executable, "-m", "benchmarks.serve", "{port}"]
    command += ["--verify-every-token"] if verify_every_token else []
    with _started(command, environ) as host:
        yield host


@contextmanager
def deno(environ: Mapping[str, str], *, verify_every_token: bool = False) -> Iterator[Host]:
    """The peer: Deno.serve, jose, postgres.js. Raises Missing without node_modules."""
    program = deno_program()
    if program is None or not (ROOT / "node_modules" / "postgres").exists():
        raise Missing("the Deno peer is not installed (npm ci --ignore-scripts)")
    cache = "0" if verify_every_token else "1"
    command = [program, "run", "--no-remote", "--cached-only", "--no-check", "--allow-all"]
    command += [str(PEERS / "deno" / "main.ts")]
    with _started(command, {**environ, "TOKEN_CACHE": cache, "DENO_NO_UPDATE_CHECK": "1"}) as host:
        yield host


def deno_program() -> str | None:
    """Deno itself. The one in .bin is a Node program around it, which would be measured with it
    and leave it behind when stopped."""
    found = sorted(ROOT.glob("node_modules/@deno/*/deno"))
    return str(found[0]) if found else None


@contextmanager
def functions_framework(environ: Mapping[str, str], *, ours: bool) -> Iterator[Host]:
    """functions-framework: our handler on its async server, or its default, written as usual."""
    source = PEERS / "functions_framework" / "main.py"
    command = [sys.executable, "-m", "functions_framework", "--target", "submit_points_event"]
    if ours:
        source = ROOT / "functions" / "submit_points_event" / "main.py"
        command += ["--asgi"]
    command += ["--source", str(source), "--host", "127.0.0.1", "--port", "{port}"]
    with _started(command, environ, prefix="/") as host:
        yield host


@contextmanager
def _started(
    command: list[str], environ: Mapping[str, str], prefix: str = "/functions/v1/"
) -> Iterator[Host]:
    port = free_port()
    process = subprocess.Popen(
        [part.replace("{port}", str(port)) for part in command],
        cwd=ROOT,
        env={**os.environ, **environ, "PORT": str(port), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_answer(process, port)
        yield Host(process, port, prefix)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    """Any answer will do: functions-framework sends every path to its function."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/livez")
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    raise RuntimeError(f"did not start: {process.args!r}")


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))
