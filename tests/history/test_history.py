"""A file of history becomes events: every line of it, once, at its own time, or with a reason."""

from __future__ import annotations

import csv
import gzip
import json
import math
import signal
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg
import pytest
from typer.testing import CliRunner

from tallybook.cli import app
from tallybook.history import (
    Columns,
    Fault,
    HistoryError,
    Plan,
    Report,
    Rounding,
    import_file,
    user_namespace,
)
from tallybook.history.records import LINE_BYTES_MAX
from tallybook.schema import ROOT
from tests.world import WAIT_SECONDS_MAX, World

CDNOW = ROOT / "examples/cdnow/cdnow_sample.csv"
CDNOW_COLUMNS = Columns(user="customer", time="date", points="dollars")
HEADER = "user_id,event_time,points\n"


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

    def bring(self, what: str | bytes | Path, name: str = "file.csv", **plan: Any) -> Report:
        """Import a file, or text as a file; `faults` then holds what was left out."""
        path = what if isinstance(what, Path) else self.put(what, name)
        self.faults = []
        named = {"source": Plan.source_of(path), **plan}
        return import_file(self.url, path, Plan(**named), on_fault=self.faults.append)

    def bad(self, what: str | bytes, **how: Any) -> list[int]:
        """The numbers of the lines that are left out; all others must come in."""
        report = self.bring(what, **how)
        assert report.lines == report.imported + report.bad
        assert report.bad == len(self.faults)
        return [fault.line for fault in self.faults]

    def points(self, user: str, source: str = "file.csv") -> int:
        return self.world.points(uuid5(user_namespace(source), user))


@pytest.fixture
def shelf(tmp_path: Path, world: World) -> Shelf:
    return Shelf(tmp_path, world)


# What a line means


def test_a_line_becomes_an_event_at_its_own_time(shelf: Shelf, world: World) -> None:
    report = shelf.bring(HEADER + "u1,2024-05-01,10\nu1,2024-05-02T12:00:00+02:00,20\n")
    assert (report.lines, report.imported, report.points, report.bad) == (2, 2, 30, 0)
    rows = world.rows("select event_time, proof_payload from points_events order by 1")
    assert [(row["event_time"], row["proof_payload"]["line"]) for row in rows] == [
        (datetime(2024, 5, 1, tzinfo=UTC), 2),
        (datetime(2024, 5, 2, 10, tzinfo=UTC), 3),
    ]
    transfers = world.rows("select effective_at from ledger.transfers order by 1")
    assert [row["effective_at"] for row in transfers] == [row["event_time"] for row in rows]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-02-29", "2024-02-29T00:00:00+00:00"),
        ("20240229", "2024-02-29T00:00:00+00:00"),
        ("2024-02-29 13:14", "2024-02-29T13:14:00+00:00"),
        ("2024-02-29t13:14:15.678z", "2024-02-29T13:14:15.678000+00:00"),
        ("2024-02-29T00:30:00+05:30", "2024-02-28T19:00:00+00:00"),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(shelf: Shelf, text: str, time: str) -> None:
    assert shelf.bad(f"{HEADER}u,{text},1\n") == []
    at = shelf.world.value("select event_time from points_events")
    assert at == datetime.fromisoformat(time)


@pytest.mark.parametrize(
    ("text", "floor", "nearest"),
    [
        ("29.99", 29, 30),
        ("0.5", 0, 1),
        ("-0.0", 0, 0),
        (" 7 ", 7, 7),
        ("+7.", 7, 7),
        (".5", 0, 1),
        ("1e2", 100, 100),
        # One more digit than a float can tell apart.
        ("2147483646.99999999999999999999", 2147483646, 2147483647),
        ("16.999999999999999999999", 16, 17),
    ],
)
def test_decimals_are_rounded_exactly(shelf: Shelf, text: str, floor: int, nearest: int) -> None:
    assert shelf.bring(f"{HEADER}u,2024-01-01,{text}\n").points == floor
    plan: dict[str, Any] = {"rounding": Rounding.NEAREST, "source": "other"}
    assert shelf.bring(f"{HEADER}u,2024-01-01,{text}\n", **plan).points == nearest


