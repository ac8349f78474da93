"""What a use of a model costs: every number of the first list, and the order of the prices."""

from decimal import Decimal as D
from typing import Any

import psycopg
import pytest

from tests.credits.bank import Bank
from tests.world import refused

MODELS = {
    "llama3-8b-local": "0",
    "qwen-32b-local": "0",
    "llama3-70b-groq": "0",
    "mixtral-8x7b-hf": "0",
    "mixtral-8x22b-together": "0.002",
    "llama3-70b-deepinfra": "0.003",
    "qwen-72b-fireworks": "0.002",
    "claude-3.5-sonnet-openrouter": "0.008",
    "gpt-4o-openrouter": "0.010",
    "claude-3.5-sonnet": "0.015",
    "gpt-4o": "0.015",
}
PROVIDERS = {
    "local": "0",
    "groq": "0",
    "huggingface": "0",
    "together": "0.002",
    "fireworks": "0.002",
    "deepinfra": "0.003",
    "openrouter:mixtral": "0.003",
    "openrouter:claude-3.5": "0.008",
    "openrouter:gpt-4o": "0.010",
    "anthropic": "0.015",
    "openai": "0.015",
}
GPT_4O = {
    ("balanced", "free"): "0.00375",
    ("balanced", "trial"): "0.00375",
    ("balanced", "starter"): "0.00525",
    ("balanced", "professional"): "0.006",
    ("balanced", "enterprise"): "0.00675",
    ("eco", "free"): "0.0015",
    ("eco", "trial"): "0.0015",
    ("eco", "starter"): "0.0021",
    ("eco", "professional"): "0.0024",
    ("eco", "enterprise"): "0.0027",
    ("precision", "free"): "0.015",
    ("precision", "trial"): "0.015",
    ("precision", "starter"): "0.021",
    ("precision", "professional"): "0.024",
    ("precision", "enterprise"): "0.027",
}


def price(
    bank: Bank,
    model: str | None,
    provider: str | None = None,
    tokens: int | None = 1000,
    power_level: str | None = "precision",
    tier: str | None = "free",
) -> dict[str, Any]:
    """The whole price of a use; by default at the power level and tier that change nothing."""
    (row,) = bank.world.rows(
        "select c.* from internal.credit_cost(%s::bigint, %s, %s, %s, %s) as c",
        (tokens, model, provider, power_level, tier),
    )
    return row


@pytest.mark.parametrize(("model", "expected"), MODELS.items())
def test_a_model_has_its_price(bank: Bank, model: str, expected: str) -> None:
    found = price(bank, model)
    assert (found["price_per_1k"], found["cost"], found["is_known"]) == (D(expected),) * 2 + (True,)


@pytest.mark.parametrize(("provider", "expected"), PROVIDERS.items())
def test_a_provider_who_is_named_has_their_price(bank: Bank, provider: str, expected: str) -> None:
    found = price(bank, "something-new", provider)
    assert (found["cost"], found["is_known"]) == (D(expected), True)


@pytest.mark.parametrize("separator", ["/", ":"])
@pytest.mark.parametrize(("provider", "expected"), PROVIDERS.items())
def test_a_provider_before_the_models_name_has_their_price(
    bank: Bank, provider: str, expected: str, separator: str
) -> None:
    name = provider.replace(":", separator)
    found = price(bank, f"{name}{'-' if ':' in provider else separator}new")
    assert (found["cost"], found["is_known"]) == (D(expected), True)


@pytest.mark.parametrize(("terms", "expected"), GPT_4O.items())
def test_gpt_4o_by_power_level_and_tier(bank: Bank, terms: tuple[str, str], expected: str) -> None:
    power_level, tier = terms
    found = price(bank, "gpt-4o", power_level=power_level, tier=tier)
    assert (found["cost"], found["power_level"], found["tier"]) == (D(expected), power_level, tier)


