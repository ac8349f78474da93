"""A member's points become a reward, once, while there are points and rewards; or come back."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal as D
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.shop import Shop
from tests.world import code_of, refused

RACERS = 64


@pytest.fixture
def shop(company: Company) -> Shop:
    return Shop.open(company)


def test_points_become_a_reward(shop: Shop) -> None:
    user, reward = shop.member(250.5), shop.reward(100.25, stock=2, name="Coffee")
    answer = shop.redeem(user, reward)
    assert answer == {
        "redemption_id": answer["redemption_id"],
        "tenant_id": str(shop.tenant),
        "reward_id": str(reward),
        "reward_name": "Coffee",
        "points_spent": "100.25",
        "new_wallet_balance": "150.25",
        "ledger_entry_id": answer["ledger_entry_id"],
    }
    assert (shop.wallet(user), shop.stock(reward)) == ("150.25", 1)
    assert shop.company.statement(shop.tenant, user)[-1] == ("redemption", "-100.25", "150.25")
    entry = shop.company.world.rows(
        "select l.reference_type, l.reference_id, t.to_account from wallet_ledger as l"
        " join ledger.transfers as t on t.book_id = l.tenant_id and t.transfer_id = l.id"
        " where l.id = %s",
        (answer["ledger_entry_id"],),
    )
    assert entry == [
        {
            "reference_type": "reward_redemption",
            "reference_id": UUID(answer["redemption_id"]),
            "to_account": "tenant.redeemed",
        }
    ]


def test_what_has_no_stock_never_ends(shop: Shop) -> None:
    user, reward = shop.member(300), shop.reward(100)
    for left in ("200", "100", "0"):
        assert shop.redeem(user, reward)["new_wallet_balance"] == left
    assert shop.stock(reward) is None


def test_the_same_key_is_the_same_redemption(shop: Shop) -> None:
    user, reward, other = shop.member(300), shop.reward(100, stock=5), shop.reward(50)
    first = shop.redeem(user, reward, "key")
    shop.redeem(user, other, "another key")
    # What happened since changes nothing of what was answered.
    shop.company.call("set_reward", user_id=shop.manager, reward_id=reward, name="Cup")
    assert shop.redeem(user, reward, "key") == {**first, "replayed": True}
    assert (shop.wallet(user), shop.stock(reward)) == ("150", 4)
    with refused("nonce_reused", 409, "idempotency_key: "):
        shop.redeem(user, other, "key")
    # Keys are one's own.
    assert "replayed" not in shop.redeem(shop.member(100), reward, "key")


def test_a_pause_stops_what_is_new_only(shop: Shop) -> None:
    user, reward = shop.member(300), shop.reward()
    first = shop.redeem(user, reward, "key")
    shop.company.world.operator.execute("update tenants set redemptions_paused = true")
    assert shop.redeem(user, reward, "key") == {**first, "replayed": True}
    with refused("redemptions_paused", 409):
        shop.redeem(user, reward, "new")
    assert shop.wallet(user) == "200"


def test_what_is_refused_takes_nothing(shop: Shop) -> None:
    user, gone = shop.member(99.99), shop.reward(10, stock=1)
    dear, withdrawn = shop.reward(100, stock=3), shop.reward(1)
    shop.redeem(user, gone)
    shop.company.call("set_reward", user_id=shop.manager, reward_id=withdrawn, is_active=False)
    elsewhere = Shop.open(shop.company).reward(1)
    with refused("insufficient_wallet", 400, "Available: 89.99, Required: 100"):
        shop.redeem(user, dear)
    with refused("reward_out_of_stock", 409):
        shop.redeem(user, gone)
    for reward in (withdrawn, elsewhere, uuid4()):
        with refused("reward_not_found", 404):
            shop.redeem(user, reward)
    with refused("invalid_body", 400, "idempotency_key: "):
        shop.redeem(user, dear, "x" * 201)
    assert (shop.wallet(user), shop.stock(dear), shop.stock(gone)) == ("89.99", 3, 0)
    with refused("insufficient_wallet", 400, "Available: 0, Required: 100"):
        shop.redeem(shop.member(), dear)


def test_only_members_redeem(shop: Shop) -> None:
    reward = shop.reward(1)
    with refused("forbidden", 403):
        shop.redeem(uuid4(), reward)
    with refused("forbidden", 403):
        shop.company.call(
            "redeem_reward",
            user_id=Shop.open(shop.company).member(10),
            reward_id=reward,
            tenant_id=shop.tenant,
        )


def test_of_many_at_once_so_many_get_one_as_there_are(shop: Shop) -> None:
    reward, users = shop.reward(100, stock=40), [shop.member(100) for _ in range(RACERS)]
    calls = [
        lambda session, user=user: shop.redeem(user, reward, through=session) for user in users
    ]
    results = shop.company.world.at_once(calls)
    refusals = Counter(code_of(r) for r in results if isinstance(r, psycopg.Error))
    assert refusals == {"reward_out_of_stock": RACERS - 40}
    assert shop.stock(reward) == 0
    assert Counter(shop.wallet(user) for user in users) == {"0": 40, "100": RACERS - 40}


def test_one_wallet_at_many_tills_is_spent_once(shop: Shop) -> None:
    user, reward = shop.member(500), shop.reward(100, stock=100)
    calls = [lambda session: shop.redeem(user, reward, through=session) for _ in range(16)]
    results = shop.company.world.at_once(calls)
    refusals = Counter(code_of(r) for r in results if isinstance(r, psycopg.Error))
    assert refusals == {"insufficient_wallet": 11}
    assert (shop.wallet(user), shop.stock(reward)) == ("0", 95)


def test_the_same_request_many_times_at_once_is_one(shop: Shop) -> None:
    user, reward = shop.member(500), shop.reward(100, stock=100)
    calls = [lambda session: shop.redeem(user, reward, "key", session) for _ in range(16)]
    results = shop.company.world.at_once(calls)
    assert len({r["redemption_id"] for r in results}) == 1  # type: ignore[index]
    assert sum("replayed" in r for r in results) == 15  # type: ignore[operator]
    assert (shop.wallet(user), shop.stock(reward)) == ("400", 99)


def test_a_refund_brings_back_the_points_and_the_reward(shop: Shop) -> None:
    user, reward = shop.member(100), shop.reward(70, stock=1)
    redemption = shop.redeem(user, reward)["redemption_id"]
    answer = shop.refund(redemption)
    assert answer == {
        "redemption_id": redemption,
        "tenant_id": str(shop.tenant),
        "user_id": str(user),
        "reward_id": str(reward),
        "points_refunded": "70",
        "new_wallet_balance": "100",
        "ledger_entry_id": redemption,
    }
    assert (shop.wallet(user), shop.stock(reward)) == ("100", 1)
    assert shop.company.statement(shop.tenant, user)[-1] == ("reversal", "70", "100")
    assert shop.company.account(shop.tenant, "tenant.redeemed") == "0"
    # A second time it is what it was, though the wallet has moved on.
    shop.redeem(user, reward)
    assert shop.refund(redemption, reason="Again") == {**answer, "replayed": True}
    assert shop.wallet(user) == "30"
    (said,) = shop.company.world.rows("select * from audit_log where action = 'reward.refund'")
    assert (said["actor"], said["reason"]) == (str(shop.manager), "Broken")
    assert (said["before"]["balance"], said["after"]["balance"]) == ("30", "100")


def test_who_refunds_is_a_manager_or_an_administrator(shop: Shop, admin: UUID) -> None:
    user, reward = shop.member(100), shop.reward(10)
    done = [shop.redeem(user, reward)["redemption_id"] for _ in range(3)]
    for other in (user, shop.member(role="manager"), Shop.open(shop.company).manager, uuid4()):
        with refused("forbidden", 403):
            shop.company.call(
                "refund_reward_redemption",
                user_id=other,
                redemption_id=done[0],
                reason="Why not",
                tenant_id=shop.tenant,
            )
    for by in (admin, None):
        said = {"user_id": by, "redemption_id": done.pop(), "reason": "Lost"}
        with refused("invalid_body", 400, "tenant_id: "):
            shop.company.call("refund_reward_redemption", **said)
        shop.company.call("refund_reward_redemption", **said, tenant_id=shop.tenant)
    shop.refund(done.pop(), by=shop.member(role="hr_admin"))
    assert shop.wallet(user) == "100"


def test_what_cannot_be_refunded(shop: Shop) -> None:
    reward = shop.reward(10)
    other = Shop.open(shop.company)
    elsewhere = other.redeem(other.member(10), other.reward(10))["redemption_id"]
    own = shop.member(10, "hr_admin")
    redemption = shop.redeem(own, reward)["redemption_id"]
    with refused("reason_required", 400):
        shop.refund(redemption, reason=" ")
    with refused("own_event", 403):
        shop.refund(redemption, by=own)
    for unknown in (elsewhere, uuid4()):
        with refused("redemption_not_found", 404):
            shop.refund(unknown)
    assert shop.wallet(own) == "0"


def test_many_refunds_at_once_are_one(shop: Shop) -> None:
    user, reward = shop.member(100), shop.reward(100, stock=1)
    redemption = shop.redeem(user, reward)["redemption_id"]
    said = {"user_id": shop.manager, "redemption_id": redemption, "reason": "Broken"}
    calls = [
        lambda session: shop.company.call("refund_reward_redemption", session, **said)
        for _ in range(16)
    ]
    results = shop.company.world.at_once(calls)
    assert sum("replayed" in r for r in results) == 15  # type: ignore[operator]
    assert (shop.wallet(user), shop.stock(reward)) == ("100", 1)
    assert shop.company.world.count("audit_log", "action = 'reward.refund'") == 1


def test_refunds_and_redemptions_at_the_same_time_lose_nothing(shop: Shop) -> None:
    users, reward = [shop.member(1000) for _ in range(8)], shop.reward(10, stock=8)
    done = [shop.redeem(user, reward)["redemption_id"] for user in users]
    calls = [
        lambda session, redemption=redemption: shop.company.call(
            "refund_reward_redemption",
            session,
            user_id=shop.manager,
            redemption_id=redemption,
            reason="Broken",
        )
        for redemption in done
    ]
    calls += [
        lambda session, user=user: shop.redeem(user, reward, through=session) for user in users
    ]
    results = shop.company.world.at_once(calls)
    codes = {code_of(r) for r in results if isinstance(r, psycopg.Error)}
    assert codes <= {"reward_out_of_stock"}
    bought = sum("points_spent" in r for r in results if isinstance(r, dict))
    assert shop.stock(reward) == 8 - bought
    assert sum(int(shop.wallet(user)) for user in users) == 8000 - 10 * bought


def test_the_catalogue_is_what_a_member_can_redeem(shop: Shop) -> None:
    user = shop.member(30)
    dear, cheap, withdrawn = shop.reward(50, stock=3), shop.reward(20.5), shop.reward(10)
    Shop.open(shop.company).reward(1)
    shop.company.call("set_reward", user_id=shop.manager, reward_id=withdrawn, is_active=False)
    seen = shop.company.call("rewards_catalogue", user_id=user)
    assert [each["reward_id"] for each in seen.pop("rewards")] == [str(cheap), str(dear)]
    assert seen == {"tenant_id": str(shop.tenant), "redemptions_paused": False, "balance": "30"}
    managed = shop.company.call("rewards_catalogue", user_id=shop.manager)["rewards"]
    assert [(r["points_cost"], r["stock"], r["is_active"]) for r in managed] == [
        ("10", None, False), ("20.5", None, True), ("50", 3, True),
    ]  # fmt: skip
    with refused("forbidden", 403):
        shop.company.call("rewards_catalogue", user_id=uuid4())


def test_a_manager_changes_what_is_on_offer(shop: Shop) -> None:
    reward = shop.reward(50, stock=3)
    change = {"user_id": shop.manager, "reward_id": reward}
    for more, seen in (
        ({"points_cost": D("60.5")}, ("60.5", 3)),
        ({"stock": 0}, ("60.5", 0)),
        ({"unlimited": True}, ("60.5", None)),
        ({"stock": 7, "description": "Hot"}, ("60.5", 7)),
    ):
        answer = shop.company.call("set_reward", **change, **more)
        assert (answer["points_cost"], answer["stock"]) == seen
    assert (answer["name"], answer["description"]) == ("Mug", "Hot")
    assert shop.company.world.count("audit_log", "action = 'reward.set'") == 5


@pytest.mark.parametrize(
    ("more", "code", "detail"),
    [
        ({"points_cost": 0}, "invalid_amount", "points_cost: "),
        ({"points_cost": D("1.005")}, "invalid_amount", "points_cost: "),
        ({"points_cost": 10**13}, "invalid_amount", "points_cost: "),
        ({"stock": -1}, "invalid_amount", "stock: "),
        ({"stock": 1, "unlimited": True}, "invalid_body", "stock: "),
        ({"name": " "}, "invalid_body", "name: "),
        ({"name": None}, "invalid_body", "name: "),
        ({"points_cost": None}, "invalid_body", "points_cost: "),
    ],
)
def test_no_reward_is_made_of_nonsense(
    shop: Shop, more: dict[str, object], code: str, detail: str
) -> None:
    said = {"user_id": shop.manager, "name": "Mug", "points_cost": 5, **more}
    with refused(code, 400, detail):
        shop.company.call("set_reward", **said)
    assert shop.company.world.count("rewards") == 0


def test_nobody_else_changes_it(shop: Shop) -> None:
    reward, other = shop.reward(), Shop.open(shop.company)
    for user in (shop.member(), shop.member(role="tenant_lead"), uuid4()):
        with refused("forbidden", 403):
            shop.company.call("set_reward", user_id=user, reward_id=reward, points_cost=1)
    with refused("forbidden", 403):
        shop.company.call(
            "set_reward", user_id=other.manager, reward_id=reward, tenant_id=shop.tenant, stock=1
        )
    with refused("reward_not_found", 404):
        shop.company.call("set_reward", user_id=other.manager, reward_id=reward, points_cost=1)
    with refused("tenant_not_found", 404):
        shop.company.call("set_reward", user_id=None, name="Mug", points_cost=1, tenant_id=uuid4())


def test_who_redeems_meets_the_end_of_their_points_before(company: Company) -> None:
    company.world.freeze()
    shop = Shop.open(company, wallet_expiry_policy="90_days")
    user, reward = shop.member(100), shop.reward(60)
    company.world.pass_time(timedelta(days=60))
    company.enrich(shop.tenant, user, 50)
    company.world.pass_time(timedelta(days=30))
    with refused("insufficient_wallet", 400, "Available: 50, Required: 60"):
        shop.redeem(user, reward)
    company.enrich(shop.tenant, user, 10)
    assert shop.redeem(user, reward)["new_wallet_balance"] == "0"
    assert ("expiry", "-100", "60") in company.statement(shop.tenant, user)
