"""Whatever people do, in whatever order: the server answers as a few hundred lines of Python do.

The real HTTP API stands in front of a real database; awards, insights and the schedule, which have
no route yet, are asked of the procedures, and so is what companies set. After every step all
balances, events, coupons and statements are what the model says. It takes the same steps every
time; for others, and more of them:

    TALLYBOOK_MACHINE_SEED=2 TALLYBOOK_MACHINE_EXAMPLES=500 pytest -s tests/machine
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tallybook.local.postgres import EmbeddedPostgres
from tests.machine import stage
from tests.machine.books import Books
from tests.machine.books_credits import CreditBooks
from tests.machine.books_tenants import TenantBooks
from tests.machine.steps import Steps
from tests.machine.steps_coupons import CouponSteps
from tests.machine.steps_decisions import DecisionSteps
from tests.machine.steps_lapses import LapseSteps
from tests.machine.steps_terms import TermSteps
from tests.machine.steps_time import TimeSteps

EXAMPLES = int(os.environ.get("TALLYBOOK_MACHINE_EXAMPLES", "20"))
SEED = os.environ.get("TALLYBOOK_MACHINE_SEED", "1")
STEPS = 200

# After ten examples of one run Hypothesis makes new ones mostly of parts of the old.
TOGETHER_MAX = 7
# The first examples know every rule, which is enough to come to everything; of the later ones each
# second run leaves out many of the rules, as Hypothesis does by itself.
KNOWING_EVERY_RULE = 20

# What must have come of each rule at least once, or the run has proven nothing about it.
REACHED: Final = {
    "submit": {
        "done", "rate_limited", "event_in_future", "event_too_old", "unknown_event_type",
        "event_type_not_submittable", "proof_type_not_accepted",
    },
    "submit again": {"replayed"},
    "submit otherwise": {"nonce_reused"},
    "limit": {
        "events_per_hour", "events_per_day", "events_of_type_per_day", "points_per_hour",
        "points_per_day", "coupon_failures_per_user",
    },
    "validate": {"done", "forbidden"},
    "validate one": {"done", "forbidden", "event_not_found"},
    "verdict": {"validated", "pending_review", "rejected", "streak"},
    "review": {
        "approved", "rejected", "replayed", "forbidden", "reason_required", "own_event",
        "already_reviewed", "not_reviewable", "event_not_found",
    },
    "resolve": {"done", "replayed", "forbidden", "own_event", "already_resolved"},
    "award": {"validated", "pending_review", "forbidden", "own_event", "insufficient_funds"},
    "award again": {"replayed", "nonce_reused"},
    "redeem": {
        "done", "insufficient_points", "template_not_found",
        "template_exhausted: Sauna", "template_exhausted: Cake",
        "coupon_limit_reached: Coffee", "coupon_limit_reached: Cake",
    },
    "redeem again": {"replayed", "shown", "not shown"},
    "redeem otherwise": {"nonce_reused"},
    "verify": {
        "issued", "held", "redeemed", "expired", "revoked", "coupon_not_valid: unknown",
        "coupon_not_valid: past its day", "coupon_not_valid: expired", "rate_limited",
    },
    "consume": {
        "done", "forbidden", "coupon_held", "coupon_not_valid: past its day",
        "coupon_not_valid: expired", "coupon_not_valid: revoked", "rate_limited",
    },
    "consume again": {"replayed", "coupon_not_valid: redeemed"},
    "hold": {"done", "replayed", "forbidden", "coupon_held", "coupon_not_valid: past its day"},
    "release": {"done", "replayed", "forbidden", "coupon_not_held", "coupon_not_valid"},
    "revoke": {
        "done", "replayed", "refunded", "forbidden", "reason_required", "coupon_used",
        "coupon_revoked",
    },
    "refund": {
        "replayed", "revoked", "expired", "forbidden", "reason_required", "coupon_used",
        "coupon_refunded",
    },
    "upkeep": {"expired", "released", "points", "forgotten", "nonces", "failures"},
    "look": {"balance", "schedule"},
}  # fmt: skip


REACHED_WITH_CREDITS: Final = {
    "allocate": {
        "done", "replayed", "forbidden", "own_event", "insufficient_credits",
    },
    "deduct": {
        "done", "replayed", "nonce_reused", "insufficient_credits", "monthly_cap_reached",
    },
    "reserve": {
        "done", "replayed", "nothing", "insufficient_credits", "monthly_cap_reached",
    },
    "settle": {
        "done", "replayed", "charged", "released", "shortfall", "failed", "forbidden",
        "beyond what was reserved", "reservation_closed", "reservation_not_found",
    },
    "release": {"done", "replayed", "forbidden", "reservation_closed", "reservation_not_found"},
    "refund": {
        "whole", "part", "replayed", "forbidden", "own_event", "refund_exceeded",
        "transaction_not_found",
    },
    "cap": {"set", "removed"},
    "switch": {"free", "starter", "professional", "enterprise", "forbidden", "credits_owed"},
    "switch own": {"done", "forbidden", "credits_owed"},
    "promotion": {
        "fixed", "bonus", "percentage", "free_month", "replayed", "coupon_used",
        "coupon_not_valid", "rate_limited",
    },
    "time": {"another month"},
    "credit upkeep": {"holds", "lots", "kept", "allocated"},
    "credit look": {"lots", "nothing"},
}  # fmt: skip


REACHED_WITH_TENANTS: Final = {
    "allocate": {
        "done", "replayed", "nonce_reused", "forbidden", "invalid_amount", "tenant_not_found",
        "rate_limited",
    },
    "bulk": {
        "done", "forbidden", "one is done", "one is replayed", "invalid_amount",
        "tenant_not_found", "rate_limited",
    },
    "claw back": {
        "done", "replayed", "nonce_reused", "forbidden", "reason_required", "insufficient_pool",
        "tenant_not_found",
    },
    "reverse": {
        "done", "replayed", "nonce_reused", "forbidden", "reason_required", "not_reversible",
        "COMPLETED", "REVOKED",
    },
    "adjust": {"done", "nonce_reused", "forbidden", "reason_required", "by hand"},
    "delegate": {
        "done", "replayed", "forbidden", "insufficient_pool", "recipient_not_found",
        "invalid_amount",
    },
    "recall": {"done", "replayed", "forbidden", "insufficient_budget"},
    "give": {
        "done", "replayed", "nonce_reused", "pool", "lead", "budget", "wallet", "nothing",
        "something did not divide", "forbidden", "invalid_amount", "invalid_body",
        "self_recognition", "recipient_not_found", "peer_to_peer_off", "department_cap_reached",
        "insufficient_pool", "insufficient_wallet",
    },
    "give at once": {"pool", "lead", "wallet", "insufficient_pool", "recipient_not_found"},
    "award": {
        "done", "replayed", "nonce_reused", "in the system's name", "forbidden",
        "invalid_amount", "recipient_not_found", "insufficient_pool",
    },
    "revoke": {
        "done", "replayed", "to pool", "to lead", "to budget", "to wallet", "to nothing",
        "forbidden", "reason_required", "recognition_not_found", "not_reversible",
    },
    "redeem": {
        "done", "replayed", "nonce_reused", "forbidden", "redemptions_paused", "reward_not_found",
        "reward_out_of_stock", "insufficient_wallet",
    },
    "refund": {
        "done", "replayed", "forbidden", "reason_required", "redemption_not_found", "own_event",
    },
    "fill": {"done", "replayed", "forbidden", "invalid_amount", "recipient_not_found"},
    "set member": {"done", "forbidden", "department_not_found"},
    "set cap": {"done", "forbidden", "department_not_found"},
    "set reward": {"done", "forbidden", "invalid_amount", "reward_not_found"},
    "company upkeep": {"lots", "wallets", "refilled"},
    "wallet": {"done", "forbidden"},
    "stats": {"ready", "low", "empty", "forbidden"},
    "catalogue": {"done", "forbidden"},
    "list": {"done", "forbidden"},
}  # fmt: skip


class Machine(CouponSteps, DecisionSteps, TimeSteps, Books):
    """Everything that people do with points and coupons, and what must hold after each step."""


class CreditMachine(TermSteps, CreditBooks):
    """Everything that is done with credits, and what must hold after each step."""


class TenantMachine(LapseSteps, TenantBooks):
    """Everything that is done in companies, and what must hold after each step."""


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine, REACHED),
        (CreditMachine, REACHED_WITH_CREDITS),
        (TenantMachine, REACHED_WITH_TENANTS),
    ],
    ids=["points", "credits", "tenants"],
)
def test_the_api_is_what_the_model_says(
    postgres: EmbeddedPostgres,
    template: str,
    tmp_path: Path,
    machine: type[Steps],
    expected: Mapping[str, set[str]],
) -> None:
    print(f"TALLYBOOK_MACHINE_SEED={SEED}")
    reached: Counter[tuple[str, str]] = Counter()
    for done in range(0, EXAMPLES, TOGETHER_MAX):

        class OnStage(machine):  # type: ignore[misc, valid-type]
            open_stage = staticmethod(partial(stage.opened, postgres, template, tmp_path))
            every_rule = done < KNOWING_EVERY_RULE or done // TOGETHER_MAX % 2 == 0

        OnStage.reached = reached
        run_state_machine_as_test(
            seed(f"{SEED}, {done}")(OnStage),
            settings=settings(
                max_examples=min(TOGETHER_MAX, EXAMPLES - done),
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    for (rule, outcome), times in sorted(reached.items()):
        print(f"{times:6} {rule}: {outcome}")
    assert not_reached(reached, expected) == set()


def not_reached(
    reached: Iterable[tuple[str, str]], expected: Mapping[str, set[str]]
) -> set[tuple[str, str]]:
    """What no step of any example has come to."""
    wanted = {(rule, outcome) for rule, outcomes in expected.items() for outcome in outcomes}
    return wanted - set(reached)
