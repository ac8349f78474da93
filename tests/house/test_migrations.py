"""supabase/migrations is sql/ and policies/, whoever applies it and whatever was there before."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tallybook import migrate, schema
from tallybook.local.binaries import Binaries
from tallybook.local.postgres import EmbeddedPostgres
from tests.conftest import Database
from tests.house import catalog
from tests.house.conftest import empty_database

# What a Supabase project gave to everybody before grants became explicit.
LEGACY_DEFAULTS = [
    f"alter default privileges in schema public grant all on {things}"
    " to anon, authenticated, service_role"
    for things in ("tables", "functions", "sequences")
]


def dumped(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn) as connection:
        return catalog.dump(connection)


def test_the_committed_migration_is_built_from_the_sources() -> None:
    for path, text in schema.build().items():
        assert (schema.ROOT / path).read_text() == text, f"{path}: run `make migrations`"


def test_every_released_migration_is_what_it_was() -> None:
    for name, expected in schema.released_hashes().items():
        content = (schema.ROOT / schema.MIGRATIONS / name).read_bytes()
        assert schema.checksum(content) == expected, f"{name} is released and may not change"


def test_the_migrations_folder_holds_migrations_and_nothing_else() -> None:
    found = sorted((schema.ROOT / schema.MIGRATIONS).iterdir())
    assert found == schema.migrations()
    assert schema.UNRELEASED in {path.name for path in found}


def test_a_migration_has_no_transaction_and_no_psql_command_of_its_own() -> None:
    for path in schema.migrations():
        for line in path.read_text().splitlines():
            assert not line.startswith("\\"), line
            assert line.strip(" ;").lower() not in {"begin transaction", "commit", "rollback"}


def test_migrations_equal_sql_and_policies(database: Database, postgres: EmbeddedPostgres) -> None:
    with empty_database(postgres) as name:
        migrate.up(postgres.dsn(name))
        assert catalog.differences(dumped(database.dsn()), dumped(postgres.dsn(name))) == []


def test_the_comparison_notices(database: Database) -> None:
    """A comparison that sees nothing would pass the test above."""
    before = dumped(database.dsn())
    changes = [
        "grant select on public.points_events to anon",
        "grant update (nonce) on public.points_events to authenticated",
        "grant execute on function internal.clock() to public",
        "alter function internal.clock() volatile",
        "alter table public.coupons no force row level security",
        "alter table public.coupons alter column key_id set default 'x'",
        'drop policy "a user reads their own coupons" on public.coupons',
        "drop trigger transfers_are_append_only on ledger.transfers",
        "alter view ledger.discrepancies set (security_invoker = false)",
        "alter table ledger.accounts drop constraint held_is_not_negative",
        "alter schema ledger owner to tallybook_upkeep",
        "update public.points_rules set points = 11 where event_type = 'habit_completion'",
    ]
    for change in changes:
        with psycopg.connect(database.dsn()) as connection:
            connection.execute(change.encode())
            assert catalog.differences(before, catalog.dump(connection)), change
            connection.rollback()


@pytest.mark.usefixtures("template")
def test_legacy_default_privileges_change_nothing(
    database: Database, postgres: EmbeddedPostgres
) -> None:
    with empty_database(postgres) as name:
        with psycopg.connect(postgres.dsn(name)) as connection:
            for statement in LEGACY_DEFAULTS:
                connection.execute(statement.encode())
        schema.apply(postgres.dsn(name))
        legacy = dumped(postgres.dsn(name))
        defaults = [key for key in legacy if key.startswith("default privileges")]
        assert len(defaults) == 3
        for key in defaults:
            del legacy[key]
        assert catalog.differences(dumped(database.dsn()), legacy) == []


@pytest.fixture
def migrator(postgres: EmbeddedPostgres, template: str) -> str:
    """A role as a hosted project has it: it makes roles and databases, and is no superuser."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("drop role if exists house_migrator")
        connection.execute("create role house_migrator login createrole createdb")
        # The server's roles were made by its superuser, who lends them.
        connection.execute(
            "grant tallybook_procedures, tallybook_upkeep, tallybook_operator to house_migrator"
        )
    return "house_migrator"


def test_it_applies_without_a_superuser(
    database: Database, postgres: EmbeddedPostgres, migrator: str
) -> None:
    """Beside its owner's name nothing is different."""
    with empty_database(postgres, migrator) as name:
        assert migrate.up(postgres.dsn(name, migrator)) == [Path(schema.UNRELEASED).stem]
        assert migrate.up(postgres.dsn(name, migrator)) == []
        theirs = {
            key: about.replace(migrator, "postgres")
            for key, about in dumped(postgres.dsn(name)).items()
        }
        ours = dumped(database.dsn())
        del ours["schema public"], theirs["schema public"]
        assert catalog.differences(ours, theirs) == []
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("drop role house_migrator")


def test_a_dump_restores_to_the_same(
    database: Database, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Rows too: triggers and row-level security do not get into the way of a restore."""
    binaries = Binaries.find()
    with psycopg.connect(database.dsn()) as connection:
        connection.execute(
            "insert into public.points_events (user_id, event_type, event_time, points_delta,"
            " validation_status) values (gen_random_uuid(), 'admin_award', now(), 5, 'rejected')"
        )
    with empty_database(postgres) as name:
        done = subprocess.run(
            [binaries.program("pg_dump"), "--dbname", database.dsn()],
            check=True,
            capture_output=True,
            **binaries.options,
        )
        psql = [binaries.program("psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-1"]
        subprocess.run(
            [*psql, "--dbname", postgres.dsn(name)],
            check=True,
            input=done.stdout,
            capture_output=True,
            **binaries.options,
        )
        assert catalog.differences(dumped(database.dsn()), dumped(postgres.dsn(name))) == []


def test_the_owners_may_not_create_anything_afterwards(database: Database) -> None:
    rows = database.connect().execute(
        sql.SQL(
            "select r, s from unnest(array['tallybook_procedures', 'tallybook_upkeep']) as r,"
            " unnest(array['public', 'internal', 'ledger']) as s"
            " where has_schema_privilege(r, s, 'create')"
        )
    )
    assert rows.fetchall() == []