def test_a_uuid_is_the_user_and_any_other_text_becomes_one(shelf: Shelf, world: World) -> None:
    user = UUID("0123ABCD-0123-4123-8123-0123456789AB")
    shelf.bring(
        f"{HEADER}{user!s},2024-01-01,1\n{str(user).upper()},2024-01-02,2\n007,2024-01-01,4\n"
    )
    assert world.points(user) == 3
    assert shelf.points("007") == 4
    shelf.bring(f"{HEADER}007,2024-01-01,8\n", name="other.csv")
    assert (shelf.points("007"), shelf.points("007", "other.csv")) == (4, 8)


def test_columns_are_named(shelf: Shelf, world: World) -> None:
    text = (
        "id;kind;who;what for;when;how many\n"
        "a;workout;u;x;2024-01-01;3\n"
        "b;workout;u;x;2024-01-01;3\n"
    )
    columns = Columns.parse("user=who, time=when, points=how many, type=kind, key=id")
    assert shelf.bring(text, columns=columns).imported == 2
    assert world.count("points_events", "event_type = 'workout' and nonce in ('a', 'b')") == 2
    assert shelf.bring(text.replace(";3", ";4"), columns=columns).bad == 2
    assert {fault.code for fault in shelf.faults} == {"nonce_reused"}


def test_an_event_type_is_given_for_all_lines(shelf: Shelf, world: World) -> None:
    shelf.bring(HEADER + "u,2024-01-01,3\n", event_type="goal_achieved")
    assert world.count("points_events", "event_type = 'goal_achieved'") == 1
    assert shelf.bring(HEADER + "u,2024-01-01,3\n", event_type="nonsense").bad == 1
    assert shelf.faults[0].code == "unknown_event_type"


# Other forms of file


def test_gzip_json_and_separators_give_the_same_events(shelf: Shelf) -> None:
    text = HEADER + "u,2024-01-01,3.9\nü,2024-01-02T00:00:00Z,4\n"
    rows = csv.DictReader(text.splitlines())
    json_lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert shelf.bring(text, source="s").imported == 2
    for name, data in {
        "crlf.csv": text.replace("\n", "\r\n").encode(),
        "bom.csv": text.encode("utf-8-sig"),
        "tabs.tsv": text.replace(",", "\t").encode(),
        "no_last_newline.csv": text.rstrip().encode(),
        "blank_lines.csv": text.replace("\n", "\n\n \n").encode(),
        "quoted.csv": text.replace("u,", '"u",').replace(",4", ',"4"').encode(),
        "packed.csv.gz": gzip.compress(text.encode()),
        "lines.ndjson": json_lines.encode(),
        "numbers.jsonl": json_lines.replace('"3.9"', "3.9").replace('"4"', "4").encode(),
        "packed.ndjson.gz": gzip.compress(json_lines.encode()),
    }.items():
        report = shelf.bring(data, name=name, source="s")
        assert (report.lines, report.known, report.bad) == (2, 2, 0), name


def test_a_number_in_json_keeps_its_digits(shelf: Shelf) -> None:
    text = '{"user_id": "u", "event_time": "2024-01-01", "points": 16.99999999999999999999}\n'
    assert shelf.bring(text, name="f.ndjson").points == 16


def test_gzipping_a_file_does_not_make_it_another(shelf: Shelf) -> None:
    text = (HEADER + "u,2024-01-01,3\n").encode()
    assert shelf.bring(text).imported == 1
    assert shelf.bring(gzip.compress(text), name="file.csv.gz").known == 1


# Bad lines


def test_bad_lines_are_left_out_and_told_with_their_numbers(shelf: Shelf) -> None:
    lines = {
        "u,2024-01-01,1": True,
        "u,2024-01-01": False,
        "u,2024-01-01,1,2": False,
        ",2024-01-01,1": False,
        "u,2024-02-30,1": False,
        "u,yesterday,1": False,
        "u,0001-01-01T00:00+05:00,1": False,
        "u,2024-01-01,": False,
        "u,2024-01-01,ten": False,
        "u,2024-01-01,NaN": False,
        "u,2024-01-01,Infinity": False,
        "u,2024-01-01,1_000": False,
        "u,2024-01-01,٣": False,
        "u,2024-01-01,1e99": False,
        "u,2024-01-01,2147483648": False,
        "u,2024-01-01,-5": False,
        "u,2999-01-01,1": False,
        f"{'u' * 201},2024-01-01,1": False,
        "u\x07,2024-01-01,1": False,
        "u\0,2024-01-01,1": False,
        '"u"x,2024-01-01,1': False,
        "v,2024-01-01,1": True,
    }
    numbers = [n for n, good in enumerate(lines.values(), 2) if not good]
    assert shelf.bad(HEADER + "\n".join(lines)) == numbers
    assert {fault.code for fault in shelf.faults} == {
        "invalid_line", "insufficient_funds", "event_in_future",
    }  # fmt: skip
    assert all(fault.detail for fault in shelf.faults)


