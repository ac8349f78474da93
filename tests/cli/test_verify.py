"""`tallybook verify` says which invariant does not hold, and in which row."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.cli.conftest import Run
from tests.conftest import Database
from tests.world import World


@pytest.fixture
def broken(world: World) -> UUID:
    """A user whose cache was changed behind the ledger's back; mended by the test."""
    user = world.user(points=100)
    world.admin.execute(
        "update user_points_cache set available_points = 999 where user_id = %s", (user,)
    )
    return user


def test_it_is_content_when_all_invariants_hold(operate: Run, world: World) -> None:
    world.user(points=100)
    done = operate("verify", "--json")
    assert done.code == 0
    assert [found["invariant"] for found in done.json["invariants"]] == [
        "I1", "I2", "I3", "I4", "I5", "I6",
    ]  # fmt: skip
    assert (done.json["holds"], done.json["faults"]) == (True, 0)


def test_it_names_the_row_that_is_wrong(operate: Run, world: World, broken: UUID) -> None:
    done = operate("verify", "--json")
    assert done.code == 1
    (fault,) = [found for found in done.json["invariants"] if found["faults"]]
    assert fault["invariant"] == "I3"
    (row,) = fault["rows"]
    assert (row["book_id"], row["expected"], row["actual"]) == (str(broken), "100", "999")
    world.refresh(broken)
    assert operate("verify").code == 0


def test_people_see_it_too(operate: Run, world: World, broken: UUID) -> None:
    done = operate("verify")
    assert done.code == 1
    assert str(broken) in done.output
    world.refresh(broken)


def test_rows_are_limited_and_faults_counted(operate: Run, world: World) -> None:
    users = [world.user(points=10) for _ in range(5)]
    world.admin.execute("update user_points_cache set available_points = 11")
    done = operate("verify", "--json", "--rows", "2")
    (fault,) = [found for found in done.json["invariants"] if found["faults"]]
    assert (fault["faults"], len(fault["rows"])) == (5, 2)
    for user in users:
        world.refresh(user)


def test_an_operators_own_login_is_enough(run: Run, database: Database) -> None:
    assert run("verify", "--database-url", database.dsn("tallybook_operator")).code == 0


@pytest.mark.parametrize("role", ["tallybook_functions", "tallybook_worker"])
def test_another_login_may_not_look(run: Run, database: Database, role: str) -> None:
    assert run("verify", "--database-url", database.dsn(role)).code == 2


def test_an_absent_database_is_code_2(run: Run) -> None:
    assert run("verify", "--database-url", "postgresql://nobody@127.0.0.1:1/none").code == 2
    assert run("verify").code == 2


def test_a_database_without_books_is_code_2(run: Run, database: Database) -> None:
    assert run("verify", "--database-url", database.server.dsn("template1")).code == 2
