"""What every step stands on: it is taken twice, on the stage and in the model, and compared."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.strategies._internal.featureflags import FeatureFlags

from tests.machine.model import Actor, Refused, Said, Shared
from tests.machine.model_coupons import Coupons
from tests.machine.model_credits import Credits
from tests.machine.model_decisions import Decisions
from tests.machine.model_points import Points
from tests.machine.model_reservations import Reservations
from tests.machine.model_tiers import Terms
from tests.machine.model_till import Till
from tests.machine.stage import ADMINISTRATORS, SERVICE, USERS, Answer, Stage
from tests.world import NOW

T = TypeVar("T")

# She who earns points and decides comes more often: nobody decides what is their own.
users: Final = st.sampled_from((*USERS, "ada"))
deciders: Final = st.sampled_from((*ADMINISTRATORS, SERVICE, *ADMINISTRATORS, "ann"))
reasons: Final = st.sampled_from(("It was looked into.",) * 5 + (" ",))
# Which one, counted from the latest.
recent: Final = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 5, 8))
anything: Final = st.integers(0, 40)


class Steps(RuleBasedStateMachine):
    """A stage and a model of it."""

    open_stage: ClassVar[Callable[[], AbstractContextManager[Stage]]]
    reached: ClassVar[Counter[tuple[str, str]]]
    every_rule: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        if self.every_rule:
            # Left to itself, Hypothesis leaves out many of the rules of each example. That finds
            # other things, but seldom what takes several rules.
            self._rules_strategy.enabled_rules_strategy = st.just(FeatureFlags())
        self.shared = Shared(NOW)
        self.points, self.coupons = Points(self.shared), Coupons(self.shared)
        self.decisions, self.till = Decisions(self.shared, self.points), Till(self.shared)
        self.credits = Credits(self.shared)
        self.reservations = Reservations(self.shared, self.credits)
        self.terms = Terms(self.shared, self.credits, self.till)
        self.uniform: dict[str, Any] | None = None
        self.numbers = 0
        with ExitStack() as things:
            self.stage = things.enter_context(type(self).open_stage())
            self.things = things.pop_all()

    def teardown(self) -> None:
        # Whoever closes knows what has failed, and looks for nothing else then.
        self.things.__exit__(*sys.exc_info())

    def agree(
        self, rule: str, answer: Answer, expect: Callable[[], Said], of: str = ""
    ) -> Said | None:
        """The stage has answered; the model must say the same. `of` is what was asked about."""
        try:
            said = expect()
        except Refused as refused:
            self._agree_to_refuse(answer, refused)
            self.note(rule, refused.code, *([f"{refused.code}: {of}"] if of else []))
            if refused.policy:
                self.note("limit", refused.policy)
            return None
        assert answer.status in (200, 202), (answer.body, said)
        try:
            compare(answer.body, said.body)
        except AssertionError as error:
            raise AssertionError(f"{answer.body} is not {said.body}") from error
        assert answer.replayed == said.replayed
        if said.limit is not None:
            policy, quota, window, left, reset = said.limit
            assert answer.headers["ratelimit-policy"] == f'"{policy}";q={quota};w={window}'
            assert answer.headers["ratelimit"] == f'"{policy}";r={left};t={reset}'
        self.note(rule, "replayed" if said.replayed else "done")
        return said

    def _agree_to_refuse(self, answer: Answer, refused: Refused) -> None:
        assert (answer.status, answer.code) == (refused.status, refused.code), answer.body
        if refused.code == "rate_limited":
            assert answer.headers["retry-after"] == str(refused.again)
            assert answer.headers["ratelimit-policy"].startswith(f'"{refused.policy}";')
        elif refused.code == "coupon_not_valid":
            # Whatever is wrong with a code, nobody can tell from the answer.
            body = {k: v for k, v in answer.body.items() if k not in ("request_id", "instance")}
            self.uniform = self.uniform or body
            assert body == self.uniform

    def note(self, rule: str, *outcomes: str) -> None:
        """What a rule has come to."""
        type(self).reached.update((rule, outcome) for outcome in outcomes)

    def wait(self, span: timedelta) -> None:
        """Time passes, here and there."""
        self.shared.now += span
        self.stage.world.freeze(self.shared.now)

    def actor(self, name: str) -> Actor:
        return self.stage.actors[name]

    def user(self, name: str) -> Any:
        return self.stage.actors[name].user

    def who(self, user: object) -> Actor:
        """Whose id this is."""
        return next(actor for actor in self.stage.actors.values() if actor.user == user)

    def new_key(self) -> str:
        self.numbers += 1
        return f"key-{self.numbers}"


def pick(things: Sequence[T], which: int) -> T:
    """One of the latest."""
    return things[-1 - which % len(things)]


def compare(told: Any, expected: Any) -> None:
    """Member for member; a time is a time, however it is written."""
    match expected:
        case dict():
            assert told.keys() == expected.keys(), (told, expected)
            for name, value in expected.items():
                if name == "insights":
                    # They come in no order.
                    told[name].sort(key=_members)
                    value = sorted(value, key=_members)
                compare(told[name], value)
        case list():
            assert len(told) == len(expected), (told, expected)
            for one, other in zip(told, expected, strict=True):
                compare(one, other)
        case datetime():
            assert datetime.fromisoformat(told) == expected, (told, expected)
        case _:
            assert told == expected, (told, expected)


def _members(thing: dict[str, Any]) -> str:
    return repr(sorted(thing.items()))
