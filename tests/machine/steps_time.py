"""Steps of time: it passes, the worker tends what it has done, and people look."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.steps import compare, pick, recent, users
from tests.machine.steps_till import TillSteps, showers

UPKEEP: Final = (
    "mark_expired_coupons",
    "expire_points",
    "forget_sealed_codes",
    "cleanup_expired_nonces",
    "cleanup_coupon_attempts",
)

spans: Final = st.sampled_from(
    (
        timedelta(seconds=1),
        timedelta(minutes=2),
        timedelta(minutes=2),
        timedelta(minutes=16),
        timedelta(minutes=16),
        timedelta(hours=1),
        timedelta(hours=7),
        timedelta(days=1),
        timedelta(days=3),
    )
)
# How long after the end of a coupon's time.
late: Final = st.sampled_from(
    (timedelta(seconds=-1), timedelta(0), timedelta(0), timedelta(days=1))
)


class TimeSteps(TillSteps):
    """What time does, to coupons at the till above all."""

    @rule(by=spans)
    def pass_time(self, by: timedelta) -> None:
        self.wait(by)

    @precondition(lambda self: self.open_coupons)
    @rule(
        which=recent,
        late=late,
        by=showers,
        way=st.sampled_from(("verify", "consume", "consume", "hold")),
        tended=st.sampled_from((False, False, True)),
    )
    def come_too_late(self, which: int, late: timedelta, by: str, way: str, tended: bool) -> None:
        """To the end of a coupon's time, give or take, and then somebody shows it."""
        soonest_last = sorted(self.open_coupons, key=lambda c: c.expires_at, reverse=True)
        coupon = pick(soonest_last, which)
        self.wait(max(coupon.expires_at + late - self.shared.now, timedelta(0)))
        if tended:
            self.upkeep()
        self.show((self.shower(by, coupon), coupon, "sale-1"), way)

    @rule()
    def upkeep(self) -> None:
        """As the worker does it; whoever reads goes by the time, whether it was done or not."""
        told = {name: self.tend(name) for name in UPKEEP}
        marked = self.coupons.mark_expired()
        points, codes = self.points.expire(), self.shared.forget_codes()
        nonces, failures = self.shared.clean_nonces(), self.till.clean_failures()
        assert told["mark_expired_coupons"] == marked
        assert told["expire_points"]["points"] == points
        # Both take the nonces in the order of UPKEEP, so what is forgotten may still be cleaned.
        assert told["forget_sealed_codes"] == {"forgotten": codes}
        assert told["cleanup_expired_nonces"] == {"removed": nonces}
        assert told["cleanup_coupon_attempts"] == {"removed": failures}
        done = {**marked, "points": points, "forgotten": codes}
        done |= {"nonces": nonces, "failures": failures}
        self.note("upkeep", *(name for name, number in done.items() if number))

    def tend(self, procedure: str) -> Any:
        return self.stage.world.call(f"public.{procedure}", {}, self.stage.world.worker)

    @rule(who=users)
    def look(self, who: str) -> None:
        actor = self.actor(who)
        assert actor.user is not None
        balance = self.stage.post(actor, "points-balance", {})
        assert (balance.status, balance.body) == (200, self.points.balance(actor.user))
        schedule = self.stage.call("points_schedule", user_id=actor.user)
        lots = self.points.schedule(actor.user)
        compare(schedule.body, {"lots": lots})
        self.note("look", "balance", *(["schedule"] if lots else []))
