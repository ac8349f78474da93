"""Steps that belong together: what takes several to come to."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.machine.model import Refused, Said
from tests.machine.model_recognitions import Gift
from tests.machine.model_tenants import LEADS, MANAGERS, Tenant
from tests.machine.stage import SERVICE
from tests.machine.stage_tenants import change
from tests.machine.steps import pick
from tests.machine.steps_companies import CompanySteps
from tests.machine.steps_tenants import places

some: Final = st.sampled_from([Decimal(n) for n in ("0.5", "5", "10", "12.34", "20", "33.33")])
gifts_or_praise: Final = st.one_of(some, some, some, st.just(Decimal(0)))
anybody: Final = st.integers(0, 6)
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
        where=places, by=anybody, to=anybody, heads=st.sampled_from((1, 2, 3, 3)),
        points=gifts_or_praise, split=st.sampled_from(("flat", "equal")), again=st.booleans(),
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

    @rule(where=places, by=anybody, to=anybody, to_whom=st.sampled_from(("private", "department")))
    def whisper(self, where: str, by: int, to: int, to_whom: str) -> None:
        """Not everybody sees everything."""
        tenant = self.company(where)
        giver = self.one(tenant, by)
        user = self.uuid(pick(self.colleagues(where, giver), to))
        gift = Gift(tenant.id, (user,), None, visibility=to_whom)
        self.recognize(giver, gift, self.new_key())
        for name in self.people(tenant):
            self.see(name, tenant.id)

    @rule(asks=st.lists(st.tuples(places, anybody, anybody, some), min_size=2, max_size=5))
    def give_at_once(self, asks: list[tuple[str, int, int, Decimal]]) -> None:
        """Requests that came together are one call, whichever companies they are of."""
        asked: dict[str, tuple[Gift, str]] = {}
        for where, by, to, points in asks:
            tenant = self.company(where)
            giver = self.one(tenant, by)
            # Now and then to somebody of the other company.
            other = self.company("Birch" if where == "Acme" and to == 6 else where)
            names = [name for name in self.people(other) if name != giver]
            gift = Gift(tenant.id, (self.uuid(pick(names, to)),), points)
            asked[giver] = gift, self.new_key()
        if asked:
            self.together(asked)

    @rule(where=places, by=anybody, to=anybody, points=some)
    def pass_on(self, where: str, by: int, to: int, points: Decimal) -> None:
        """What somebody is given, they give on in the same call, with all that they had."""
        tenant = self.company(where)
        change(self.stage, tenant, "wallet_expiry_policy", "never")
        name = pick(self.people(tenant, ("employee",)) or self.people(tenant), to)
        others = self.colleagues(where, name)
        all_of_it = tenant.wallets[self.uuid(name)].balance + points
        first = Gift(tenant.id, (self.uuid(name),), points)
        then = Gift(tenant.id, (self.uuid(pick(others, to)),), all_of_it)
        self.together({pick(others, by): (first, self.new_key()), name: (then, self.new_key())})

    def together(self, asked: dict[str, tuple[Gift, str]]) -> None:
        outcomes = self.stage.world.batch(
            "internal.give_recognition_batch",
            [
                {
                    "user_id": self.user(name), "tenant_id": gift.named, "points": gift.points,
                    "recipients": list(gift.recipients), "message": gift.message,
                    "idempotency_key": key,
                }
                for name, (gift, key) in asked.items()
            ],
            None,
        )  # fmt: skip
        expected = self.companies.give_at_once(
            [
                (self.actor(name), gift, key, outcome.answer or {})
                for (name, (gift, key)), outcome in zip(asked.items(), outcomes, strict=True)
            ]
        )
        for outcome, said in zip(outcomes, expected, strict=True):
            if isinstance(said, Refused):
                assert outcome.refusal is not None, (outcome, said)
                assert outcome.refusal["code"] == said.code, (outcome, said)
                self.note("give at once", said.code)
            else:
                assert outcome.answer == said.body, (outcome, said)
                self.note("give at once", said.body["funded_by"])

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
