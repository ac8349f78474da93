"""The price list as programs see it: the shipped one, the one in force, the names in Python."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tallybook.price_list import PriceList, in_force, shipped
from tallybook.schema import ROOT
from tests.credits.bank import Bank
from tests.world import refused

SCRIPT = """
from litellm_credit_system import PRICING, MODEL_PRICING, TIER_MARKUP, POWER_LEVELS
print("PRICING:", PRICING)
print("MODEL_PRICING:", MODEL_PRICING)
print("TIER_MARKUP:", TIER_MARKUP)
print("POWER_LEVELS:", POWER_LEVELS)
"""
FIRST = """\
PRICING: {'groq': 0.0, 'huggingface': 0.0, 'local': 0.0, 'fireworks': 0.002, 'together': 0.002, \
'deepinfra': 0.003, 'openrouter:mixtral': 0.003, 'openrouter:claude-3.5': 0.008, \
'openrouter:gpt-4o': 0.01, 'anthropic': 0.015, 'openai': 0.015, 'default': 0.01}
MODEL_PRICING: {'llama3-70b-groq': 0.0, 'llama3-8b-local': 0.0, 'mixtral-8x7b-hf': 0.0, \
'qwen-32b-local': 0.0, 'mixtral-8x22b-together': 0.002, 'qwen-72b-fireworks': 0.002, \
'llama3-70b-deepinfra': 0.003, 'claude-3.5-sonnet-openrouter': 0.008, 'gpt-4o-openrouter': 0.01, \
'claude-3.5-sonnet': 0.015, 'gpt-4o': 0.015}
TIER_MARKUP: {'free': 0.0, 'trial': 0.0, 'starter': 0.4, 'professional': 0.6, 'enterprise': 0.8}
"""


def ran(environment: Mapping[str, str], script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    """A program of its own, that knows of no other database."""
    foreign = ("DATABASE_URL", "SUPABASE_", "TALLYBOOK_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=kept | {"PYTHONPATH": str(ROOT)} | dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_is_shipped_is_what_a_database_begins_with(bank: Bank) -> None:
    first = bank.call("price_list", version=1)
    del first["effective_from"], first["note"]
    assert first == shipped()


def test_the_names_in_python_without_a_database() -> None:
    done = ran({})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(FIRST)
    levels = PriceList.of(shipped()).power_levels
    assert done.stdout == f"{FIRST}POWER_LEVELS: {levels}\n"
    assert list(levels) == ["eco", "balanced", "precision"]
    assert levels["precision"] == {
        "cost_multiplier": 1.0,
        "max_tokens": 16000,
        "temperature": 0.3,
        "max_cost_per_request": 0.1,
        "quality": 0.95,
        "latency": "instant",
        "preferred_providers": ["anthropic", "openai", "openrouter:premium"],
    }


@pytest.mark.parametrize("variable", ["DATABASE_URL", "SUPABASE_DB_URL"])
@pytest.mark.parametrize("login", ["postgres", "tallybook_functions"])
def test_the_names_in_python_are_the_databases(bank: Bank, variable: str, login: str) -> None:
    url = bank.world.database.dsn(login)
    assert ran({variable: url}).stdout.startswith(FIRST)
    changes = {"models": {"gpt-5": 0.02}, "default_price": 0.5, "tiers": {"trial": {"markup": 3}}}
    bank.call(
        "publish_prices", bank.world.operator, user_id=None, changes=changes, note="For the test"
    )
    told = ran({variable: url}).stdout
    for part in ("'gpt-5': 0.02", "'default': 0.5", "'trial': 3.0"):
        assert part in told


def test_a_database_that_is_away_is_no_other_price_list() -> None:
    done = ran({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"})
    assert done.returncode == 1
    assert "OperationalError" in done.stderr


def test_a_program_asks_once() -> None:
    script = (
        "import litellm_credit_system as prices\n"
        "assert not hasattr(prices, 'NOTHING')\n"
        "assert prices.PRICING is prices.PRICING\n"
        "import os; os.environ['DATABASE_URL'] = 'postgresql://nobody@127.0.0.1:1/nothing'\n"
        "assert prices.MODEL_PRICING['gpt-4o'] == 0.015\n"
    )
    done = ran({}, script)
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_reads_a_list_that_there_is_not(bank: Bank) -> None:
    with refused("not_found", 404, "version: "):
        bank.call("price_list", version=2)
    assert in_force(bank.world.database.dsn())["version"] == 1


def test_it_reads_only(bank: Bank) -> None:
    bank.world.functions.execute("set default_transaction_read_only = on")
    assert bank.call("price_list") == bank.call("price_list", version=1)
