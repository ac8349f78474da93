"""Steps that belong together: what takes several to come to."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.machine.model_recognitions import Gift
from tests.machine.model_tenants import LEADS, MANAGERS, Tenant
from tests.machine.stage import SERVICE
from tests.machine.stage_tenants import change, endow
from tests.machine.steps import pick, recent
from tests.machine.steps_companies import CompanySteps
from tests.machine.steps_tenants import places

some: Final = st.sampled_from([Decimal(n) for n in ("0.5", "5", "10", "12.34", "20", "33.33")])
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
        where=places, by=anybody, to=st.lists(anybody, min_size=1, max_size=3, unique=True),
        points=some, split=st.sampled_from(("flat", "equal")), award=st.booleans(),
        again=st.sampled_from((0, 0, 1)), revoker=st.one_of(st.none(), anybody),
    )  # fmt: skip
    def give_and_take_back(
        self, where: str, by: int, to: list[int], points: Decimal, split: str, award: bool,
        again: int, revoker: int | None,
    ) -> None:  # fmt: skip
        """Somebody of a company recognizes colleagues, and somebody may think better of it."""
        tenant = self.company(where)
        people = self.people(tenant)
        giver = pick(people, by)
        others = [name for name in people if name != giver]
        names = list(dict.fromkeys(pick(others, n) for n in to))
        if award:
            self.reward_work(giver, where, names[0], points, self.new_key())
        else:
            gift = Gift(
                tenant.id, tuple(self.uuid(name) for name in names), points, split=split
            )  # fmt: skip
            said = self.recognize(giver, gift, self.new_key())
            if said is not None:
                self.note("give", said.body["funded_by"])
                if len({one["points"] for one in said.body["recipients"]}) > 1:
                    self.note("give", "something did not divide")
        for _ in range(again):
            self.ask_again(0, 1)
        if revoker is not None:
            self.think_better(tenant, pick([*people, "bea", SERVICE], revoker))

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
        name = pick(self.people(tenant), who)
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
        change(self.stage, tenant, "expiry_policy", "90_days")
        self.bring(SERVICE, where, Decimal(100), self.new_key())
        self.give_and_take_back(where, by, [to], points, "flat", False, 0, None)
        self.wait(after)
        if tended:
            self.upkeep()
        self.think_better(tenant, SERVICE)
        self.upkeep()

    @rule(where=places, who=anybody, points=some, after=later)
    def let_a_wallet_lapse(self, where: str, who: int, points: Decimal, after: timedelta) -> None:
        """What ends is nobody's to give or to spend, whether the worker was there or not."""
        tenant = self.company(where)
        name = pick(self.people(tenant), who)
        change(self.stage, tenant, "wallet_expiry_policy", "90_days")
        self.fill_a_wallet(SERVICE, where, name, Decimal(30), "hr_allocation", False, False)
        self.wait(after)
        self.fill_a_wallet(SERVICE, where, name, points, "hr_allocation", False, False)
        self.give_and_take_back(where, who, [0], points, "flat", False, 0, None)
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
        self.give_and_take_back(where, by, [to], points, "flat", False, 0, None)
        self.give_and_take_back(where, by, [to], points, "flat", False, 0, 0 if by % 2 else None)

    @rule(where=places, by=anybody, points=some, cap=st.sampled_from((5, 20, 40)))
    def reach_a_cap(self, where: str, by: int, points: Decimal, cap: int) -> None:
        """A department gives until it may give no more, and so until the month is over."""
        tenant = self.company(where)
        self.limit(SERVICE, tenant.id, self.department(tenant, "Works") or "", Decimal(cap))
        for _ in range(2):
            self.give_and_take_back(where, by, [by], points, "flat", False, 0, None)
        self.wait(timedelta(days=16))
        self.give_and_take_back(where, by, [by], points, "flat", False, 0, None)

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
        name = pick(self.people(tenant), by)
        [
            lambda: self.bring(SERVICE, where, amount, key),
            lambda: self.take(SERVICE, where, amount, WHY, key),
            lambda: self.give_and_take_back(where, by, [0], amount, "flat", False, 0, None),
            lambda: self.spend_on(name, tenant.id, next(iter(tenant.rewards)), False, key),
        ][what]()
        self.otherwise(0, how, Decimal(4))

    @rule(by=st.sampled_from(("ada", "bea")), times=st.integers(2, 4), late=st.booleans())
    def allocate_often(self, by: str, times: int, late: bool) -> None:
        """An administrator, until the hour is full and beyond."""
        for _ in range(times):
            self.bring(by, "Acme", Decimal("0.5"), None)
        if late:
            self.wait(timedelta(minutes=59, seconds=59))
        self.bulk(by, [("Acme", Decimal(25), False), ("Birch", Decimal(25), True)], True)
        self.ask_again(0, 1)

    def people(self, tenant: Tenant, roles: tuple[str, ...] = ()) -> list[str]:
        """Who belongs to it."""
        return [
            self.who(user).name
            for user, member in tenant.members.items()
            if member.active and (not roles or member.role in roles)
        ]
