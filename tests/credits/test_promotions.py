"""Promotional codes are made, listed and ended by administrators; every change is written down."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.credits.bank import Bank
from tests.credits.test_redeem_promotion import NOT_VALID, promotion, redeem
from tests.world import NOW, code_of, refused

SPRING: dict[str, Any] = {
    "code": "spring ",
    "discount_type": "fixed",
    "discount_value": "10.50",
    "description": "Ten and a half",
    "max_uses": 100,
    "max_uses_per_user": 2,
    "credits_expire_after_days": 30,
    "expires_at": NOW + timedelta(days=90_000),
}


@pytest.fixture
def administrator(bank: Bank) -> UUID:
    user = uuid4()
    bank.world.operator.execute(
        "insert into system_admins (id, email) values (%s, 'ada@example.org')", (user,)
    )
    return user


def create(bank: Bank, administrator: UUID | None = None, **more: Any) -> Any:
    return bank.call("create_promotion", user_id=administrator, **(SPRING | more))


def delete(bank: Bank, code: str = "SPRING", administrator: UUID | None = None, **more: Any) -> Any:
    return bank.call("delete_promotion", user_id=administrator, code=code, **more)


def listed(bank: Bank, administrator: UUID | None = None, **wanted: Any) -> list[tuple[str, str]]:
    answer = bank.call("list_promotions", user_id=administrator, **wanted)
    return [(found["code"], found["status"]) for found in answer["promotions"]]


def audited(bank: Bank) -> list[tuple[Any, ...]]:
    rows = bank.world.rows(
        "select actor, action, subject_id, reason, request_id from audit_log"
        " where subject_type = 'coupon_codes' order by audit_id"
    )
    return [tuple(row.values()) for row in rows]


# It does


def test_a_promotion_is_made_and_redeemed(bank: Bank, administrator: UUID) -> None:
    made = create(bank, administrator, request_id="r1")
    assert {name: made[name] for name in SPRING if name != "expires_at"} == {
        name: value for name, value in SPRING.items() if name != "expires_at"
    } | {"code": "SPRING", "discount_value": 10.5}
    assert (made["status"], made["times_used"], made["replayed"]) == ("active", 0, False)
    assert made["created_by"] == "ada@example.org"
    assert redeem(bank, uuid4())["credits"] == 10.5
    assert audited(bank) == [("ada@example.org", "settings.insert", "SPRING", None, "r1")]


def test_what_is_not_said_has_no_limit_but_one_a_user(bank: Bank) -> None:
    made = bank.call(
        "create_promotion", user_id=None, code="x-1", discount_type="bonus", discount_value=1
    )
    assert (made["max_uses"], made["max_uses_per_user"], made["expires_at"]) == (None, 1, None)


def test_each_stands_as_it_is_listed(bank: Bank, administrator: UUID) -> None:
    bank.world.freeze()
    day = timedelta(days=1)
    states: dict[str, dict[str, Any]] = {
        "ACTIVE": {},
        "INACTIVE": {"is_active": False},
        "SCHEDULED": {"valid_from": NOW + day},
        "EXPIRED": {"expires_at": NOW},
        "EXHAUSTED": {"max_uses": 1},
    }
    for number, (code, columns) in enumerate(states.items()):
        promotion(bank, code, created_at=NOW - day * number, **columns)
    redeem(bank, uuid4(), "EXHAUSTED")
    everything = [(code, code.lower()) for code in states]
    assert listed(bank, administrator) == listed(bank) == everything
    assert listed(bank, active=True) == everything[:1]
    assert listed(bank, active=False) == everything[1:]
    assert listed(bank, limit=2, offset=1) == everything[1:3]
    assert bank.call("list_promotions", user_id=None, limit=1)["total"] == 5
    assert bank.call("list_promotions", user_id=None, offset=9) == {"promotions": [], "total": 5}


def test_one_that_nobody_redeemed_goes(bank: Bank, administrator: UUID) -> None:
    promotion(bank)
    answer = delete(bank, " spring", administrator, reason="A typing error", request_id="r2")
    assert answer == {"code": "SPRING", "deleted": True, "times_used": 0, "replayed": False}
    assert listed(bank) == []
    assert audited(bank)[1:] == [
        ("ada@example.org", "settings.delete", "SPRING", "A typing error", "r2")
    ]


def test_one_that_was_redeemed_stays_and_ends(bank: Bank) -> None:
    promotion(bank, discount_type="percentage", max_uses_per_user=5)
    user = uuid4()
    redeem(bank, user)
    answer = delete(bank, actor="eve", reason="Enough")
    assert answer == {"code": "SPRING", "deleted": False, "times_used": 1, "replayed": False}
    assert listed(bank) == [("SPRING", "inactive")]
    assert redeem(bank, uuid4()) == redeem(bank, user) == NOT_VALID
    # The discount that waits is the user's.
    packages = bank.call("credit_packages_on_offer", user_id=user)["packages"]
    assert packages[0]["code"] == "SPRING"
    # A redemption is a row of its own, and no change of the settings.
    assert [row[:4] for row in audited(bank)[1:]] == [
        ("eve", "settings.update", "SPRING", "Enough")
    ]


# It replays


def test_the_same_promotion_again_is_the_same(bank: Bank) -> None:
    first = create(bank)
    redeem(bank, uuid4())
    again = create(bank, code="SPRING", discount_value="10.5")
    assert again == first | {"replayed": True, "times_used": 1}
    assert len(audited(bank)) == 1


def test_ending_it_again_is_told(bank: Bank) -> None:
    promotion(bank)
    redeem(bank, uuid4())
    first = delete(bank)
    assert delete(bank) == first | {"replayed": True}
    assert len(audited(bank)) == 2
    promotion(bank, "OTHER")
    delete(bank, "OTHER")
    with refused("promotion_not_found", 404, "code: OTHER"):
        delete(bank, "OTHER")


# It refuses


@pytest.mark.parametrize(
    "other",
    [
        {"discount_type": "bonus"},
        {"discount_value": 11},
        {"description": None},
        {"max_uses": None},
        {"max_uses_per_user": 1},
        {"tier": "starter"},
        {"credits_expire_after_days": None},
        {"valid_from": NOW},
        {"expires_at": None},
    ],
)
def test_a_code_stands_for_one_promotion(bank: Bank, other: dict[str, Any]) -> None:
    create(bank)
    with refused("promotion_exists", 409, "code: SPRING"):
        create(bank, **other)


def test_one_that_was_ended_is_not_made_again(bank: Bank) -> None:
    create(bank)
    redeem(bank, uuid4())
    delete(bank)
    with refused("promotion_exists", 409):
        create(bank)


@pytest.mark.parametrize(
    ("faults", "field"),
    [
        ({"code": " "}, "code"),
        ({"code": None}, "code"),
        ({"code": "ab"}, "code"),
        ({"code": "two words"}, "code"),
        ({"code": "x" * 65}, "code"),
        ({"discount_type": "gift"}, "discount_type"),
        ({"discount_type": None}, "discount_type"),
        ({"discount_value": None}, "discount_value"),
        ({"discount_value": 0}, "discount_value"),
        ({"discount_value": "0.0000001"}, "discount_value"),
        ({"discount_value": -1}, "discount_value"),
        ({"discount_value": "NaN"}, "discount_value"),
        ({"discount_value": "1e12"}, "discount_value"),
        ({"discount_type": "percentage", "discount_value": "100.01"}, "discount_value"),
        ({"discount_type": "free_month", "discount_value": "0.5"}, "discount_value"),
        ({"discount_type": "free_month", "discount_value": 121}, "discount_value"),
        ({"max_uses": 0}, "max_uses"),
        ({"max_uses_per_user": 0}, "max_uses_per_user"),
        ({"credits_expire_after_days": 0}, "credits_expire_after_days"),
        ({"valid_from": SPRING["expires_at"]}, "expires_at"),
    ],
)
def test_what_is_no_promotion(bank: Bank, faults: dict[str, Any], field: str) -> None:
    with refused("invalid_body", 400, f"{field}: "):
        create(bank, **faults)


def test_what_the_procedure_refuses_no_hand_writes(bank: Bank) -> None:
    for columns in (
        {"code": "lower"},
        {"discount_type": "percentage", "discount_value": 101},
        {"discount_type": "free_month", "discount_value": "1.5"},
        {"max_uses": 1, "times_used": 2},
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            promotion(bank, **columns)


def test_a_tier_that_is_none_is_refused(bank: Bank) -> None:
    with refused("unknown_tier", 400, "tier: gold"):
        create(bank, tier="gold")


def test_it_is_for_administrators(bank: Bank) -> None:
    promotion(bank)
    for call in (create, delete, listed):
        with refused("forbidden", 403):
            call(bank, administrator=uuid4())  # type: ignore[operator]
    assert listed(bank) == [("SPRING", "active")]


def test_what_is_not_there_is_not_ended(bank: Bank) -> None:
    with refused("promotion_not_found", 404, "code: NEVER"):
        delete(bank, "never")


# It races


def test_made_at_once_it_is_made_once(bank: Bank) -> None:
    values = [SPRING, SPRING | {"discount_value": 11}] * 8
    results = bank.world.at_once(
        [
            lambda s, v=v: bank.call("create_promotion", s, user_id=None, **v)  # type: ignore[misc]
            for v in values
        ]
    )
    made = [r["replayed"] for r in results if isinstance(r, dict)]
    assert sorted(made) == [False] + [True] * 7
    assert [code_of(r) for r in results if not isinstance(r, dict)] == ["promotion_exists"] * 8


def test_ended_while_it_is_redeemed_it_stays(bank: Bank) -> None:
    promotion(bank, max_uses_per_user=5)
    redeemer = bank.world.session("tallybook_functions", autocommit=False)
    bank.call("redeem_promotion", redeemer, user_id=uuid4(), code="SPRING")
    ender = bank.world.session("tallybook_functions")
    with bank.world.in_background(
        lambda s: bank.call("delete_promotion", s, user_id=None, code="SPRING"), ender
    ) as ending:
        redeemer.commit()
        assert ending.result()["deleted"] is False


def test_redeemed_while_it_is_ended_it_is_not_valid(bank: Bank) -> None:
    promotion(bank)
    user = uuid4()
    ender = bank.world.session("tallybook_functions", autocommit=False)
    bank.call("delete_promotion", ender, user_id=None, code="SPRING")
    redeemer = bank.world.session("tallybook_functions")
    with bank.world.in_background(
        lambda s: bank.call("redeem_promotion", s, user_id=user, code="SPRING"), redeemer
    ) as redeeming:
        ender.commit()
        assert redeeming.result() == NOT_VALID
    assert bank.world.count("credit_transactions") == 0


def test_switched_off_while_it_is_redeemed_it_is_not_valid(bank: Bank) -> None:
    promotion(bank)
    redeem(bank, uuid4())
    user = uuid4()
    ender = bank.world.session("tallybook_functions", autocommit=False)
    bank.call("delete_promotion", ender, user_id=None, code="SPRING")
    redeemer = bank.world.session("tallybook_functions")
    with bank.world.in_background(
        lambda s: bank.call("redeem_promotion", s, user_id=user, code="SPRING"), redeemer
    ) as redeeming:
        ender.commit()
        assert redeeming.result() == NOT_VALID
    assert bank.balance(user) == 0
