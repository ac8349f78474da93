"""Every fault shows: each fact is broken behind the triggers' back, and exactly it is reported.

All of it happens in a transaction that is rolled back, so the world is sound again at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from tests.ledger.book import draw_chart
from tests.world import World

Fault = tuple[str, UUID | None, str, str, str]


@dataclass(frozen=True)
class Sound:
    """A world in which everything agrees, and the names of what is in it."""

    world: World
    user: UUID  # 500 points awarded, 10 earned, 200 spent on a coupon, 10 pending
    award: UUID
    earned: UUID
    pending: UUID
    redemption: UUID
    coupon: UUID
    template: UUID
    hold: UUID  # 20 of the user's points

    @contextmanager
    def broken(self, *statements: str) -> Iterator[list[Fault]]:
        """What is reported once these statements have had their way."""
        connection = self.world.admin
        with connection.transaction(force_rollback=True):
            connection.execute("set local session_replication_role = replica")
            for statement in statements:
                connection.execute(statement, self.__dict__ if "%(" in statement else None)
            yield [
                (
                    row["invariant"],
                    row["book_id"],
                    row["subject"],
                    row["expected"],
                    row["actual"],
                )
                for row in self.world.discrepancies()
            ]


@pytest.fixture
def sound(world: World) -> Sound:
    draw_chart(world)
    user, template, hold = world.user(points=500), world.template(cost=200), uuid4()
    award = world.value("select id from points_events")
    earned = world.submit(user)["id"]
    world.validate()
    coupon = world.redeem(user, template)["coupon_id"]
    pending = world.submit(user)["id"]
    world.admin.execute(
        "select ledger.hold(%s, %s, 'points', 20, 'test', %s, now() + interval '1 hour')",
        (user, hold, uuid4()),
    )
    redemption = world.value("select points_event_id from coupons")
    assert world.discrepancies(world.operator) == []
    return Sound(
        world,
        user,
        award,
        UUID(earned),
        UUID(pending),
        redemption,
        UUID(coupon),
        template,
        hold,
    )


def test_i1_a_validated_event_that_moved_nothing(sound: Sound) -> None:
    with sound.broken(
        "insert into points_events (user_id, id, event_type, event_time, points_delta,"
        " validation_status, payload_hash)"
        " values (%(user)s, %(hold)s, 'workout', now(), 20, 'validated', 'x')"
    ) as faults:
        assert faults == [("I1", sound.user, f"event {sound.hold}", "20", "no transfer")]


def test_i1_an_event_whose_transfer_moved_another_amount(sound: Sound) -> None:
    with sound.broken("update points_events set points_delta = 11 where id = %(earned)s") as faults:
        assert faults == [("I1", sound.user, f"event {sound.earned}", "11", "10")]


def test_i1_a_coupon_whose_price_was_not_paid(sound: Sound) -> None:
    with sound.broken("update coupons set issued_points_cost = 150") as faults:
        assert faults == [("I1", sound.user, f"coupon {sound.coupon}", "-150", "-200")]


def test_i1_a_coupon_that_somebody_else_paid_for(sound: Sound) -> None:
    other = uuid4()
    with sound.broken(f"update coupons set issued_to = '{other}'") as faults:
        assert faults == [("I1", other, f"coupon {sound.coupon}", "-200", "no event")]


def test_i2_a_transfer_without_an_event(sound: Sound) -> None:
    with sound.broken("delete from points_events where id = %(earned)s") as faults:
        assert faults == [
            ("I2", sound.user, f"transfer {sound.earned}", "a validated event", "no event")
        ]


def test_i2_a_transfer_of_an_event_that_was_not_validated(sound: Sound) -> None:
    with sound.broken(
        "update points_events set validation_status = 'rejected', transfer_id = null"
        " where id = %(earned)s"
    ) as faults:
        assert faults == [
            ("I2", sound.user, f"transfer {sound.earned}", "a validated event", "rejected")
        ]


def test_i2_a_redemption_without_a_coupon(sound: Sound) -> None:
    with sound.broken("delete from coupons") as faults:
        assert faults == [
            ("I2", sound.user, f"redemption {sound.redemption}", "a coupon", "no coupon")
        ]


def test_i3_a_balance_that_the_transfers_do_not_explain(sound: Sound) -> None:
    with sound.broken(
        "update ledger.accounts set balance = balance + 1",
        # The cache goes along, so this is the ledger's own fault alone.
        "update user_points_cache set available_points = available_points + 1",
    ) as faults:
        assert faults == [
            ("I3", sound.user, "balance of points", "310", "311"),
            ("I5", None, "sum of all points", "0", "1"),
        ]


def test_i3_transfers_without_an_account(sound: Sound) -> None:
    with sound.broken(
        "insert into ledger.transfers (book_id, transfer_id, from_account, to_account, asset,"
        " amount, kind, source_type, source_id, effective_at) values"
        " (%(hold)s, %(hold)s, 'test.source', 'test.pool', 'coins', 5, 'x', 'test',"
        " %(hold)s, now())"
    ) as faults:
        assert faults == [
            ("I3", sound.hold, "balance of test.pool", "5", "0"),
            ("I5", None, "sum of all coins", "0", "-5"),
        ]


def test_i3_more_held_than_the_holds_say(sound: Sound) -> None:
    with sound.broken("update ledger.accounts set held = held + 1") as faults:
        assert faults == [("I3", sound.user, "held in points", "20", "21")]


def test_i3_a_hold_that_the_account_has_forgotten(sound: Sound) -> None:
    with sound.broken("update ledger.accounts set held = 0") as faults:
        assert faults == [("I3", sound.user, "held in points", "20", "0")]


def test_i3_a_cache_that_differs_from_the_ledger(sound: Sound) -> None:
    with sound.broken("update user_points_cache set available_points = 0") as faults:
        assert faults == [("I3", sound.user, "available_points", "310", "0")]


def test_i3_a_user_of_the_ledger_without_a_cache_row(sound: Sound) -> None:
    with sound.broken("delete from user_points_cache") as faults:
        assert faults == [
            ("I3", sound.user, "available_points", "310", "0"),
            ("I3", sound.user, "pending_points", "10", "0"),
        ]


def test_i3_a_cache_row_of_nobody(sound: Sound) -> None:
    nobody = uuid4()
    with sound.broken(
        f"insert into user_points_cache (user_id, available_points) values ('{nobody}', 7)"
    ) as faults:
        assert faults == [("I3", nobody, "available_points", "0", "7")]


def test_i3_points_that_wait_for_no_event(sound: Sound) -> None:
    with sound.broken(
        "update points_events set validation_status = 'rejected' where id = %(pending)s"
    ) as faults:
        assert faults == [("I3", sound.user, "pending_points", "0", "10")]


@pytest.mark.parametrize("status", ["validating", "pending_review", "flagged"])
def test_an_event_waits_until_it_is_decided(sound: Sound, status: str) -> None:
    with sound.broken(
        f"update points_events set validation_status = '{status}' where id = %(pending)s"
    ) as faults:
        assert faults == []


def test_i4_an_account_below_its_floor(sound: Sound) -> None:
    with sound.broken(
        "alter table ledger.accounts drop constraint available_is_not_below_floor",
        "update ledger.accounts set floor = 291",
    ) as faults:
        assert faults == [("I4", sound.user, "available in points", "at least 291", "290")]


def test_i5_a_transfer_between_two_assets(sound: Sound) -> None:
    with sound.broken(
        "insert into ledger.transfers (book_id, transfer_id, from_account, to_account, asset,"
        " amount, kind, source_type, source_id, effective_at) values"
        " (%(hold)s, %(hold)s, 'test.mine', 'test.sink', 'coins', 5, 'x', 'test', %(hold)s, now())"
    ) as faults:
        assert faults == [
            (
                "I5",
                sound.hold,
                f"transfer {sound.hold}",
                "two accounts of one asset",
                "test.mine gold -> test.sink coins",
            )
        ]


def test_i5_a_transfer_to_an_account_that_is_not_in_the_chart(sound: Sound) -> None:
    with sound.broken(
        "insert into ledger.transfers (book_id, transfer_id, from_account, to_account, asset,"
        " amount, kind, source_type, source_id, effective_at) values"
        " (%(hold)s, %(hold)s, 'test.source', 'test.gone', 'coins', 5, 'x', 'test',"
        " %(hold)s, now())"
    ) as faults:
        # What left for nowhere is missing from the sum as well.
        assert [fault[:3] for fault in faults] == [
            ("I5", sound.hold, f"transfer {sound.hold}"),
            ("I5", None, "sum of all coins"),
        ]
        assert faults[1][3:] == ("0", "-5")


def test_i5_an_account_that_is_kept_in_another_asset(sound: Sound) -> None:
    with sound.broken("update ledger.accounts set asset = 'gold'") as faults:
        assert faults == [
            ("I5", None, "sum of all gold", "0", "310"),
            ("I5", None, "sum of all points", "0", "-310"),
        ]


def test_i6_two_coupons_with_one_code(sound: Sound) -> None:
    world = sound.world
    other, code = world.user(points=200), world.value("select code_hash from coupons")
    world.redeem(other, sound.template)
    with sound.broken(
        "alter table coupons drop constraint coupons_code_hash_key",
        f"update coupons set code_hash = '{code}'",
    ) as faults:
        assert faults == [("I6", None, f"code hash {code}", "1 coupon", "2 coupons")]


def test_i6_more_coupons_than_one_user_may_have(sound: Sound) -> None:
    world = sound.world
    world.admin.execute("update coupon_templates set max_redemptions_per_user = 2")
    world.award(sound.user, 200)
    world.redeem(sound.user, sound.template)
    with sound.broken("update coupon_templates set max_redemptions_per_user = 1") as faults:
        assert faults == [
            ("I6", sound.user, f"coupons of template {sound.template}", "at most 1", "2")
        ]


def test_the_world_is_sound_again_after_each_of_these(sound: Sound) -> None:
    with sound.broken("update ledger.accounts set balance = 0, held = 0") as faults:
        assert len(faults) == 4
    assert sound.world.discrepancies() == []
