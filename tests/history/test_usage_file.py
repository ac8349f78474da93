"""A file of usage becomes events: every line of it, once, at its own time, or with a reason."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal as D
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg
import pytest
from typer.testing import CliRunner

from tallybook.cli import app
from tallybook.history import (
    Fault,
    HistoryError,
    UsageColumns,
    UsagePlan,
    UsageReport,
    import_file,
    user_namespace,
)
from tests.world import World

HEADER = "user_id,created_at,tokens_used,cost\n"
ALL = UsageColumns.parse(
    "user=user_id,time=created_at,tokens=tokens_used,cost=cost,model=model,provider=provider,"
    "power_level=power_level,service=service,type=event_type,success=success,key=id,metadata=metadata"
)


class Shelf:
    """Files of one test, and what importing them says."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        self.world = world
        self.url = world.database.dsn("tallybook_operator")
        self.faults: list[Fault] = []

    def put(self, text: str | bytes, name: str = "file.csv") -> Path:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def bring(self, text: str | bytes, name: str = "file.csv", **plan: Any) -> UsageReport:
        self.faults = []
        named = {"source": "s", **plan}
        path = self.put(text, name)
        return import_file(self.url, path, UsagePlan(**named), on_fault=self.faults.append)

    def events(self, columns: str) -> list[tuple[Any, ...]]:
        rows = self.world.rows(f"select {columns} from usage_events order by created_at, cost")
        return [tuple(row.values()) for row in rows]


@pytest.fixture
def shelf(tmp_path: Path, world: World) -> Shelf:
    return Shelf(tmp_path, world)


def test_a_line_becomes_a_use_at_its_own_time(shelf: Shelf) -> None:
    user = UUID("0123abcd-0123-4123-8123-0123456789ab")
    report = shelf.bring(
        f"{HEADER}{user},2024-05-01,1000,0.00375\nann,2024-05-01T02:00:00+02:00,7,1e1\n"
    )
    assert (report.lines, report.imported, report.tokens, report.cost) == (
        2,
        2,
        1007,
        D("10.00375"),
    )
    assert shelf.events("user_id, created_at::text, tokens_used, cost") == [
        (user, "2024-05-01 00:00:00+00", 1000, D("0.00375")),
        (uuid5(user_namespace("s"), "ann"), "2024-05-01 00:00:00+00", 7, D(10)),
    ]


def test_everything_a_line_can_tell_is_kept(shelf: Shelf) -> None:
    told = {
        "id": "call 1", "user_id": "u", "created_at": "2024-05-01", "tokens_used": 5, "cost": 0.5,
        "model": "gpt-4o", "provider": "openai", "power_level": "eco", "service": "chat",
        "event_type": "completion", "success": False, "metadata": {"trace": [1, None]},
    }  # fmt: skip
    least = {"user_id": "v", "created_at": "2024-05-02", "tokens_used": "0", "cost": "0"}
    nothing = {**least, "model": None, "success": None, "metadata": None, "id": None}
    lines = "".join(json.dumps(line) + "\n" for line in (told, least, nothing))
    report = shelf.bring(lines, "f.ndjson", columns=ALL)
    assert (report.imported, shelf.faults) == (3, [])
    kept = "model, provider, power_level, service, event_type, success, metadata"
    assert shelf.events(kept) == [
        ("gpt-4o", "openai", "eco", "chat", "completion", False, {"trace": [1, None]}),
        *[(None, None, None, None, "usage", True, None)] * 2,
    ]
    assert shelf.bring(lines, "f.ndjson", columns=ALL).known == 3


def test_a_csv_tells_the_same_as_json(shelf: Shelf) -> None:
    header = ",".join(ALL.wanted.values()) + "\n"
    text = header + 'u,2024-05-01,5,0.5,gpt-4o,,eco,,,no,,"{""trace"": 7}"\n'
    assert shelf.bring(text, columns=ALL).imported == 1
    assert shelf.events("model, provider, success, metadata") == [
        ("gpt-4o", None, False, {"trace": 7})
    ]
    line = {
        "user_id": "u", "created_at": "2024-05-01T00:00:00Z", "tokens_used": 5.0, "cost": "0.500",
        "model": "gpt-4o", "power_level": "eco", "success": False,
    }  # fmt: skip
    packed = gzip.compress(json.dumps(line).encode())
    assert shelf.bring(packed, "f.ndjson.gz", columns=ALL).known == 1


def test_a_cost_is_rounded_to_a_millionth(shelf: Shelf) -> None:
    text = HEADER + "u,2024-05-01,1,0.0000004999\nu,2024-05-01,1,0.0000005\n"
    assert shelf.bring(text).cost == D("0.000001")


