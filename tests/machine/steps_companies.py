"""Steps of what companies are set to, of time, and of looking."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.machine.model import Said
from tests.machine.model_recognitions import Gift
from tests.machine.stage import SERVICE
from tests.machine.stage_tenants import change, endow
from tests.machine.steps import compare, pick, recent
from tests.machine.steps_allocations import AllocationSteps, platform, somewhere
from tests.machine.steps_tenants import (
    POINTS,
    RECOGNITIONS,
    gifts,
    homes,
    managers,
    members,
    places,
)

policies: Final = ("never", "90_days", "90_days", "180_days", "1_year")
settings: Final = st.sampled_from(
    [
        *(("allocation_mode", mode) for mode in ("enforced", "legacy_fallback", "legacy_fallback")),
        *((name, on) for on in (True, False) for name in ("redemptions_paused",)),
        *(("redemptions_paused", False),) * 2,
        *(("peer_to_peer_enabled", on) for on in (True, True, False)),
        *(("wallets_permanent", on) for on in (True, False, False)),
        *(("expiry_policy", policy) for policy in policies),
        *(("wallet_expiry_policy", policy) for policy in policies),
        *(("low_balance_threshold", Decimal(n)) for n in (0, 40, 100)),
        *(("auto_refill_amount", Decimal(n) if n else None) for n in (0, 60, 200)),
        ("award_tiers", {"Gold": 50, "Tin": 1}),
        ("award_tiers", {"Gold": 90, "Silver": 20}),
    ]
)
spans: Final = st.sampled_from(
    [timedelta(hours=n) for n in (0.001, 0.4, 0.4, 1, 24)]
    + [timedelta(days=n) for n in (20, 45, 89, 90, 91, 180, 366)]
)
roles: Final = st.sampled_from(
    (None,) * 6 + ("tenant_manager", "hr_admin", "tenant_lead", "dept_lead", "manager", "employee")
)


class CompanySteps(AllocationSteps):
    """Who sets what, what time does, and what people see."""

    @rule(where=places, setting=settings)
    def set(self, where: str, setting: tuple[str, Any]) -> None:
        change(self.stage, self.company(where), *setting)

    @rule(where=places, name=st.sampled_from(("Sales", "Works")))
    def endow(self, where: str, name: str) -> None:
        tenant = self.company(where)
        endow(self.stage, tenant, self.department(tenant, name) or "", Decimal(25))

    @rule(
        by=platform, where=somewhere, who=members, amount=gifts,
        source=st.sampled_from(("hr_allocation", "adjustment")), twice=st.booleans(),
        other=st.booleans(),
    )  # fmt: skip
    def fill_a_wallet(
        self, by: str, where: str, who: str, amount: Decimal, source: str, twice: bool, other: bool
    ) -> None:
        actor, id, user, entry = self.actor(by), self.id_of(where), self.uuid(who), str(uuid4())
        for points in (amount, amount + other) if twice else (amount,):
            answer = self.stage.call(
                "credit_wallet", user_id=actor.user, tenant_id=id, to_user_id=user,
                amount=points, source=source, reason="Of old.", entry_id=entry,
            )  # fmt: skip
            self.agree(
                "fill", answer,
                lambda points=points: self.companies.credit(  # type: ignore[misc]
                    actor, id, user, points, source, entry
                ),
            )  # fmt: skip

    @rule(
        by=managers, home=homes, who=members, role=roles,
        place=st.sampled_from(("Sales", "Works", "Works", None, "elsewhere")),
        active=st.sampled_from((None, True, True, True, True, False)),
    )  # fmt: skip
    def set_member(
        self, by: str, home: str, who: str, role: str | None, place: str | None, active: Any
    ) -> None:
        actor, named = self.actor(by), self.at(home, by)
        tenant = self.company("Acme") if named is None else self.companies.tenants[named]
        if place == "elsewhere":
            tenant = self.company("Birch" if tenant.name == "Acme" else "Acme")
            place = "Works"
        department = self.department(tenant, place)
        answer = self.stage.call(
            "set_member", user_id=actor.user, account=str(self.user(who)), role=role,
            department_id=department, no_department=department is None, is_active=active,
            tenant_id=named,
        )  # fmt: skip
        self.agree(
            "set member", answer,
            lambda: self.companies.set_member(
                actor, named, self.uuid(who), role, department, active
            ),
        )  # fmt: skip

    @rule(
        by=managers, home=homes, name=st.sampled_from(("Sales", "Works")),
        cap=st.sampled_from([None, *(Decimal(n) for n in ("0", "20", "60", "60", "0.001"))]),
        where=st.sampled_from(("there", "there", "Acme")),
    )  # fmt: skip
    def set_cap(self, by: str, home: str, name: str, cap: Decimal | None, where: str) -> None:
        named = self.at(home, by)
        there = self.companies.tenants.get(named or "", self.company("Acme"))
        tenant = there if where == "there" else self.company(where)
        self.limit(by, named, self.department(tenant, name) or "", cap)

    def limit(self, by: str, named: str | None, department: str, cap: Decimal | None) -> None:
        actor = self.actor(by)
        answer = self.stage.call(
            "set_department", user_id=actor.user, department_id=department, monthly_cap=cap,
            no_cap=cap is None, tenant_id=named,
        )  # fmt: skip
        self.agree("set cap", answer, lambda: self.companies.set_cap(actor, named, department, cap))

    @rule(
        by=managers, home=homes, which=recent, cost=gifts,
        stock=st.sampled_from((None, 0, 1, 2)), active=st.sampled_from((True, True, True, False)),
    )  # fmt: skip
    def set_reward(
        self, by: str, home: str, which: int, cost: Decimal, stock: int | None, active: bool
    ) -> None:
        reward = pick([i for t in self.companies.tenants.values() for i in t.rewards], which)
        self.offer(by, self.at(home, by), reward, cost, stock, active)

    def offer(
        self, by: str, named: str | None, reward: str, cost: Decimal, stock: int | None,
        active: bool,
    ) -> None:  # fmt: skip
        actor = self.actor(by)
        answer = self.stage.call(
            "set_reward", user_id=actor.user, reward_id=reward, points_cost=cost, stock=stock,
            unlimited=stock is None, is_active=active, tenant_id=named,
        )  # fmt: skip
        self.agree(
            "set reward", answer,
            lambda: self.companies.set_reward(actor, named, reward, cost, stock, active),
        )  # fmt: skip

    @rule(
        where=places, by=members, to=members, points=gifts, which=recent,
        what=st.sets(st.integers(0, 5), min_size=1, max_size=2),
    )  # fmt: skip
    def close_for_a_while(
        self, where: str, by: str, to: str, points: Decimal, which: int, what: Any
    ) -> None:
        """A closed company has no members; what was asked before it closed is still known."""
        tenant = self.company(where)
        change(self.stage, tenant, "is_active", False)
        gift = Gift(tenant.id, (self.uuid(to),), points)
        asks: list[Callable[[], object]] = [
            lambda: self.recognize(by, gift, self.new_key()),
            lambda: self.reward_work(SERVICE, where, to, points, self.new_key()),
            lambda: self.spend(by, where, which, False, self.new_key()),
            lambda: self.lend(by, where, to, points, False, self.new_key()),
            lambda: self.bring(SERVICE, where, points, self.new_key()),
            lambda: self.look(by, where),
        ]
        for number in sorted(what):
            asks[number]()
        if self.requests:
            self.ask_again(which, 1)
        change(self.stage, tenant, "is_active", True)

    # Time

    @rule(by=spans, tended=st.booleans())
    def pass_time(self, by: timedelta, tended: bool) -> None:
        self.wait(by)
        if tended:
            self.upkeep()

    @rule()
    def upkeep(self) -> None:
        """As the worker does it."""
        pools, wallets = self.tend("expire_allocations"), self.tend("expire_wallets")
        del pools["expired"], wallets["looked_at"]
        assert pools == self.companies.expire_pools()
        assert wallets == self.companies.expire_wallets()
        refilled = self.tend("refill_pools")
        newest = (
            "select distinct on (tenant_id) tenant_id::text, id::text from allocation_logs"
            " where actor = 'system' order by tenant_id, created_at desc, id desc"
        )
        ids = {row["tenant_id"]: row["id"] for row in self.stage.world.rows(newest)}
        assert refilled == self.companies.refill(ids)
        done = {"lots": pools["lots"], "wallets": wallets["points"] != "0"}
        done["refilled"] = refilled["refilled"]
        self.note("company upkeep", *(name for name, number in done.items() if number))

    def tend(self, procedure: str) -> Any:
        return self.stage.world.call(f"public.{procedure}", {}, self.stage.world.worker)

    # What people see

    @rule(who=members, home=homes)
    def look(self, who: str, home: str) -> None:
        actor, user, named = self.actor(who), self.uuid(who), self.at(home, who)
        query = {"tenant_id": named} if named else {}
        answer = self.stage.get(actor, f"{POINTS}/wallet", **query)
        entries = answer.body.pop("entries", [])
        said = self.agree("wallet", answer, lambda: Said(self.companies.wallet(user, named)))
        if said is not None:
            statement = self.companies.tenants[said.body["tenant_id"]].wallets[user].statement
            assert len(entries) == min(10, statement.total())
            compare(
                sorted((e["created_at"] for e in entries), reverse=True),
                sorted((at for *_, at in statement.elements()), reverse=True)[:10],
            )
        answer = self.stage.get(actor, f"{POINTS}/tenant-allocation-stats", **query)
        for name in ("message", "currency_label", "low_balance_threshold"):
            answer.body.pop(name, None)
        said = self.agree("stats", answer, lambda: Said(self.companies.stats(actor, named)))
        if said is not None:
            self.note("stats", said.body["status"])
        answer = self.stage.get(actor, f"{POINTS}/rewards", **query)
        self.agree("catalogue", answer, lambda: Said(self.companies.catalogue(user, named)))
        self.see(who, named)

    def see(self, who: str, named: str | None) -> None:
        """The recognitions that somebody is shown."""
        actor, query = self.actor(who), {"tenant_id": named} if named else {}
        answer = self.stage.get(actor, RECOGNITIONS, limit="100", **query)
        listed = sorted(r["recognition_id"] for r in answer.body.pop("recognitions", []))
        answer.body.pop("next_cursor", None)

        def seen() -> Said:
            assert listed == sorted(self.companies.seen(actor, named))
            return Said({})

        self.agree("list", answer, seen)
