"""Whatever people do, in whatever order: the server answers as a few hundred lines of Python do.

The real HTTP API stands in front of a real database; awards, insights and the schedule, which have
no route yet, are asked of the procedures. After every step all balances, events and coupons are
what the model says. TALLYBOOK_MACHINE_EXAMPLES=500 makes a long run of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies._internal.featureflags import FeatureFlags

from tallybook.coupon_code import new_code
from tallybook.local.postgres import EmbeddedPostgres
from tests.machine import stage
from tests.machine.model import Actor, Event, Refused, Said, Shared
from tests.machine.model_coupons import Coupon, Coupons, Template
from tests.machine.model_points import Points, Submission
from tests.machine.stage import ADMINISTRATORS, SERVICE, TILLS, USERS, Answer, Stage
from tests.world import NOW

EXAMPLES = int(os.environ.get("TALLYBOOK_MACHINE_EXAMPLES", "20"))
STEPS = 200
LONG_RUN = "TALLYBOOK_MACHINE_EXAMPLES" in os.environ

# What must have come of each rule at least once, or the run has proven nothing about it.
REACHED: Final = {
    "submit": {"done", "event_in_future", "event_too_old", "proof_type_not_accepted"},
    "submit again": {"replayed"},
    "submit otherwise": {"nonce_reused"},
    "validate": {"done", "forbidden"},
    "validate one": {"done", "event_not_found"},
    "verdict": {"validated", "pending_review", "rejected"},
    "review": {"done", "forbidden", "not_reviewable"},
    "award": {"validated", "pending_review", "forbidden", "own_event", "insufficient_funds"},
    "award again": {"replayed", "nonce_reused"},
    "redeem": {"done", "insufficient_points", "template_not_found"},
    "redeem again": {"replayed", "shown", "not shown"},
    "redeem otherwise": {"nonce_reused"},
    "verify": {"issued", "redeemed", "revoked", "coupon_not_valid"},
    "consume": {"done", "forbidden", "coupon_not_valid"},
    "consume again": {"replayed", "coupon_not_valid"},
    "hold": {"done", "coupon_not_valid"},
    "revoke": {"done", "refunded", "forbidden", "coupon_used", "coupon_revoked"},
    "refund": {"done", "forbidden", "coupon_used", "coupon_refunded"},
    "upkeep": {"forgotten", "failures"},
    "look": {"balance", "schedule"},
}
"""What the examples of CI must have come to; the model knows more, which a long run meets."""

T = TypeVar("T")

users = st.sampled_from(USERS)
deciders = st.sampled_from((*ADMINISTRATORS, SERVICE, *ADMINISTRATORS, "ann"))
showers = st.sampled_from((*TILLS, SERVICE, *TILLS, "ann", "ben"))
keys = st.sampled_from(("sale-1", "sale-2"))
reasons = st.sampled_from(("It was looked into.",) * 5 + (" ",))
recent = st.integers(0, 9)

# How long before now something happened, or that it followed the latest one so closely.
whens = st.one_of(
    st.integers(0, 4).map(lambda days: timedelta(days=days)),
    st.integers(1, 600).map(lambda minutes: timedelta(minutes=minutes)),
    st.sampled_from(("5 s later", "0.5 s later")),
    st.sampled_from((timedelta(minutes=-5), timedelta(minutes=-11), timedelta(days=8))),
)
kinds = st.sampled_from(
    ("habit_completion",) * 4
    + ("workout",) * 3
    + ("goal_achieved",) * 2
    + ("bonus_claim", "admin_award", "a_dance")
)


class Machine(RuleBasedStateMachine):
    """Takes each step twice, on the stage and in the model, and compares."""

    open_stage: ClassVar[Callable[[], AbstractContextManager[Stage]]]
    reached: ClassVar[Counter[tuple[str, str]]]

    def __init__(self) -> None:
        super().__init__()
        if not LONG_RUN:
            # By default each example leaves out many of the rules. A long run is the better for
            # it, and a short one would not come to what takes several of them.
            self._rules_strategy.enabled_rules_strategy = st.just(FeatureFlags())
        self.shared = Shared(NOW)
        self.points, self.coupons = Points(self.shared), Coupons(self.shared)
        self.sent: list[Submission] = []
        self.bought: list[tuple[Actor, Template, str]] = []
        self.awards: list[tuple[Actor, Actor, int, str]] = []
        self.used: list[tuple[Actor, Coupon, str]] = []
        self.uniform: dict[str, Any] | None = None
        self.numbers = 0
        with ExitStack() as things:
            self.stage = things.enter_context(type(self).open_stage())
            self.things = things.pop_all()

    def teardown(self) -> None:
        self.things.close()

    # Submitting

    @rule(
        who=users,
        kind=kinds,
        when=whens,
        proof=st.sampled_from((None, None, None, "a", "b")),
        proof_type=st.sampled_from((None, None, "google_fit", None, "manual_admin")),
        device=st.sampled_from((None, None, "tablet", "phone")),
    )
    def submit(
        self,
        who: str,
        kind: str,
        when: timedelta | str,
        proof: str | None,
        proof_type: str | None,
        device: str | None,
    ) -> None:
        user = self.user(who)
        if isinstance(when, str):
            sent = [e.event_time for e in self.points.of(user)]
            at = (sent[-1] if sent else self.shared.now) + timedelta(seconds=float(when.split()[0]))
        else:
            at = self.shared.now - when
        it = Submission(user, kind, at, self.new_key(), proof, proof_type, device)
        self.send(it, "submit")

    @precondition(lambda self: self.sent)
    @rule(which=recent)
    def submit_again(self, which: int) -> None:
        self.send(pick(self.sent, which), "submit again")

    @precondition(lambda self: self.sent)
    @rule(which=recent, when=st.integers(61, 100))
    def submit_otherwise(self, which: int, when: int) -> None:
        """Under a nonce that came with something else."""
        earlier = pick(self.sent, which)
        at = self.shared.now - timedelta(minutes=when)
        it = Submission(earlier.user, "workout", at, earlier.nonce)
        self.send(it, "submit otherwise")

    def send(self, it: Submission, rule: str) -> None:
        (name,) = (name for name, actor in self.stage.actors.items() if actor.user == it.user)
        body = {
            "event_type": it.kind,
            "event_time": it.at.isoformat(),
            "nonce": it.nonce,
            "proof_payload": it.proof and {"reading": it.proof},
            "proof_type": it.proof_type,
            "device_id": it.device,
        }
        answer = self.stage.post(self.actor(name), "submit-points-event", body)

        def expect() -> Said:
            said, event = self.points.submit(it)
            if not said.replayed:
                event.id = said.body["id"] = answer.body.get("id")
                self.sent.append(it)
            return said

        self.agree(rule, answer, expect)

    # Deciding

    @rule(by=deciders)
    def validate(self, by: str) -> None:
        actor = self.actor(by)
        answer = self.stage.post(actor, "validate-points-event", {})
        self.agree("validate", answer, lambda: self.decided(self.points.validate(actor)))

    @precondition(lambda self: self.sent)
    @rule(by=deciders, which=recent)
    def validate_one(self, by: str, which: int) -> None:
        actor, event = self.actor(by), self.points.submitted[pick(self.sent, which)]
        answer = self.stage.post(actor, "validate-points-event", {"event_id": event.id})
        self.agree("validate one", answer, lambda: self.decided(self.points.validate(actor, event)))

    def decided(self, outcome: tuple[Said, Sequence[Event]]) -> Said:
        said, events = outcome
        self.note("verdict", *(event.status for event in events))
        self.note("verdict", *("streak" for event in events if (event.streak or 0) > 1))
        return said

    @precondition(lambda self: self.reviewable)
    @rule(
        by=deciders,
        which=recent,
        decision=st.sampled_from(("approved", "rejected")),
        reason=reasons,
    )
    def review(self, by: str, which: int, decision: str, reason: str) -> None:
        actor, event = self.actor(by), pick(self.reviewable, which)
        slug = {"approved": "review/approve", "rejected": "review/reject"}[decision]
        answer = self.stage.post(actor, slug, {"event_id": event.id, "reason": reason})
        self.agree("review", answer, lambda: self.points.review(actor, event, decision, reason))

    @property
    def reviewable(self) -> list[Event]:
        """Events that somebody may want to decide; those that wait come last, and so most often."""
        events = [e for e in self.shared.events if e.id is not None]
        return sorted(events, key=lambda e: (e.status == "pending_review", e.number))

    @precondition(lambda self: self.points.judge.insights)
    @rule(by=deciders, which=recent, notes=st.sampled_from(("A bug.", "A bug.", "A thief.")))
    def resolve(self, by: str, which: int, notes: str) -> None:
        actor, insight = self.actor(by), pick(self.points.judge.insights, which)
        insight.id = insight.id or str(
            self.stage.world.value(
                "select insight_id from fraud_insights where related_event_ids = array[%s::uuid]",
                (insight.event.id,),
            )
        )
        answer = self.stage.call(
            "resolve_fraud_insight", user_id=actor.user, insight_id=insight.id, notes=notes
        )
        self.agree("resolve", answer, lambda: self.points.resolve(actor, insight, notes))

    @rule(
        by=deciders,
        to=users,
        points=st.sampled_from((25, 80, 150, 200, 201, 500, -30, -400)),
    )
    def award(self, by: str, to: str, points: int) -> None:
        self.give((self.actor(by), self.actor(to), points, self.new_key()), "award")

    @precondition(lambda self: self.awards)
    @rule(which=recent, same=st.booleans())
    def award_again(self, which: int, same: bool) -> None:
        by, to, points, key = pick(self.awards, which)
        self.give((by, to, points if same else points + 1, key), "award again")

    def give(self, award: tuple[Actor, Actor, int, str], rule: str) -> None:
        by, to, points, key = award
        assert to.user is not None
        answer = self.stage.call(
            "award_points",
            user_id=by.user,
            to_user_id=to.user,
            points=points,
            reason="For the garden.",
            idempotency_key=key,
        )
        made: list[Event] = []

        def expect() -> Said:
            said, event = self.points.award(by, to.user, points, "For the garden.", key)
            event.id = said.body["event_id"] = event.id or answer.body.get("event_id")
            made.append(event)
            return said

        said = self.agree(rule, answer, expect)
        if said is not None and not said.replayed:
            self.note(rule, made[0].status)
            self.awards.append(award)

    # Buying

    @rule(who=users, template=st.integers(0, 4))
    def redeem(self, who: str, template: int) -> None:
        self.buy(self.actor(who), self.stage.templates[template], self.new_key(), "redeem")

    @precondition(lambda self: self.bought)
    @rule(which=recent)
    def redeem_again(self, which: int) -> None:
        answer = self.buy(*pick(self.bought, which), "redeem again")
        self.note("redeem again", "shown" if answer.body["coupon_code"] else "not shown")

    @precondition(lambda self: self.bought or self.sent)
    @rule(which=recent, template=st.integers(0, 4))
    def redeem_otherwise(self, which: int, template: int) -> None:
        """Under a key that came with something else."""
        by_user = {actor.user: actor for actor in self.stage.actors.values()}
        earlier = [(by_user[it.user], it.nonce) for it in self.sent[-5:]]
        earlier += [(who, key) for who, _, key in self.bought[-5:]]
        who, key = pick(earlier, which)
        self.buy(who, self.stage.templates[template], key, "redeem otherwise")

    def buy(self, who: Actor, template: Template, key: str, rule: str) -> Answer:
        body = {"template_id": template.id, "idempotency_key": key}
        answer = self.stage.post(who, "redeem-coupon", body)

        def expect() -> Said:
            assert who.user is not None
            said, coupon = self.coupons.redeem(who.user, template, key)
            if not said.replayed:
                coupon.id, coupon.code = answer.body.get("coupon_id"), answer.body["coupon_code"]
                said.body.update(coupon_id=coupon.id, coupon_code=coupon.code)
                assert coupon.code
                self.bought.append((who, template, key))
            return said

        self.agree(rule, answer, expect)
        return answer

    # At the till

    @rule(by=showers, which=st.integers(0, 9))
    def verify(self, by: str, which: int) -> None:
        actor, coupon = self.actor(by), self.coupon(which)
        answer = self.stage.post(actor, "coupons/verify", {"code": code_of(coupon)})
        said = self.agree("verify", answer, lambda: self.coupons.verify(actor, coupon))
        if said is not None:
            self.note("verify", said.body["status"])

    @rule(by=users, which=st.integers(1, 9))
    def verify_own(self, by: str, which: int) -> None:
        """The owner hears how it stands."""
        actor = self.actor(by)
        own = [c for c in self.coupons.coupons if c.owner == actor.user]
        coupon = pick(own, which) if own else None
        answer = self.stage.post(actor, "coupons/verify", {"code": code_of(coupon)})
        said = self.agree("verify", answer, lambda: self.coupons.verify(actor, coupon))
        if said is not None:
            self.note("verify", said.body["status"])

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=showers, which=recent, key=keys)
    def consume(self, by: str, which: int, key: str) -> None:
        self.use((self.actor(by), self.coupon(which), key), "consume")

    @precondition(lambda self: self.used)
    @rule(which=recent, same=st.sampled_from((True, True, False)), by=showers)
    def consume_again(self, which: int, same: bool, by: str) -> None:
        """The same use, or another one of what was used."""
        first, coupon, key = pick(self.used, which)
        use = (first, coupon, key) if same else (self.actor(by), coupon, key)
        self.use(use, "consume again")

    def use(self, use: tuple[Actor, Coupon | None, str], rule: str) -> None:
        by, coupon, key = use
        body = {"code": code_of(coupon), "idempotency_key": key}
        answer = self.stage.post(by, "coupons/consume", body)
        said = self.agree(rule, answer, lambda: self.coupons.consume(by, coupon, key))
        if said is not None and coupon is not None:
            self.used.append((by, coupon, key))

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=showers, which=recent, key=keys, seconds=st.sampled_from((60, 600, 86_400)))
    def hold(self, by: str, which: int, key: str, seconds: int) -> None:
        actor, coupon = self.actor(by), self.coupon(which)
        body = {"code": code_of(coupon), "idempotency_key": key, "hold_seconds": seconds}
        answer = self.stage.post(actor, "coupons/hold", body)
        self.agree("hold", answer, lambda: self.coupons.hold(actor, coupon, key, seconds))

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=showers, which=recent, key=keys)
    def release(self, by: str, which: int, key: str) -> None:
        actor, coupon = self.actor(by), self.coupon(which)
        body = {"code": code_of(coupon), "idempotency_key": key}
        answer = self.stage.post(actor, "coupons/release", body)
        self.agree("release", answer, lambda: self.coupons.release(actor, coupon, key))

    # What administrators do with coupons

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=deciders, which=recent, reason=reasons, refund=st.booleans())
    def revoke(self, by: str, which: int, reason: str, refund: bool) -> None:
        actor, coupon = self.actor(by), pick(self.coupons.coupons, which)
        body = {"coupon_id": coupon.id, "reason": reason, "refund": refund}
        answer = self.stage.post(actor, "coupons/revoke", body)
        said = self.agree(
            "revoke",
            answer,
            lambda: self.refunded(self.coupons.revoke(actor, coupon, reason, refund), answer),
        )
        if said is not None and refund:
            self.note("revoke", "refunded")

    @precondition(lambda self: self.coupons.coupons)
    @rule(by=deciders, which=recent, reason=reasons)
    def refund(self, by: str, which: int, reason: str) -> None:
        actor, coupon = self.actor(by), pick(self.coupons.coupons, which)
        answer = self.stage.post(
            actor, "coupons/refund", {"coupon_id": coupon.id, "reason": reason}
        )
        self.agree(
            "refund",
            answer,
            lambda: self.refunded(self.coupons.refund(actor, coupon, reason), answer),
        )

    def refunded(self, outcome: tuple[Said, Event | None], answer: Answer) -> Said:
        said, event = outcome
        if event is not None:
            said.body["refund_points_event_id"] = answer.body.get("refund_points_event_id")
        return said

    # What time does

    @rule(
        by=st.sampled_from(
            (
                timedelta(seconds=1),
                timedelta(minutes=2),
                timedelta(minutes=16),
                timedelta(hours=1),
                timedelta(hours=7),
                timedelta(days=1),
                timedelta(days=3),
            )
        )
    )
    def pass_time(self, by: timedelta) -> None:
        self.shared.now += by
        self.stage.world.freeze(self.shared.now)

    @rule()
    def upkeep(self) -> None:
        """As the worker does it; whoever reads goes by the time, whether it was done or not."""
        told = {name: self.keep(name) for name in UPKEEP}
        marked = self.coupons.mark_expired()
        points, codes = self.points.expire(), self.shared.forget_codes()
        nonces, failures = self.shared.clean_nonces(), self.coupons.clean_failures()
        assert told["mark_expired_coupons"] == marked
        assert told["expire_points"]["points"] == points
        # Both take the nonces in the order of UPKEEP, so what is forgotten may still be cleaned.
        assert told["forget_sealed_codes"] == {"forgotten": codes}
        assert told["cleanup_expired_nonces"] == {"removed": nonces}
        assert told["cleanup_coupon_attempts"] == {"removed": failures}
        done = {**marked, "points": points, "forgotten": codes}
        done |= {"nonces": nonces, "failures": failures}
        self.note("upkeep", *(name for name, number in done.items() if number))

    def keep(self, procedure: str) -> Any:
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

    # What must hold after every step

    @invariant()
    def everything_is_where_the_model_has_it(self) -> None:
        world = self.stage.world
        names = {str(a.user or ""): a.name for a in self.stage.actors.values()}
        accounts = world.rows(
            "select a.book_id, a.balance, a.held from ledger.accounts as a"
            " where a.account = 'points'"
        )
        told = {names[str(r["book_id"])]: (r["balance"], r["held"]) for r in accounts}
        have = {
            name: (self.points.balance(self.user(name))["available_points"], 0) for name in USERS
        }
        assert {name: told.get(name, (0, 0)) for name in USERS} == have

        caches = world.rows("select * from user_points_cache")
        told_caches = {
            names[str(r["user_id"])]: (
                r["available_points"],
                0,
                r["pending_points"],
                r["lifetime_earned"],
                r["lifetime_spent"],
            )
            for r in caches
        }  # fmt: skip
        expected = {name: tuple(self.points.balance(self.user(name)).values()) for name in USERS}
        assert {name: told_caches.get(name, (0,) * 5) for name in USERS} == expected

        events = world.rows(
            "select user_id, event_type, validation_status, points_delta, trust_score,"
            " streak_days from points_events"
        )
        assert Counter(
            (names[str(e["user_id"])], *list(e.values())[1:]) for e in events
        ) == Counter(
            (names[str(e.user)], e.kind, e.status, e.points, e.score, e.streak)
            for e in self.shared.events
        )

        coupons = world.rows(
            "select coupon_id, status, issued_to, redeemed_by, refunded_at is not null as refunded,"
            " issued_points_cost from coupons"
        )
        assert {
            (str(c["coupon_id"]), c["status"], names[str(c["issued_to"])], c["redeemed_by"],
             c["refunded"], c["issued_points_cost"])
            for c in coupons
        } == {
            (c.id, c.status, names[str(c.owner)], c.used_by and str(c.used_by.user or SERVICE),
             c.refunded, c.template.cost)
            for c in self.coupons.coupons
        }  # fmt: skip

        stock = world.rows("select template_id, issued, points from coupon_stock")
        assert {str(r["template_id"]): (r["issued"], r["points"]) for r in stock} == {
            t.id: (t.issued, t.issued * t.cost) for t in self.stage.templates if t.counted
        }

    # How to compare

    def agree(self, rule: str, answer: Answer, expect: Callable[[], Said]) -> Said | None:
        """The stage has answered; the model must say the same."""
        try:
            said = expect()
        except Refused as refused:
            assert (answer.status, answer.code) == (refused.status, refused.code), answer.body
            self.note(rule, refused.code)
            if refused.code == "rate_limited":
                self.note("limit", refused.policy)
                assert answer.headers["retry-after"] == str(refused.again)
                assert answer.headers["ratelimit-policy"].startswith(f'"{refused.policy}";')
            elif refused.code == "coupon_not_valid":
                body = {k: v for k, v in answer.body.items() if k not in ("request_id", "instance")}
                self.uniform = self.uniform or body
                assert body == self.uniform
            return None
        assert answer.status in (200, 202), (answer.body, said)
        compare(answer.body, said.body)
        assert answer.replayed == said.replayed
        if said.limit is not None:
            policy, quota, window, left, reset = said.limit
            assert answer.headers["ratelimit-policy"] == f'"{policy}";q={quota};w={window}'
            assert answer.headers["ratelimit"] == f'"{policy}";r={left};t={reset}'
        self.note(rule, "replayed" if said.replayed else "done")
        return said

    def note(self, rule: str, *outcomes: str) -> None:
        type(self).reached.update((rule, outcome) for outcome in outcomes)

    # Who and what

    def actor(self, name: str) -> Actor:
        return self.stage.actors[name]

    def user(self, name: str) -> Any:
        return self.stage.actors[name].user

    def new_key(self) -> str:
        self.numbers += 1
        return f"key-{self.numbers}"

    def coupon(self, which: int) -> Coupon | None:
        """A coupon, the newest most often; sometimes a code that nobody has."""
        usable = sorted(
            self.coupons.coupons, key=lambda c: c.standing(self.shared.now) in ("issued", "held")
        )
        return pick(usable, which - 1) if which and usable else None


UPKEEP: Final = (
    "mark_expired_coupons",
    "expire_points",
    "forget_sealed_codes",
    "cleanup_expired_nonces",
    "cleanup_coupon_attempts",
)


def pick(things: Sequence[T], which: int) -> T:
    """One of the latest."""
    return things[-1 - which % len(things)]


def code_of(coupon: Coupon | None) -> str:
    """A code that is shown; without a coupon it is one that nobody has."""
    return coupon.code if coupon else new_code()


def compare(told: Any, expected: Any) -> None:
    """Member for member; a time is a time, however it is written."""
    match expected:
        case dict():
            assert told.keys() == expected.keys(), (told, expected)
            for name, value in expected.items():
                if name == "insights":
                    # They come in no order.
                    told[name].sort(key=repr_of)
                    value = sorted(value, key=repr_of)
                compare(told[name], value)
        case list():
            assert len(told) == len(expected), (told, expected)
            for one, other in zip(told, expected, strict=True):
                compare(one, other)
        case datetime():
            assert datetime.fromisoformat(told) == expected
        case _:
            assert told == expected


def repr_of(thing: dict[str, Any]) -> str:
    return repr(sorted(thing.items()))


def not_reached(reached: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """What no step of any example has come to."""
    seen = set(reached)
    missing = {
        rule: {outcome for outcome in outcomes if (rule, outcome) not in seen}
        for rule, outcomes in REACHED.items()
    }
    return {rule: outcomes for rule, outcomes in missing.items() if outcomes}


def test_the_api_is_what_the_model_says(
    postgres: EmbeddedPostgres, template: str, tmp_path: Path
) -> None:
    class OnStage(Machine):
        open_stage = staticmethod(partial(stage.opened, postgres, template, tmp_path))
        reached: ClassVar[Counter[tuple[str, str]]] = Counter()

    run_state_machine_as_test(
        OnStage,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not LONG_RUN,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
    for (name, outcome), times in sorted(OnStage.reached.items()):
        print(f"{times:6} {name}: {outcome}")
    assert not not_reached(OnStage.reached)
