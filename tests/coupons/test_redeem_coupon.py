"""Redeeming: points leave, and a coupon is there: both, once, or neither."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.world import NOW, World, code_of, refused


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()


def test_a_coupon_is_bought(world: World) -> None:
    user, template = world.user(points=700), world.template(cost=500, days=30)
    answer = world.redeem(user, template, key="k-1", sealed_code="sealed", request_id="r-1")
    assert answer == {
        "success": True,
        "coupon_id": answer["coupon_id"],
        "expires_at": "2026-04-01T09:00:00+00:00",
        "points_cost": 500,
        "points_remaining": 200,
        "sealed_code": "sealed",
        "replayed": False,
    }


def test_points_event_coupon_and_cache_agree(world: World) -> None:
    user, template = world.user(points=700), world.template(cost=500)
    request = world.redemption(user, template, "k-1", request_id="r-1")
    answer = world.call("public.redeem_coupon", request, world.functions)
    (coupon,) = world.rows("select * from coupons")
    (event,) = world.rows("select * from points_events where event_type = 'redeem_coupon'")
    (transfer,) = world.rows("select * from ledger.transfers where kind = 'redeem_coupon'")

    assert str(coupon["coupon_id"]) == answer["coupon_id"]
    assert (coupon["issued_to"], coupon["template_id"]) == (user, template)
    assert (coupon["code_hash"], coupon["key_id"]) == (request["code_hash"], "k1")
    assert (coupon["plaintext_code"], coupon["status"]) == (None, "issued")
    assert (coupon["issued_points_cost"], coupon["issued_at"]) == (500, NOW)
    assert coupon["expires_at"] == NOW + timedelta(days=30)
    assert (coupon["single_use"], coupon["redeemed_at"]) == (True, None)
    assert coupon["points_event_id"] == event["id"]

    assert (event["user_id"], event["points_delta"], event["event_time"]) == (user, -500, NOW)
    assert (event["validation_status"], event["validated_by"]) == ("validated", "system")
    assert (event["validated_at"], event["request_id"]) == (NOW, "r-1")
    assert (event["related_entity_type"], event["related_entity_id"]) == (
        "coupon",
        coupon["coupon_id"],
    )
    assert (event["nonce"], event["transfer_id"]) == ("k-1", transfer["transfer_id"])

    assert (transfer["book_id"], transfer["amount"]) == (user, 500)
    assert (transfer["from_account"], transfer["to_account"]) == ("points", "points.spent")
    assert (transfer["source_type"], transfer["source_id"]) == ("points_event", event["id"])

    assert world.points(user) == 200
    assert world.cache(user) == (200, 0, 700, 500)


def test_the_last_point_can_be_spent(world: World) -> None:
    user = world.user(points=500)
    assert world.redeem(user, world.template(cost=500))["points_remaining"] == 0
    assert world.cache(user) == (0, 0, 500, 500)


def test_the_same_redemption_again_is_the_same_coupon(world: World) -> None:
    user, template = world.user(points=5000), world.template(cost=500)
    first = world.redeem(user, template, key="k-1", sealed_code="sealed-1")
    world.award(user, 100)
    world.pass_time(timedelta(minutes=10))
    # The retry made a code of its own, which nobody will ever see.
    again = world.redeem(user, template, key="k-1", sealed_code="sealed-2")
    assert again == {**first, "replayed": True}
    assert again["sealed_code"] == "sealed-1"
    assert world.count("coupons") == 1
    assert world.points(user) == 4600


@pytest.mark.parametrize(
    "since",
    [
        "update coupon_templates set is_active = false",
        "update coupon_templates set points_cost = 1, expires_after_days = 1",
        "update coupons set status = 'revoked'",
    ],
)
def test_what_happened_since_does_not_change_the_first_answer(world: World, since: str) -> None:
    user, template = world.user(points=500), world.template(cost=500)
    first = world.redeem(user, template, key="k-1")
    world.operator.execute(since)
    assert world.redeem(user, template, key="k-1") == {**first, "replayed": True}


def test_after_its_nonce_is_gone_it_is_the_same_coupon_without_the_code(world: World) -> None:
    user, template = world.user(points=1000), world.template(cost=500, limit=None)
    first = world.redeem(user, template, key="k-1")
    world.pass_time(timedelta(days=8))
    world.clean_nonces()
    again = world.redeem(user, template, key="k-1")
    assert again == {**first, "sealed_code": None, "replayed": True}
    assert world.points(user) == 500


def test_a_replay_never_shows_the_code_of_what_its_key_bought_since(world: World) -> None:
    world.freeze()
    user, coffee, tea = world.user(points=1000), world.template(), world.template(name="Tea")
    first = world.redeem(user, coffee, key="k-1", sealed_code="coffee")
    world.pass_time(timedelta(days=8))
    world.clean_nonces()
    world.redeem(user, tea, key="k-1", sealed_code="tea")
    again = world.redeem(user, coffee, key="k-1")
    assert again == {**first, "sealed_code": None, "replayed": True}


def test_a_key_that_bought_something_else_is_refused(world: World) -> None:
    user = world.user(points=1000)
    world.redeem(user, world.template(cost=500), key="k-1")
    with refused("nonce_reused", 409, "idempotency_key: "):
        world.redeem(user, world.template(cost=10), key="k-1")
    assert world.points(user) == 500


def test_a_key_that_was_an_events_nonce_is_refused_and_the_other_way_round(world: World) -> None:
    user, template = world.user(points=1000), world.template(cost=500)
    world.submit(user, nonce="n-1")
    with refused("nonce_reused", 409, "idempotency_key: "):
        world.redeem(user, template, key="n-1")
    world.redeem(user, template, key="k-1")
    with refused("nonce_reused", 409, "nonce: "):
        world.submit(user, nonce="k-1")


def test_a_key_belongs_to_one_user(world: World) -> None:
    template = world.template(cost=500)
    first = world.redeem(world.user(points=500), template, key="k-1")
    second = world.redeem(world.user(points=500), template, key="k-1")
    assert first["coupon_id"] != second["coupon_id"]


def test_an_unknown_template_is_refused(world: World) -> None:
    with refused("template_not_found", 404, "template_id: "):
        world.redeem(world.user(points=500), uuid4())


def test_a_template_that_is_not_on_offer_is_refused(world: World) -> None:
    user = world.user(points=500)
    with refused("template_not_found", 404, "template_id: "):
        world.redeem(user, world.template(cost=500, active=False))
    assert world.points(user) == 500


@pytest.mark.parametrize("limit", [1, 3])
def test_a_user_buys_a_coupon_as_often_as_its_limit_says(world: World, limit: int) -> None:
    user, template = world.user(points=5000), world.template(cost=500, limit=limit)
    for _ in range(limit):
        world.redeem(user, template)
    with refused("coupon_limit_reached", 403):
        world.redeem(user, template)
    assert world.points(user) == 5000 - limit * 500
    # Another user, and another template, have limits of their own.
    world.redeem(world.user(points=500), template)
    world.redeem(user, world.template(cost=500))


def test_without_a_limit_points_are_the_limit(world: World) -> None:
    user, template = world.user(points=50), world.template(cost=10, limit=None)
    for left in (40, 30, 20, 10, 0):
        assert world.redeem(user, template)["points_remaining"] == left
    with refused("insufficient_points", 400, "Available: 0, Required: 10"):
        world.redeem(user, template)


def test_too_few_points_are_refused_and_nothing_is_left_behind(world: World) -> None:
    user, template = world.user(points=499), world.template(cost=500)
    with refused("insufficient_points", 400, "Available: 499, Required: 500"):
        world.redeem(user, template, key="k-1")
    assert world.count("coupons") == world.count("used_nonces") == 0
    assert world.cache(user) == (499, 0, 499, 0)
    # So the same key buys once there is enough.
    world.award(user, 1)
    assert world.redeem(user, template, key="k-1")["replayed"] is False


def test_whoever_never_had_a_point_is_refused(world: World) -> None:
    with refused("insufficient_points", 400, "Available: 0, Required: 500"):
        world.redeem(uuid4(), world.template(cost=500))


def test_pending_points_buy_nothing(world: World) -> None:
    user = world.user(points=10)
    world.submit(user, event_type="goal_achieved")
    with refused("insufficient_points", 400, "Available: 10, Required: 50"):
        world.redeem(user, world.template(cost=50))


def test_held_points_buy_nothing(world: World) -> None:
    user = world.user(points=500)
    world.admin.execute(
        "select ledger.hold(%s, gen_random_uuid(), 'points', 100, 'test', gen_random_uuid(),"
        " internal.clock() + interval '1 hour')",
        (user,),
    )
    with refused("insufficient_points", 400, "Available: 400, Required: 500"):
        world.redeem(user, world.template(cost=500))


def test_the_cache_decides_nothing(world: World) -> None:
    user = world.user(points=100)
    world.admin.execute("update user_points_cache set available_points = 999999")
    with refused("insufficient_points", 400, "Available: 100, Required: 500"):
        world.redeem(user, world.template(cost=500))
    world.refresh(user)


def test_the_first_reason_in_the_documented_order_is_given(world: World) -> None:
    user, once = world.user(points=10), world.template(cost=10, limit=1)
    world.redeem(user, once, key="k-1")
    with refused("nonce_reused", 409):
        world.redeem(user, uuid4(), key="k-1")
    with refused("template_not_found", 404):
        world.redeem(user, world.template(cost=500, active=False))
    with refused("insufficient_points", 400):
        world.redeem(user, once)
    world.award(user, 10)
    with refused("coupon_limit_reached", 403):
        world.redeem(user, once)


def test_a_batch_answers_winners_and_refused_each_in_their_place(world: World) -> None:
    template, once = world.template(cost=500, limit=None), world.template(cost=10, limit=1)
    rich, poor, limited, replaying = (world.user(points=p) for p in (600, 499, 100, 500))
    world.redeem(limited, once)
    replay = world.redemption(replaying, template)
    (first,) = world.redeem_batch(replay)
    outcomes = world.redeem_batch(
        world.redemption(poor, template),
        world.redemption(rich, template),
        world.redemption(limited, once),
        replay,
        world.redemption(world.user(points=500), uuid4()),
    )
    assert [o.position for o in outcomes] == [1, 2, 3, 4, 5]
    assert [o.refusal and (o.refusal["code"], o.refusal["status"]) for o in outcomes] == [
        ("insufficient_points", 400),
        None,
        ("coupon_limit_reached", 403),
        None,
        ("template_not_found", 404),
    ]
    bought, replayed = outcomes[1].answer, outcomes[3].answer
    assert bought and (bought["points_remaining"], bought["replayed"]) == (100, False)
    assert replayed == {**(first.answer or {}), "replayed": True}
    assert [world.points(user) for user in (rich, poor, limited, replaying)] == [100, 499, 90, 0]
    assert world.count("coupons") == 3


def test_a_batch_of_a_hundred(world: World) -> None:
    template = world.template(cost=500)
    users = [world.user(points=500) for _ in range(100)]
    outcomes = world.redeem_batch(*(world.redemption(user, template) for user in users))
    assert all(o.answer and o.answer["points_remaining"] == 0 for o in outcomes)
    owners = {str(r["coupon_id"]): r["issued_to"] for r in world.rows("select * from coupons")}
    assert [owners[o.answer["coupon_id"]] for o in outcomes if o.answer] == users


def test_a_batch_holds_one_request_of_a_user(world: World) -> None:
    user, template = world.user(points=5000), world.template(cost=500, limit=None)
    with pytest.raises(psycopg.errors.RaiseException):
        world.redeem_batch(world.redemption(user, template), world.redemption(user, template))
    assert world.points(user) == 5000


def test_fifty_at_once_on_a_balance_that_affords_one(world: World) -> None:
    user, template = world.user(points=500), world.template(cost=500, limit=None)
    results = world.at_once([lambda s: world.redeem(user, template, through=s)] * 50)
    assert Counter(
        "bought" if isinstance(result, dict) else code_of(result) for result in results
    ) == {"bought": 1, "insufficient_points": 49}
    assert world.count("coupons") == 1
    assert world.cache(user) == (0, 0, 500, 500)


def test_twenty_at_once_on_a_coupon_that_may_be_had_once(world: World) -> None:
    user, template = world.user(points=50_000), world.template(cost=500, limit=1)
    results = world.at_once([lambda s: world.redeem(user, template, through=s)] * 20)
    assert Counter(
        "bought" if isinstance(result, dict) else code_of(result) for result in results
    ) == {"bought": 1, "coupon_limit_reached": 19}
    assert world.points(user) == 49_500


def test_ten_sessions_with_one_key_buy_one_coupon(world: World) -> None:
    user, template = world.user(points=5000), world.template(cost=500, limit=None)
    answers: list[Any] = world.at_once(
        [lambda s: world.redeem(user, template, key="k-1", through=s)] * 10
    )
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 9
    assert len({(a["coupon_id"], a["sealed_code"], a["points_remaining"]) for a in answers}) == 1
    assert world.count("coupons") == 1
    assert world.points(user) == 4500


def test_whoever_waits_for_the_same_key_gets_the_same_coupon(world: World) -> None:
    user, template = world.user(points=5000), world.template(cost=500, limit=None)
    first = world.session("tallybook_functions", autocommit=False)
    answer = world.redeem(user, template, key="k-1", through=first)
    with world.in_background(
        lambda session: world.redeem(user, template, key="k-1", through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    assert second.result() == {**answer, "replayed": True}


def test_a_redemption_that_was_given_up_leaves_its_points(world: World) -> None:
    user, template = world.user(points=500), world.template(cost=500)
    first = world.session("tallybook_functions", autocommit=False)
    world.redeem(user, template, key="k-1", through=first)
    with world.in_background(
        lambda session: world.redeem(user, template, key="k-2", through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.rollback()
    assert second.result()["replayed"] is False
    assert world.count("coupons") == 1


def test_a_nonce_that_an_event_is_just_taking_buys_nothing(world: World) -> None:
    user, template = world.user(points=500), world.template(cost=500)
    first = world.session("tallybook_functions", autocommit=False)
    world.submit(user, nonce="n-1", through=first)
    with world.in_background(
        lambda session: world.redeem(user, template, key="n-1", through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    with refused("nonce_reused", 409, "idempotency_key: "):
        second.result()
    assert world.points(user) == 500


def test_earning_and_spending_at_once_lose_nothing(world: World) -> None:
    user, template = world.user(points=500), world.template(cost=500)
    world.submit(user)
    first = world.session("tallybook_worker", autocommit=False)
    world.validate(through=first)
    with world.in_background(
        lambda session: world.redeem(user, template, through=session),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    assert second.result()["points_remaining"] == 10
    assert world.cache(user) == (10, 0, 510, 500)


def test_the_sealed_copy_comes_back_for_a_quarter_of_an_hour(world: World) -> None:
    world.freeze()
    user, template = world.user(points=500), world.template(cost=500)
    first = world.redeem(user, template, key="k")
    world.pass_time(timedelta(minutes=14))
    soon = world.redeem(user, template, key="k")
    world.pass_time(timedelta(minutes=2))
    late = world.redeem(user, template, key="k")
    assert soon == {**first, "replayed": True}
    assert late == {**first, "replayed": True, "sealed_code": None}
