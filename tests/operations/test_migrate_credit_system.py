"""scripts/migrate_credit_system.sh: what it prints and keeps, and that failing changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tallybook import schema
from tallybook.local.binaries import Binaries
from tallybook.local.postgres import EmbeddedPostgres
from tests.house.conftest import empty_database

SCRIPT = schema.ROOT / "scripts/migrate_credit_system.sh"
TABLES = ["user_credits", "credit_transactions", "openrouter_accounts", "coupon_codes"]
TABLES.append("usage_events")
PRINTED = [
    "==========================================",
    "  Epic 1.8 Credit System Migration",
    "==========================================",
    "",
    "[INFO] Checking prerequisites...",
    "[SUCCESS] Prerequisites check passed",
    "[INFO] Creating database backup...",
    "[SUCCESS] Backup created: ",
    "[INFO] Applying credit system migration...",
    "[SUCCESS] Migration applied successfully",
    "[INFO] Verifying tables...",
    *(f"[SUCCESS] ✓ Table '{table}' exists" for table in TABLES),
    "[SUCCESS] All tables verified",
    "[INFO] Verifying indexes...",
    "[SUCCESS] Migration completed successfully!",
]


@pytest.fixture
def dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """An empty database."""
    with empty_database(postgres) as name:
        yield postgres.dsn(name, tcp=True)


def migrate(dsn: str | None, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    tools = [Path(sys.executable).parent, Binaries.find().folder]
    environment = {
        "PATH": os.pathsep.join([*map(str, tools), os.environ["PATH"]]),
        "PYTHONPATH": str(schema.ROOT),
        "BACKUP_DIR": str(folder / "backups"),
        "ENV_FILE": str(folder / ".env.auth"),
        **({"DATABASE_URL": dsn} if dsn else {}),
        **variables,
    }
    return subprocess.run(
        [SCRIPT], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        return {name for (name,) in rows}


def test_it_prints_what_the_guide_says_and_a_second_time_too(dsn: str, tmp_path: Path) -> None:
    (tmp_path / ".env.auth").write_text("CREDIT_SYSTEM_ENABLED=true\n")
    for _ in range(2):
        done = migrate(dsn, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert len(lines) == len(PRINTED)
        assert all(line.startswith(said) for line, said in zip(lines, PRINTED, strict=True))
    assert tables(dsn) >= set(TABLES)
    backups = list((tmp_path / "backups").glob("pre_epic_1.8_backup_*.sql"))
    assert backups and all(oct(path.stat().st_mode)[-3:] == "600" for path in backups)
    assert list(tmp_path.glob(".env.auth.backup.*"))
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*) from coupon_codes").fetchone() == (0,)


def test_development_gets_the_two_codes(dsn: str, tmp_path: Path) -> None:
    assert migrate(dsn, tmp_path, ENVIRONMENT="development").returncode == 0
    with psycopg.connect(dsn) as connection:
        codes = connection.execute(
            "select code, discount_type, discount_value, max_uses from coupon_codes order by code"
        ).fetchall()
    assert codes == [("SAVE50", "percentage", 50, 500), ("WELCOME100", "fixed", 100, 1000)]


def test_what_fails_is_rolled_back_whole(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("create table usage_events (half int)")
    before = tables(dsn)
    done = migrate(dsn, tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == [
        "[WARNING] Rolling back migration...",
        "[SUCCESS] Rollback completed successfully",
    ]
    assert tables(dsn) == before
    with psycopg.connect(dsn) as connection:
        connection.execute("drop table usage_events")
    assert migrate(dsn, tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL must be set."),
        ({"ENVIRONMENT": "moon"}, "ENVIRONMENT must be"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/none"}, "The database cannot be reached."),
        ({"TALLYBOOK": "/nowhere/tallybook"}, "cannot be found."),
        ({"BACKUP_DIR": "/dev/null/backups"}, "There is no backup, so nothing was changed."),
    ],
)
def test_without_what_it_needs_it_begins_nothing(
    dsn: str, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    done = migrate(dsn, tmp_path, **variables)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Migration applied" not in done.stdout
    assert tables(dsn) == set()
