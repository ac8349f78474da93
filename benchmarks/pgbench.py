"""pgbench, which lies beside the server's other programs: one script, so many clients."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from benchmarks.rounds import Sample
from tallybook.local.binaries import Binaries


class Missing(Exception):
    """A program that a measure needs is not here; says how to get it."""


def program() -> str:
    """The path of pgbench; raises Missing where the server came without it."""
    path = Binaries.find().program("pgbench")
    if not Path(path).exists():
        raise Missing(f"{path} is not there; unset PG_BIN, or install the server's contrib package")
    return path


def pgbench(
    dsn: str, script: str, *, clients: int, seconds: float = 0, transactions: int = 0
) -> Sample:
    """Run a script, prepared, for whole `seconds` or for so many `transactions` a client.

    The rate is transactions a second without the time to connect. Raises RuntimeError when any
    transaction failed: a benchmark whose work fails measures nothing.
    """
    length = ["-t", str(transactions)] if transactions else ["-T", str(max(1, round(seconds)))]
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [program(), "-n", "-M", "prepared", "-c", str(clients), "-j", "1", *length]
        done = subprocess.run(
            [*command, "-f", file.name, dsn],
            check=False,
            capture_output=True,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        )
    said = done.stdout
    failed = re.search(r"failed transactions: (\d+)", said)
    if done.returncode != 0 or (failed and int(failed[1])):
        raise RuntimeError(f"pgbench: {said}{done.stderr[:1000]}\nin: {script}")
    count = int(_found(r"actually processed: (\d+)", said))
    rate = float(_found(r"tps = ([\d.]+)", said))
    return Sample(rate=rate, count=count, seconds=count / rate)


def _found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    if match is None:
        raise RuntimeError(f"pgbench said something new: {said}")
    return match[1]
