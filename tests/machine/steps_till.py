"""Steps at the till: somebody shows a code, that of a coupon or one that nobody has."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tallybook.coupon_code import new_code
from tests.machine.model import Actor
from tests.machine.model_coupons import Coupon
from tests.machine.stage import SERVICE, TILLS
from tests.machine.steps import Steps, anything, pick, recent, users

Code = tuple[str, int] | None
Shown = tuple[Actor, Coupon | None, str]  # who shows which code, and under which key

# What somebody is to the coupon they show.
showers: Final = st.sampled_from(
    ("till", "till", "till", "other till", "service", "elsewhere", "owner")
)
# Which coupon: one that can be used, if there is any, or any at all, or a code that nobody has.
codes: Final = st.one_of(
    st.tuples(st.just("open"), recent),
    st.tuples(st.just("open"), recent),
    st.tuples(st.just("open"), recent),
    st.tuples(st.just("any"), anything),
    st.tuples(st.just("any"), anything),
    st.none(),
)
keys: Final = st.sampled_from(("sale-1", "sale-1", "sale-2"))
ways: Final = st.sampled_from(("verify", "consume", "hold", "release", "release"))
lengths: Final = st.sampled_from((60, 3_600, 86_400, 86_400))  # of holds, in seconds


class TillSteps(Steps):
    """What comes of showing a code."""

    def __init__(self) -> None:
        super().__init__()
        self.used: list[Shown] = []

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=showers, which=codes)
    def verify(self, by: str, which: Code) -> None:
        self.look_at(*self.shown(by, which))

    @rule(by=users, which=anything)
    def verify_own(self, by: str, which: int) -> None:
        """The owner hears how it stands."""
        actor = self.actor(by)
        own = [c for c in self.coupons.coupons if c.owner == actor.user]
        self.look_at(actor, pick(own, which) if own else None)

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=showers, which=codes, key=keys)
    def consume(self, by: str, which: Code, key: str) -> None:
        self.use((*self.shown(by, which), key), "consume")

    @precondition(lambda self: self.used)
    @rule(which=recent, same=st.sampled_from((True, True, False)), by=showers)
    def consume_again(self, which: int, same: bool, by: str) -> None:
        """The same use, or another one of what was used."""
        first, coupon, key = pick(self.used, which)
        self.use((first if same else self.shower(by, coupon), coupon, key), "consume again")

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=showers, which=codes, key=keys, seconds=lengths)
    def hold(self, by: str, which: Code, key: str, seconds: int) -> None:
        self.keep((*self.shown(by, which), key), seconds)

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=showers, which=codes, key=keys)
    def release(self, by: str, which: Code, key: str) -> None:
        self.let_go((*self.shown(by, which), key))

    @precondition(lambda self: self.open_coupons)
    @rule(
        which=recent,
        by=showers,
        seconds=lengths,
        then=st.lists(st.tuples(ways, keys, st.integers(1, 2)), min_size=1, max_size=3),
    )
    def sell(self, which: int, by: str, seconds: int, then: list[tuple[str, str, int]]) -> None:
        """A coupon is held for a purchase, which goes on or does not; some ask twice, some mix up
        the keys."""
        coupon = pick(self.open_coupons, which)
        actor = self.shower(by, coupon)
        self.keep((actor, coupon, "sale-1"), seconds)
        for way, key, times in then:
            for _ in range(times):
                self.show((actor, coupon, key), way)

    @rule(by=showers, number=st.integers(2, 5), way=ways)
    def guess(self, by: str, number: int, way: str) -> None:
        """Codes that nobody has, one after the other."""
        for _ in range(number):
            self.show((self.shower(by, None), None, "sale-1"), way)

    # The four ways to show a code

    def show(self, shown: Shown, way: str) -> None:
        match way:
            case "verify":
                self.look_at(*shown[:2])
            case "consume":
                self.use(shown, "consume")
            case "hold":
                self.keep(shown, 3_600)
            case "release":
                self.let_go(shown)

    def look_at(self, by: Actor, coupon: Coupon | None) -> None:
        of = self.state(coupon)
        answer = self.stage.post(by, "coupons/verify", {"code": code_of(coupon)})
        said = self.agree("verify", answer, lambda: self.till.verify(by, coupon), of)
        if said is not None:
            self.note("verify", said.body["status"])

    def use(self, shown: Shown, rule: str) -> None:
        by, coupon, key = shown
        of = self.state(coupon)
        body = {"code": code_of(coupon), "idempotency_key": key}
        answer = self.stage.post(by, "coupons/consume", body)
        if self.agree(rule, answer, lambda: self.till.consume(*shown), of) is not None:
            self.used.append(shown)

    def keep(self, shown: Shown, seconds: int) -> None:
        by, coupon, key = shown
        of = self.state(coupon)
        body = {"code": code_of(coupon), "idempotency_key": key, "hold_seconds": seconds}
        answer = self.stage.post(by, "coupons/hold", body)
        self.agree("hold", answer, lambda: self.till.hold(*shown, seconds), of)

    def let_go(self, shown: Shown) -> None:
        by, coupon, key = shown
        of = self.state(coupon)
        body = {"code": code_of(coupon), "idempotency_key": key}
        answer = self.stage.post(by, "coupons/release", body)
        self.agree("release", answer, lambda: self.till.release(*shown), of)

    # Who and what

    def shown(self, by: str, which: Code) -> tuple[Actor, Coupon | None]:
        """Who shows a coupon, and which."""
        if which is None:
            return self.shower(by, None), None
        kind, number = which
        coupon = pick((self.open_coupons if kind == "open" else []) or self.coupons.coupons, number)
        return self.shower(by, coupon), coupon

    @property
    def open_coupons(self) -> list[Coupon]:
        """Those that can be used."""
        now = self.shared.now
        return [c for c in self.coupons.coupons if c.standing(now) in ("issued", "held")]

    def shower(self, by: str, coupon: Coupon | None) -> Actor:
        """Who stands so to a coupon."""
        partner = coupon.template.partner if coupon else "coffee"
        tills = [self.actor(name) for name, its in TILLS.items() if its == partner]
        others = [self.actor(name) for name, its in TILLS.items() if its != partner]
        return {
            "till": tills[0],
            "other till": tills[1],
            "elsewhere": others[0],
            "owner": self.who(coupon.owner) if coupon else self.actor("ann"),
            "service": self.actor(SERVICE),
        }[by]

    def state(self, coupon: Coupon | None) -> str:
        """What a coupon counts as, and whether only the time says so."""
        if coupon is None:
            return "unknown"
        standing = coupon.standing(self.shared.now)
        return "past its day" if standing == "expired" != coupon.status else standing


def code_of(coupon: Coupon | None) -> str:
    """A code that is shown; without a coupon it is one that nobody has."""
    return coupon.code if coupon else new_code()
