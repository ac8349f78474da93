"""The embedded server: how it starts, how it is shared, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tallybook.local.binaries import Binaries
from tallybook.local.cluster import Postmaster, beside, local_secret
from tallybook.local.postgres import FAST, EmbeddedPostgres, enable_logins

AwaitExit = Callable[[int], None]
AwaitThat = Callable[[Callable[[], object]], None]

REPOSITORY = Path(__file__).resolve().parents[2]
DEBIAN = Path("/usr/lib/postgresql/15/bin")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
proc_only = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")

# A process that starts a server, says whether it owns it and the server's process id, and stops
# it when told to. `{become}` runs before the start.
PROCESS = """
import sys
import psycopg
from pathlib import Path
from tallybook.local.cluster import Postmaster
from tallybook.local.postgres import FAST, EmbeddedPostgres
{become}
with EmbeddedPostgres(Path(sys.argv[1]), settings=FAST) as server:
    psycopg.connect(server.dsn()).close()
    print(server.owned, Postmaster.read(server.data).pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def initialised(workshop: Path) -> Path:
    """A data directory to copy: initdb takes most of the time of a start."""
    with EmbeddedPostgres(workshop / "initialised", settings=FAST) as server:
        return server.data


@pytest.fixture
def server(home: Path, initialised: Path) -> Iterator[EmbeddedPostgres]:
    """A running server that this process owns."""
    subprocess.run(["cp", "-a", initialised, home / "data"], check=True)
    with EmbeddedPostgres(home / "data", tcp=True, settings=FAST) as server:
        yield server


def pid_of(server: EmbeddedPostgres) -> int:
    found = Postmaster.read(server.data)
    assert found is not None
    return found.pid


def shown(server: EmbeddedPostgres, setting: str) -> str:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute("select current_setting(%s)", [setting]).fetchone()
    assert row is not None
    return str(row[0])


def process(data: Path, become: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS.format(become=become), str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
    )


def report(started: subprocess.Popen[str]) -> tuple[bool, int]:
    """Whether that process owns the server, and the server's process id."""
    assert started.stdout is not None
    owned, pid = started.stdout.readline().split()
    return owned == "True", int(pid)


def leave(started: subprocess.Popen[str]) -> None:
    with started:
        started.communicate(timeout=30)
    assert started.returncode == 0


def mentions(text: str) -> list[str]:
    """Command lines of running processes that mention a text."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_it_starts_and_answers(server: EmbeddedPostgres) -> None:
    assert server.owned
    assert shown(server, "fsync") == "off"
    assert shown(server, "synchronous_commit") == "on"


def test_starting_twice_is_starting_once(server: EmbeddedPostgres) -> None:
    pid = pid_of(server)
    assert server.start() is server
    assert server.owned
    assert pid_of(server) == pid


def test_settings_reach_the_server(home: Path) -> None:
    with EmbeddedPostgres(home / "data", settings={**FAST, "max_connections": "300"}) as server:
        assert shown(server, "max_connections") == "300"


def test_data_survive_a_stop(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("create table kept as select 7 as number")
    server.stop()
    server.start()
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("select number from kept").fetchone() == (7,)


def test_letters_have_cases_beyond_ascii(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute("select lower('ÄΣ'), 'a' < 'B' collate \"default\"").fetchone()
    assert row == ("äσ", False)


def test_the_socket_and_the_secret_are_private(server: EmbeddedPostgres) -> None:
    assert server.socket_directory.stat().st_mode & 0o777 == 0o700
    assert beside(server.data, "secret").stat().st_mode & 0o777 == 0o600


def test_tcp_asks_for_the_secret(server: EmbeddedPostgres) -> None:
    psycopg.connect(server.dsn(tcp=True)).close()
    wrong = server.dsn(tcp=True).replace(local_secret(server.data), "wrong")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(wrong)


def test_a_lost_secret_heals(server: EmbeddedPostgres) -> None:
    server.stop()
    beside(server.data, "secret").unlink()
    server.start()
    psycopg.connect(server.dsn(tcp=True)).close()


def test_there_is_no_tcp_unless_asked_for(home: Path) -> None:
    with EmbeddedPostgres(home / "data", settings=FAST) as server:
        with pytest.raises(RuntimeError):
            server.dsn(tcp=True)
        with pytest.raises(RuntimeError):
            EmbeddedPostgres(home / "data", tcp=True).start()
        assert shown(server, "listen_addresses") == ""


def test_a_role_is_let_in(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create role somebody nologin")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.dsn(user="somebody"))
        enable_logins(server.dsn(), ["somebody"])
        psycopg.connect(server.dsn(user="somebody")).close()
        psycopg.connect(server.dsn(user="somebody", tcp=True)).close()


def test_a_missing_role_is_not_passed_over(server: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject):
        enable_logins(server.dsn(), ["nobody_of_that_name"])


def test_a_taken_port_fails_at_once(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RuntimeError):
            EmbeddedPostgres(home / "data", tcp=True, port=port, settings=FAST).start()
    with EmbeddedPostgres(home / "data", tcp=True, port=port, settings=FAST) as server:
        assert server.port == port


@proc_only
def test_a_failed_start_leaves_nothing(home: Path) -> None:
    server = EmbeddedPostgres(home / "data", settings={"max_connections": "many"})
    with pytest.raises(RuntimeError):
        server.start()
    assert not server.owned
    assert mentions(str(home)) == []


@proc_only
def test_stop_leaves_nothing(server: EmbeddedPostgres, await_exit: AwaitExit) -> None:
    pid, sockets = pid_of(server), server.socket_directory
    server.stop()
    await_exit(pid)
    assert mentions(str(server.data)) == []
    assert not sockets.exists()
    assert not (server.data / "postmaster.pid").exists()
    server.stop()


def test_a_second_start_attaches_and_never_stops(server: EmbeddedPostgres) -> None:
    with EmbeddedPostgres(server.data, tcp=True) as second:
        assert not second.owned
        assert second.dsn(tcp=True) == server.dsn(tcp=True)
        assert second.socket_directory == server.socket_directory
    assert shown(server, "fsync") == "off"


def test_the_attached_becomes_owner_once_the_owner_is_gone(server: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(server.data, settings=FAST).start()
    server.stop()
    with second as owner:
        assert owner.owned
        assert shown(owner, "fsync") == "off"


@proc_only
def test_of_four_starting_at_once_one_owns(home: Path, await_exit: AwaitExit) -> None:
    started = [process(home / "data") for _ in range(4)]
    reports = [report(one) for one in started]
    assert sorted(owned for owned, _ in reports) == [False, False, False, True]
    [pid] = {pid for _, pid in reports}
    # The owner last: the others must be able to leave without ending the server.
    for one, (owned, _) in zip(started, reports, strict=True):
        if not owned:
            leave(one)
    EmbeddedPostgres(home / "data").start().stop()
    leave(started[[owned for owned, _ in reports].index(True)])
    await_exit(pid)


@proc_only
def test_a_killed_owner_leaves_no_server(home: Path, await_exit: AwaitExit) -> None:
    with process(home / "data") as owner:
        owned, pid = report(owner)
        assert owned
        owner.kill()
    await_exit(pid)
    with EmbeddedPostgres(home / "data", settings=FAST) as server:
        assert server.owned


@proc_only
def test_a_crashed_server_starts_again(server: EmbeddedPostgres, await_exit: AwaitExit) -> None:
    pid = pid_of(server)
    os.kill(pid, signal.SIGKILL)
    await_exit(pid)
    server.start()
    assert server.owned
    assert pid_of(server) != pid


@proc_only
def test_a_start_waits_for_a_server_that_is_leaving(
    server: EmbeddedPostgres, await_that: AwaitThat
) -> None:
    # A smart shutdown lasts as long as somebody is connected.
    staying = psycopg.connect(server.dsn())
    os.kill(pid_of(server), signal.SIGTERM)

    def leaving() -> bool:
        found = Postmaster.read(server.data)
        return found is not None and not found.ready

    await_that(leaving)
    second = EmbeddedPostgres(server.data, settings=FAST)
    starting = threading.Thread(target=second.start)
    starting.start()
    await_that(lambda: "lock file" in beside(server.data, "log").read_text())
    staying.close()
    starting.join(20)
    with second:
        assert second.owned


@proc_only
def test_a_stale_pid_that_is_somebody_elses_is_cleared(server: EmbeddedPostgres) -> None:
    written = (server.data / "postmaster.pid").read_text().split("\n", 1)[1]
    server.stop()
    # The server's own account: Postgres passes over the processes of others.
    stranger = subprocess.Popen(["/bin/sleep", "60"], **Binaries.find().options)
    try:
        (server.data / "postmaster.pid").write_text(f"{stranger.pid}\n{written}")
        server.start(timeout=10)
        assert server.owned
        assert pid_of(server) != stranger.pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's postgresql-15")
def test_another_servers_programs_work(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", str(DEBIAN))
    with EmbeddedPostgres(home / "data", tcp=True, settings=FAST) as server:
        assert shown(server, "server_version").startswith("15.")
        assert shown(server, "server_encoding") == "UTF8"
        test_letters_have_cases_beyond_ascii(server)
        psycopg.connect(server.dsn(tcp=True)).close()
        with EmbeddedPostgres(server.data) as second:
            assert not second.owned


def test_programs_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", "/nonexistent")
    with pytest.raises((PermissionError, FileNotFoundError)):
        Binaries.find()
