"""What must hold after every step: everything is stored as the model has it."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any
from uuid import UUID

from hypothesis.stateful import invariant

from tests.machine.stage import SERVICE, USERS
from tests.machine.steps import Steps


class Books(Steps):
    """The tables, read by somebody who may see all of them."""

    @invariant()
    def everything_is_stored_as_the_model_has_it(self) -> None:
        self.everybody_has_what_the_model_says()
        self.every_event_is_what_the_model_says()
        self.every_coupon_is_what_the_model_says()
        self.what_is_sold_is_what_the_model_says()

    def everybody_has_what_the_model_says(self) -> None:
        rows = self.rows(
            "select coalesce(a.book_id, c.user_id), a.balance - a.held, a.held, c.available_points,"
            " c.pending_points, c.lifetime_earned, c.lifetime_spent"
            " from (select * from ledger.accounts where account = 'points') as a"
            " full join user_points_cache as c on c.user_id = a.book_id"
        )
        told = {
            self.names[user]: tuple(number or 0 for number in numbers) for user, *numbers in rows
        }
        for name in USERS:
            has = self.points.balance(self.user(name))
            available, held = has["available_points"], has["held_points"]
            assert told.get(name, (0,) * 6) == (
                available,
                held,
                available,
                has["pending_points"],
                has["lifetime_earned"],
                has["lifetime_spent"],
            ), name

    def every_event_is_what_the_model_says(self) -> None:
        events = self.rows(
            "select user_id, event_type, validation_status, points_delta, trust_score,"
            " streak_days from points_events"
        )
        assert Counter((self.names[user], *facts) for user, *facts in events) == Counter(
            (self.names[e.user], e.kind, e.status, e.points, e.score, e.streak)
            for e in self.shared.events
        )

    def every_coupon_is_what_the_model_says(self) -> None:
        coupons = self.rows(
            "select coupon_id, status, issued_to, redeemed_by, redeemed_at, held_until,"
            " refunded_at is not null, issued_points_cost, expires_at from coupons"
        )
        assert {
            (str(coupon), status, self.names[owner], *facts)
            for coupon, status, owner, *facts in coupons
        } == {
            (
                c.id,
                c.status,
                self.names[c.owner],
                c.used_by and str(c.used_by.user or SERVICE),
                c.used_at,
                c.held_until,
                c.refunded,
                c.template.cost,
                c.expires_at,
            )
            for c in self.coupons.coupons
        }

    def what_is_sold_is_what_the_model_says(self) -> None:
        stock = self.rows("select template_id, issued, points from coupon_stock")
        assert {str(template): sold for template, *sold in stock} == {
            t.id: [t.issued, t.issued * t.cost] for t in self.stage.templates if t.counted
        }

    @cached_property
    def names(self) -> dict[UUID | None, str]:
        return {actor.user: actor.name for actor in self.stage.actors.values()}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.stage.world.rows(query)]
