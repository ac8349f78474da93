"""From when until when: days in UTC with the last one included, or moments with an offset."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tallybook.credits import ForPeriod, period
from tallybook.refusal import Refusal


def asked(**dates: str) -> dict[str, datetime]:
    return period(cast("Any", None), cast("Any", None), ForPeriod(**dates))


def test_a_day_ends_when_the_next_begins() -> None:
    assert asked(start_date="2026-01-31", end_date="2026-01-31") == {
        "start_date": datetime(2026, 1, 31, tzinfo=UTC),
        "end_date": datetime(2026, 2, 1, tzinfo=UTC),
    }
    assert asked() == {}


@pytest.mark.parametrize("text", ["2026-01-31T02:00:00+02:00", "2026-01-31T02:00:00 02:00"])
def test_a_moment_is_that_moment_though_its_plus_sign_was_lost(text: str) -> None:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    assert asked(start_date=text, end_date=text) == {"start_date": moment, "end_date": moment}


@pytest.mark.parametrize(
    "text", ["2026-02-30", "yesterday..", "2026-01-31T02:00:00", "10000-01-01"], ids=str
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        asked(end_date=text)
    assert refusal.value.code == "invalid_body"
