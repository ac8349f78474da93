"""public.release_credits: what was reserved for a call that is not made is given back."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import Connection, code_of, refused


def reserve(bank: Bank, user: UUID, **request: Any) -> str:
    """Reserve 0.00375 credits, if nothing else is said; the reservation's id."""
    request = {"user_id": user, "model": "gpt-4o", "max_tokens": 1000} | request
    reservation_id: str = bank.call("reserve_credits", **request)["reservation_id"]
    return reservation_id


def release(
    bank: Bank, user: UUID, reservation: str, through: Connection | None = None, **request: Any
) -> Any:
    """Release as the functions do."""
    request = {"user_id": user, "reservation_id": reservation} | request
    return bank.call("release_credits", through, **request)


# It does


def test_what_was_reserved_is_available_again(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    assert release(bank, user, reservation) == {
        "reservation_id": reservation,
        "released": 0.00375,
        "available": 1.0,
        "account": {
            "user_id": str(user),
            "balance": 1.0,
            "tier": "free",
            "monthly_cap": None,
            "version": 1,
        },
        "replayed": False,
    }
    assert (bank.balance(user), bank.available(user)) == (D(1), D(1))
    assert bank.statement(user) == [("bonus", D(1), D(1))]
    assert bank.world.count("usage_events") == 0


def test_what_is_released_does_not_count_for_the_cap(bank: Bank) -> None:
    user = bank.customer(1)
    bank.call("set_monthly_cap", user_id=user, monthly_cap="0.00375")
    release(bank, user, reserve(bank, user))
    reserve(bank, user)


def test_what_was_free_is_released_by_who_has_nothing(bank: Bank) -> None:
    user = uuid4()
    answer = release(bank, user, reserve(bank, user, model="llama3-8b-local"))
    assert (answer["released"], answer["available"]) == (0.0, 0.0)


# It replays


@pytest.mark.parametrize("model", ["gpt-4o", "llama3-8b-local"])
def test_a_replay_gets_the_same_answer(bank: Bank, model: str) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservation = reserve(bank, user, model=model)
    first = release(bank, user, reservation)
    bank.world.pass_time(timedelta(days=1500))
    bank.give(user, 4)
    again = release(bank, user, reservation)
    assert again == first | {"replayed": True, "account": again["account"]}
    assert bank.available(user) == 5


# It refuses


@pytest.mark.parametrize("model", ["gpt-4o", "llama3-8b-local"])
@pytest.mark.parametrize("tokens", [0, 400])
def test_what_is_settled_is_not_released(bank: Bank, model: str, tokens: int) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user, model=model)
    bank.call("settle_credits", user_id=user, reservation_id=reservation, tokens_used=tokens)
    balance = bank.balance(user)
    with refused("reservation_closed", 409, "reservation_id: it was settled"):
        release(bank, user, reservation)
    assert bank.available(user) == balance


@pytest.mark.parametrize("model", ["gpt-4o", "llama3-8b-local"])
def test_what_has_expired_is_not_released(bank: Bank, model: str) -> None:
    bank.world.freeze()
    user = bank.customer(1)
    reservation = reserve(bank, user, model=model)
    bank.world.pass_time(timedelta(minutes=10))
    bank.call("expire_holds", bank.world.worker)
    with refused("reservation_closed", 409, "reservation_id: it was expired"):
        release(bank, user, reservation)
    assert bank.available(user) == 1


def test_somebody_elses_reservation_is_not_found(bank: Bank) -> None:
    user, other = bank.customer(1), bank.customer(1)
    reservation = reserve(bank, user)
    for who, which in [(other, reservation), (user, str(uuid4()))]:
        with refused("reservation_not_found", 404, "reservation_id: "):
            release(bank, who, which)
    assert bank.available(user) == D("0.99625")


def test_a_user_does_not_release_what_a_program_reserved(bank: Bank) -> None:
    user = bank.customer(1)
    reservation = reserve(bank, user)
    with refused("forbidden", 403):
        release(bank, user, reservation, by_user=True)
    own = reserve(bank, user, by_user=True)
    assert release(bank, user, own, by_user=True)["released"] == 0.00375


# It races


def test_releases_at_once_give_back_once(bank: Bank) -> None:
    user = bank.customer(1)
    reserve(bank, user)
    reservation = reserve(bank, user)
    results = bank.world.at_once([lambda s: release(bank, user, reservation, s)] * 4)
    answers = [result for result in results if isinstance(result, dict)]
    assert sorted(answer["replayed"] for answer in answers) == [False, True, True, True]
    assert bank.available(user) == D("0.99625")


@pytest.mark.parametrize("model", ["gpt-4o", "llama3-8b-local"])
def test_of_a_release_and_a_settlement_one_wins(bank: Bank, model: str) -> None:
    user = bank.customer(1)
    reservations = [reserve(bank, user, model=model) for _ in range(4)]

    def releasing(reservation: str) -> Any:
        return lambda s: release(bank, user, reservation, s)

    def settling(reservation: str) -> Any:
        return lambda s: bank.call(
            "settle_credits", s, user_id=user, reservation_id=reservation, tokens_used=400
        )

    results = bank.world.at_once(
        [make(reservation) for reservation in reservations for make in (releasing, settling)]
    )
    for pair in zip(results[::2], results[1::2], strict=True):
        assert [code_of(result) for result in pair].count("reservation_closed") == 1, pair
    assert bank.available(user) == bank.balance(user)
