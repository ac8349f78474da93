"""Steps that belong together, over time: what ends, what falls back, what is full."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.machine.model_tenants import LEADS, MANAGERS
from tests.machine.stage import SERVICE
from tests.machine.stage_tenants import change, endow
from tests.machine.steps import pick, recent
from tests.machine.steps_rounds import WHY, RoundSteps, anybody, some
from tests.machine.steps_tenants import places

later: Final = st.sampled_from([timedelta(days=n) for n in (1, 89, 90, 91)])


class LapseSteps(RoundSteps):
    """What takes time, or all that there is."""

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

    @rule(where=places, left=st.sampled_from([Decimal(n) for n in ("11.99", "12", "12.01")]))
    def run_dry(self, where: str, left: Decimal) -> None:
        """Below a fifth of what it is filled with, a pool is filled again."""
        tenant = self.company(where)
        change(self.stage, tenant, "auto_refill_amount", Decimal(60))
        self.write_by_hand(where, left)
        self.upkeep()
        change(self.stage, tenant, "auto_refill_amount", None)