def test_bytes_that_are_no_text_spoil_their_line_only(shelf: Shelf) -> None:
    text = (
        HEADER.encode()
        + b"u,2024-01-01,1\n\xff\xfeu,2024-01-01,1\nM\xfcller,2024-01-01,1\nw,2024-01-01,1\n"
    )
    assert shelf.bad(text) == [3, 4]


def test_a_line_without_end_takes_no_memory_and_no_neighbour(shelf: Shelf) -> None:
    text = HEADER + "u,2024-01-01,1\n" + "x" * (3 * LINE_BYTES_MAX) + "\nw,2024-01-01,1\n"
    assert shelf.bad(text) == [3]
    assert shelf.points("w") == 1


def test_a_quoted_field_may_have_commas_quotes_and_lines(shelf: Shelf) -> None:
    text = (
        "note,user_id,event_time,points\n"
        '"a, ""b""\nc\n",u,2024-01-01,1\n'
        ",v,2024-01-01,2\n"
        '"x\ny",w,2024-01-01,z\n'
    )
    assert shelf.bad(text) == [6]
    assert (shelf.points("u"), shelf.points("v")) == (1, 2)


def test_a_quote_that_is_never_closed_takes_no_neighbours_with_it(shelf: Shelf) -> None:
    lines = [f"u{n},2024-01-01,1" for n in range(300)]
    lines[5] = '"u5,2024-01-01,1'
    lines[299] = 'u299,2024-01-01,"1'
    assert shelf.bad(HEADER + "\n".join(lines)) == [7, 301]
    assert shelf.world.count("points_events") == 298


def test_json_lines_that_are_none_are_told(shelf: Shelf) -> None:
    good = '{"user_id": "u", "event_time": "2024-01-01", "points": 1}'
    lines = [good, "[]", "{", '{"user_id": "u"}', good.replace("1}", "true}"), good]
    assert shelf.bad("\n".join(lines), name="f.ndjson") == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"user_id,points\nu,1\n",
        b"user_id,event_time,points,points\nu,2024-01-01,1,1\n",
        (HEADER + "u,2024-01-01,1\n").encode("utf-16"),
    ],
)
def test_a_file_without_a_usable_header_is_refused(shelf: Shelf, data: bytes) -> None:
    with pytest.raises(HistoryError):
        shelf.bring(data)
    assert shelf.world.count("points_events") == 0


@pytest.mark.parametrize("cut", [30, -4])
def test_a_damaged_gzip_file_gives_what_can_be_read_of_it(shelf: Shelf, cut: int) -> None:
    lines = "".join(f"u{n},2024-01-01,{n}\n" for n in range(3000))
    whole = gzip.compress((HEADER + lines).encode())
    with pytest.raises(HistoryError):
        shelf.bring(whole[:cut], name="f.csv.gz")
    report = shelf.bring(whole, name="f.csv.gz")
    assert report.imported + report.known == 3000
    assert (report.known > 0) == (cut < 0)


@pytest.mark.parametrize("text", ["user", "user=", "who=a", "user=a,user=b"])
def test_columns_that_cannot_be_understood_are_refused(text: str) -> None:
    with pytest.raises(HistoryError):
        Columns.parse(text)


# Once


def test_the_same_file_twice_is_imported_once(shelf: Shelf) -> None:
    text = HEADER + "".join(f"u{n % 7},2024-01-{n % 28 + 1:02},{n % 5}\n" for n in range(2500))
    assert shelf.bring(text).imported == 2500
    again = shelf.bring(text)
    assert (again.imported, again.known, again.points) == (0, 2500, 0)


