"""The command line as its users have it: the installed program, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tallybook.cli import app
from tests.conftest import Database

PROGRAM = Path(sys.executable).with_name("tallybook")
SECONDS_MAX = 60
COUPON_SECRET = "a-secret-for-coupons-in-tests-only"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    complaint: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


Run = Callable[..., Done]


@pytest.fixture
def home(workshop: Path) -> Iterator[Path]:
    """The folder of a local stack, which every account can reach."""
    with tempfile.TemporaryDirectory(dir=workshop) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """What commands are told: nothing of this machine's own settings."""
    foreign = ("DATABASE_URL", "SUPABASE_", "TALLYBOOK_", "COUPON_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept |= {name: os.environ[name] for name in ("PG_BIN", "PG_RUN_AS") if name in os.environ}
    return kept | {"TALLYBOOK_FOLDER": str(home), "COLUMNS": "200"}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run a command to its end."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Done:
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=environment | dict(env or {}),
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def operate(environment: dict[str, str], database: Database) -> Run:
    """Run a command on the test's database, in this process: there are many of them."""
    own = {
        "DATABASE_URL": database.dsn(),
        "TALLYBOOK_ACTOR": "op@example.org",
        "COUPON_SECRET": COUPON_SECRET,
    }
    foreign = {name: None for name in os.environ if name not in environment}

    def operate(*arguments: str, env: Mapping[str, str] | None = None, input: str = "") -> Done:
        told = foreign | environment | own | dict(env or {})
        done = CliRunner().invoke(app, list(arguments), env=told, input=input)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    return operate
