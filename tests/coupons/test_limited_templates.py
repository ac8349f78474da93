"""What there is only so much of: as many are sold as there are, whoever asks at once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.world import NOW, Outcome, World, code_of, refused


@pytest.fixture(autouse=True)
def frozen(world: World) -> None:
    world.freeze()


def stock(world: World, template: UUID) -> tuple[int, int] | None:
    """What is counted as sold: coupons, and what they cost."""
    rows = world.rows("select issued, points from coupon_stock where template_id = %s", (template,))
    return (rows[0]["issued"], rows[0]["points"]) if rows else None


def codes(outcomes: list[Outcome]) -> list[str]:
    return [o.refusal["code"] if o.refusal else "bought" for o in outcomes]


def test_as_many_are_sold_as_there_are(world: World) -> None:
    template = world.template(cost=500, max_redemptions=2)
    for _ in range(2):
        world.redeem(world.user(points=500), template)
    late = world.user(points=500)
    with refused("template_exhausted", 409, "template_id: "):
        world.redeem(late, template)
    assert stock(world, template) == (2, 1000)
    assert world.points(late) == 500
    assert world.count("used_nonces", "user_id = %s", late) == 0


def test_a_budget_is_spent_and_not_overspent(world: World) -> None:
    template = world.template(cost=300, budget_points=1000)
    for _ in range(3):
        world.redeem(world.user(points=300), template)
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=300), template)
    assert stock(world, template) == (3, 900)
    # Cheaper ones still fit.
    world.operator.execute("update coupon_templates set points_cost = 100")
    world.redeem(world.user(points=100), template)
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=100), template)


def test_the_tighter_of_limit_and_budget_decides(world: World) -> None:
    template = world.template(cost=100, max_redemptions=5, budget_points=250)
    for _ in range(2):
        world.redeem(world.user(points=100), template)
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=100), template)


def test_what_has_no_limit_is_not_counted(world: World) -> None:
    template = world.template(cost=500)
    world.redeem(world.user(points=500), template)
    assert stock(world, template) is None
    assert world.count("coupon_stock") == 0


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(timedelta(seconds=1), None), (None, timedelta(0)), (timedelta(1), timedelta(2))],
)
def test_an_offer_is_there_in_its_time_only(
    world: World, begins: timedelta | None, ends: timedelta | None
) -> None:
    template = world.template(
        valid_from=NOW + begins if begins is not None else None,
        valid_until=NOW + ends if ends is not None else None,
    )
    with refused("template_not_found", 404, "template_id: "):
        world.redeem(world.user(points=500), template)


def test_an_offer_begins_with_its_first_moment(world: World) -> None:
    template = world.template(valid_from=NOW, valid_until=NOW + timedelta(seconds=1))
    world.redeem(world.user(points=500), template)
    world.pass_time(timedelta(seconds=1))
    with refused("template_not_found", 404):
        world.redeem(world.user(points=500), template)


def test_an_offer_cannot_end_before_it_begins(world: World) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        world.template(valid_from=NOW, valid_until=NOW)


def test_a_replay_is_answered_when_none_are_left(world: World) -> None:
    user, template = world.user(points=1000), world.template(max_redemptions=1, limit=None)
    first = world.redeem(user, template, key="k-1")
    assert world.redeem(user, template, key="k-1") == {**first, "replayed": True}
    assert stock(world, template) == (1, 500)


def test_the_first_reason_in_the_documented_order_is_given(world: World) -> None:
    template = world.template(cost=10, max_redemptions=1)
    owner = world.user(points=10)
    world.redeem(owner, template, key="k-1")
    with refused("nonce_reused", 409):
        world.redeem(owner, world.template(cost=10, max_redemptions=1), key="k-1")
    with refused("template_exhausted", 409):  # before insufficient_points
        world.redeem(world.user(), template)
    with refused("template_exhausted", 409):  # before coupon_limit_reached
        world.redeem(owner, template)


def test_who_cannot_have_it_takes_no_place(world: World) -> None:
    template = world.template(cost=10, limit=1, max_redemptions=4)
    has_one, twice, poor = world.user(points=20), world.user(points=20), world.user(points=9)
    one, two, three = (world.user(points=10) for _ in range(3))
    world.redeem(has_one, template)
    replayed = world.redemption(twice, template)
    world.redeem_batch(replayed)
    assert stock(world, template) == (2, 20)

    outcomes = world.redeem_batch(
        world.redemption(poor, template),
        world.redemption(has_one, template),
        replayed,
        world.redemption(one, template),
        world.redemption(two, template),
        world.redemption(three, template),
    )
    assert codes(outcomes) == [
        "template_exhausted",  # none were left in the end, and that comes before the points
        "template_exhausted",
        "bought",  # long ago
        "bought",
        "bought",
        "template_exhausted",
    ]
    assert stock(world, template) == (4, 40)
    assert [world.points(user) for user in (poor, has_one, twice)] == [9, 10, 10]


def test_who_cannot_pay_is_told_so_while_there_are_some(world: World) -> None:
    template = world.template(cost=10, max_redemptions=3)
    outcomes = world.redeem_batch(
        world.redemption(world.user(points=9), template),
        world.redemption(world.user(points=10), template),
    )
    assert codes(outcomes) == ["insufficient_points", "bought"]
    assert stock(world, template) == (1, 10)


def test_a_batch_over_several_templates(world: World) -> None:
    one = world.template(cost=10, max_redemptions=1)
    budget = world.template(cost=20, budget_points=45)
    free = world.template(cost=30)
    outcomes = world.redeem_batch(
        *(
            world.redemption(world.user(points=30), template)
            for template in (one, budget, free, one, budget, free, budget, one)
        )
    )
    assert codes(outcomes) == [
        "bought",
        "bought",
        "bought",
        "template_exhausted",
        "bought",
        "bought",
        "template_exhausted",
        "template_exhausted",
    ]
    assert (stock(world, one), stock(world, budget), stock(world, free)) == ((1, 10), (2, 40), None)


def test_sixteen_at_once_on_the_last_one(world: World) -> None:
    template = world.template(cost=500, max_redemptions=1)
    users = [world.user(points=500) for _ in range(16)]
    results = world.at_once(
        [lambda s, user=user: world.redeem(user, template, through=s) for user in users]  # type: ignore[misc]
    )
    assert Counter(
        "bought" if isinstance(result, dict) else code_of(result) for result in results
    ) == {"bought": 1, "template_exhausted": 15}
    assert sum(world.points(user) for user in users) == 15 * 500
    assert stock(world, template) == (1, 500)


def test_batches_at_once_on_the_last_ten(world: World) -> None:
    template, other = (
        world.template(cost=10, max_redemptions=10),
        world.template(cost=10, budget_points=105),
    )
    users = [[world.user(points=10) for _ in range(10)] for _ in range(8)]

    def requests(row: list[UUID], turn: int) -> list[dict[str, object]]:
        return [
            world.redemption(user, (template, other)[(n + turn) % 2]) for n, user in enumerate(row)
        ]

    results = world.at_once(
        [
            lambda s, row=row, n=n: world.redeem_batch(*requests(row, n), through=s)  # type: ignore[misc]
            for n, row in enumerate(users)
        ]
    )
    assert Counter(code for result in results for code in codes(result)) == {  # type: ignore[arg-type]
        "bought": 20,
        "template_exhausted": 60,
    }
    assert (stock(world, template), stock(world, other)) == ((10, 100), (10, 100))


def test_a_key_that_another_session_takes_leaves_its_place_to_the_next(world: World) -> None:
    template = world.template(cost=10, max_redemptions=1)
    first, second = world.user(points=10), world.user(points=10)
    submitting = world.session("tallybook_functions", autocommit=False)
    world.submit(first, nonce="n-1", through=submitting)
    with world.in_background(
        lambda session: world.redeem_batch(
            world.redemption(first, template, key="n-1"),
            world.redemption(second, template),
            through=session,
        ),
        world.session("tallybook_functions"),
    ) as redeeming:
        submitting.commit()
    assert codes(redeeming.result()) == ["nonce_reused", "bought"]
    assert stock(world, template) == (1, 10)


# A limit that comes, goes and changes


def test_a_limit_on_what_was_sold_counts_what_was_sold(world: World) -> None:
    template = world.template(cost=10)
    for _ in range(3):
        world.redeem(world.user(points=10), template)
    world.operator.execute("update coupon_templates set max_redemptions = 4")
    assert stock(world, template) == (3, 30)
    world.redeem(world.user(points=10), template)
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=10), template)


def test_a_limit_does_not_count_what_was_refunded(world: World) -> None:
    template = world.template(cost=10)
    coupons = [world.redeem(world.user(points=10), template)["coupon_id"] for _ in range(3)]
    world.call(
        "public.refund_coupon",
        {"user_id": None, "coupon_id": coupons[0], "reason": "goodwill"},
        world.operator,
    )
    world.operator.execute("update coupon_templates set max_redemptions = 3")
    assert stock(world, template) == (2, 20)
    world.redeem(world.user(points=10), template)
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=10), template)


def test_an_offer_that_came_while_somebody_waited_is_not_there_for_them(world: World) -> None:
    """They have looked for its stock before there was one."""
    user, other, template = world.user(points=20), world.template(cost=10), uuid4()
    first = world.session("tallybook_functions", autocommit=False)
    world.redeem(user, other, through=first)
    with world.in_background(
        lambda session: world.redeem(user, template, through=session),
        world.session("tallybook_functions"),
    ) as second:
        world.template(cost=10, template_id=template, max_redemptions=1)
        first.commit()
    with refused("template_not_found", 404):
        second.result()
    assert stock(world, template) == (0, 0)
    world.redeem(user, template)
    assert stock(world, template) == (1, 10)


def test_a_limit_that_was_taken_away_goes_on_counting(world: World) -> None:
    template = world.template(cost=10, max_redemptions=1)
    world.redeem(world.user(points=10), template)
    world.operator.execute("update coupon_templates set max_redemptions = null")
    world.redeem(world.user(points=10), template)
    assert stock(world, template) == (2, 20)
    world.operator.execute("update coupon_templates set budget_points = 30")
    world.redeem(world.user(points=10), template)
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=10), template)


def test_a_lowered_limit_does_not_condemn_what_was_sold_before(world: World) -> None:
    template = world.template(cost=10, max_redemptions=3, budget_points=100)
    for _ in range(3):
        world.redeem(world.user(points=10), template)
    world.operator.execute("update coupon_templates set max_redemptions = 1, budget_points = 5")
    assert world.discrepancies() == []
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=10), template)


def test_a_limit_waits_for_those_who_buy_without_one(world: World) -> None:
    template = world.template(cost=10)
    buying = world.session("tallybook_functions", autocommit=False)
    world.redeem(world.user(points=10), template, through=buying)
    with world.in_background(
        lambda session: session.execute("update coupon_templates set max_redemptions = 1"),
        world.session("tallybook_operator"),
    ) as limiting:
        buying.commit()
    limiting.result()
    assert stock(world, template) == (1, 10)
    with refused("template_exhausted", 409):
        world.redeem(world.user(points=10), template)


def test_who_buys_while_a_limit_comes_waits_for_it(world: World) -> None:
    template = world.template(cost=10)
    world.redeem(world.user(points=10), template)
    late = world.user(points=10)
    limiting = world.session("tallybook_operator", autocommit=False)
    limiting.execute("update coupon_templates set max_redemptions = 1")
    with world.in_background(
        lambda session: world.redeem(late, template, through=session),
        world.session("tallybook_functions"),
    ) as buying:
        limiting.commit()
    with refused("template_exhausted", 409):
        buying.result()


def test_a_lower_limit_waits_for_who_buys_under_the_old_one(world: World) -> None:
    template = world.template(cost=10, max_redemptions=2)
    world.redeem(world.user(points=10), template)
    buying = world.session("tallybook_functions", autocommit=False)
    world.redeem(world.user(points=10), template, through=buying)
    with world.in_background(
        lambda session: session.execute("update coupon_templates set max_redemptions = 1"),
        world.session("tallybook_operator"),
    ) as lowering:
        buying.commit()
    lowering.result()
    assert world.discrepancies() == []


def test_who_buys_while_the_limit_is_lowered_goes_by_the_new_one(world: World) -> None:
    template = world.template(cost=10, max_redemptions=2)
    world.redeem(world.user(points=10), template)
    late = world.user(points=10)
    lowering = world.session("tallybook_operator", autocommit=False)
    lowering.execute("update coupon_templates set max_redemptions = 1")
    with world.in_background(
        lambda session: world.redeem(late, template, through=session),
        world.session("tallybook_functions"),
    ) as buying:
        lowering.commit()
    with refused("template_exhausted", 409):
        buying.result()


def test_what_is_changed_of_a_template_is_written_down(world: World) -> None:
    template = world.template(cost=10)
    with world.operator.transaction():
        world.operator.execute("set local tallybook.actor = 'ops@example.org'")
        world.operator.execute("set local tallybook.reason = 'a smaller budget'")
        world.operator.execute("update coupon_templates set budget_points = 50")
    made, changed = world.rows("select * from audit_log order by audit_id")
    assert (made["action"], changed["action"]) == ("settings.insert", "settings.update")
    assert (changed["actor"], changed["reason"]) == ("ops@example.org", "a smaller budget")
    assert (changed["subject_type"], changed["subject_id"]) == ("coupon_templates", str(template))
    assert (changed["before"]["budget_points"], changed["after"]["budget_points"]) == (None, 50)
