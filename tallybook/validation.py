"""What a validation run decided, as the log lines that the mission names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tallybook.logs import POINTS_EVENT_VALIDATED, POINTS_FRAUD_DETECTED

EVENT_FIELDS = ("event_id", "validation_status", "points_awarded", "trust_score")
INSIGHT_FIELDS = ("user_id", "insight_type", "severity", "score")


def what_was_decided(answer: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One line an event, and one an insight, from the answer of validate_points_events.

    An event that could not be decided, and so waits for a person, is a warning.
    """
    for event in answer["events"]:
        fields = {name: event[name] for name in EVENT_FIELDS}
        if event["validation_status"] == "flagged":
            fields["level"] = "warning"
        yield POINTS_EVENT_VALIDATED, fields
    for insight in answer["insights"]:
        fields = {name: insight[name] for name in INSIGHT_FIELDS}
        yield POINTS_FRAUD_DETECTED, {"level": "warning", **fields}
