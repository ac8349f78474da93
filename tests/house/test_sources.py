"""How sql/ and policies/ are written: rooms point down, a file holds one object."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallybook.schema import ROOT, files

SQL = sorted((ROOT / "sql").glob("*/*.sql"))
ALL = list(files())

NAME = r"(?P<name>(?:(?:public|ledger|internal)\.)?\w+)"
CREATED = re.compile(
    r"^create (?:or replace )?(?:unique )?(?P<kind>table|type|index|view|function|procedure|trigger"
    rf"|schema|domain|sequence|materialized view) (?:if not exists )?{NAME}",
    re.MULTILINE,
)
# A name that only its schema makes unmistakable: `redeem_coupon` is an event type as well.
QUALIFIED = re.compile(r"\b(?:public|ledger|internal)\.\w+")


def ident(path: Path) -> str:
    return str(path.relative_to(ROOT))


def runs_once(path: Path) -> bool:
    """Files that begin with two digits make tables, once; every other can be applied again."""
    return re.match(r"\d\d_", path.name) is not None


def created(path: Path) -> list[tuple[str, str]]:
    return [(m["kind"], m["name"]) for m in CREATED.finditer(path.read_text())]


def test_rooms_point_down() -> None:
    """No statement of a room names what a higher room makes. A comment may look up."""
    home: dict[str, str] = {}
    for path in SQL:
        for kind, name in created(path):
            if kind not in {"trigger", "index"}:
                assert "." in name or kind == "schema", f"{ident(path)}: {name} lacks its schema"
                home.setdefault(name, path.parent.name)
    assert home["ledger.transfers"] == "10_ledger"
    upward = [
        f"{ident(path)} names {name} of {home[name]}"
        for path in SQL
        for name in set(QUALIFIED.findall(re.sub("--.*", "", path.read_text())))
        if home.get(name, "") > path.parent.name
    ]
    assert upward == []


@pytest.mark.parametrize("path", [p for p in SQL if not runs_once(p)], ids=ident)
def test_a_file_holds_one_object_and_is_named_after_it(path: Path) -> None:
    """Its triggers come with a trigger function; the catalogue's entries are one statement."""
    made = created(path)
    main = [(kind, name) for kind, name in made if kind != "trigger"]
    if path.name == "refusals.sql":
        assert made == []
        return
    assert len(main) == 1, made
    assert main[0][0] in {"function", "view"}
    # `expire_holds` may be the core in one schema and its entry in another, in one room.
    assert path.stem.removesuffix("_entry") == main[0][1].partition(".")[2]
    for match in CREATED.finditer(path.read_text()):
        assert match[0].startswith("create or replace"), f"{match[0]} cannot be applied again"


@pytest.mark.parametrize("path", [p for p in SQL if runs_once(p)], ids=ident)
def test_a_file_that_runs_once_holds_no_procedure(path: Path) -> None:
    assert not [name for kind, name in created(path) if kind in {"function", "view", "procedure"}]


@pytest.mark.parametrize("path", ALL, ids=ident)
def test_nothing_raises_class_40(path: Path) -> None:
    """PostgREST before 16 repeats such a request for ever."""
    text = path.read_text().lower()
    assert not re.search(r"(errcode\s*=|sqlstate)\s*'40", text)
    for name in ("serialization_failure", "deadlock_detected", "transaction_rollback"):
        assert name not in text


@pytest.mark.parametrize("path", ALL, ids=ident)
def test_a_file_says_first_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("-- ")


@pytest.mark.parametrize("path", ALL, ids=ident)
def test_a_file_ends_its_last_statement(path: Path) -> None:
    """The next file's first statement would become part of it."""
    text = path.read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("--")]
    assert lines[-1].partition(" -- ")[0].rstrip().endswith(";")
    assert text.endswith("\n")


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*.sql")), ids=ident)
def test_policies_make_no_object(path: Path) -> None:
    """They hand out keys; and are named after the room whose keys they are."""
    assert created(path) == []
    assert path.stem == "99_last" or (ROOT / "sql" / path.stem).is_dir()


def test_every_policy_can_be_applied_again() -> None:
    for path in sorted((ROOT / "policies").glob("*.sql")):
        text = path.read_text()
        made = re.findall(r'^create policy ("[^"]+") on ([\w.]+)', text, re.MULTILINE)
        for name, table in made:
            assert f"drop policy if exists {name} on {table};" in text
