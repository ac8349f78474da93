"""`tallybook migrate`: what it applies, what it refuses, and that two at once do it once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from tallybook import cli, migrate, schema, statements
from tallybook.local.postgres import EmbeddedPostgres
from tests.house.conftest import empty_database

FIRST = "20250101000001_first"
SECOND = "20250101000002_second"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with two migrations."""
    folder = tmp_path / schema.MIGRATIONS
    folder.mkdir(parents=True)
    (tmp_path / schema.RELEASED).write_text("{}")
    (folder / f"{FIRST}.sql").write_text(
        "-- A table; and a row.\ncreate table t (a int);\n\ninsert into t values (1);\n"
    )
    (folder / f"{SECOND}.sql").write_text("create table u (a int);\n")
    return tmp_path


@pytest.fixture
def dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """An empty database."""
    with empty_database(postgres) as name:
        yield postgres.dsn(name)


def write(root: Path, name: str, text: str) -> None:
    (root / schema.MIGRATIONS / f"{name}.sql").write_text(text)


def states(dsn: str, root: Path) -> dict[str, str]:
    return {m.name: m.state for m in migrate.status(dsn, root=root)}


def history(dsn: str) -> list[tuple[str, str, list[str]]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "select version, name, statements from supabase_migrations.schema_migrations order by 1"
        ).fetchall()


def test_it_applies_what_is_pending_and_writes_the_history(dsn: str, root: Path) -> None:
    assert states(dsn, root) == {FIRST: "pending", SECOND: "pending"}
    assert migrate.up(dsn, root=root) == [FIRST, SECOND]
    assert states(dsn, root) == {FIRST: "applied", SECOND: "applied"}
    assert history(dsn) == [
        (
            "20250101000001",
            "first",
            ["-- A table; and a row.\ncreate table t (a int)", "insert into t values (1)"],
        ),
        ("20250101000002", "second", ["create table u (a int)"]),
    ]


def test_a_second_run_finds_nothing_to_do(dsn: str, root: Path) -> None:
    migrate.up(dsn, root=root)
    assert migrate.up(dsn, root=root) == []


def test_a_dry_run_applies_nothing(dsn: str, root: Path) -> None:
    assert migrate.up(dsn, dry_run=True, root=root) == [FIRST, SECOND]
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select to_regclass('t'), to_regnamespace('supabase_migrations')")
        assert row.fetchone() == (None, None)


def test_an_edited_migration_is_named_and_stops_everything(dsn: str, root: Path) -> None:
    migrate.up(dsn, root=root)
    write(root, FIRST, "create table t (a int);\ninsert into t values (2);\n")
    write(root, "20250101000003_third", "create table v (a int);")
    assert states(dsn, root)[FIRST] == "edited"
    with pytest.raises(migrate.MigrationRefused, match=FIRST):
        migrate.up(dsn, root=root)
    assert len(history(dsn)) == 2


def test_white_space_around_statements_is_no_edit(dsn: str, root: Path) -> None:
    migrate.up(dsn, root=root)
    write(root, SECOND, "\n\ncreate table u (a int)  ;\n\n")
    assert states(dsn, root)[SECOND] == "applied"


def test_a_migration_older_than_an_applied_one_is_refused(dsn: str, root: Path) -> None:
    migrate.up(dsn, root=root)
    write(root, "20250101000000_late", "create table v (a int);")
    with pytest.raises(migrate.MigrationRefused, match="late"):
        migrate.up(dsn, root=root)


def test_a_migration_that_only_the_database_knows_is_refused(dsn: str, root: Path) -> None:
    migrate.up(dsn, root=root)
    (root / schema.MIGRATIONS / f"{SECOND}.sql").unlink()
    assert states(dsn, root)[SECOND] == "not in the folder"
    with pytest.raises(migrate.MigrationRefused, match="second"):
        migrate.up(dsn, root=root)


def test_a_file_that_fails_leaves_nothing_and_those_before_it_stay(dsn: str, root: Path) -> None:
    write(root, SECOND, "create table u (a int);\n\nselect nothing;\n")
    with pytest.raises(psycopg.errors.UndefinedColumn) as raised:
        migrate.up(dsn, root=root)
    assert [f"in {SECOND}.sql, line 3"] == raised.value.__notes__
    assert states(dsn, root) == {FIRST: "applied", SECOND: "pending"}
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select to_regclass('u')").fetchone() == (None,)


