"""Wallets are for ever, unless the tenant says otherwise: then the oldest points go first."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import NOW, Connection, code_of

DAY = timedelta(days=1)


@pytest.fixture
def shop(company: Company) -> Shop:
    """One whose wallets end after 90 days."""
    company.world.freeze()
    return Shop.open(company, wallet_expiry_policy="90_days")


def expire(
    company: Company, limit: int = 1000, through: Connection | None = None
) -> tuple[int, str]:
    """What upkeep does: how many wallets it looked at, and how many points ended."""
    answer = company.call("expire_wallets", through or company.world.worker, limit=limit)
    return answer["looked_at"], answer["points"]


def spend(shop: Shop, user: UUID, points: object) -> None:
    shop.company.move(
        shop.tenant, f"tenant.wallet:{user}", "tenant.redeemed", D(str(points)), "redemption"
    )


def oldest(shop: Shop, user: UUID) -> datetime:
    """Since when upkeep believes that the oldest points have been there."""
    at: datetime = shop.company.world.value(
        "select oldest_lot_at from wallets where user_id = %s", (user,)
    )
    return at


def test_wallets_are_for_ever(company: Company) -> None:
    company.world.freeze()
    shop = Shop.open(company)
    user = shop.member(100)
    company.world.pass_time(10_000 * DAY)
    assert expire(company) == (0, "0")
    assert shop.wallet(user) == "100"


@pytest.mark.parametrize(
    ("policy", "end"),
    [
        ("90_days", NOW + 90 * DAY),
        ("180_days", NOW + 180 * DAY),
        ("1_year", NOW.replace(year=NOW.year + 1)),
    ],
)
def test_they_end_when_the_policy_says_so(company: Company, policy: str, end: datetime) -> None:
    company.world.freeze()
    shop, other = Shop.open(company, wallet_expiry_policy=policy), Shop.open(company)
    user, stranger = shop.member(100.5), other.member(100)
    assert expire(company) == (1, "0")
    company.world.freeze(end - timedelta(microseconds=1))
    assert expire(company) == (0, "0")
    company.world.freeze(end)
    assert expire(company) == (1, "100.5")
    assert expire(company) == (0, "0")
    assert (shop.wallet(user), other.wallet(stranger)) == ("0", "100")
    assert company.statement(shop.tenant, user)[-1] == ("expiry", "-100.5", "0")
    assert company.account(shop.tenant, "tenant.expired") == "0"  # keeps no balance of its own
    (entry,) = company.world.rows(
        "select to_account, kind from ledger.transfers where kind = 'expiry'"
    )
    assert entry == {"to_account": "tenant.expired", "kind": "expiry"}


def test_the_oldest_points_are_spent_first(shop: Shop) -> None:
    user = shop.member(100)
    shop.company.world.pass_time(30 * DAY)
    shop.company.enrich(shop.tenant, user, 50)
    spend(shop, user, 70)
    shop.company.world.freeze(NOW + 90 * DAY)
    assert expire(shop.company) == (1, "30")
    assert oldest(shop, user) == NOW + 30 * DAY
    # What is spent now is of the second lot.
    spend(shop, user, 20)
    shop.company.world.freeze(NOW + 120 * DAY)
    assert expire(shop.company) == (1, "30")
    assert oldest(shop, user) == NOW + 120 * DAY
    assert shop.wallet(user) == "0"


def test_what_was_spent_of_later_lots_leaves_nothing_to_end(shop: Shop) -> None:
    user = shop.member(10)
    shop.company.world.pass_time(DAY)
    shop.company.enrich(shop.tenant, user, 10)
    spend(shop, user, 15)
    shop.company.world.freeze(NOW + 90 * DAY)
    assert expire(shop.company) == (1, "0")
    assert shop.wallet(user) == "5"
    shop.company.world.freeze(NOW + 91 * DAY)
    assert expire(shop.company) == (1, "5")


def test_a_refund_is_a_new_lot(shop: Shop) -> None:
    user = shop.member(100)
    redemption = shop.redeem(user, shop.reward(100))["redemption_id"]
    shop.company.world.pass_time(89 * DAY)
    shop.refund(redemption)
    shop.company.world.pass_time(DAY)
    assert expire(shop.company) == (1, "0")
    shop.company.world.pass_time(89 * DAY)
    assert expire(shop.company) == (1, "100")


def test_a_policy_that_changes_counts_for_what_is_there(company: Company) -> None:
    company.world.freeze()
    shop = Shop.open(company)
    user = shop.member(10)
    company.world.pass_time(200 * DAY)
    company.enrich(shop.tenant, user, 7)
    for policy, ended in (("1_year", "0"), ("180_days", "10"), ("90_days", "0"), ("never", "0")):
        company.world.operator.execute("update tenants set wallet_expiry_policy = %s", (policy,))
        assert expire(company)[1] == ended
    company.world.pass_time(1000 * DAY)
    assert expire(company) == (0, "0")
    assert shop.wallet(user) == "7"


def test_it_takes_so_many_at_a_time_the_oldest_first(shop: Shop) -> None:
    users = [shop.member(1)]
    for _ in range(4):
        shop.company.world.pass_time(timedelta(hours=1))
        users.append(shop.member(1))
    # Once all are known, upkeep goes by when each began.
    assert expire(shop.company) == (5, "0")
    shop.company.world.freeze(NOW + 91 * DAY)
    assert expire(shop.company, limit=2) == (2, "2")
    assert [shop.wallet(user) for user in users] == ["0", "0", "1", "1", "1"]
    assert [expire(shop.company, limit=2) for _ in range(3)] == [(2, "2"), (1, "1"), (0, "0")]


def test_of_many_tenants_each_by_its_policy(shop: Shop) -> None:
    others = [
        Shop.open(shop.company, wallet_expiry_policy=policy)
        for policy in ("180_days", "90_days", "never")
    ]
    users = [(each, each.member(10)) for each in (shop, *others)]
    shop.company.world.freeze(NOW + 90 * DAY)
    assert expire(shop.company, limit=1) == (1, "10")
    assert expire(shop.company, limit=2)[0] == 2
    assert expire(shop.company)[0] == 0
    assert [each.wallet(user) for each, user in users] == ["0", "10", "0", "10"]


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_queue_of_lots(shop: Shop, seed: int) -> None:
    chance = random.Random(seed)
    user, lots, now = shop.member(), deque[list[Any]](), NOW
    for _ in range(40):
        now += chance.randint(0, 40) * DAY
        shop.company.world.freeze(now)
        match chance.choice(("earn", "spend", "expire")):
            case "earn":
                points = D(chance.randint(1, 1000)) / 100
                shop.company.enrich(shop.tenant, user, points)
                lots.append([now, points])
            case "spend" if lots:
                left = points = (sum(lot[1] for lot in lots) / 3).quantize(D("0.01"))
                if not points:
                    continue
                spend(shop, user, points)
                while left:
                    taken = min(left, lots[0][1])
                    lots[0][1] -= taken
                    left -= taken
                    if not lots[0][1]:
                        lots.popleft()
            case "expire":
                expire(shop.company)
                while lots and lots[0][0] <= now - 90 * DAY:
                    lots.popleft()
                assert D(shop.wallet(user)) == sum(lot[1] for lot in lots)
                # It may look too early and in vain, but never too late.
                assert not lots or oldest(shop, user) <= lots[0][0]


def test_workers_at_the_same_time_expire_once(shop: Shop) -> None:
    users = [shop.member(3) for _ in range(20)]
    shop.company.world.freeze(NOW + 90 * DAY)
    calls = [lambda session: expire(shop.company, through=session) for _ in range(4)]
    results = shop.company.world.at_once(calls, "tallybook_worker")
    assert sum(int(result[1]) for result in results) == 60  # type: ignore[index]
    assert {shop.wallet(user) for user in users} == {"0"}


def test_expiry_and_spending_at_the_same_time_take_each_point_once(shop: Shop) -> None:
    user, reward = shop.member(10), shop.reward(1)
    shop.company.world.pass_time(DAY)
    shop.company.enrich(shop.tenant, user, 2)
    shop.company.world.freeze(NOW + 90 * DAY)
    calls: list[Callable[[Connection], Any]] = [
        lambda session: shop.redeem(user, reward, through=session) for _ in range(4)
    ]
    calls.append(lambda _: expire(shop.company))
    results = shop.company.world.at_once(calls)
    refusals = [code_of(r) for r in results if isinstance(r, psycopg.Error)]
    assert refusals == ["insufficient_wallet"] * 2
    assert shop.wallet(user) == "0"


def test_who_is_spending_has_spent_before_the_wallet_is_looked_at(shop: Shop) -> None:
    user, reward = shop.member(10), shop.reward(7)
    shop.company.world.freeze(NOW + 89 * DAY)
    spender = shop.company.world.session("tallybook_functions", autocommit=False)
    shop.redeem(user, reward, through=spender)
    shop.company.world.freeze(NOW + 90 * DAY)
    worker = shop.company.world.session("tallybook_worker")
    with shop.company.world.in_background(
        lambda session: expire(shop.company, through=session), worker
    ) as done:
        spender.commit()
        assert done.result() == (1, "3")
    assert shop.wallet(user) == "0"


def test_a_function_may_not_call_it(shop: Shop) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        expire(shop.company, through=shop.company.world.functions)
