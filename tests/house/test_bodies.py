"""A function's body and its procedure's arguments speak of the same things."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from tallybook.caller import Caller
from tallybook.http import Handler
from tallybook.route import CUSTOMER, USERS, Route
from tallybook.runtime import Runtime
from tallybook.schema import ROOT
from tallybook.server import find_functions
from tallybook.settings import Settings
from tests.conftest import Database

MAINS = list((ROOT / "functions").glob("*/main.py"))
HANDLERS = list(find_functions(ROOT))
ROUTES: list[Route] = [handler.route for handler in HANDLERS]  # type: ignore[attr-defined]

# Made by the corridor from the token and the request, and never a field of a body.
CORRIDOR = {"user_id", "request_id", "ip_address", "attestation"}
# Said by the worker, by another route or on a command line; they have defaults.
WORKERS = {
    "validate_points_events": {"limit"},
    "openrouter_account": {"with_key"},
    "credit_transactions_page": {"offset"},
    # Either what it cost, or what it was.
    "deduct_credits": {"amount", "tokens_used", "model", "provider", "power_level", "service"},
}
OPERATORS = {"actor"}
ENVIRONMENT = {
    "DATABASE_URL": "postgresql://nobody@nowhere/nothing",
    "COUPON_SECRET": "s" * 32,
    "ENCRYPTION_KEY": "k" * 43,
    "APP_ATTEST_TEAM_ID": "TEAM567890",
    "APP_ATTEST_BUNDLE_ID": "com.example.app",
}


def added(route: Route) -> set[str]:
    """What of CORRIDOR this route's requests carry."""
    asked = {
        "user_id": not USERS.isdisjoint(route.callers),
        "request_id": route.writes,
        "ip_address": route.address,
        "attestation": route.attested,
    }
    return {name for name, wanted in asked.items() if wanted}


def named(route: Route) -> set[str]:
    """The field in which a program says for whom it asks, which becomes `user_id`."""
    return {CUSTOMER} if route.on_behalf else set()


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


# What a route makes that asks somebody outside for it.
ASKED = {
    "openrouter-accounts/connect": {
        *("openrouter_api_key_encrypted", "key_id", "openrouter_account_id", "free_credits"),
    },
    "openrouter-accounts/sync": {
        *("seen", "openrouter_account_id", "free_credits", "reencrypted", "key_id"),
    },
}
# A field that must look like something, where any text will do for the others.
SAMPLES: dict[str, Any] = {
    "start_date": "2026-01-31",
    "end_date": "2026-01-31",
    "month": "2026-01",
    "limit": 10,
    "allocations": [],
}


def prepared(route: Route) -> set[str]:
    """The arguments that the function makes itself."""
    if route.prepare is None or iscoroutinefunction(route.prepare):
        return ASKED.get(route.slug, set())
    runtime = Runtime.from_settings(Settings.from_environment(ENVIRONMENT))
    given = {name: SAMPLES.get(name, "x" * 20) for name in route.body.__struct_fields__}
    made = route.prepare(runtime, Caller(uuid4(), "authenticated", {}), route.body(**given))
    assert isinstance(made, Mapping)
    return set(made)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.slug)
def test_body_and_procedure_agree(database: Database, route: Route) -> None:
    arguments = arguments_of(database, route.procedure)
    fields = set(route.body.__struct_fields__) - route.consumed - named(route)
    made = prepared(route)
    sent = fields | made | added(route)
    assert sent <= set(arguments), "something that the procedure does not take"
    assert not fields & (CORRIDOR | OPERATORS | made), "a client says what is not theirs to say"
    left = set(arguments) - sent
    assert left <= WORKERS.get(route.procedure, set()) | OPERATORS, "an argument nobody gives"
    assert all(arguments[name] for name in left)
    assert not route.address or arguments["ip_address"], "the address may be unknown"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.slug)
def test_a_consumed_field_is_one_that_something_is_made_of(route: Route) -> None:
    assert route.consumed <= set(route.body.__struct_fields__)
    assert not route.consumed or prepared(route) or route.attested


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.slug)
def test_a_field_that_may_be_left_out_has_a_default_below(database: Database, route: Route) -> None:
    arguments = arguments_of(database, route.procedure)
    optional = {each.name for each in msgspec.structs.fields(route.body) if not each.required}
    optional -= route.consumed | named(route)
    if route.key_required:
        optional -= {route.key}
    assert {name for name in optional if not arguments[name]} == set()


def test_there_are_functions() -> None:
    assert {"submit-points-event", "coupons/verify"} <= {route.slug for route in ROUTES}


def test_every_function_has_its_own_paths_and_its_own_name() -> None:
    paths = [path for route in ROUTES for path in (route.path, *route.paths)]
    names = [route.name for route in ROUTES]
    assert (len(set(paths)), len(set(names))) == (len(paths), len(names))


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.route.slug)
def test_one_stem_in_every_folder(handler: Handler) -> None:
    """functions/<stem>/main.py is served at <stem> with hyphens, by what bears the stem's name.

    Where a folder holds several, each is served below the stem, by what bears the rest's name.
    That is also the target to give to functions-framework.
    """
    slug = handler.route.slug  # type: ignore[attr-defined]
    stem, _, rest = slug.replace("-", "_").partition("/")
    assert (ROOT / "functions" / stem / "main.py").is_file()
    assert getattr(import_module(f"functions.{stem}.main"), rest or stem) is handler
