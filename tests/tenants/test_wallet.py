"""What a member has and had, and how an administrator fills it from outside the pool."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import Connection, refused


@pytest.fixture
def shop(company: Company) -> Shop:
    return Shop.open(company)


def credit(shop: Shop, by: UUID | None, user: UUID, amount: object, **more: Any) -> Any:
    """Fill a wallet, by default with what an older system kept."""
    said = {"tenant_id": shop.tenant, "source": "hr_allocation", "reason": "Moved", **more}
    through = said.pop("through", None)
    return shop.company.call(
        "credit_wallet", through, user_id=by, to_user_id=user, amount=amount, **said
    )


def test_a_new_member_has_nothing(shop: Shop) -> None:
    user = shop.member()
    assert shop.company.call("wallet", user_id=user) == {
        "tenant_id": str(shop.tenant),
        "user_id": str(user),
        "balance": "0",
        "lifetime_earned": "0",
        "lifetime_spent": "0",
        "entries": [],
    }


def test_a_wallet_tells_of_its_last_ten_entries(shop: Shop) -> None:
    user, reward = shop.member(1000), shop.reward(10.5)
    for _ in range(11):
        last = shop.redeem(user, reward)
    seen = shop.company.call("wallet", user_id=user)
    entries = seen.pop("entries")
    assert seen == {
        "tenant_id": str(shop.tenant),
        "user_id": str(user),
        "balance": "884.5",
        "lifetime_earned": "1000",
        "lifetime_spent": "115.5",
    }
    assert [entry["balance_after"] for entry in entries] == [
        str(D("884.5") + n * D("10.5")).removesuffix(".0") for n in range(10)
    ]
    assert entries[0] | {"created_at": None} == {
        "id": last["ledger_entry_id"],
        "transaction_type": "debit",
        "source": "redemption",
        "points": "10.5",
        "balance_after": "884.5",
        "reference_type": "reward_redemption",
        "reference_id": last["redemption_id"],
        "description": "Mug",
        "created_by": str(user),
        "created_at": None,
    }


def test_a_wallet_is_its_members(shop: Shop) -> None:
    other = Shop.open(shop.company)
    user = shop.member(5)
    with refused("forbidden", 403):
        shop.company.call("wallet", user_id=uuid4())
    with refused("forbidden", 403):
        shop.company.call("wallet", user_id=user, tenant_id=other.tenant)
    shop.company.member(other.tenant, user_id=user)
    with refused("invalid_body", 400, "tenant_id: "):
        shop.company.call("wallet", user_id=user)
    wallets = [
        shop.company.call("wallet", user_id=user, tenant_id=tenant)["balance"]
        for tenant in (shop.tenant, other.tenant)
    ]
    assert wallets == ["5", "0"]


@pytest.mark.parametrize(
    ("source", "account"), [("hr_allocation", "tenant.legacy"), ("adjustment", "tenant.adjusted")]
)
def test_an_old_balance_comes_over(shop: Shop, admin: UUID, source: str, account: str) -> None:
    user = shop.member()
    answer = credit(shop, admin, user, D("1200.50"), source=source)
    assert answer == {
        "tenant_id": str(shop.tenant),
        "user_id": str(user),
        "amount": "1200.5",
        "new_wallet_balance": "1200.5",
        "ledger_entry_id": answer["ledger_entry_id"],
    }
    assert shop.wallet(user) == "1200.5"
    assert shop.company.statement(shop.tenant, user) == [(source, "1200.5", "1200.5")]
    assert (
        shop.company.world.value(
            "select from_account from ledger.transfers where transfer_id = %s",
            (answer["ledger_entry_id"],),
        )
        == account
    )
    assert shop.company.pool(shop.tenant) == "0"
    (said,) = shop.company.world.rows("select * from audit_log where action = 'wallet.credit'")
    assert (said["actor"], said["reason"]) == (f"{admin}@example.org", "Moved")
    assert (said["before"], said["after"]["balance"]) == ({"balance": "0"}, "1200.5")


def test_an_import_made_twice_is_one(shop: Shop) -> None:
    user, entry = shop.member(), uuid4()
    first = credit(shop, None, user, 100, entry_id=entry)
    credit(shop, None, user, 1)
    assert credit(shop, None, user, 100, entry_id=entry) == {**first, "replayed": True}
    assert shop.wallet(user) == "101"
    for change in ({"amount": 99}, {"source": "adjustment"}, {"user": shop.member()}):
        said: dict[str, Any] = {"amount": 100, "user": user, "entry_id": entry, **change}
        with refused("nonce_reused", 409, "entry_id: "):
            credit(shop, None, **said)
    # Nor is it another's transfer.
    redemption = shop.redeem(user, shop.reward(100))["ledger_entry_id"]
    with refused("nonce_reused", 409, "entry_id: "):
        credit(shop, None, user, 100, entry_id=redemption)
    assert shop.company.world.count("audit_log", "action = 'wallet.credit'") == 2


def test_the_same_import_many_times_at_once_is_one(shop: Shop) -> None:
    user, entry = shop.member(), uuid4()
    calls: list[Callable[[Connection], Any]] = [
        lambda session: credit(shop, None, user, 100, entry_id=entry, through=session)
    ] * 16
    results = shop.company.world.at_once(calls)
    assert not [r for r in results if isinstance(r, psycopg.Error)]
    assert sum("replayed" in r for r in results) == 15
    assert shop.wallet(user) == "100"


@pytest.mark.parametrize(
    ("change", "code", "status", "detail"),
    [
        ({"reason": " "}, "reason_required", 400, "reason: "),
        ({"amount": 0}, "invalid_amount", 400, "amount: "),
        ({"amount": -5}, "invalid_amount", 400, "amount: "),
        ({"amount": None}, "invalid_amount", 400, "amount: "),
        ({"amount": D("0.001")}, "invalid_amount", 400, "amount: "),
        ({"amount": 10**13}, "invalid_amount", 400, "amount: "),
        ({"amount": D("NaN")}, "invalid_amount", 400, "amount: "),
        ({"source": "recognition"}, "invalid_body", 400, "source: "),
        ({"source": None}, "invalid_body", 400, "source: "),
        ({"tenant_id": UUID(int=1)}, "tenant_not_found", 404, "Tenant not found"),
        ({"user": UUID(int=1)}, "recipient_not_found", 404, ""),
    ],
)
def test_what_fills_no_wallet(
    shop: Shop, change: dict[str, Any], code: str, status: int, detail: str
) -> None:
    user = shop.member()
    with refused(code, status, detail):
        credit(shop, None, **{"user": user, "amount": 5, **change})
    assert shop.wallet(user) == "0"


def test_only_administrators_fill_wallets_and_not_their_own(shop: Shop, admin: UUID) -> None:
    user = shop.member()
    for other in (user, shop.manager, uuid4()):
        with refused("forbidden", 403):
            credit(shop, other, user, 5)
    shop.company.member(shop.tenant, user_id=admin)
    with refused("own_event", 403):
        credit(shop, admin, admin, 5)
    with refused("recipient_not_found", 404):
        credit(shop, admin, Shop.open(shop.company).member(), 5)
