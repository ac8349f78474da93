"""The watcher, with a stand-in for the server: what happens when the owner dies, and when not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallybook.local import watched
from tallybook.local.watched import Watched

AwaitExit = Callable[[int], None]

REPOSITORY = Path(__file__).resolve().parents[2]

# Says the process ids of the server and of the watcher, then waits to be killed. The server
# writes the second argument into its pid file, as a real one does when it is ready.
OWNER = """
import sys
from pathlib import Path
from tallybook.local.watched import Watched
pid_file, content = Path(sys.argv[1]), sys.argv[2]
command = ["/bin/sh", "-c", f"echo {content} > {pid_file}; exec sleep 600"]
server = Watched(command, pid_file, sys.stderr.buffer, {"cwd": "/"})
while content and not (pid_file.exists() and pid_file.read_text()):
    assert server.alive
if content:
    server.ready()
print(server.pid, server._watcher.pid, flush=True)
sys.stdin.read()
"""

OwnerDies = Callable[[str], tuple[int, int]]


@pytest.fixture
def owner_dies(tmp_path: Path) -> Iterator[OwnerDies]:
    """Starts an owner and kills it; returns the process ids of its server and its watcher.

    Its server is ready when there is something to write into the pid file.
    """
    servers: list[int] = []

    def die(content: str) -> tuple[int, int]:
        with subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path / "pid"), content],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        ) as owner:
            assert owner.stdout is not None
            server, watcher = (int(word) for word in owner.stdout.readline().split())
            servers.append(server)
            owner.kill()
        return server, watcher

    yield die
    for server in servers:
        try:
            os.kill(server, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_server_still_starting_goes_with_its_owner(
    owner_dies: OwnerDies, await_exit: AwaitExit
) -> None:
    server, _ = owner_dies("")
    await_exit(server)


def test_a_ready_server_goes_with_its_owner(owner_dies: OwnerDies, await_exit: AwaitExit) -> None:
    server, _ = owner_dies("$$")
    await_exit(server)


def test_a_process_that_is_not_the_server_any_more_is_left_alone(
    owner_dies: OwnerDies, await_exit: AwaitExit
) -> None:
    server, watcher = owner_dies("1")
    await_exit(watcher)
    # Alive, and not a zombie that nobody has collected.
    assert Path(f"/proc/{server}/cmdline").read_bytes() != b""


def test_a_server_that_does_not_listen_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        watched, "STEPS", ((signal.SIGINT, 0.1), (signal.SIGQUIT, 0.1), (signal.SIGKILL, 10))
    )
    with (tmp_path / "log").open("wb") as log:
        deaf = ["/bin/sh", "-c", "trap '' INT QUIT; echo deaf >&2; while :; do sleep 1; done"]
        server = Watched(deaf, tmp_path / "pid", log, {"cwd": "/"})
        while not (tmp_path / "log").read_bytes():
            assert server.alive
        server.end()
    assert not server.alive


def test_ending_twice_does_no_harm(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        server = Watched(["/bin/sleep", "600"], tmp_path / "pid", log, {"cwd": "/"})
        server.end()
        server.end()
    assert not server.alive
