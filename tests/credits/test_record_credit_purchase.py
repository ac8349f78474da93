"""Credits are bought: a payment grants its package once, with the discount that waits."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.credits.test_redeem_promotion import promotion, redeem
from tests.world import NOW, code_of, refused

TEN = {"package": "credits_10000", "payment_id": "pay_1"}


def buy(bank: Bank, user: UUID | str, **more: Any) -> Any:
    return bank.call(
        "record_credit_purchase", **({"user_id": None, "account": str(user)} | TEN | more)
    )


def discount(bank: Bank, user: UUID, percent: int = 50, code: str = "HALF", **more: Any) -> str:
    promotion(bank, code, discount_type="percentage", discount_value=percent, **more)
    redeem(bank, user, code)
    return code


def waiting(bank: Bank, user: UUID) -> list[str]:
    rows = bank.world.rows(
        "select code from coupon_redemptions where user_id = %s and spent_on is null order by code",
        (user,),
    )
    return [row["code"] for row in rows]


# It does


def test_a_payment_brings_its_package(bank: Bank) -> None:
    user = bank.customer(1)
    answer = buy(bank, user, amount_paid="10.00", actor="payments", request_id="r1")
    (row,) = bank.world.rows(
        "select * from credit_transactions where user_id = %s and transaction_type = 'purchase'",
        (user,),
    )
    assert answer == {
        "transaction_id": str(row["id"]),
        "credits": 10000.0,
        "price": 10.0,
        "currency": "USD",
        "discount": 0.0,
        "amount_due": 10.0,
        "new_balance": 10001.0,
        "account": {
            "user_id": str(user),
            "balance": 10001.0,
            "tier": "free",
            "monthly_cap": None,
            "version": 2,
        },
        "replayed": False,
    }
    assert row["metadata"] == {
        "payment_id": "pay_1",
        "package": "credits_10000",
        "price": 10,
        "currency": "USD",
        "discount": 0,
        "amount_due": 10,
        "code": None,
    }
    assert (row["actor"], row["request_id"], row["idempotency_key"]) == (
        "payments", "r1", "purchase:pay_1",
    )  # fmt: skip
    assert bank.lots(user) == [("bonus", D(1)), ("purchase", D(10000))]


def test_what_expired_meanwhile_is_not_in_the_new_balance(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(5, expires_at=NOW + timedelta(hours=1))
    bank.world.pass_time(timedelta(hours=2))
    assert buy(bank, user)["new_balance"] == 10000.0


def test_an_administrator_records_one_by_the_users_address(bank: Bank) -> None:
    administrator, user = uuid4(), uuid4()
    bank.world.operator.execute(
        "insert into system_admins (id, email) values (%s, 'ada@example.org')", (administrator,)
    )
    bank.world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'buyer@example.org')", (user,)
    )
    buy(bank, "Buyer@example.org", user_id=administrator)
    assert bank.balance(user) == 10000
    actor = bank.world.value("select actor from credit_transactions where user_id = %s", (user,))
    assert actor == "ada@example.org"


def test_the_offer_shows_what_is_due_and_the_purchase_takes_the_discount(bank: Bank) -> None:
    user = bank.customer()
    plain = bank.call("credit_packages_on_offer", user_id=user)["packages"]
    assert plain[0] == {
        "package": "credits_10000",
        "credits": 10000.0,
        "price": 10.0,
        "currency": "USD",
        "discount": 0.0,
        "amount_due": 10.0,
        "code": None,
    }
    discount(bank, user, 15)
    offered = bank.call("credit_packages_on_offer", user_id=user)["packages"]
    assert offered[0] == plain[0] | {"discount": 1.5, "amount_due": 8.5, "code": "HALF"}
    assert [package["amount_due"] for package in offered] == [8.5, 42.5, 85.0]
    answer = buy(bank, user, amount_paid="8.50")
    assert (answer["price"], answer["discount"], answer["amount_due"]) == (10.0, 1.5, 8.5)
    assert answer["credits"] == 10000
    spent = bank.world.value("select spent_on from coupon_redemptions where user_id = %s", (user,))
    assert str(spent) == answer["transaction_id"]
    assert bank.call("credit_packages_on_offer", user_id=user)["packages"] == plain


def test_what_is_not_on_offer_is_granted_when_it_was_paid(bank: Bank) -> None:
    bank.world.operator.execute("update credit_packages set is_active = false where price = 10")
    user = bank.customer()
    offered = bank.call("credit_packages_on_offer", user_id=user)["packages"]
    assert [package["price"] for package in offered] == [50.0, 100.0]
    assert buy(bank, user)["credits"] == 10000


def test_one_discount_is_spent_the_largest(bank: Bank) -> None:
    user, other = bank.customer(), bank.customer()
    discount(bank, user, 10, "TEN")
    discount(bank, user, 50)
    discount(bank, other, 90, "OTHERS")
    assert [buy(bank, user, payment_id=f"p{n}")["amount_due"] for n in range(3)] == [5.0, 9.0, 10.0]
    assert (waiting(bank, user), waiting(bank, other)) == ([], ["OTHERS"])


def test_of_equal_discounts_the_first_to_end_is_spent(bank: Bank) -> None:
    now, user = bank.world.now(), bank.customer()
    discount(bank, user, code="ATLAST", expires_at=now + timedelta(days=9))
    discount(bank, user, code="SOON", expires_at=now + timedelta(days=8))
    buy(bank, user)
    assert waiting(bank, user) == ["ATLAST"]


def test_a_discount_that_has_ended_is_none(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer()
    discount(bank, user, expires_at=NOW + timedelta(days=1))
    bank.world.pass_time(timedelta(days=1))
    assert buy(bank, user)["amount_due"] == 10.0
    assert waiting(bank, user) == ["HALF"]


def test_whoever_paid_in_full_keeps_the_discount(bank: Bank) -> None:
    user = bank.customer()
    discount(bank, user)
    assert buy(bank, user, amount_paid=10)["amount_due"] == 10.0
    assert waiting(bank, user) == ["HALF"]


@pytest.mark.parametrize(
    ("price", "percent", "off"), [("9.99", 50, 5.0), ("0.03", 33, 0.01), ("7", 100, 7.0)]
)
def test_a_discount_is_of_whole_cents(bank: Bank, price: str, percent: int, off: float) -> None:
    bank.world.operator.execute("update credit_packages set price = %s where price = 10", (price,))
    user = bank.customer()
    discount(bank, user, percent)
    answer = buy(bank, user)
    assert answer["discount"] == off
    assert round(answer["amount_due"] + off, 2) == float(price)


def test_what_costs_nothing_spends_no_discount(bank: Bank) -> None:
    bank.world.operator.execute("update credit_packages set price = 0 where price = 10")
    user = bank.customer()
    discount(bank, user)
    assert buy(bank, user)["amount_due"] == 0.0
    assert waiting(bank, user) == ["HALF"]


# It replays


def test_a_payment_told_again_is_answered_as_the_first_time(bank: Bank) -> None:
    user = bank.customer()
    discount(bank, user)
    discount(bank, user, 90, "MORE")
    first = buy(bank, user, amount_paid=1)
    bank.give(user, -100, "usage")
    bank.world.operator.execute("update credit_packages set price = 20 where price = 10")
    for again in (buy(bank, user, amount_paid=1), buy(bank, user), buy(bank, user, actor="other")):
        assert again["account"]["balance"] == 9900.0
        assert again | {"account": None} == first | {"account": None, "replayed": True}
    assert waiting(bank, user) == ["HALF"]
    assert bank.balance(user) == 9900


def test_another_users_payment_of_the_same_name_is_another_one(bank: Bank) -> None:
    users = [bank.customer(), bank.customer()]
    assert [buy(bank, user)["replayed"] for user in users] == [False, False]


def test_what_ended_before_stands_before_it_in_the_statement(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(3, expires_at=NOW + timedelta(days=1))
    bank.world.pass_time(timedelta(days=1))
    buy(bank, user)
    assert [row[0] for row in bank.statement(user)] == ["bonus", "expiry", "purchase"]


# It refuses


def test_a_payment_is_of_one_package(bank: Bank) -> None:
    user = bank.customer()
    buy(bank, user)
    with refused("nonce_reused", 409, "payment_id: pay_1"):
        buy(bank, user, package="credits_55000")
    assert bank.balance(user) == 10000


@pytest.mark.parametrize(("paid", "percent"), [("9.99", None), ("4.99", 50), (0, 50)])
def test_less_than_is_due_grants_nothing(bank: Bank, paid: Any, percent: int | None) -> None:
    user = bank.customer()
    if percent:
        discount(bank, user, percent)
    before = waiting(bank, user)
    with refused("payment_mismatch", 409, "amount_paid: "):
        buy(bank, user, amount_paid=paid)
    assert (bank.balance(user), waiting(bank, user)) == (0, before)
    # The payment was not taken: when the rest has come it is the same one.
    assert buy(bank, user, amount_paid=10)["replayed"] is False


@pytest.mark.parametrize(
    ("faults", "code", "status", "detail"),
    [
        ({"package": "credits_1"}, "package_not_found", 404, "package: credits_1"),
        ({"package": None}, "package_not_found", 404, "package: "),
        ({"payment_id": ""}, "invalid_body", 400, "payment_id: "),
        ({"payment_id": None}, "invalid_body", 400, "payment_id: "),
        ({"payment_id": "x" * 201}, "invalid_body", 400, "payment_id: "),
        ({"amount_paid": -1}, "invalid_body", 400, "amount_paid: "),
        ({"amount_paid": "NaN"}, "invalid_body", 400, "amount_paid: "),
        ({"amount_paid": "Infinity"}, "invalid_body", 400, "amount_paid: "),
        ({"account": "nobody@example.org"}, "user_not_found", 404, "account: "),
        ({"user_id": uuid4()}, "forbidden", 403, None),
    ],
)
def test_what_is_no_purchase(
    bank: Bank, faults: dict[str, Any], code: str, status: int, detail: str | None
) -> None:
    with refused(code, status, detail):
        buy(bank, uuid4(), **faults)
    assert bank.world.count("credit_transactions") == 0


def test_nobody_records_a_payment_of_their_own(bank: Bank) -> None:
    administrator = uuid4()
    bank.world.operator.execute("insert into system_admins (id) values (%s)", (administrator,))
    with refused("own_event", 403, "account: "):
        buy(bank, administrator, user_id=administrator)
    assert buy(bank, administrator)["credits"] == 10000


# It races


def test_webhooks_at_once_grant_once(bank: Bank) -> None:
    user = uuid4()
    discount(bank, user)
    results = bank.world.at_once(
        [
            lambda s: bank.call(
                "record_credit_purchase", s, user_id=None, account=str(user), amount_paid=5, **TEN
            )
        ]
        * 16
    )
    answers = [r for r in results if isinstance(r, dict)]
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 15
    assert len({answer["transaction_id"] for answer in answers}) == 1
    assert {answer["amount_due"] for answer in answers} == {5.0}
    assert bank.balance(user) == 10000


def test_purchases_at_once_spend_a_discount_once(bank: Bank) -> None:
    user = uuid4()
    discount(bank, user)
    paid = {"user_id": None, "account": str(user), "amount_paid": 5}
    results = bank.world.at_once(
        [
            lambda s, n=n: bank.call(  # type: ignore[misc]
                "record_credit_purchase", s, **paid, package="credits_10000", payment_id=f"pay_{n}"
            )
            for n in range(8)
        ]
    )
    refusals = [code_of(r) for r in results if not isinstance(r, dict)]
    assert refusals == ["payment_mismatch"] * 7
    assert bank.balance(user) == 10000


def test_a_code_redeemed_during_a_purchase_knows_of_it(bank: Bank) -> None:
    promotion(bank, discount_type="percentage")
    user = uuid4()
    buyer = bank.world.session("tallybook_functions", autocommit=False)
    bank.call("record_credit_purchase", buyer, user_id=None, account=str(user), **TEN)
    redeemer = bank.world.session("tallybook_functions")
    with bank.world.in_background(
        lambda s: bank.call("redeem_promotion", s, user_id=user, code="SPRING"), redeemer
    ) as redeeming:
        buyer.commit()
        assert redeeming.result()["new_balance"] == 10000.0
