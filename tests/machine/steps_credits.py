"""Steps with credits: given, used, given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Actor, Said
from tests.machine.model_purse import Charge
from tests.machine.stage import SERVICE, Answer
from tests.machine.steps import Steps, anything, deciders, pick, recent

customers: Final = st.sampled_from(("ann", "ann", "ben", "ben", "cleo", "ada"))
amounts: Final = st.sampled_from(
    [Decimal(n) for n in ("0.000001", "0.333333", "1", "2.5", "2.5", "4", "7", "13.7")]
)
models: Final = st.sampled_from(("gpt-4o", "gpt-4o", "gpt-4o", "llama3-8b-local", "mystery"))
levels: Final = st.sampled_from(("eco", "balanced", "precision", "precision"))
tokens: Final = st.sampled_from((1, 1333, 4000, 66_667, 200_000, 333_333))
lives: Final = st.sampled_from((None, None, *[timedelta(hours=n) for n in (0.2, 2, 24, 24 * 40)]))
shares: Final = st.sampled_from((None, "0.000001", "0.4", "0.4", "9"))
# Who has it asked: the customer, or a program.
askers: Final = st.sampled_from(("customer", "customer", "program"))


@dataclass(frozen=True)
class Request:
    """Something that was asked, and may be asked again."""

    rule: str
    slug: str
    by: Actor
    body: dict[str, Any]
    expect: Callable[[Answer], Said]


class CreditSteps(Steps):
    """What customers do with credits, programs on their behalf, and administrators."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def ask(self, it: Request, *, again: bool = False) -> Said | None:
        answer = self.stage.post(it.by, it.slug, it.body)
        said = self.agree(it.rule, answer, lambda: it.expect(answer))
        if not again:
            self.requests.append(it)
        return said

    @rule(
        by=deciders,
        who=customers,
        amount=amounts,
        life=lives,
        priority=st.sampled_from((50, 100, 100, 200)),
    )
    def allocate(
        self, by: str, who: str, amount: Decimal, life: timedelta | None, priority: int
    ) -> None:
        self.bring(self.actor(by), who, amount, life, priority)

    @rule(who=customers, amount=amounts)
    def take_back(self, who: str, amount: Decimal) -> None:
        """An adjustment."""
        self.bring(self.actor(SERVICE), who, -amount, None, 100)

    def bring(
        self, actor: Actor, who: str, amount: Decimal, life: timedelta | None, priority: int
    ) -> None:
        user, key = self.user(who), self.new_key()
        kind = "bonus" if amount > 0 else "adjustment"
        terms = {"priority": priority, "expires_at": life and self.shared.now + life}
        body = {
            "user_id": str(user), "amount": amount, "reason": "To begin with.",
            "transaction_type": kind, "idempotency_key": key, **terms,
        }  # fmt: skip

        def expect(answer: Answer) -> Said:
            id = answer.body.get("transaction_id", "")
            return self.credits.allocate(actor, user, amount, terms, key, id)

        self.ask(Request("allocate", "credit-admin/allocate", actor, body, expect))

    @rule(who=customers, by=askers, amount=amounts, keyed=st.booleans())
    def deduct(self, who: str, by: str, amount: Decimal, keyed: bool) -> None:
        key = self.new_key() if keyed else None
        self.charge(who, by, key, {"amount": amount}, (amount, None))

    @rule(who=customers, by=askers, model=models, level=levels, number=tokens)
    def use(self, who: str, by: str, model: str, level: str, number: int) -> None:
        """Tokens are charged at their price."""
        body = {"tokens_used": number, "model": model, "power_level": level}
        self.charge(who, by, self.new_key(), body, (None, (number, model, level)))

    @precondition(lambda self: self.requests)
    @rule(which=recent, amount=amounts)
    def otherwise(self, which: int, amount: Decimal) -> None:
        """Another charge, under a key that came with something else."""
        earlier = [r for r in self.requests if r.body.get("idempotency_key")]
        if earlier:
            first = pick(earlier, which)
            user = first.body.get("user_id") or first.by.user
            key = first.body["idempotency_key"]
            self.charge(
                self.who(self.user_of(user)).name, "program", key, {"amount": amount},
                (amount, None),
            )  # fmt: skip

    def user_of(self, user: Any) -> Any:
        return next(a.user for a in self.stage.actors.values() if str(a.user) == str(user))

    def charge(
        self, who: str, by: str, key: str | None, how: dict[str, Any], what: tuple[Any, Any]
    ) -> None:
        user, actor = self.user(who), self.asker(by, who)
        body = {**self.on_behalf(by, who), **how, "idempotency_key": key}
        slug = "credits/deduct" if "amount" in how else "credits/calculate-and-deduct"

        def expect(answer: Answer) -> Said:
            return self.credits.deduct(user, *what, key, answer.body.get("transaction_id", ""))

        self.ask(Request("deduct", slug, actor, body, expect))

    @rule(by=deciders, which=anything, part=shares)
    def refund(self, by: str, which: int, part: str | None) -> None:
        """A part of what a usage cost, all that is left of it, or more; or no usage at all."""
        found = [
            (name, charge)
            for name in ("ann", "ben", "cleo", "ada")
            for charge in self.credits.customers[self.user(name)].charges.values()
        ]
        name, charge = "ann", None
        if found and which % 10 != 9:
            name, charge = pick(sorted(found, key=lambda f: f[1].id), which)
        self.give_back(self.actor(by), name, charge, part)

    def give_back(self, actor: Actor, name: str, charge: Charge | None, part: str | None) -> None:
        user, key = self.user(name), self.new_key()
        id = charge.id if charge else "00000000-0000-7000-8000-000000000000"
        amount = None
        if part is not None:
            share = Decimal(part) * (charge.amount if charge else 1)
            amount = max(Decimal("0.000001"), share.quantize(Decimal("0.000001")))
        body = {
            "user_id": str(user), "transaction_id": id, "amount": amount, "reason": "It was poor.",
            "idempotency_key": key,
        }  # fmt: skip

        def expect(answer: Answer) -> Said:
            told = answer.body.get("transaction_id", "")
            return self.credits.refund(actor, user, id, amount, key, told)

        said = self.ask(Request("refund", "credit-admin/refund", actor, body, expect))
        if said is not None:
            self.note("refund", "whole" if amount is None else "part")

    @rule(
        who=customers,
        amount=st.sampled_from((Decimal(4), Decimal(6), Decimal("6.5"))),
        life=st.sampled_from((None, timedelta(days=2), timedelta(days=9))),
        parts=st.lists(shares, min_size=1, max_size=3),
    )
    def regret(
        self, who: str, amount: Decimal, life: timedelta | None, parts: list[str | None]
    ) -> None:
        """Of what was used of two lots, one of which has ended, all comes back bit by bit."""
        service, hours = self.actor(SERVICE), timedelta(hours=2)
        self.bring(service, who, Decimal(4), life, 50)
        self.bring(service, who, Decimal("2.5"), hours, 60)
        self.deduct(who, "program", amount, True)
        self.wait(hours)
        charges = list(self.credits.customers[self.user(who)].charges.values())
        for part in parts if charges else ():
            self.give_back(service, who, charges[-1], part)
        if life is not None:
            self.wait(life - hours)

    @precondition(lambda self: self.requests)
    @rule(which=recent, times=st.integers(1, 3))
    def ask_again(self, which: int, times: int) -> None:
        """The same request, whatever became of it the first time."""
        for _ in range(times):
            it = pick(self.requests, which)
            keyed = it.body.get("idempotency_key") or "reservation_id" in it.body
            if keyed:
                self.ask(it, again=True)

    # Who and what

    def asker(self, by: str, who: str) -> Actor:
        return self.actor(SERVICE if by == "program" else who)

    def on_behalf(self, by: str, who: str) -> dict[str, Any]:
        return {"user_id": str(self.user(who))} if by == "program" else {}
