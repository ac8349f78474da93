"""Steps that belong together: what takes several to come to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.machine.model import Said
from tests.machine.model_recognitions import Gift
from tests.machine.model_tenants import LEADS, MANAGERS, Tenant
from tests.machine.stage import SERVICE
from tests.machine.stage_tenants import change, endow
from tests.machine.steps import pick, recent
from tests.machine.steps_companies import CompanySteps
from tests.machine.steps_tenants import places

some: Final = st.sampled_from([Decimal(n) for n in ("0.5", "5", "10", "12.34", "20", "33.33")])
gifts_or_praise: Final = st.one_of(some, some, some, st.just(Decimal(0)))
anybody: Final = st.integers(0, 6)
later: Final = st.sampled_from([timedelta(days=n) for n in (1, 89, 90, 91)])
WHY: Final = "It was looked into."


class RoundSteps(CompanySteps):
    """As it goes in companies, most of the time."""

    @initialize()
    def begin(self) -> None:
        """Both have something, and so have their people."""
        for where, manager, lead in (("Acme", "mia", "leo"), ("Birch", "bob", "lea")):
            self.bring(SERVICE, where, Decimal(300), self.new_key())
            self.lend(manager, "home", lead, Decimal(60), False, self.new_key())
        for where, who in (("Acme", "eve"), ("Acme", "eli"), ("Birch", "ada"), ("Birch", "bob")):
            self.fill_a_wallet(SERVICE, where, who, Decimal(40), "hr_allocation", False, False)

    @rule(
        where=places, by=anybody, to=anybody, heads=st.sampled_from((1, 2, 3, 3)), points=gifts_or_praise,
        split=st.sampled_from(("flat", "equal")), again=st.booleans(),
        revoker=st.one_of(st.none(), anybody),
    )  # fmt: skip
    def give_and_take_back(
        self, where: str, by: int, to: int, heads: int, points: Decimal, split: str,
        again: bool, revoker: int | None,
    ) -> None:  # fmt: skip
        """Somebody of a company recognizes colleagues, and somebody may think better of it."""
        tenant = self.company(where)
        said = self.one_gives(where, self.one(tenant, by), to, points, heads, split)
        if said is not None and len({one["points"] for one in said.body["recipients"]}) > 1:
            self.note("give", "something did not divide")
        if again:
            self.ask_again(0, 1)
        if revoker is not None:
            self.think_better(tenant, pick([*self.people(tenant), "bea", SERVICE], revoker))

    @rule(where=places, by=anybody, to=anybody, points=some, again=st.booleans())
    def award_at_home(self, where: str, by: int, to: int, points: Decimal, again: bool) -> None:
        giver = self.one(self.company(where), by)
        self.reward_work(
            giver, where, pick(self.colleagues(where, giver), to), points, self.new_key()
        )
        if again:
            self.ask_again(0, 1)

    @rule(where=places, to=anybody, points=some, paused=st.booleans())
    def keep_to_oneself(self, where: str, to: int, points: Decimal, paused: bool) -> None:
        """Where members do not give to one another, and perhaps nobody spends for now."""
        tenant = self.company(where)
        change(self.stage, tenant, "peer_to_peer_enabled", False)
        change(self.stage, tenant, "redemptions_paused", paused)
        name = pick(self.people(tenant, ("employee",)) or self.people(tenant), to)
        self.one_gives(where, name, to, points)
        self.spend_on(name, tenant.id, next(iter(tenant.rewards)), False, self.new_key())
        change(self.stage, tenant, "peer_to_peer_enabled", True)
        change(self.stage, tenant, "redemptions_paused", False)

    def one_gives(
        self, where: str, giver: str, to: int, points: Decimal, heads: int = 1, split: str = "flat"
    ) -> Said | None:
        others = self.colleagues(where, giver)
        names = dict.fromkeys(pick(others, to + n) for n in range(heads))
        users = tuple(self.uuid(name) for name in names)
        gift = Gift(self.company(where).id, users, points, split=split)
        said = self.recognize(giver, gift, self.new_key())
        if said is not None:
            self.note("give", said.body["funded_by"])
        return said

    def think_better(self, tenant: Tenant, by: str, which: int = 0) -> None:
        if tenant.recognitions:
            self.take_back(by, tenant, tenant.id, pick(list(tenant.recognitions), which), WHY)

    @rule(where=places, by=anybody, lead=anybody, amount=some, back=st.one_of(st.none(), some))
    def lend_and_recall(
        self, where: str, by: int, lead: int, amount: Decimal, back: Decimal | None
    ) -> None:
        tenant = self.company(where)
        managing, leading = (self.people(tenant, roles) for roles in (MANAGERS, LEADS))
        if managing and leading:
            manager, name = pick(managing, by), pick(leading, lead)
            self.lend(manager, where, name, amount, False, self.new_key())
            self.ask_again(0, 1)
            if by % 2:
                self.lend(manager, where, name, back, True, self.new_key())
                self.ask_again(0, 1)

    @rule(
        where=places, who=anybody, number=st.integers(1, 3), more=st.booleans(),
        refunds=st.sampled_from((0, 0, 1, 2)), stock=st.sampled_from((None, None, 1)),
    )  # fmt: skip
    def shop(
        self, where: str, who: int, number: int, more: bool, refunds: int, stock: int | None
    ) -> None:
        """Somebody spends what they have, and may get it back."""
        tenant = self.company(where)
        name = self.one(tenant, who)
        if more:
            self.fill_a_wallet(SERVICE, where, name, Decimal("12.5"), "adjustment", False, False)
        if stock is not None:
            self.offer(SERVICE, tenant.id, next(iter(tenant.rewards)), Decimal("12.5"), stock, True)
        for _ in range(number):
            self.spend_on(name, tenant.id, next(iter(tenant.rewards)), False, self.new_key())
            self.ask_again(0, 1)
        for _ in range(refunds):
            if tenant.redemptions:
                it = list(self.companies.tenants[tenant.id].redemptions)[-1]
                self.give_back(SERVICE, tenant, tenant.id, it, WHY)

    @rule(where=places, by=anybody, to=anybody, points=some, after=later, tended=st.booleans())
    def lapse(
        self, where: str, by: int, to: int, points: Decimal, after: timedelta, tended: bool
    ) -> None:
        """What was not given in time ends, and what comes back later as well."""
        tenant = self.company(where)
        managing, leading = (self.people(tenant, roles) for roles in (MANAGERS, LEADS))
        change(self.stage, tenant, "expiry_policy", "90_days")
        self.bring(SERVICE, where, Decimal(100), self.new_key())
        self.one_gives(where, self.one(tenant, by), to, points)
        if managing and leading:
            self.lend(managing[0], where, pick(leading, to), points, False, self.new_key())
        self.wait(after)
        if tended:
            self.upkeep()
        if by % 2:
            self.think_better(tenant, SERVICE)
        elif managing and leading:
            self.lend(managing[0], where, pick(leading, to), points, True, self.new_key())
        self.upkeep()

    @rule(where=places, who=anybody, points=some, after=later)
    def let_a_wallet_lapse(self, where: str, who: int, points: Decimal, after: timedelta) -> None:
        """What ends is nobody's to give or to spend, whether the worker was there or not."""
        tenant = self.company(where)
        name = self.one(tenant, who)
        change(self.stage, tenant, "wallet_expiry_policy", "90_days")
        self.fill_a_wallet(SERVICE, where, name, Decimal(30), "hr_allocation", False, False)
        self.wait(after)
        self.fill_a_wallet(SERVICE, where, name, points, "hr_allocation", False, False)
        self.one_gives(where, name, 0, points)
        self.spend_on(name, tenant.id, next(iter(tenant.rewards)), False, self.new_key())

    @rule(where=places, by=anybody, to=anybody, points=some, department=st.booleans())
    def fall_back(self, where: str, by: int, to: int, points: Decimal, department: bool) -> None:
        """The pool is empty, and there are budgets of old."""
        tenant = self.company(where)
        change(self.stage, tenant, "allocation_mode", "legacy_fallback")
        self.take(SERVICE, where, None, WHY, self.new_key())
        if department:
            for id in tenant.departments:
                endow(self.stage, tenant, id, Decimal(25))
        self.one_gives(where, self.one(tenant, by), to, points)
        self.one_gives(where, self.one(tenant, by), to, points)
        if by % 2:
            self.think_better(tenant, SERVICE)

    @rule(where=places, by=anybody, points=some, cap=st.sampled_from((5, 10, 20, 40)))
    def reach_a_cap(self, where: str, by: int, points: Decimal, cap: int) -> None:
        """A department gives until it may give no more, and so until the month is over."""
        tenant = self.company(where)
        works = self.department(tenant, "Works") or ""
        theirs = [
            name
            for name in self.people(tenant)
            if tenant.members[self.uuid(name)].department == works
        ]
        name = pick(theirs or self.people(tenant), by)
        self.fill_a_wallet(SERVICE, where, name, Decimal(60), "hr_allocation", False, False)
        self.limit(SERVICE, tenant.id, works, Decimal(cap))
        for _ in range(2):
            self.one_gives(where, name, by, points)
        self.one_gives(where, name, by, Decimal("0.01"))
        self.think_better(tenant, SERVICE)
        self.one_gives(where, name, by, points)
        self.wait(timedelta(days=16))
        self.one_gives(where, name, by, points)

    @rule(where=places, first=some, tended=st.booleans(), which=recent)
    def undo_bit_by_bit(self, where: str, first: Decimal, tended: bool, which: int) -> None:
        """Of an allocation, a part and then the rest; the first is answered as it was."""
        self.bring(SERVICE, where, Decimal(50), self.new_key())
        self.undo(SERVICE, where, 0, first, WHY, self.new_key())
        if tended:
            self.wait(timedelta(days=90))
            self.upkeep()
        self.undo(SERVICE, where, 0, None, WHY, self.new_key())
        self.undo(SERVICE, where, 0, None, WHY, self.new_key())
        self.ask_again(2, 1)

    @rule(where=places, by=anybody, how=st.integers(0, 3), amount=some, what=st.integers(0, 3))
    def say_otherwise(self, where: str, by: int, how: int, amount: Decimal, what: int) -> None:
        """A key that is used for something else right away."""
        tenant, key = self.company(where), self.new_key()
        name = self.one(tenant, by)
        firsts: list[Callable[[], object]] = [
            lambda: self.bring(SERVICE, where, amount, key),
            lambda: self.take(SERVICE, where, amount, WHY, key),
            lambda: self.one_gives(where, name, 0, amount),
            lambda: self.spend_on(name, tenant.id, next(iter(tenant.rewards)), False, key),
        ]
        firsts[what]()
        self.otherwise(0, how, Decimal(4))

    @rule(
        by=st.sampled_from(("ada", "bea")),
        times=st.integers(1, 4),
        late=st.sampled_from((None, timedelta(minutes=59, seconds=59), timedelta(hours=1))),
    )
    def allocate_often(self, by: str, times: int, late: timedelta | None) -> None:
        """An administrator, until the hour is full and beyond."""
        for _ in range(times):
            self.bring(by, "Acme", Decimal("0.5"), None)
        if late is not None:
            self.wait(late)
        half = Decimal("0.5")
        self.bulk(by, [("Acme", half, False), ("Acme", half, False), ("Birch", half, True)], True)
        self.ask_again(0, 1)

    def colleagues(self, where: str, name: str) -> list[str]:
        return [other for other in self.people(self.company(where)) if other != name]

    def one(self, tenant: Tenant, which: int) -> str:
        return pick(self.people(tenant), which)

    def people(self, tenant: Tenant, roles: tuple[str, ...] = ()) -> list[str]:
        """Who belongs to it."""
        return [
            self.who(user).name
            for user, member in tenant.members.items()
            if member.active and (not roles or member.role in roles)
        ]
