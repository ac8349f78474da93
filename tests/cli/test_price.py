"""`tallybook price`: price lists are shown, asked, published and withdrawn."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run
from tests.world import World


def test_the_price_list_in_force_is_shown(operate: Run) -> None:
    shown = operate("price", "list", "--json").json
    assert (shown["version"], shown["models"]["gpt-4o"], shown["default_price"]) == (1, 0.015, 0.01)
    assert [row["version"] for row in shown["versions"]] == [1]
    words = operate("price", "list").output
    for word in ("claude-3.5-sonnet-openrouter", "0.015", "openrouter:mixtral", "professional"):
        assert word in words


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        ((), "0.00375"),
        (("--power-level", "precision", "--tier", "enterprise"), "0.027"),
        (("--tokens", "1", "--power-level", "eco"), "0.000002"),
        (("--tokens", "0"), "0.0"),
    ],
)
def test_what_a_use_costs(operate: Run, options: tuple[str, ...], cost: str) -> None:
    assert operate("price", "cost", "gpt-4o", *options).output == f"{cost}\n"
    assert operate("price", "cost", "gpt-4o", *options, "--json").json == {"cost": float(cost)}


def test_the_provider_may_be_named(operate: Run) -> None:
    assert operate("price", "cost", "new", "--provider", "openai").output == "0.00375\n"


def test_prices_are_published_for_later_and_withdrawn(operate: Run, world: World) -> None:
    change = (
        *("price", "publish", "--note", "Spring", "--from", "2100-01-01T00:00Z"),
        *("--model", "gpt-5=0.020000001", "--model", "gpt-4o=none", "--provider", "mistral=0.004"),
        *("--power-level", "eco.latency=slow", "--power-level", 'eco.preferred_providers=["groq"]'),
        *("--tier", "starter.markup=0.5", "--default-price", "0.011"),
    )
    tried = operate(*change, "--dry-run", "--json").json
    assert (tried["dry_run"], tried["version"]) == (True, 2)
    assert world.count("pricing_versions") == 1
    done = operate(*change)
    assert done.code == 0, done.complaint
    assert "version 2 from 2100-01-01" in done.output
    assert "models.gpt-5: none -> 0.020000001" in done.output
    assert "tiers.starter: markup 0.4 -> markup 0.5" in done.output
    assert "has all of this already" in operate(*change).output
    shown = operate("price", "list", "--version", "2", "--json").json
    assert shown["models"]["gpt-5"] == 0.020000001
    assert "gpt-4o" not in shown["models"]
    eco = shown["power_levels"]["eco"]
    assert (eco["latency"], eco["preferred_providers"]) == ("slow", ["groq"])
    assert shown["default_price"] == 0.011
    logged = world.rows("select distinct actor, reason from audit_log")
    assert [tuple(row.values()) for row in logged] == [("op@example.org", "Spring")]

    assert operate("price", "withdraw", "2", "--dry-run").code == 0
    assert world.count("pricing_versions") == 2
    assert operate("price", "withdraw", "2", "--reason", "No", "--json").json["version"] == 2
    assert world.count("pricing_versions") == 1


def test_prices_are_published_at_once(operate: Run) -> None:
    assert operate("price", "publish", "--note", "Now", "--model", "gpt-4o=0.03").code == 0
    assert operate("price", "cost", "gpt-4o", "--power-level", "precision").output == "0.03\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("list", "--version", "9"), 1),
        (("cost", "gpt-4o", "--tokens", "-1"), 1),
        (("cost", "gpt-4o", "--tier", "golden"), 1),
        (("publish", "--note", "x", "--model", "gpt-5=cheap"), 1),
        (("publish", "--note", "x", "--tier", "starter=none"), 1),
        (("publish", "--note", " ", "--model", "gpt-5=1"), 1),
        (("publish", "--note", "x", "--model", "gpt-5=1", "--from", "2000-01-01T00:00Z"), 1),
        (("withdraw", "1"), 1),
        (("withdraw", "9"), 1),
        (("publish", "--note", "x"), 2),
        (("publish", "--model", "gpt-5=1"), 2),
        (("publish", "--note", "x", "--model", "gpt-5"), 2),
        (("publish", "--note", "x", "--model", "gpt-5=1", "--from", "soon"), 2),
    ],
)
def test_what_is_refused(operate: Run, arguments: tuple[str, ...], code: int) -> None:
    done = operate("price", *arguments, "--json")
    assert done.code == code
    assert code == 2 or done.json["refusal"]["code"]
