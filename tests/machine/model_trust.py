"""The model's judge: what is known of an event, and what the rules make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from tests.machine.model import Event

BASE, VALIDATE_AT, REVIEW_AT = 70, 60, 30


class Rule(NamedTuple):
    """A rule that counts; those in the shadow change nothing and are not here."""

    name: str
    feature: str
    hits: Callable[[float], bool]
    weight: int
    insight: str
    severity: str | None = None


RULES: Final = (
    Rule("spacing_under_ten_seconds", "nearest", lambda x: x < 10, -20, "velocity_anomaly"),
    Rule("spacing_under_one_second", "nearest", lambda x: x < 1, -60, "velocity_anomaly"),
    Rule("sixty_events_in_an_hour", "in_hour", lambda x: x >= 60, -15, "velocity_anomaly"),
    Rule("proof_sent_before", "repeated", lambda x: x >= 1, -20, "suspicious_pattern"),
    Rule("clock_ahead", "ahead", lambda x: x >= 120, -15, "suspicious_pattern"),
    Rule("device_of_three_accounts", "accounts", lambda x: x >= 3, -15, "device_mismatch"),
    Rule("known_device", "known", lambda x: x >= 1, 5, "low_trust_score"),
    Rule("open_insights", "open", lambda x: x >= 1, -30, "low_trust_score"),
    Rule("bait_taken", "bait", lambda x: x >= 1, -100, "honeypot_triggered", "critical"),
)


class Resolution(NamedTuple):
    """Who has looked into it, with which words, and when."""

    by: str
    notes: str
    at: datetime


@dataclass(slots=True)
class Insight:
    """What was found about a user, until somebody has looked into it."""

    event: Event
    kind: str
    severity: str
    score: int
    created_at: datetime
    resolved: Resolution | None = None
    id: str | None = None  # the server's


class Judged(NamedTuple):
    """A verdict. What is not validated is filed under a kind, and is grave or less so."""

    score: int
    verdict: str
    kind: str
    severity: str


class Judge:
    """Keeps what later verdicts depend on: the insights, and who sent from which device when."""

    def __init__(self) -> None:
        self.insights: list[Insight] = []
        self.devices: dict[tuple[str, UUID], datetime] = {}

    def see(self, events: Sequence[Event]) -> None:
        """A set comes into sight: its devices are known before any of its events is judged."""
        first: dict[tuple[str, UUID], datetime] = {}
        for event in events:
            if event.device is not None:
                seen = (event.device, event.user)
                first[seen] = min(first.get(seen, event.created_at), event.created_at)
        self.devices = {**first, **self.devices}

    def judge(self, event: Event, before: Sequence[Event]) -> Judged:
        """Judge an event by what its user sent before it."""
        features = self._features(event, before)
        hits = sorted(
            (
                rule
                for rule in RULES
                if rule.feature in features and rule.hits(features[rule.feature])
            ),
            key=lambda rule: (rule.weight, rule.name),
        )
        score = max(0, min(100, BASE + sum(rule.weight for rule in hits)))
        verdict = (
            "validated"
            if score >= VALIDATE_AT
            else "pending_review"
            if score >= REVIEW_AT
            else "rejected"
        )
        worst = next((rule for rule in hits if rule.weight < 0), None)
        usual = "medium" if score >= REVIEW_AT else "high"
        return Judged(
            score,
            verdict,
            worst.insight if worst else "low_trust_score",
            (worst and worst.severity) or usual,
        )

    def _features(self, event: Event, before: Sequence[Event]) -> dict[str, float]:
        around = [o for o in before if abs(o.event_time - event.event_time) <= timedelta(days=1)]
        apart = [abs(o.event_time - event.event_time).total_seconds() for o in around]
        features: dict[str, float] = {
            "in_hour": sum(
                timedelta(0) <= event.event_time - o.event_time <= timedelta(hours=1)
                for o in around
            ),
            "repeated": event.measured
            and sum(o.proof is not None and o.proof == event.proof for o in around),
            "ahead": (event.event_time - event.created_at).total_seconds(),
            "open": sum(
                i.event.user == event.user
                and i.severity in ("high", "critical")
                and not i.resolved
                and timedelta(0) < event.created_at - i.created_at <= timedelta(days=1)
                for i in self.insights
            ),
            "bait": event.kind == "bonus_claim",
        }
        if min(apart, default=61) <= 60:
            features["nearest"] = min(apart)
        if event.device is not None:
            features["accounts"] = sum(
                device == event.device and (user == event.user or seen <= event.created_at)
                for (device, user), seen in self.devices.items()
            )
            features["known"] = self.devices[event.device, event.user] < event.created_at
        return features