@pytest.mark.parametrize(
    ("model", "provider", "expected", "is_known"),
    [
        # The model's own price comes before its provider's.
        ("gpt-4o", "groq", "0.015", True),
        ("llama3-8b-local", "openai", "0", True),
        # Who is named comes before who stands before the name, however long their names are.
        ("anthropic/claude-9", "groq", "0", True),
        ("groq/llama-9", "anthropic", "0.015", True),
        # A provider of many: what its model begins with, whoever says so, the longest first.
        ("gpt-4o-mini", "openrouter", "0.010", True),
        ("openrouter/gpt-4o-mini", "openrouter", "0.010", True),
        ("openrouter/gpt-4o:free", None, "0.010", True),
        ("mixtral", "openrouter", "0.003", True),
        # A word that goes on is another word; a model's name is none of its provider.
        ("openrouter/gpt-4omni", None, "0.01", False),
        ("openaix/gpt", None, "0.01", False),
        ("local-hero", None, "0.01", False),
        ("openrouter/new", None, "0.01", False),
        ("new", "openrouter", "0.01", False),
        ("a/local/b", None, "0.01", False),
        ("new", None, "0.01", False),
        ("", None, "0.01", False),
        (None, None, "0.01", False),
        (None, "openai", "0.015", True),
        ("GPT-4o", None, "0.01", False),
    ],
)
def test_which_price_counts(
    bank: Bank, model: str | None, provider: str | None, expected: str, is_known: bool
) -> None:
    found = price(bank, model, provider)
    assert (found["cost"], found["is_known"]) == (D(expected), is_known)


def test_the_longest_name_is_the_nearest(bank: Bank) -> None:
    bank.call(
        "publish_prices",
        bank.world.operator,
        user_id=None,
        changes={"providers": {"openrouter": 0.5, "openrouter:gpt": 0.25}},
        note="Names in names",
    )
    for model, expected in [("gpt-4o-mini", "0.010"), ("gpt-5", "0.25"), ("new", "0.5")]:
        assert price(bank, model, "openrouter")["cost"] == D(expected)
        assert price(bank, f"openrouter/{model}")["cost"] == D(expected)


@pytest.mark.parametrize("power_level", ["turbo", "", None, "ECO"])
def test_an_unknown_power_level_counts_as_balanced(bank: Bank, power_level: str | None) -> None:
    found = price(bank, "gpt-4o", power_level=power_level)
    assert (found["cost"], found["power_level"]) == (D("0.00375"), "balanced")


@pytest.mark.parametrize("tier", ["golden", "", None])
def test_an_unknown_tier_pays_no_markup(bank: Bank, tier: str | None) -> None:
    assert price(bank, "gpt-4o", tier=tier)["cost"] == D("0.015")


@pytest.mark.parametrize(
    ("tokens", "power_level", "tier", "expected"),
    [
        (0, "precision", "free", "0"),
        (1, "precision", "free", "0.000015"),
        (1, "balanced", "free", "0.000004"),  # 0.00000375
        (1, "eco", "free", "0.000002"),  # 0.0000015: a half is rounded up
        (3, "eco", "free", "0.000005"),  # 0.0000045, where a float would be just below
        (1, "eco", "starter", "0.000002"),  # 0.0000021
        (333, "balanced", "enterprise", "0.002248"),  # 0.00224775
        (123_456_789, "balanced", "professional", "740.740734"),
        (10**15 + 7, "precision", "free", "15000000000.000105"),
    ],
)
def test_a_cost_is_exact_to_the_sixth_place(
    bank: Bank, tokens: int, power_level: str, tier: str, expected: str
) -> None:
    found = price(bank, "gpt-4o", tokens=tokens, power_level=power_level, tier=tier)
    assert str(found["cost"].normalize() + 0) == str(D(expected).normalize() + 0)


def test_tokens_that_nobody_counted_have_no_cost(bank: Bank) -> None:
    """Null, and not nothing: who charges it must say what it is, and fails where they forget."""
    found = price(bank, "gpt-4o", tokens=None)
    assert (found["cost"], found["price_per_1k"]) == (None, D("0.015"))


def test_more_than_can_be_written_down_is_refused(bank: Bank) -> None:
    assert price(bank, "gpt-4o", tokens=66_666_666_666_666_666)["cost"] < 10**12
    with refused("invalid_amount", 400, "tokens_used: "):
        price(bank, "gpt-4o", tokens=66_666_666_666_666_667)
    with refused("invalid_amount", 400, "tokens_used: "):
        price(bank, "gpt-4o", tokens=2**63 - 1)


def test_an_older_version_has_its_own_prices(bank: Bank) -> None:
    bank.call(
        "publish_prices",
        bank.world.operator,
        user_id=None,
        changes={"models": {"gpt-4o": 0.02}},
        note="Dearer",
    )
    assert price(bank, "gpt-4o")["cost"] == D("0.02")
    assert price(bank, "gpt-4o")["pricing_version"] == 2
    (old,) = bank.world.rows(
        "select c.* from internal.credit_cost(1000, 'gpt-4o', null, 'precision', 'free', 1) as c"
    )
    assert (old["cost"], old["pricing_version"]) == (D("0.015"), 1)


def test_no_client_asks_the_core(bank: Bank) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bank.world.functions.execute("select internal.credit_cost(1, 'x', null, null, null)")