def test_what_is_required_is_there_in_the_end_or_nothing_is(dsn: str, root: Path) -> None:
    with pytest.raises(migrate.MigrationRefused, match="missing"):
        migrate.up(dsn, required=["public.t", "public.missing"], root=root)
    write(root, SECOND, "create table u (a int);\n\nselect nothing;\n")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        migrate.up(dsn, required=["public.t"], root=root)
    assert states(dsn, root) == {FIRST: "pending", SECOND: "pending"}
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select to_regclass('t')").fetchone() == (None,)
    write(root, SECOND, "create table u (a int);\n")
    assert migrate.up(dsn, required=["public.t", "u"], root=root) == [FIRST, SECOND]
    assert migrate.up(dsn, required=["public.t", "u"], root=root) == []


def test_two_at_once_apply_each_once(dsn: str, root: Path) -> None:
    write(root, FIRST, "create table t (a int); select pg_sleep(0.3);")
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(migrate.up, dsn, root=root) for _ in range(3)]
        applied = sorted(name for run in runs for name in run.result())
    assert applied == [FIRST, SECOND]


def test_a_repaired_history_without_statements_is_accepted(dsn: str, root: Path) -> None:
    migrate.up(dsn, root=root)
    with psycopg.connect(dsn) as connection:
        connection.execute("update supabase_migrations.schema_migrations set statements = null")
    assert set(states(dsn, root).values()) == {"applied"}


def test_the_commands_say_so_in_json_and_by_exit_code(
    dsn: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallybook.cli.project.root", lambda: root)
    runner = CliRunner()

    def run(*words: str) -> tuple[int, dict[str, object]]:
        arguments = ["migrate", *words, "--json", "--database-url", dsn]
        result = runner.invoke(cli.app, arguments)
        return result.exit_code, json.loads(result.stdout) if result.stdout else {}

    assert run("status")[0] == 1
    assert run("up", "--dry-run") == (0, {"dry_run": True, "applied": [FIRST, SECOND]})
    assert run("up") == (0, {"dry_run": False, "applied": [FIRST, SECOND]})
    assert run("up") == (0, {"dry_run": False, "applied": []})
    code, answer = run("status")
    assert code == 0
    assert answer["migrations"] == [
        {"version": FIRST[:14], "name": FIRST, "state": "applied"},
        {"version": SECOND[:14], "name": SECOND, "state": "applied"},
    ]
    write(root, FIRST, "create table other (a int);")
    assert run("up") == (1, {})


def test_build_writes_checks_and_keeps_what_is_released(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(schema.ROOT / "sql", root / "sql")
    shutil.copytree(schema.ROOT / "policies", root / "policies")
    monkeypatch.setattr("tallybook.cli.project.root", lambda: root)
    runner = CliRunner()

    def run(*words: str) -> int:
        return runner.invoke(cli.app, ["migrate", "build", *words]).exit_code

    built = root / schema.MIGRATIONS / schema.UNRELEASED
    assert run("--check") == 1
    assert not built.exists()
    assert run() == 0
    assert run("--check") == 0
    (root / "sql/00_foundation/clock.sql").write_text("-- Another clock.\n")
    assert run("--check") == 1

    digest = schema.checksum(built.read_bytes())
    (root / schema.RELEASED).write_text(json.dumps({built.name: digest}))
    before = built.read_bytes()
    assert run() == 0
    assert built.read_bytes() == before
    built.write_text("-- Something else.\n")
    assert run("--check") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1; select 2", ["select 1", "select 2"]),
        ("select ';'; select 2;", ["select ';'", "select 2"]),
        ("select 'it''s;';", ["select 'it''s;'"]),
        (r"select E'\';'; select 2", [r"select E'\';'", "select 2"]),
        ('select ";" from t; select 2', ['select ";" from t', "select 2"]),
        ("do $$ begin; end; $$; select 2", ["do $$ begin; end; $$", "select 2"]),
        ("do $a$ $$;$$ ; $a$; select 2", ["do $a$ $$;$$ ; $a$", "select 2"]),
        ("-- one; two\nselect 1;", ["-- one; two\nselect 1"]),
        ("/* one; */ select 1; -- rest", ["/* one; */ select 1", "-- rest"]),
        ("select a$b, c$d; select 2", ["select a$b, c$d", "select 2"]),
        ("", []),
    ],
)
def test_a_file_is_cut_where_statements_end(text: str, expected: list[str]) -> None:
    assert list(statements.split(text)) == expected
