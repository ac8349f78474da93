"""wrk with `load.lua`: a load generator that costs one core little, so that it is not measured."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.pgbench import Missing
from benchmarks.rounds import Sample

SCRIPT = Path(__file__).with_name("load.lua")


class Summary(msgspec.Struct):
    """What the script says at the end; latencies in microseconds."""

    requests: int
    microseconds: int
    refused: int
    broken: int
    p50: int
    p95: int
    p99: int


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: a body in which NONCE stands for a new nonce, under the tokens of a file."""

    tokens: Path
    path: str
    body: str


def need_wrk() -> None:
    """Raise Missing when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed (apt-get install wrk, brew install wrk)")


def wrk(port: int, load: Load, *, run: str, connections: int, seconds: float) -> Sample:
    """Load a server for whole seconds. Raises RuntimeError when any answer was not a success.

    Nonces are `run`:1, `run`:2 and so on.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(SCRIPT)]
    command += [f"http://127.0.0.1:{port}", "--", str(load.tokens), load.path, load.body, run]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Summary)
    if said.refused or said.broken or not said.requests:
        raise RuntimeError(f"not every request was answered with success: {done.stdout}")
    elapsed = said.microseconds / 1e6
    return Sample(
        rate=said.requests / elapsed,
        count=said.requests,
        seconds=elapsed,
        p50_ms=said.p50 / 1e3,
        p95_ms=said.p95 / 1e3,
        p99_ms=said.p99 / 1e3,
    )
