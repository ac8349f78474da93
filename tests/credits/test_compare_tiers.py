"""The tiers beside one another."""

from typing import Any
from uuid import uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import refused


def compared(bank: Bank, **request: Any) -> Any:
    return bank.call("compare_tiers", **{"user_id": uuid4(), **request})


def test_every_tier_with_its_terms(bank: Bank) -> None:
    found = compared(bank)
    assert found["current"] == "free"
    assert found["tiers"][0] == {
        "tier": "free",
        "markup": 0.0,
        "multiplier": 1.0,
        "monthly_credits": 0.0,
        "unlimited": False,
        "rollover_max": 0.0,
        "cost": 0.00375,
        "is_current": True,
    }
    named = ("tier", "markup", "multiplier", "monthly_credits", "unlimited", "cost")
    assert [tuple(tier[name] for name in named) for tier in found["tiers"]] == [
        ("free", 0.0, 1.0, 0.0, False, 0.00375),
        ("trial", 0.0, 1.0, 5.0, False, 0.00375),
        ("starter", 0.4, 1.4, 20.0, False, 0.00525),
        ("professional", 0.6, 1.6, 60.0, False, 0.006),
        ("enterprise", 0.8, 1.8, None, True, 0.00675),
    ]


def test_a_users_own_tier_is_marked(bank: Bank) -> None:
    user = uuid4()
    bank.call("switch_tier", user_id=None, account=str(user), tier="professional")
    found = compared(bank, user_id=user)
    assert found["current"] == "professional"
    assert [tier["tier"] for tier in found["tiers"] if tier["is_current"]] == ["professional"]


def test_for_another_use(bank: Bank) -> None:
    found = compared(bank, tokens_used=2000, model="mixtral-8x22b-together", power_level="eco")
    assert [tier["cost"] for tier in found["tiers"]] == [
        0.0004,
        0.0004,
        0.00056,
        0.00064,
        0.00072,
    ]


def test_nobody_is_free(bank: Bank) -> None:
    assert compared(bank, user_id=None)["current"] == "free"


def test_it_reads_only(bank: Bank) -> None:
    bank.world.functions.execute("set default_transaction_read_only = on")
    user = uuid4()
    assert compared(bank, user_id=user) == compared(bank, user_id=user)


@pytest.mark.parametrize("tokens", [-1, None, 2**63 - 1])
def test_what_is_no_number_of_tokens(bank: Bank, tokens: int | None) -> None:
    with refused("invalid_amount", 400, "tokens_used: "):
        compared(bank, tokens_used=tokens)


def test_many_compare_at_once(bank: Bank) -> None:
    answers = bank.world.at_once(
        [lambda c: bank.call("compare_tiers", c, user_id=uuid4())["current"]] * 4
    )
    assert answers == ["free"] * 4
