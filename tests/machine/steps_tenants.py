"""Steps in companies: who asks, where, and what everybody does with points they were given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.model import Actor, Said
from tests.machine.model_recognitions import Gift
from tests.machine.model_tenants import Tenant
from tests.machine.stage import SERVICE, Answer
from tests.machine.stage_tenants import PEOPLE, found
from tests.machine.steps import Steps, anything, pick, recent

POINTS: Final = "/api/v1/points"
RECOGNITIONS: Final = "/api/recognitions"
ONCE: Final = ("revoke", "refund")  # what happens once, without a key
NOBODY: Final = "00000000-0000-7000-8000-000000000000"

places: Final = st.sampled_from(("Acme", "Acme", "Birch"))
# Where somebody says that they are: at home, nowhere, or in a company that may not be theirs.
homes: Final = st.sampled_from(("home",) * 9 + ("none", "none", "Acme", "Birch"))
givers: Final = st.sampled_from(
    (
        "mia",
        "hal",
        "leo",
        "leo",
        "dora",
        "dora",
        "max",
        "eve",
        "eve",
        "eli",
        "bob",
        "lea",
        "lea",
        "ada",
        "ann",
    )
)
members: Final = st.sampled_from(
    ("mia", "hal", "leo", "dora", "max", "eve", "eve", "eli", "eli", "bob", "lea", "ada")
)
managers: Final = st.sampled_from(("mia", "mia", "hal", "bob", "bob", "bea", SERVICE, "leo"))
gifts: Final = st.sampled_from(
    [Decimal(n) for n in ("0.01", "1", "2.5", "7.25", "10", "10", "10", "20", "33.33", "60")]
    + [Decimal(n) for n in ("0", "-1", "0.001")]
)
tiers: Final = st.sampled_from((None,) * 8 + ("Gold", "Silver", "Tin"))
reasons: Final = st.sampled_from(("It was looked into.",) * 8 + (" ",))
keyed: Final = st.sampled_from((True, True, False))


@dataclass(frozen=True)
class Request:
    """Something that was asked, and may be asked again."""

    rule: str
    path: str
    by: Actor
    body: dict[str, Any]
    expect: Callable[[Answer], Said]
    where: str | None = None


class TenantSteps(Steps):
    """What members give one another, and what they spend."""

    def __init__(self) -> None:
        super().__init__()
        self.companies = found(self.stage, self.shared)
        self.requests: list[Request] = []

    def ask(self, it: Request, *, again: bool = False) -> Said | None:
        answer = self.stage.post(it.by, it.path, it.body)
        said = self.agree(it.rule, replace(answer, body=plain(answer)), lambda: it.expect(answer))
        if not again:
            self.requests.append(it)
        for result in said.body.get("results", ()) if said else ():
            what = "one is replayed" if "replayed" in result else result.get("code", "one is done")
            self.note(it.rule, what)
        return said

    @rule(
        by=givers,
        home=homes,
        to=st.lists(members, min_size=1, max_size=3),
        points=st.one_of(gifts, st.none()),
        tier=tiers,
        split=st.sampled_from(("flat", "flat", "equal")),
        visibility=st.sampled_from(("public", "public", "department", "private")),
        message=st.sampled_from(("Thank you",) * 12 + (" ",)),
        keyed=keyed,
    )
    def give(
        self,
        by: str,
        home: str,
        to: list[str],
        points: Decimal | None,
        tier: str | None,
        split: str,
        visibility: str,
        message: str,
        keyed: bool,
    ) -> None:
        gift = Gift(
            self.at(home, by), tuple(self.user(name) for name in to), points, message,
            "group_award" if len(to) > 1 else "standard", tier, split, visibility,
        )  # fmt: skip
        said = self.recognize(by, gift, self.new_key() if keyed else None)
        if said is not None and not said.replayed:
            self.note("give", said.body["funded_by"])
            shares = {one["points"] for one in said.body["recipients"]}
            if len(shares) > 1:
                self.note("give", "something did not divide")

    @rule(by=givers, points=gifts, to=members)
    def give_at_home(self, by: str, points: Decimal, to: str) -> None:
        """To somebody of the same company, as it should be."""
        found = self.companies.of(self.user(by), None)
        if found:
            there = [u for u in found[-1].members if u != self.user(by)]
            user = self.user(to) if self.user(to) in there else there[0]
            gift = Gift(found[-1].id, (user,), points)
            said = self.recognize(by, gift, self.new_key())
            if said is not None:
                self.note("give", said.body["funded_by"])

    def recognize(self, by: str, gift: Gift, key: str | None) -> Said | None:
        actor = self.actor(by)
        body = {
            "to_user_ids": [str(user) for user in gift.recipients], "points": gift.points,
            "message": gift.message, "recognition_type": gift.kind, "award_tier": gift.tier,
            "split": gift.split, "visibility": gift.visibility, "tenant_id": gift.named,
            "idempotency_key": key,
        }  # fmt: skip
        return self.ask(
            Request(
                "give", RECOGNITIONS, actor, body,
                lambda answer: self.companies.give(actor, gift, key, answer.body), gift.named,
            )
        )  # fmt: skip

    @rule(
        by=st.one_of(givers, st.sampled_from((SERVICE, "bea", "ada"))),
        home=homes,
        to=members,
        points=gifts,
        keyed=keyed,
    )
    def award(self, by: str, home: str, to: str, points: Decimal, keyed: bool) -> None:
        self.reward_work(by, home, to, points, self.new_key() if keyed else None)

    def reward_work(self, by: str, home: str, to: str, points: Decimal, key: str | None) -> None:
        actor, named = self.actor(by), self.at(home, by)
        if home == "home" and named is None:
            named = self.company("Acme").id
        gift = Gift(named, (self.user(to),), points, "Well done", "individual_award", award=True)
        body = {
            "to_user_id": str(self.user(to)), "amount": points, "tenant_id": named,
            "recognition_message": "Well done", "idempotency_key": key,
        }  # fmt: skip
        said = self.ask(
            Request(
                "award", f"{POINTS}/award-to-user", actor, body,
                lambda answer: self.companies.award(actor, gift, key, answer.body), named,
            )
        )  # fmt: skip
        if said is not None and not self.companies.of(actor.user, named):
            self.note("award", "in the system's name")

    @rule(
        by=st.one_of(managers, st.sampled_from((SERVICE, "bea"))),
        home=homes,
        which=recent,
        reason=reasons,
    )
    def revoke(self, by: str, home: str, which: int, reason: str) -> None:
        tenant = self.companies.tenants.get(self.at(home, by) or "", self.company("Birch"))
        named = tenant.id if home == "home" else self.at(home, by)
        id = pick(list(tenant.recognitions) or [NOBODY], which)
        self.take_back(by, tenant, named, id, reason)

    def take_back(self, by: str, tenant: Tenant, named: str | None, id: str, reason: str) -> None:
        actor = self.actor(by)
        said = self.ask(
            Request(
                "revoke", f"{RECOGNITIONS}/{id}/revoke", actor,
                {"reason": reason, "tenant_id": named},
                lambda _: self.companies.revoke(actor, named, id, reason), tenant.id,
            )
        )  # fmt: skip
        if said is not None and not said.replayed:
            self.note("revoke", f"to {said.body['returned_to']}")

    @rule(who=members, home=homes, which=anything, program=st.booleans(), keyed=keyed)
    def redeem(self, who: str, home: str, which: int, program: bool, keyed: bool) -> None:
        self.spend(who, home, which, program, self.new_key() if keyed else None)

    def spend(self, who: str, home: str, which: int, program: bool, key: str | None) -> None:
        named = self.at(home, who)
        offered = [id for t in self.companies.tenants.values() for id in t.rewards]
        if home == "home" and named is not None and which % 5:
            offered = list(self.companies.tenants[named].rewards)
        self.spend_on(who, named, pick(offered, which), program, key)

    def spend_on(
        self, who: str, named: str | None, reward: str, program: bool, key: str | None
    ) -> None:
        actor, user = self.actor(SERVICE if program else who), self.user(who)
        body = {"reward_id": reward, "tenant_id": named, "idempotency_key": key}
        self.ask(
            Request(
                "redeem", f"{POINTS}/rewards/redeem", actor,
                {**body, "user_id": str(user)} if program else body,
                lambda answer: self.companies.redeem(user, named, reward, key, answer.body),
                named,
            )
        )  # fmt: skip

    @rule(by=st.one_of(managers, st.just("ada")), home=homes, which=recent, reason=reasons)
    def refund(self, by: str, home: str, which: int, reason: str) -> None:
        tenant = self.companies.tenants.get(self.at(home, by) or "", self.company("Acme"))
        named = tenant.id if home == "home" else self.at(home, by)
        self.give_back(by, tenant, named, pick(list(tenant.redemptions) or [NOBODY], which), reason)

    def give_back(self, by: str, tenant: Tenant, named: str | None, id: str, reason: str) -> None:
        actor = self.actor(by)
        self.ask(
            Request(
                "refund", f"{POINTS}/rewards/refund", actor,
                {"redemption_id": id, "reason": reason, "tenant_id": named},
                lambda _: self.companies.refund(actor, named, id, reason), tenant.id,
            )
        )  # fmt: skip

    @precondition(lambda self: self.requests)
    @rule(which=recent, times=st.integers(1, 2))
    def ask_again(self, which: int, times: int) -> None:
        """The same request, whatever became of it the first time."""
        once = [r for r in self.requests if r.body.get("idempotency_key") or r.rule in ONCE]
        for _ in range(times if once else 0):
            self.ask(pick(once, which), again=True)

    # Who and where

    def company(self, name: str) -> Tenant:
        return next(t for t in self.companies.tenants.values() if t.name == name)

    def at(self, home: str, who: str) -> str | None:
        """The id of the company that somebody names."""
        if home == "home":
            return next((self.company(n).id for n, there in PEOPLE.items() if who in there), None)
        return None if home == "none" else self.company(home).id

    def department(self, tenant: Tenant, name: str | None) -> str | None:
        return next((d.id for d in tenant.departments.values() if d.name == name), None)

    def uuid(self, name: str) -> UUID:
        user: UUID = self.user(name)
        return user


def plain(answer: Answer) -> dict[str, Any]:
    """Without the words in which one of many is refused."""
    results = answer.body.get("results", ())
    if results:
        results = [{k: v for k, v in one.items() if k != "detail"} for one in results]
        return {**answer.body, "results": results}
    return answer.body
