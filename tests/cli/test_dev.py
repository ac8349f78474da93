"""`tallybook dev` comes up, prints lines that work when pasted, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx
import psycopg
import pytest

from tallybook.local.demo import COMPANY
from tallybook.local.fake_platforms import FILES
from tallybook.schema import ROOT
from tests.cli.conftest import PROGRAM, SECONDS_MAX, Run

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")

Dev = Callable[..., "Running"]


class Running:
    """A local stack that came up, and what it said of itself."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        said = []
        assert process.stdout is not None
        # One object over many lines, whose end is the only line that is a bare brace.
        for line in process.stdout:
            said.append(line)
            if line == "}\n":
                break
        self.said: dict[str, Any] = json.loads("".join(said) or "null")

    def paste(self, what: str) -> Any:
        """Run one of the printed lines in a shell, as somebody who pastes it."""
        done = subprocess.run(
            ["/bin/bash", "-c", self.said["commands"][what]],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and wait until it and everything it started have ended."""
        with expected_to_end(self.process.pid):
            self.process.send_signal(number)
            return self.process.wait(SECONDS_MAX)


@contextmanager
def expected_to_end(pid: int) -> Iterator[None]:
    """Whatever a process has started so far must have ended soon after the block."""
    with ExitStack() as opened:
        handles = []
        for child in descendants(pid):
            with suppress(ProcessLookupError):  # A passing one, such as pg_isready.
                handles.append(os.pidfd_open(child))
                opened.callback(os.close, handles[-1])
        assert handles
        yield
        for handle in handles:
            assert select.select([handle], [], [], 20)[0], "a process lives on"


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            parents[int(status.parent.name)] = int(fields[1])
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [grandchild for child in found for grandchild in descendants(child)]


@pytest.fixture
def dev(environment: dict[str, str]) -> Iterator[Dev]:
    """Start the stack on free ports, from a folder of one's choice."""
    started: list[subprocess.Popen[str]] = []
    ports = {"TALLYBOOK_PORT": "0", "TALLYBOOK_PG_PORT": "0", "TALLYBOOK_PG_FAST": "1"}

    def start(*options: str, cwd: Path = ROOT, stderr: IO[str] | None = None) -> Running:
        started.append(
            subprocess.Popen(
                [PROGRAM, "dev", "--json", *options],
                env=environment | ports,
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        )
        return Running(started[-1])

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def bare_root(home: Path) -> Path:
    """The project as it is before anybody has called npm."""
    root = home / "root"
    root.mkdir()
    for name in ("functions", "sql", "policies", "supabase", "examples"):
        if (ROOT / name).exists():
            (root / name).symlink_to(ROOT / name)
    return root


def available(printed: str) -> int:
    return int(json.loads(printed)["available_points"])


def test_the_printed_lines_work_again_and_again(dev: Dev) -> None:
    running = dev()
    before = available(running.paste("see the balance"))
    for number in (1, 2):
        assert json.loads(running.paste("submit an event"))["status"] == "pending"
        redeemed = json.loads(running.paste("redeem a coupon"))
        assert redeemed["success"]
        # An event that was decided meanwhile is in the balance or not, with its ten points.
        assert available(running.paste("see the balance")) in (
            before - 500 * number,
            before - 500 * number + 10,
        )
    assert running.stop() == 0


def test_without_postgrest_the_lines_work_as_well(
    dev: Dev, bare_root: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = dev(cwd=bare_root)
    assert running.said["rest_url"] is None
    monkeypatch.setenv("TALLYBOOK_FOLDER", environment["TALLYBOOK_FOLDER"])
    monkeypatch.chdir(bare_root)
    assert json.loads(running.paste("submit an event"))["status"] == "pending"
    assert json.loads(running.paste("redeem a coupon"))["success"]
    assert available(running.paste("see the balance")) > 0
    assert running.stop(signal.SIGTERM) == 0


def test_data_stay_until_they_are_reset(dev: Dev, bare_root: Path, home: Path, run: Run) -> None:
    running = dev(cwd=bare_root)
    roots = [(home / name).read_bytes() for name in FILES]
    assert run("dev", "--reset", env={"TALLYBOOK_PORT": "0"}).code == 2
    running.paste("redeem a coupon")
    points = running.said["user"]["points"]
    running.stop()
    again = dev(cwd=bare_root)
    assert again.said["user"]["points"] == points - 500
    assert again.said["secret_key"] == running.said["secret_key"]
    assert [(home / name).read_bytes() for name in FILES] == roots
    again.stop()
    anew = dev("--reset", cwd=bare_root)
    assert anew.said["user"]["points"] == points
    assert anew.said["secret_key"] != running.said["secret_key"]
    assert not set(roots) & {(home / name).read_bytes() for name in FILES}
    anew.stop()


def test_operators_find_the_local_database(dev: Dev, bare_root: Path, run: Run) -> None:
    running = dev(cwd=bare_root)
    assert run("verify").code == 0
    url = run("db-url").output.strip()
    assert url == running.said["database_url"]
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from coupon_templates").fetchone() == (4,)
    running.stop()
    assert run("db-url").code == 2


def test_everybody_s_token_is_accepted_for_what_they_may_do(dev: Dev, bare_root: Path) -> None:
    running = dev(cwd=bare_root)

    def ask(who: str, slug: str, **body: str) -> httpx.Response:
        url = f"{running.said['functions_url']}/{slug}"
        token = running.said[who]["token"]
        return httpx.post(url, json=body, headers={"authorization": f"Bearer {token}"})

    everybody = ("user", "partner", "admin", "service")
    codes = [ask(who, "validate-points-event").status_code for who in everybody]
    assert codes == [403, 403, 200, 200]
    code = json.loads(running.paste("redeem a coupon"))["coupon_code"]
    assert ask("admin", "coupons/verify", code=code).json()["code"] == "coupon_not_valid"
    used = ask("partner", "coupons/consume", code=code, idempotency_key="sale-1")
    assert (used.status_code, used.json()["status"]) == (200, "redeemed")
    running.stop()


def test_it_says_as_much_as_it_is_asked_to(
    dev: Dev, bare_root: Path, home: Path, environment: dict[str, str]
) -> None:
    """The guide's lines of an allocation, the one for debugging too."""
    environment["TALLYBOOK_LOG_LEVEL"] = "debug"
    with (home / "said").open("w") as said:
        running = dev(cwd=bare_root, stderr=said)
        answer = httpx.post(
            f"{running.said['url']}/api/v1/points/allocate-to-tenant",
            json={"tenant_id": str(COMPANY), "amount": 7},
            headers={"authorization": f"Bearer {running.said['admin']['token']}"},
        )
        assert answer.status_code == 200
        running.stop()
    lines = (home / "said").read_text()
    assert f"Allocating 7 to tenant {COMPANY}" in lines
    assert "Current balance: 7" in lines


def test_a_telephone_vouches_for_its_events(dev: Dev, bare_root: Path, run: Run) -> None:
    running = dev(cwd=bare_root)
    play = ("attestation", "fake-device", "--url", running.said["url"])
    assert run(*play).code == 0
    assert run(*play, "--platform", "android").code == 0
    forged = run(*play, "--wrong", "body")
    assert (forged.code, "wrong_signature" in forged.output) == (1, True)
    with psycopg.connect(running.said["database_url"]) as connection:
        statuses = connection.execute(
            "select attestation from points_events where attestation is not null"
        ).fetchall()
    assert statuses == [("verified",), ("verified",)]
    running.stop()


def test_killed_it_leaves_no_process_behind(dev: Dev, bare_root: Path) -> None:
    assert dev(cwd=bare_root).stop(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize("variable", ["TALLYBOOK_PORT", "TALLYBOOK_PG_PORT"])
def test_a_busy_port_is_said(run: Run, variable: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        ports = {"TALLYBOOK_PORT": "0", "TALLYBOOK_PG_PORT": "0", variable: port}
        done = run("dev", env=ports)
    assert done.code == 2
    assert port in done.complaint


def test_interrupted_while_it_comes_up_it_leaves_no_process_behind(
    environment: dict[str, str], home: Path
) -> None:
    process = subprocess.Popen(
        [PROGRAM, "dev", "--json", "--port", "0", "--postgres-port", "0", "--fast"],
        env=environment,
        stdout=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + SECONDS_MAX
        while not (home / "postgres" / "postmaster.pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with expected_to_end(process.pid):
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS_MAX) == 0
    finally:
        process.kill()
        process.communicate()