@pytest.mark.parametrize(
    "line",
    [
        "u,2024-05-01,1.5,1",
        "u,2024-05-01,-1,1",
        "u,2024-05-01,1e16,1",
        "u,2024-05-01,,1",
        "u,2024-05-01,1,-0.1",
        "u,2024-05-01,1,1e12",
        "u,2024-05-01,1,free",
        "u,2024-05-01,1",
        ",2024-05-01,1,1",
        "u,2024-13-01,1,1",
        "u,2999-01-01,1,1",
    ],
)
def test_a_bad_line_is_left_out_with_its_number(shelf: Shelf, line: str) -> None:
    report = shelf.bring(f"{HEADER}u,2024-05-01,1,1\n{line}\nv,2024-05-01,1,1\n")
    assert (report.lines, report.imported, report.bad) == (3, 2, 1)
    assert [fault.line for fault in shelf.faults] == [3]


@pytest.mark.parametrize(
    "told",
    [
        {"success": "perhaps"},
        {"success": 7},
        {"metadata": "no object"},
        {"metadata": [1]},
        {"metadata": {"much": "x" * 20_000}},
        {"model": {"name": "gpt"}},
        {"model": "m" * 201},
        {"user_id": None},
        {"cost": True},
    ],
    ids=lambda told: str(told)[:30],
)
def test_what_json_says_must_make_sense(shelf: Shelf, told: dict[str, Any]) -> None:
    line = {"user_id": "v", "created_at": "2024-05-02", "tokens_used": 1, "cost": 1, **told}
    report = shelf.bring(json.dumps(line), "f.ndjson", columns=ALL)
    assert (report.imported, report.bad) == (0, 1)


def test_many_connections_account_for_every_line_in_order(shelf: Shelf) -> None:
    lines = [f"u{n % 97},2024-05-01,{n % 3},0.5" for n in range(5000)]
    for bad in (7, 2500, 4999):
        lines[bad] = "u,never,1,1"
    report = shelf.bring(HEADER + "\n".join(lines), connections=3)
    assert (report.lines, report.imported, report.bad) == (5000, 4997, 3)
    assert [fault.line for fault in shelf.faults] == [9, 2502, 5001]
    # What equal lines are numbered does not depend on how many work on them.
    again = shelf.bring(HEADER + "\n".join(lines), connections=1)
    assert (again.known, again.imported) == (4997, 0)


def test_a_dry_run_of_many_writes_nothing(shelf: Shelf, world: World) -> None:
    text = HEADER + "".join(f"u{n},2024-05-01,1,1\n" for n in range(3000))
    assert shelf.bring(text, connections=3, dry_run=True).imported == 3000
    for table in ("usage_events", "usage_rollups", "internal.usage_deltas"):
        assert world.count(table) == 0


def test_a_dry_run_holds_nobodys_lock_longer_than_a_call(shelf: Shelf, world: World) -> None:
    held: list[int] = []
    text = HEADER + "".join(f"u{n},2024-05-01,1,1\n" for n in range(3000))

    def count_locks(_: int) -> None:
        held.append(world.count("pg_locks", "locktype = 'advisory'"))

    plan = UsagePlan(source="s", dry_run=True)
    import_file(shelf.url, shelf.put(text), plan, on_progress=count_locks)
    assert len(held) == 3
    assert max(held) <= 1000


def test_a_lost_connection_is_opened_again(shelf: Shelf, world: World) -> None:
    path = shelf.put(HEADER + "".join(f"u{n},2024-05-01,1,1\n" for n in range(6000)))
    killed: list[int] = []

    def kill_once(_: int) -> None:
        if not killed:
            killed.append(1)
            world.admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'tallybook import'"
            )

    plan = UsagePlan(source="s", connections=2)
    report = import_file(shelf.url, path, plan, on_progress=kill_once)
    assert killed
    assert report.imported + report.known == 6000
    assert world.count("usage_events") == 6000


def test_the_command_tells_numbers_and_exits_with_them(shelf: Shelf) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["import-usage", "--database-url", shelf.url, *arguments])

    good = str(shelf.put("user_id,created_at,model,tokens_used,cost\nu,2024-05-01,m,10,0.1\n"))
    assert run(good, "--dry-run").exit_code == 0
    done = run(good, "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout, parse_float=D)
    assert (report["imported"], report["tokens"], report["cost"]) == (1, 10, D("0.1"))
    assert report["user_namespace"] == str(user_namespace("file.csv"))

    bad = str(shelf.put("who,when,n,paid\nu,2024-05-01,10,0.1\nu,x,10,0.1\n", "bad.csv"))
    named = "user=who,time=when,tokens=n,cost=paid"
    left_out = run(bad, "--columns", named, "--connections", "1")
    assert left_out.exit_code == 1
    assert left_out.stderr.startswith("line 3: ")
    assert "1 imported" in left_out.stdout
    assert run(bad).exit_code == 2
    assert run(good, "--columns", "points=x").exit_code == 2


def test_a_login_that_may_not_import_is_told_so(shelf: Shelf, world: World) -> None:
    path = shelf.put(HEADER + "u,2024-05-01,1,1\n")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        import_file(world.database.dsn("tallybook_functions"), path, UsagePlan(source="s"))


@pytest.mark.parametrize("text", ["user", "user=", "points=a", "user=a,user=b"])
def test_columns_that_cannot_be_understood_are_refused(text: str) -> None:
    with pytest.raises(HistoryError):
        UsageColumns.parse(text)