def test_equal_lines_are_as_many_events(shelf: Shelf) -> None:
    text = HEADER + "u,2024-01-01,3\n" * 2500
    assert (shelf.bring(text).imported, shelf.points("u")) == (2500, 7500)
    assert shelf.bring(text).known == 2500
    longer = shelf.bring(text + "u,2024-01-01,3\n")
    assert (longer.imported, longer.known) == (1, 2500)


def test_a_mended_line_comes_in_with_the_next_import(shelf: Shelf) -> None:
    assert shelf.bring(HEADER + "u,2024-01-01,3\nu,2024-01-0l,4\n").bad == 1
    report = shelf.bring(HEADER + "u,2024-01-01,3\nu,2024-01-01,4\n")
    assert (report.imported, report.known, report.bad) == (1, 1, 0)


def test_what_was_refused_for_want_of_points_comes_in_when_there_are_some(shelf: Shelf) -> None:
    earned = [f"u{n},2024-01-01,1" for n in range(1500)]
    text = HEADER + "u0,2024-02-01,-1\n" + "\n".join(reversed(earned))
    assert shelf.bring(text).bad == 1
    assert shelf.bring(text).imported == 1


def test_a_dry_run_checks_everything_and_writes_nothing(shelf: Shelf, world: World) -> None:
    # The points that line 1502 spends were earned in an earlier chunk.
    lines = "".join(f"u{n},2024-01-01,5\n" for n in range(1500)) + "u0,2024-01-02,-5\nu1,x,1\n"
    dry = shelf.bring(HEADER + lines, dry_run=True)
    assert (dry.imported, dry.bad, dry.points) == (1501, 1, 7495)
    for table in ("points_events", "ledger.transfers", "ledger.accounts", "user_points_cache"):
        assert world.count(table) == 0
    real = shelf.bring(HEADER + lines)
    assert (real.imported, real.bad, real.points) == (1501, 1, 7495)


def test_an_import_that_was_killed_is_finished_by_the_next(shelf: Shelf, world: World) -> None:
    text = HEADER + "".join(f"u{n},2024-01-01,{n % 9}\n" for n in range(5000))
    path = shelf.put(text)
    # Its fourth chunk waits for this user's account, which is the moment to kill it.
    shelf.bring(HEADER + "u3500,2023-01-01,1000\n", name="before.csv", source="file.csv")
    holder = world.session(autocommit=False)
    holder.execute("select from ledger.accounts for update")
    process = subprocess.Popen(
        [sys.executable, "-c", "from tallybook.cli import app; app()", "import", str(path)],
        env={"DATABASE_URL": shelf.url, "PATH": ""},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not world.count(
            "pg_stat_activity",
            "datname = current_database() and application_name = 'tallybook import'"
            " and wait_event_type = 'Lock'",
        ):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert world.count("points_events") == 1 + 3000
    holder.rollback()

    report = shelf.bring(path)
    assert report.imported + report.known == 5000
    assert report.known >= 3000
    assert world.count("points_events") == 1 + 5000
    total = world.value("select sum(available_points)::int from user_points_cache")
    assert total == 1000 + sum(n % 9 for n in range(5000))


def test_a_lost_connection_is_opened_again(shelf: Shelf, world: World) -> None:
    text = HEADER + "".join(f"u{n},2024-01-01,1\n" for n in range(3000))
    killed: list[int] = []

    def kill_once(_: int) -> None:
        if not killed:
            killed.append(1)
            world.admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'tallybook import'"
            )

    report = import_file(shelf.url, shelf.put(text), Plan(source="file.csv"), on_progress=kill_once)
    assert killed
    assert report.imported + report.known == 3000
    assert world.count("points_events") == 3000


def test_progress_is_told_in_bytes_up_to_the_last(shelf: Shelf) -> None:
    data = gzip.compress((HEADER + "u,2024-01-01,1\n" * 5000).encode())
    path = shelf.put(data, "f.csv.gz")
    told: list[int] = []
    import_file(shelf.url, path, Plan(source="s"), on_progress=told.append)
    assert len(told) == 5
    assert told == sorted(told)
    assert told[-1] == len(data)


# Real history


