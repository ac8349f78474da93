"""public.reserve_credits: an upper bound is set aside before a call of a model."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import NOW, Connection, code_of, refused

MINUTE = timedelta(minutes=1)


def reserve(bank: Bank, user: UUID, through: Connection | None = None, **request: Any) -> Any:
    """Reserve as the functions do, by default for 1000 tokens of gpt-4o, which cost 0.00375."""
    request = {"user_id": user, "model": "gpt-4o", "max_tokens": 1000} | request
    return bank.call("reserve_credits", through, **request)


# It does


def test_what_a_call_can_cost_at_most_is_set_aside(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    answer = reserve(bank, user)
    UUID(answer.pop("reservation_id"))
    assert answer == {
        "reserved": 0.00375,
        "is_price_known": True,
        "expires_at": (NOW + 10 * MINUTE).isoformat(),
        "balance": 1.0,
        "available": 0.99625,
        "account": {
            "user_id": str(user),
            "balance": 1.0,
            "tier": "free",
            "monthly_cap": None,
            "version": 1,
        },
        "replayed": False,
    }
    assert (bank.balance(user), bank.available(user)) == (D(1), D("0.99625"))
    assert bank.statement(user) == [("bonus", D(1), D(1))]


@pytest.mark.parametrize(
    ("request_", "reserved"),
    [
        ({"max_tokens": None}, 0.015),  # balanced: 4000 tokens
        ({"max_tokens": None, "power_level": "precision"}, 0.24),  # 16000 at four times the price
        ({"power_level": "none such"}, 0.00375),
        ({"max_cost": "0.002"}, 0.002),
        ({"max_cost": "0.0020009"}, 0.002),  # never more than was allowed
        ({"max_cost": "5"}, 0.00375),
        ({"model": "a", "provider": "openai"}, 0.00375),
        ({"model": "never-heard-of"}, 0.01),  # what balanced allows a request to cost
        ({"model": "never-heard-of", "power_level": "eco"}, 0.001),
        ({"model": "never-heard-of", "max_cost": "0.004"}, 0.004),
        ({"model": "never-heard-of", "max_cost": "4"}, 0.01),
        ({"model": "llama3-8b-local"}, 0.0),
    ],
)
def test_what_is_reserved(bank: Bank, request_: dict[str, Any], reserved: float) -> None:
    user = bank.customer(1)
    answer = reserve(bank, user, **request_)
    assert answer["reserved"] == reserved
    assert answer["is_price_known"] is (request_.get("model") != "never-heard-of")
    assert bank.available(user) == 1 - D(str(reserved))


def test_a_tier_pays_its_markup(bank: Bank) -> None:
    user = bank.customer(1)
    bank.world.admin.execute(
        "update user_credits set tier = 'professional' where user_id = %s", (user,)
    )
    assert reserve(bank, user)["reserved"] == 0.006


def test_who_has_nothing_reserves_what_is_free(bank: Bank) -> None:
    user = uuid4()
    answer = reserve(bank, user, model="llama3-8b-local")
    assert (answer["reserved"], answer["available"]) == (0.0, 0.0)
    assert bank.world.count("ledger.holds") == 0


def test_what_is_free_is_not_stopped_by_the_cap(bank: Bank) -> None:
    user = bank.customer(1)
    bank.call("set_monthly_cap", user_id=user, monthly_cap=0)
    assert reserve(bank, user, model="llama3-8b-local")["reserved"] == 0.0


def test_everything_there_is_can_be_reserved_and_the_whole_cap(bank: Bank) -> None:
    user = bank.customer("0.00375")
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.00375")
    assert reserve(bank, user)["available"] == 0.0


def test_what_is_reserved_outlives_its_lot(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(1, expires_at=NOW + MINUTE)
    reserve(bank, user, max_cost="0.003")
    bank.world.pass_time(2 * MINUTE)
    with refused("insufficient_credits", 402):
        reserve(bank, user)
    # Whoever asks next finds expired what was not reserved.
    reserve(bank, user, model="llama3-8b-local")
    assert (bank.balance(user), bank.available(user)) == (D("0.003"), D(0))


# It replays


def test_a_replay_gets_the_first_answer_again(bank: Bank) -> None:
    user = bank.customer(1)
    first = reserve(bank, user, idempotency_key="k", max_cost="0.0020")
    bank.give(user, 5)
    again = reserve(bank, user, idempotency_key="k", max_cost="0.002")
    assert again == first | {"replayed": True, "account": again["account"]}
    assert again["account"]["balance"] == 6.0
    assert bank.available(user) == D("5.998")


def test_a_replay_is_told_the_same_after_it_was_settled(bank: Bank) -> None:
    user = bank.customer(1)
    first = reserve(bank, user, idempotency_key="k")
    bank.call(
        "settle_credits", user_id=user, reservation_id=first["reservation_id"], tokens_used=10
    )
    again = reserve(bank, user, idempotency_key="k")
    assert again["reservation_id"] == first["reservation_id"]
    assert bank.available(user) == bank.balance(user)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-4"},
        {"provider": "openai"},
        {"power_level": "eco"},
        {"max_tokens": 1001},
        {"max_cost": 1},
        {"expires_in_seconds": 601},
        {"metadata": {"a": 1}},
    ],
)
def test_another_request_under_the_key_is_refused(bank: Bank, change: dict[str, Any]) -> None:
    user = bank.customer(1)
    reserve(bank, user, idempotency_key="k")
    with refused("nonce_reused", 409, "idempotency_key: "):
        reserve(bank, user, idempotency_key="k", **change)
    assert bank.available(user) == D("0.99625")


def test_a_key_is_the_users_own(bank: Bank) -> None:
    one, other = bank.customer(1), bank.customer(1)
    first = reserve(bank, one, idempotency_key="k")
    second = reserve(bank, other, idempotency_key="k")
    assert first["reservation_id"] != second["reservation_id"]
    assert second["replayed"] is False


# It refuses


@pytest.mark.parametrize(
    ("request_", "code", "detail"),
    [
        ({"max_tokens": 0}, "invalid_amount", "max_tokens: "),
        ({"max_tokens": -1}, "invalid_amount", "max_tokens: "),
        ({"max_tokens": 1_000_000_000_001}, "invalid_amount", "max_tokens: "),
        ({"max_cost": 0}, "invalid_amount", "max_cost: "),
        ({"max_cost": "0.0000009"}, "invalid_amount", "max_cost: "),
        ({"max_cost": "NaN"}, "invalid_amount", "max_cost: "),
        ({"max_cost": "Infinity"}, "invalid_amount", "max_cost: "),
        ({"expires_in_seconds": 0}, "invalid_body", "expires_in_seconds: "),
        ({"expires_in_seconds": 86401}, "invalid_body", "expires_in_seconds: "),
    ],
)
def test_what_is_no_request_is_refused(
    bank: Bank, request_: dict[str, Any], code: str, detail: str
) -> None:
    user = bank.customer(1)
    with refused(code, 400, detail):
        reserve(bank, user, **request_)


def test_more_than_is_available_is_refused(bank: Bank) -> None:
    user = bank.customer("0.005")
    reserve(bank, user)
    with refused(
        "insufficient_credits", 402, "Insufficient credits. Balance: 0.00125, Required: 0.00375"
    ):
        reserve(bank, user)
    with refused(
        "insufficient_credits", 402, "Insufficient credits. Balance: 0, Required: 0.00375"
    ):
        reserve(bank, uuid4())


def test_what_is_reserved_counts_for_the_cap(bank: Bank) -> None:
    user = bank.customer(1)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.0074")
    reserve(bank, user)
    with refused("monthly_cap_reached", 429, "monthly_cap: 0.0074"):
        reserve(bank, user)
    assert bank.available(user) == D("0.99625")


def test_what_was_spent_counts_for_the_cap(bank: Bank) -> None:
    user = bank.customer(1)
    first = reserve(bank, user)["reservation_id"]
    bank.call("settle_credits", user_id=user, reservation_id=first, tokens_used=1000)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.0074")
    with refused("monthly_cap_reached", 429):
        reserve(bank, user)


def test_where_neither_a_price_nor_a_highest_cost_is_known_nothing_is_reserved(bank: Bank) -> None:
    user = bank.customer(1)
    # No list in force changes; another one would do, and be much longer.
    bank.world.admin.execute(
        "set session_replication_role = replica;"
        "update pricing_power_levels set max_cost_per_request = null where power_level = 'eco'"
    )
    with refused("price_unknown", 400, "model: "):
        reserve(bank, user, model="never-heard-of", power_level="eco", max_cost="0.001")
    assert reserve(bank, user, model="gpt-4o", power_level="eco")["reserved"] == 0.0015


# It races


def test_reservations_at_once_never_exceed_the_balance(bank: Bank) -> None:
    user = bank.customer("0.015")
    results = bank.world.at_once([lambda s: reserve(bank, user, s)] * 8)
    codes = [code_of(result) for result in results]
    assert codes.count("insufficient_credits") == 4
    assert sum(isinstance(result, dict) for result in results) == 4
    assert bank.available(user) == 0


def test_reservations_at_once_never_exceed_the_cap(bank: Bank) -> None:
    user = bank.customer(1)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.012")
    results = bank.world.at_once([lambda s: reserve(bank, user, s)] * 8)
    codes = [code_of(result) for result in results]
    assert codes.count("monthly_cap_reached") == 5
    assert sum(isinstance(result, dict) for result in results) == 3


def test_the_same_request_at_once_reserves_once(bank: Bank) -> None:
    user = bank.customer(1)
    results = bank.world.at_once([lambda s: reserve(bank, user, s, idempotency_key="k")] * 4)
    answers = [result for result in results if isinstance(result, dict)]
    assert len(answers) == 4
    assert len({answer["reservation_id"] for answer in answers}) == 1
    assert sorted(answer["replayed"] for answer in answers) == [False, True, True, True]
    assert bank.available(user) == D("0.99625")


def test_the_first_reservation_of_who_has_no_account_races_too(bank: Bank) -> None:
    user = uuid4()
    results = bank.world.at_once(
        [lambda s: reserve(bank, user, s, model="llama3-8b-local", idempotency_key="k")] * 4
    )
    assert len({result["reservation_id"] for result in results if isinstance(result, dict)}) == 1


def test_reservations_and_deductions_at_once_never_exceed_the_cap(bank: Bank) -> None:
    user = bank.customer(1)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.02")

    def deduct(session: Connection) -> Any:
        return bank.call("deduct_credits", session, user_id=user, model="gpt-4o", tokens_used=1000)

    results = bank.world.at_once([lambda s: reserve(bank, user, s), deduct] * 5)
    codes = [code_of(result) for result in results]
    assert codes.count("monthly_cap_reached") == 5
    stands = bank.call("monthly_cap", user_id=user)
    assert stands["spent"] + stands["reserved"] == pytest.approx(0.01875)
    assert stands["remaining"] == 0.00125


def test_reservations_and_deductions_at_once_never_exceed_the_balance(bank: Bank) -> None:
    user = bank.customer("0.02")

    def deduct(session: Connection) -> Any:
        return bank.call("deduct_credits", session, user_id=user, model="gpt-4o", tokens_used=1000)

    results = bank.world.at_once([lambda s: reserve(bank, user, s), deduct] * 5)
    codes = [code_of(result) for result in results]
    assert codes.count("insufficient_credits") == 5
    assert bank.available(user) == D("0.00125")


@pytest.mark.parametrize(("field", "length"), [("model", 201), ("provider", 101)])
def test_what_no_statement_could_keep_is_refused(bank: Bank, field: str, length: int) -> None:
    user = bank.customer(1)
    with refused("invalid_body", 400, f"{field}: "):
        reserve(bank, user, **{field: "x" * length})
