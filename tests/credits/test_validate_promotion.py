"""A promotional code is looked at: what it is worth to whoever asks, and nothing changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.credits.test_redeem_promotion import (
    BAD,
    NOT_VALID,
    failures,
    promotion,
    redeem,
    times_used,
)
from tests.world import NOW, refused


def validate(bank: Bank, user: UUID, code: str = "SPRING", **more: Any) -> Any:
    return bank.call("validate_promotion", user_id=user, code=code, **more)


def test_it_tells_what_the_code_is_worth(bank: Bank) -> None:
    promotion(bank, description="Ten for nothing", expires_at=NOW + timedelta(days=90_000))
    assert validate(bank, uuid4(), " spring ") == {
        "valid": True,
        "code": "SPRING",
        "discount_type": "fixed",
        "discount_value": 10.0,
        "description": "Ten for nothing",
        "expires_at": (NOW + timedelta(days=90_000)).isoformat(),
    }


def test_looking_changes_nothing(bank: Bank) -> None:
    promotion(bank, max_uses=1)
    user = uuid4()
    assert validate(bank, user) == validate(bank, user)
    assert (times_used(bank), failures(bank)) == (0, {})
    assert bank.world.count("user_credits") == 0
    assert redeem(bank, user)["credits"] == 10


def test_whoever_had_it_hears_so_and_others_do_not(bank: Bank) -> None:
    promotion(bank, max_uses=1)
    user = uuid4()
    redeem(bank, user)
    with refused("coupon_used", 409, "code: SPRING"):
        validate(bank, user)
    assert failures(bank) == {}
    assert validate(bank, uuid4()) == NOT_VALID


@pytest.mark.parametrize("fault", [*BAD, "unknown", "blank"])
def test_wrong_codes_are_all_alike_and_counted(bank: Bank, fault: str) -> None:
    bank.world.freeze()
    promotion(bank, **BAD.get(fault, {}))
    code = {"unknown": "NEVER", "blank": " "}.get(fault, "SPRING")
    wrong = {"code": code, "ip_address": "203.0.113.9", "device_id": "d"}
    assert validate(bank, uuid4(), **wrong) == NOT_VALID
    assert failures(bank) == {"user": 1, "device": 1, "address": 1}


def test_looking_and_redeeming_are_counted_together(bank: Bank) -> None:
    promotion(bank)
    bank.world.operator.execute("update coupon_throttles set failures_max = 2 where scope = 'user'")
    user = uuid4()
    assert validate(bank, user, "WRONG") == redeem(bank, user, "WRONG") == NOT_VALID
    assert validate(bank, user)["refusal"]["code"] == "rate_limited"
    assert redeem(bank, user)["refusal"]["code"] == "rate_limited"


def test_guesses_made_at_once_are_all_counted(bank: Bank) -> None:
    bank.world.operator.execute("update coupon_throttles set failures_max = 5 where scope = 'user'")
    user = uuid4()
    results = bank.world.at_once(
        [lambda s: bank.call("validate_promotion", s, user_id=user, code="WRONG")] * 16
    )
    codes = sorted(r["refusal"]["code"] for r in results if isinstance(r, dict))
    assert codes == ["coupon_not_valid"] * 5 + ["rate_limited"] * 11
