"""The real Supabase CLI pushes, lints and compares our migrations; its login is no superuser."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tallybook import migrate, schema
from tallybook.local.cluster import local_secret
from tallybook.local.postgres import FAST, EmbeddedPostgres
from tallybook.schema import ROOT

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
HOSTED = "hosted_migrator"
USER = "00000000-0000-4000-8000-000000000001"
VERSION, _, NAME = Path(schema.UNRELEASED).stem.partition("_")


@dataclass
class Server:
    """A server whose roles are its own, and the login that migrates as a hosted project's does."""

    postgres: EmbeddedPostgres
    databases: int = 0

    def superuser(self, database: str = "postgres") -> str:
        return self.postgres.dsn(database)

    def owner(self, database: str) -> str:
        secret = local_secret(self.postgres.data)
        return f"postgresql://{HOSTED}:{secret}@127.0.0.1:{self.postgres.port}/{database}"

    def new_database(self) -> str:
        self.databases += 1
        name = f"cli_{self.databases}"
        with psycopg.connect(self.superuser(), autocommit=True) as connection:
            query = sql.SQL("create database {} owner {}")
            connection.execute(query.format(sql.Identifier(name), sql.Identifier(HOSTED)))
        return name


@pytest.fixture(scope="module", params=["embedded", "debian 15"])
def server(request: pytest.FixtureRequest, workshop: Path) -> Iterator[Server]:
    """The server that the wheel brings, and Debian's."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "debian 15":
            if not (DEBIAN_15 / "postgres").exists():
                pytest.skip("Debian's postgresql-15 is not installed")
            patch.setenv("PG_BIN", str(DEBIAN_15))
        folder = workshop / request.param.replace(" ", "-")
        with EmbeddedPostgres(folder, tcp=True, settings=FAST) as postgres:
            with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
                connection.execute(
                    sql.SQL(
                        "create role {} login createrole createdb nobypassrls password {}"
                    ).format(sql.Identifier(HOSTED), sql.Literal(local_secret(postgres.data)))
                )
            yield Server(postgres)


@pytest.fixture
def supabase(node_tool: Callable[[str], str], tmp_path: Path) -> Callable[..., str]:
    """Runs the CLI on a copy of the project and returns all it said; fails when it fails."""
    program = node_tool("supabase")
    shutil.copytree(ROOT / "supabase", tmp_path / "supabase")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "SUPABASE_"))}

    def run(*words: str) -> str:
        done = subprocess.run(
            [program, "--workdir", str(tmp_path), *words],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            env=kept | {"HOME": str(tmp_path), "NO_COLOR": "1"},
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        # What config.toml says and the CLI does not know, it ignores with these words.
        assert "does not recognize" not in said
        assert "deprecated" not in said.lower()
        return said

    return run


def history(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "select version, name, statements from supabase_migrations.schema_migrations order by 1"
        ).fetchall()


def test_push_applies_twice_and_tallybook_agrees(
    server: Server, supabase: Callable[..., str]
) -> None:
    url = server.owner(server.new_database())
    assert schema.UNRELEASED in supabase("db", "push", f"--remote={url}", "--yes")
    assert "up to date" in supabase("db", "push", f"--remote={url}", "--yes")
    assert {m.state for m in migrate.status(url)} == {"applied"}
    assert migrate.up(url) == []


def test_tallybook_migrates_and_push_agrees(server: Server, supabase: Callable[..., str]) -> None:
    pushed, migrated = (server.owner(server.new_database()) for _ in range(2))
    supabase("db", "push", f"--remote={pushed}", "--yes")
    assert migrate.up(migrated) == [f"{VERSION}_{NAME}"]
    assert "up to date" in supabase("db", "push", f"--remote={migrated}", "--yes")
    assert history(pushed) == history(migrated)
    [(version, name, statements)] = history(migrated)
    assert (version, name) == (VERSION, NAME)
    assert len(statements) > 100  # type: ignore[arg-type]


def test_what_was_pushed_works(server: Server, supabase: Callable[..., str]) -> None:
    """Points are earned and spent in a database whose owner is nobody special."""
    database = server.new_database()
    supabase("db", "push", f"--remote={server.owner(database)}", "--yes")
    with psycopg.connect(server.superuser(database), autocommit=True) as connection:
        template = connection.execute(
            "insert into public.coupon_templates (template_name, points_cost, coupon_value_type,"
            " coupon_value) values ('A coffee', 20, 'product', 'coffee') returning template_id"
        ).fetchone()
        assert template is not None
        connection.execute("set role tallybook_functions")
        connection.execute(
            "select public.submit_points_event(%s, 'workout', now(), 'n-0123456789')", (USER,)
        )
        connection.execute("select public.validate_points_events()")
        bought = connection.execute(
            "select public.redeem_coupon(%s, %s, 'k-0123456789', repeat('0', 64), '1', 's')",
            (USER, template[0]),
        ).fetchone()
        assert bought is not None
        assert bought[0]["points_remaining"] == 0
    # The owner belongs to the operators, and so may audit what it cannot read as owner.
    with psycopg.connect(server.owner(database)) as connection:
        assert connection.execute("select * from ledger.discrepancies").fetchall() == []
        count = connection.execute("select count(*) from public.points_events").fetchone()
        assert count == (2,)


def test_advisors_have_nothing_to_say(server: Server, supabase: Callable[..., str]) -> None:
    url = server.owner(server.new_database())
    migrate.up(url)
    said = supabase("db", "advisors", f"--remote={url}", "--level", "warn", "--fail-on", "warn")
    assert "No issues found" in said


def test_lint_has_nothing_to_say(server: Server, supabase: Callable[..., str]) -> None:
    database = server.new_database()
    url = server.owner(database)
    migrate.up(url)
    with psycopg.connect(server.superuser(database), autocommit=True) as connection:
        known = connection.execute(
            "select from pg_available_extensions where name = 'plpgsql_check'"
        ).fetchall()
        if not known:
            if "debian" in server.postgres.data.name:
                pytest.skip("Debian's postgresql-15-plpgsql-check is not installed")
            # The embedded server cannot have it; Debian's answers for both.
            return
        connection.execute("create extension plpgsql_check")
    superuser = server.postgres.dsn(database, tcp=True)
    supabase("db", "lint", f"--remote={superuser}", "--level", "warning", "--fail-on", "warning")


def test_the_cli_finds_no_difference_to_the_sources(
    server: Server, supabase: Callable[..., str], tmp_path: Path
) -> None:
    sources, migrated = (server.new_database() for _ in range(2))
    schema.apply(server.superuser(sources))
    migrate.up(server.superuser(migrated))

    def difference() -> str:
        output = tmp_path / "difference.sql"
        output.unlink(missing_ok=True)
        one, other = (server.postgres.dsn(name, tcp=True) for name in (sources, migrated))
        supabase(
            "db", "diff", "--use-pg-delta", "--from", one, "--to", other, "--output", str(output)
        )
        return output.read_text() if output.exists() else ""

    assert difference().strip() == ""
    # It would say so if there were one.
    with psycopg.connect(server.superuser(migrated)) as connection:
        connection.execute("grant select on public.points_events to anon")
    assert "anon" in difference()


def test_squawk_has_nothing_to_say(node_tool: Callable[[str], str]) -> None:
    files = [str(path.relative_to(ROOT)) for path in schema.migrations()]
    done = subprocess.run(
        [node_tool("squawk"), *files], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
