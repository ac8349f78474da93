"""A function's body and its procedure's arguments speak of the same things."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tallybook.caller import Caller
from tallybook.route import Route
from tallybook.runtime import Runtime
from tallybook.schema import ROOT
from tallybook.server import find_functions
from tallybook.settings import Settings
from tests.conftest import Database

ROUTES: list[Route] = [handler.route for handler in find_functions(ROOT)]  # type: ignore[attr-defined]

# Made by the corridor from the token and the request.
CORRIDOR = {"user_id", "request_id", "ip_address"}
# The worker's to say, never a client's; they have defaults.
WORKERS = {"validate_points_events": {"limit"}}


def arguments_of(database: Database, procedure: str) -> dict[str, bool]:
    """Argument name without p_ -> whether it has a default."""
    rows = (
        database.connect()
        .execute(
            "select p.proargnames[1:p.pronargs], p.pronargdefaults from pg_proc as p"
            " where p.pronamespace = 'public'::regnamespace and p.proname = %s",
            (procedure,),
        )
        .fetchall()
    )
    assert len(rows) == 1, f"{procedure} is not one procedure of public"
    names, defaults = rows[0]
    assert all(name.startswith("p_") for name in names)
    return {
        name.removeprefix("p_"): position >= len(names) - defaults
        for position, name in enumerate(names)
    }


def prepared(route: Route) -> set[str]:
    """The arguments that the function makes itself."""
    if route.prepare is None:
        return set()
    environment = {"DATABASE_URL": "postgresql://nobody@nowhere/nothing", "COUPON_SECRET": "s" * 32}
    runtime = Runtime.from_settings(Settings.from_environment(environment))
    given: dict[str, Any] = dict.fromkeys(route.body.__struct_fields__, "x" * 20)
    return set(route.prepare(runtime, Caller(uuid4(), "authenticated", {}), route.body(**given)))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.slug)
def test_body_and_procedure_agree(database: Database, route: Route) -> None:
    arguments = arguments_of(database, route.procedure)
    fields = set(route.body.__struct_fields__)
    made = prepared(route)
    assert fields <= set(arguments), "a field that the procedure does not take"
    assert made <= set(arguments), "an argument that the procedure does not take"
    assert not fields & (CORRIDOR | made), "a client says what is not theirs to say"
    workers = WORKERS.get(route.procedure, set())
    assert set(arguments) - fields - made - CORRIDOR == workers
    assert all(arguments[name] for name in workers)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.slug)
def test_a_field_that_may_be_left_out_has_a_default_below(database: Database, route: Route) -> None:
    arguments = arguments_of(database, route.procedure)
    required = set(route.body.__struct_fields__[: _required(route)])
    optional = set(route.body.__struct_fields__) - required - {route.key}
    assert {name for name in optional if not arguments[name]} == set()


def _required(route: Route) -> int:
    return len(route.body.__struct_fields__) - len(route.body.__struct_defaults__)


def test_there_are_functions() -> None:
    assert {"submit-points-event", "redeem-coupon"} <= {route.slug for route in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.slug)
def test_one_stem_in_every_folder(route: Route) -> None:
    """functions/<stem>/main.py is served at <stem> with hyphens."""
    assert (ROOT / "functions" / route.slug.replace("-", "_") / "main.py").is_file()
