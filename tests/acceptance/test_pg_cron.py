"""Where pg_cron is installed the database keeps house by itself: on Debian's PostgreSQL 15."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tallybook import schema
from tallybook.local.postgres import FAST, EmbeddedPostgres, enable_logins
from tallybook.worker import UPKEEP
from tests.conftest import Database, assert_no_discrepancies
from tests.world import World

DEBIAN_15 = Path("/usr/lib/postgresql/15")
PG_CRON = Path("/usr/share/postgresql/15/extension/pg_cron.control")
BOOK = "book"
KEEPER = "keeper"
# Debian's pg_cron knows minutes and no seconds: the first run is at the next full one.
SECONDS_MAX = 75


@pytest.fixture(scope="module")
def server(workshop: Path) -> Iterator[EmbeddedPostgres]:
    """A server of its own, because pg_cron is loaded when a server starts."""
    if not PG_CRON.exists():
        pytest.skip("Debian's postgresql-15-cron is not installed")
    settings = {
        **FAST,
        "shared_preload_libraries": "pg_cron",
        "cron.database_name": BOOK,
        # Jobs run in the server itself, so that none needs a password.
        "cron.use_background_workers": "on",
        "cron.timezone": "UTC",
    }
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=workshop) as home:
        patch.setenv("PG_BIN", str(DEBIAN_15 / "bin"))
        Path(home).chmod(0o711)
        with EmbeddedPostgres(Path(home) / "postgres", settings=settings) as server:
            yield server


@pytest.fixture
def book(server: EmbeddedPostgres) -> Iterator[Database]:
    """The schema with pg_cron beside it, and an operator who logs in and may use it.

    A job runs as who scheduled it, so that must be a login; tallybook_operator itself is none.
    """
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"create database {BOOK}")
        schema.apply(server.dsn(BOOK))
        enable_logins(server.dsn(), ["tallybook_functions"])
        database = Database(server, BOOK)
        with closing(database):
            database.connect().execute("create extension pg_cron")
            database.connect().execute(f"create role {KEEPER} login in role tallybook_operator")
            database.connect().execute(f"grant usage on schema cron to {KEEPER}")
            yield database
            assert_no_discrepancies(database)
        connection.execute(f"drop database {BOOK} with (force)")
        connection.execute(f"drop role {KEEPER}")


def test_what_is_due_is_done_without_a_worker(book: Database) -> None:
    world = World(book)
    user = world.user()
    world.submit(user, nonce="old")
    world.submit(user, nonce="new")
    world.admin.execute(
        "update used_nonces set expires_at = now() - interval '1 hour' where nonce = 'old'"
    )
    names = [f"tallybook {upkeep.procedure}" for upkeep in UPKEEP]
    keeper = world.session(KEEPER)
    scheduled = world.value("select schedule_upkeep()", through=keeper)
    assert sorted(scheduled) == sorted(names)
    # Once more is the same jobs anew.
    assert world.value("select schedule_upkeep()", through=keeper) == scheduled
    jobs = world.rows("select jobname, username, active from cron.job")
    assert sorted(job["jobname"] for job in jobs) == sorted(names)
    assert {(job["username"], job["active"]) for job in jobs} == {(KEEPER, True)}

    runs = first_runs(world, len(names))
    assert {run["jobname"]: run["status"] for run in runs} == dict.fromkeys(names, "succeeded"), (
        runs
    )
    assert world.rows("select nonce from used_nonces") == [{"nonce": "new"}]
    assert world.discrepancies() == []


def first_runs(world: World, wanted: int) -> list[dict[str, Any]]:
    """The first run of each job, when all of them have come to an end."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        runs = world.rows(
            "select distinct on (j.jobname) j.jobname, d.status, d.return_message"
            " from cron.job_run_details as d join cron.job as j on j.jobid = d.jobid"
            " where d.end_time is not null order by j.jobname, d.runid"
        )
        if len(runs) == wanted:
            return runs
        assert time.monotonic() < deadline, runs
        time.sleep(0.2)
