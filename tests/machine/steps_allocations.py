"""Steps of those who allocate: the platform to companies, and managers to leads."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Said
from tests.machine.model_allocations import Order
from tests.machine.model_recognitions import Gift
from tests.machine.stage import SERVICE, Answer
from tests.machine.steps import pick, recent
from tests.machine.steps_tenants import (
    NOBODY,
    POINTS,
    Request,
    TenantSteps,
    gifts,
    homes,
    keyed,
    managers,
    places,
    reasons,
)

platform: Final = st.sampled_from((SERVICE, SERVICE, SERVICE, "bea", "bea", "ada", "mia"))
somewhere: Final = st.sampled_from(("Acme", "Acme", "Acme", "Birch", "Birch", "nowhere"))
amounts: Final = st.sampled_from(
    [Decimal(n) for n in ("0.5", "25", "50", "50", "120", "300", "700", "0", "0.001")]
)
parts: Final = st.one_of(st.none(), amounts)
leads: Final = st.sampled_from(("leo", "leo", "dora", "max", "lea", "lea", "eve", "eli", "bob"))


class AllocationSteps(TenantSteps):
    """What happens to pools, and to the budgets of leads."""

    @rule(by=platform, where=somewhere, amount=amounts, keyed=keyed)
    def allocate(self, by: str, where: str, amount: Decimal, keyed: bool) -> None:
        self.bring(by, where, amount, self.new_key() if keyed else None)

    def bring(self, by: str, where: str, amount: Decimal, key: str | None) -> Said | None:
        actor, id = self.actor(by), self.id_of(where)
        body = {
            "tenant_id": id, "amount": amount, "reference_note": "January",
            "idempotency_key": key,
        }  # fmt: skip
        order = Order(id, amount, "January", key)
        return self.ask(
            Request(
                "allocate", f"{POINTS}/allocate-to-tenant", actor, body,
                lambda answer: self.companies.allocate(actor, order, answer.body), id,
            )
        )  # fmt: skip

    @rule(
        by=platform,
        orders=st.lists(st.tuples(somewhere, amounts, keyed), min_size=1, max_size=4),
        keyed=st.booleans(),
    )
    def bulk(self, by: str, orders: list[tuple[str, Decimal, bool]], keyed: bool) -> None:
        """Each under its own key, or under that of all of them."""
        actor, key = self.actor(by), self.new_key() if keyed else None
        note, turns = f"Bulk allocation for {len(orders)} tenants", Counter[str]()
        entries: list[Order] = []
        listed: list[dict[str, Any]] = []
        for where, amount, own in orders:
            id = self.id_of(where)
            listed.append({"tenant_id": id, "amount": amount})
            if own:
                listed[-1]["idempotency_key"] = self.new_key()
            else:
                turns[id] += 1
            turn = f"#{turns[id]}" if turns[id] > 1 else ""
            its = listed[-1].get("idempotency_key", key and f"{key}{turn}")
            entries.append(Order(id, amount, note, its))
        body = {"allocations": listed, "idempotency_key": key}
        self.ask(
            Request(
                "bulk", f"{POINTS}/bulk-allocate", actor, body,
                lambda answer: self.companies.bulk(actor, entries, answer.body.get("results", [])),
            )
        )  # fmt: skip

    @rule(by=platform, where=somewhere, amount=parts, reason=reasons, keyed=keyed)
    def claw_back(
        self, by: str, where: str, amount: Decimal | None, reason: str, keyed: bool
    ) -> None:
        self.take(by, where, amount, reason, self.new_key() if keyed else None)

    def take(
        self, by: str, where: str, amount: Decimal | None, reason: str, key: str | None
    ) -> Said | None:
        actor, id = self.actor(by), self.id_of(where)
        body = {"reason": reason, "amount": amount, "idempotency_key": key}

        def expect(answer: Answer) -> Said:
            return self.companies.claw_back(actor, id, amount, reason, key, answer.body)

        return self.ask(Request("claw back", f"{POINTS}/clawback/{id}", actor, body, expect, id))

    @rule(by=platform, where=somewhere, which=recent, amount=parts, reason=reasons, keyed=keyed)
    def reverse(
        self, by: str, where: str, which: int, amount: Decimal | None, reason: str, keyed: bool
    ) -> None:
        self.undo(by, where, which, amount, reason, self.new_key() if keyed else None)

    def undo(
        self,
        by: str,
        where: str,
        which: int,
        amount: Decimal | None,
        reason: str,
        key: str | None,
    ) -> Said | None:
        """An allocation of this company, or of another one."""
        actor, id = self.actor(by), self.id_of(where)
        known = [
            lot.id
            for tenant in self.companies.tenants.values()
            for lot in tenant.pool.lots
            if lot.is_allocation and (tenant.id == id or which == 8)
        ]
        it = pick(known, which) if known else NOBODY
        body = {
            "tenant_id": id, "allocation_id": it, "reason": reason, "amount": amount,
            "idempotency_key": key,
        }  # fmt: skip

        def expect(answer: Answer) -> Said:
            return self.companies.reverse(actor, id, it, amount, reason, key, answer.body)

        said = self.ask(Request("reverse", f"{POINTS}/reverse-allocation", actor, body, expect, id))
        if said is not None and not said.replayed:
            self.note("reverse", said.body["status"])
        return said

    @rule(by=platform, where=somewhere, balance=amounts, reason=reasons, keyed=keyed)
    def adjust(self, by: str, where: str, balance: Decimal, reason: str, keyed: bool) -> None:
        self.put_right(by, where, balance, reason, self.new_key() if keyed else None)

    def put_right(
        self, by: str, where: str, balance: Decimal, reason: str, key: str | None
    ) -> Said | None:
        actor, id = self.actor(by), self.id_of(where)
        answer = self.stage.call(
            "adjust_tenant_pool_to", user_id=actor.user, tenant_id=id, balance=balance,
            reason=reason, idempotency_key=key,
        )  # fmt: skip
        return self.agree(
            "adjust", answer,
            lambda: self.companies.adjust(actor, id, balance, reason, key, answer.body),
        )  # fmt: skip

    @rule(where=places, balance=amounts)
    def write_by_hand(self, where: str, balance: Decimal) -> None:
        """As the emergency runbook has it: it is an adjustment."""
        tenant, balance = self.company(where), balance.quantize(Decimal("0.01"))
        self.stage.world.operator.execute(
            "update tenants set points_allocation_balance = %s where id = %s",
            (balance, tenant.id),
        )
        if self.companies.set_to(tenant, balance, None):
            self.note("adjust", "by hand")

    @rule(
        by=managers,
        home=homes,
        lead=leads,
        amount=st.one_of(gifts, amounts, st.none()),
        recall=st.sampled_from((False, False, True)),
        keyed=keyed,
    )
    def delegate(
        self, by: str, home: str, lead: str, amount: Decimal | None, recall: bool, keyed: bool
    ) -> None:
        if recall or amount is not None:
            self.lend(by, home, lead, amount, recall, self.new_key() if keyed else None)

    def lend(
        self, by: str, home: str, lead: str, amount: Decimal | None, recall: bool, key: str | None
    ) -> Said | None:
        actor, user, named = self.actor(by), self.uuid(lead), self.at(home, by)
        body = {
            "lead_user_id": str(user), "amount": amount, "tenant_id": named,
            "idempotency_key": key,
        }  # fmt: skip
        if actor.user is None:
            return None

        def expect(answer: Answer) -> Said:
            return self.companies.delegate(
                actor, named, user, amount, key, answer.body, recall=recall
            )

        rule, path = ("recall", "recall-from-lead") if recall else ("delegate", "delegate-to-lead")
        return self.ask(Request(rule, f"{POINTS}/{path}", actor, body, expect, named))

    @precondition(lambda self: self.requests)
    @rule(which=recent, how=st.integers(0, 3), amount=st.sampled_from((Decimal(3), Decimal(4))))
    def otherwise(self, which: int, how: int, amount: Decimal) -> None:
        """Something else, under a key that came with another request."""
        it = pick([r for r in self.requests if r.body.get("idempotency_key")] or [None], which)
        if it is None or it.where not in self.companies.tenants:
            return
        key, name = it.body["idempotency_key"], self.companies.tenants[it.where].name
        if it.rule in ("allocate", "claw back", "reverse"):
            why, by = "Otherwise", SERVICE
            [
                lambda: self.bring(by, name, amount, key),
                lambda: self.take(by, name, amount, why, key),
                lambda: self.undo(by, name, 0, amount, why, key),
                lambda: self.put_right(by, name, amount, why, key),
            ][how]()
        elif it.rule in ("give", "award"):
            others = [u for u in self.companies.tenants[it.where].members if u != it.by.user]
            if how % 2:
                self.recognize(
                    it.by.name, Gift(it.where, (others[how % len(others)],), amount), key
                )
            else:
                self.reward_work(
                    it.by.name, name, self.who(others[how % len(others)]).name, amount, key
                )
        elif it.rule in ("delegate", "recall"):
            self.lend(it.by.name, name, ("leo", "lea")[how % 2], amount, how > 1, key)
        elif it.rule == "redeem" and it.by.user is not None:
            self.spend(it.by.name, name, how, False, key)

    def id_of(self, where: str) -> str:
        return NOBODY if where == "nowhere" else self.company(where).id