def test_the_cdnow_sample_comes_in_whole(shelf: Shelf, world: World) -> None:
    # Computed without anything of ours: exact fractions, not decimals.
    orders: dict[str, list[tuple[str, int]]] = defaultdict(list)
    with CDNOW.open(newline="") as file:
        for row in csv.DictReader(file):
            points = math.floor(Fraction(row["dollars"]))
            orders[row["customer"]].append((row["date"], points))
    lines = sum(len(of_one) for of_one in orders.values())
    total = sum(points for of_one in orders.values() for _, points in of_one)
    assert (len(orders), lines) == (2357, 6919)

    report = shelf.bring(CDNOW, columns=CDNOW_COLUMNS)
    assert (report.lines, report.imported, report.known, report.bad) == (lines, lines, 0, 0)
    assert report.points == total
    balances = world.rows("select user_id, available_points from user_points_cache")
    namespace = user_namespace(CDNOW.name)
    assert {row["user_id"]: row["available_points"] for row in balances} == {
        uuid5(namespace, customer): sum(points for _, points in of_one)
        for customer, of_one in orders.items()
    }

    # On any day everybody had what the file's lines up to that day add up to.
    for day in ("1996-12-31", "1997-01-01", "1997-06-30", "1998-02-28", "1998-06-30"):
        then = world.rows(
            "select b.id, ledger.balance_as_of(b.id, 'points', %s) as points"
            "  from unnest(%s::uuid[]) as b(id)",
            (f"{day}T23:59:59Z", [uuid5(namespace, customer) for customer in orders]),
        )
        assert {row["id"]: row["points"] for row in then} == {
            uuid5(namespace, customer): sum(points for date, points in of_one if date <= day)
            for customer, of_one in orders.items()
        }

    again = shelf.bring(CDNOW, columns=CDNOW_COLUMNS)
    assert (again.imported, again.known) == (0, lines)


# The command


def run(shelf: Shelf, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["import", "--database-url", shelf.url, *arguments])


def test_the_command_tells_numbers_and_exits_with_them(shelf: Shelf) -> None:
    good = str(shelf.put(HEADER + "u,2024-01-01,1\n"))
    done = run(shelf, good, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["imported"] == 1

    bad = str(shelf.put(HEADER + "u,2024-01-01,1\nu,2024-01-01,x\nu,2024-01-01,1.5\n", "bad.csv"))
    dry = run(shelf, bad, "--json", "--dry-run", "--rounding", "nearest", "--source", "s")
    assert dry.exit_code == 1
    report = json.loads(dry.stdout)
    assert (report["lines"], report["imported"], report["points"]) == (3, 2, 3)
    assert report["user_namespace"] == str(user_namespace("s"))
    assert [one["line"] for one in report["bad_lines"]] == [3]
    assert dry.stderr.startswith("line 3: ")
    assert shelf.world.count("points_events") == 1


def test_the_command_says_what_it_cannot_work_with(shelf: Shelf) -> None:
    path = str(shelf.put("a,b\n1,2\n"))
    assert run(shelf, path).exit_code == 2
    assert run(shelf, path, "--columns", "nonsense").exit_code == 2
    assert run(shelf, str(shelf.folder / "missing.csv")).exit_code == 2
    nowhere = f"host={shelf.folder} dbname=nowhere"
    assert run(shelf, path, "--database-url", nowhere).exit_code == 2
    assert run(shelf, str(shelf.put(HEADER)), "--source", "x" * 101).exit_code == 0
    refused = run(shelf, str(shelf.put(HEADER + "u,2024-01-01,1\n")), "--source", "x" * 101)
    assert refused.exit_code == 2


def test_a_login_that_may_not_import_is_told_so(shelf: Shelf, world: World) -> None:
    path = shelf.put(HEADER + "u,2024-01-01,1\n")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        import_file(world.database.dsn("tallybook_functions"), path, Plan(source="s"))


def test_points_are_what_decimal_says(shelf: Shelf) -> None:
    """Every number of cents, both ways of rounding, against the definition."""
    cents = [Decimal(n) / 100 for n in range(-150, 151, 7)]
    text = HEADER + "u,2023-01-01,1000\n" + "".join(f"u,2024-01-01,{value}\n" for value in cents)
    expected = 1000 + sum(math.floor(Fraction(value)) for value in cents)
    assert shelf.bring(text).points == expected
    nearest = [
        math.copysign(math.floor(abs(Fraction(value)) + Fraction(1, 2)), value) for value in cents
    ]
    plan: dict[str, Any] = {"rounding": Rounding.NEAREST, "source": "other"}
    assert shelf.bring(text, **plan).points == 1000 + sum(nearest)
