"""No account of a tenant holds more than its column: what would is refused and writes nothing."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import Connection, code_of, refused

MOST = D("9999999999999.99")


@pytest.fixture
def shop(company: Company) -> Shop:
    return Shop.open(company, wallets_permanent=False)


def credit(shop: Shop, user: UUID, amount: object, **more: Any) -> Any:
    asked = {
        "user_id": None, "tenant_id": shop.tenant, "to_user_id": user, "amount": amount,
        "source": "hr_allocation", "reason": "Moved", **more,
    }  # fmt: skip
    through = asked.pop("through", None)
    return shop.company.call("credit_wallet", through, **asked)


def written(shop: Shop) -> list[Any]:
    """Everything that a movement writes."""
    tables = (
        "wallet_ledger", "platform_billing_logs", "allocation_logs", "lead_delegations",
        "audit_log", "ledger.transfers",
    )  # fmt: skip
    world = shop.company.world
    return [
        *(world.count(table) for table in tables),
        world.rows("select book_id, account, balance from ledger.accounts order by 1, 2"),
        world.rows("select user_id, balance, lifetime_earned from wallets order by 1"),
        world.rows("select id, status from recognitions order by 1"),
        world.rows("select id, status from reward_redemptions order by 1"),
    ]


def test_a_wallet_is_filled_to_the_brim_and_no_further(shop: Shop) -> None:
    user, entry = shop.member(), UUID(int=7)
    assert credit(shop, user, MOST, entry_id=entry)["new_wallet_balance"] == str(MOST)
    before = written(shop)
    with refused("invalid_amount", 400, "amount: "):
        credit(shop, user, D("0.01"))
    # What was filled before is answered, though there is room no more.
    assert credit(shop, user, MOST, entry_id=entry)["replayed"] is True
    assert written(shop) == before


def test_what_a_wallet_was_ever_filled_with_has_an_end_too(shop: Shop) -> None:
    user, reward = shop.member(), shop.reward(MOST)
    credit(shop, user, MOST)
    redemption = shop.redeem(user, reward)["redemption_id"]
    before = written(shop)
    with refused("invalid_amount", 400, "amount: "):
        credit(shop, user, 1)
    with refused("invalid_amount", 400, "redemption_id: "):
        shop.refund(redemption)
    assert written(shop) == before


def test_of_two_who_fill_the_same_wallet_at_once_one_is_refused(shop: Shop) -> None:
    user, half = shop.member(), MOST / 2 + 1
    half = half.quantize(D("0.01"))
    calls = [lambda session: credit(shop, user, half, through=session)] * 2
    outcomes = shop.company.world.at_once(calls)
    failed = [outcome for outcome in outcomes if isinstance(outcome, psycopg.Error)]
    assert [code_of(each) for each in failed] == ["invalid_amount"]
    assert shop.wallet(user) == str(half).rstrip("0").rstrip(".")


def test_a_pool_takes_no_more_than_it_holds(shop: Shop) -> None:
    company, tenant = shop.company, shop.tenant
    lead = company.member(tenant, "tenant_lead")
    company.allocate(tenant, MOST)
    company.delegate(shop.manager, lead, 10)
    company.allocate(tenant, 10)
    before = written(shop)
    with refused("invalid_amount", 400, "amount: "):
        company.allocate(tenant, "0.01")
    for amount in (None, D("0.01")):
        with refused("invalid_amount", 400, "amount: "):
            company.call("recall_from_lead", user_id=shop.manager, lead_user_id=lead, amount=amount)
    with refused("invalid_amount", 400, "balance: "):
        company.call(
            "adjust_tenant_pool_to", user_id=None, tenant_id=tenant, balance=MOST + 1, reason="x"
        )
    assert written(shop) == before


def test_a_lead_takes_no_more_than_they_hold(shop: Shop) -> None:
    company, tenant = shop.company, shop.tenant
    lead = company.member(tenant, "tenant_lead")
    company.allocate(tenant, MOST)
    company.delegate(shop.manager, lead, MOST)
    company.allocate(tenant, 10)
    before = written(shop)
    with refused("invalid_amount", 400, "amount: "):
        company.delegate(shop.manager, lead, "0.01")
    assert written(shop) == before


def test_what_has_no_room_where_it_came_from_is_not_revoked(shop: Shop) -> None:
    company, tenant = shop.company, shop.tenant
    company.fund(tenant, 10)
    given = company.call(
        "give_recognition", user_id=shop.manager, recipients=[shop.member()], points=10,
        message="Thanks",
    )  # fmt: skip
    company.allocate(tenant, MOST)
    before = written(shop)
    with refused("invalid_amount", 400, "recognition_id: "):
        company.call(
            "revoke_recognition", user_id=shop.manager, recognition_id=given["recognition_id"],
            reason="A mistake",
        )  # fmt: skip
    assert written(shop) == before


def test_an_allocation_without_room_leaves_the_others_theirs(shop: Shop) -> None:
    company = shop.company
    full, empty = shop.tenant, company.tenant()
    company.allocate(full, MOST)
    said = company.call(
        "bulk_allocate_to_tenants", user_id=None, tenant_ids=[full, empty], amount=D(5)
    )
    assert [each["success"] for each in said["results"]] == [False, True]
    assert (company.pool(full), company.pool(empty)) == (str(MOST), "5")


@pytest.mark.parametrize("who", ["postgres", "tallybook_operator"])
def test_by_hand_it_is_refused_as_well(shop: Shop, who: str) -> None:
    company, session = shop.company, shop.company.world.session(who)
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        session.execute("update tenants set points_allocation_balance = 10000000000000")
    session.execute("update tenants set points_allocation_balance = %s", (MOST,))
    assert company.pool(shop.tenant) == str(MOST)


def test_who_fills_a_wallet_meanwhile_is_seen(shop: Shop) -> None:
    """What is decided is decided where the wallet's account is held, not before."""
    user, world = shop.member(), shop.company.world
    first = world.session("tallybook_functions", autocommit=False)
    credit(shop, user, MOST, through=first)

    def second(session: Connection) -> Any:
        return credit(shop, user, 1, through=session)

    with world.in_background(second, world.session("tallybook_functions")) as done:
        first.commit()
        with refused("invalid_amount", 400, "amount: "):
            done.result()
    assert shop.wallet(user) == str(MOST)
