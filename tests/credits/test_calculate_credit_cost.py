"""What a use would cost: whose tier counts, and what is refused."""

from decimal import Decimal as D
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import set_json_loads

from tallybook import exact
from tests.credits.bank import Bank
from tests.world import refused


@pytest.fixture(autouse=True)
def exact_numbers(bank: Bank) -> None:
    """A float would hide what a number is."""
    set_json_loads(exact.decode, bank.world.functions)


def cost(bank: Bank, **request: Any) -> Any:
    request = {"user_id": None, "tokens_used": 1000, "model": "gpt-4o", **request}
    return bank.call("calculate_credit_cost", **request)


def test_the_mission_s_own_number_and_nothing_else(bank: Bank) -> None:
    assert cost(bank, power_level="balanced") == {"cost": D("0.00375")}
    assert cost(bank) == {"cost": D("0.00375")}


def test_a_user_pays_their_own_tiers_markup(bank: Bank) -> None:
    user = uuid4()
    assert cost(bank, user_id=user) == {"cost": D("0.00375")}
    bank.call("switch_tier", user_id=None, account=str(user), tier="starter")
    assert cost(bank, user_id=user) == {"cost": D("0.00525")}
    assert cost(bank, user_id=uuid4()) == {"cost": D("0.00375")}
    assert cost(bank) == {"cost": D("0.00375")}


def test_a_tier_may_be_said(bank: Bank) -> None:
    user = uuid4()
    bank.call("switch_tier", user_id=None, account=str(user), tier="starter")
    assert cost(bank, tier="enterprise") == {"cost": D("0.00675")}
    assert cost(bank, user_id=user, tier="enterprise") == {"cost": D("0.00675")}


def test_what_is_free_costs_0(bank: Bank) -> None:
    assert cost(bank, model="llama3-8b-local") == {"cost": D(0)}
    assert cost(bank, tokens_used=0) == {"cost": D(0)}
    assert cost(bank, model="new", provider="groq") == {"cost": D(0)}


def test_it_reads_only_and_says_the_same_again(bank: Bank) -> None:
    bank.world.functions.execute("set default_transaction_read_only = on")
    user = uuid4()
    assert cost(bank, user_id=user) == cost(bank, user_id=user)
    assert bank.world.count("user_credits") == 0


@pytest.mark.parametrize("tokens", [-1, None, 2**63 - 1])
def test_what_is_no_number_of_tokens(bank: Bank, tokens: int | None) -> None:
    with refused("invalid_amount", 400, "tokens_used: "):
        cost(bank, tokens_used=tokens)


@pytest.mark.parametrize("tier", ["golden", ""])
def test_a_tier_that_there_is_not(bank: Bank, tier: str) -> None:
    with refused("unknown_tier", 400, "tier: "):
        cost(bank, tier=tier)


def test_many_ask_at_once(bank: Bank) -> None:
    user = uuid4()
    answers = bank.world.at_once(
        [lambda c: bank.call("calculate_credit_cost", c, user_id=user, tokens_used=1, model="x")]
        * 4
    )
    assert answers == [{"cost": 0.000003}] * 4
