"""Limits in words become headers; other words do not."""

from __future__ import annotations

import pytest

from tallybook.rate_limit import RateLimit
from tallybook.refusal import Refusal

WORDS = "events_per_hour: 100 in 3600 s; again in 1234 s"


def test_a_refusals_words_become_headers() -> None:
    assert Refusal("rate_limited", 429, WORDS).headers == {
        "Retry-After": "1234",
        "RateLimit-Policy": '"events_per_hour";q=100;w=3600',
        "RateLimit": '"events_per_hour";r=0;t=1234',
    }


def test_the_database_raises_and_returns_the_same() -> None:
    raised = Refusal.from_sqlstate("PT429", "rate_limited", WORDS, "Wait.")
    entry = {"code": "rate_limited", "status": 429, "detail": WORDS, "hint": "Wait."}
    returned = Refusal.from_entry(entry)
    assert raised is not None
    assert vars(raised) == vars(returned)


@pytest.mark.parametrize(
    "words",
    [
        None,
        "",
        "There were too many requests",
        f"{WORDS}.",
        f"oh: {WORDS}",
        'a"b: 100 in 3600 s; again in 1234 s',
        "events_per_hour: -1 in 3600 s; again in 1234 s",
        "events_per_hour: 100 in 3600 s; again in soon s",
        "events_per_hour: 100 in 3600 s; again in 12\n34 s",
        "events_per_hour: \u0661 in 3600 s; again in 1234 s",
    ],
)
def test_other_words_are_only_words(words: str | None) -> None:
    assert RateLimit.of_refusal(words) is None
    assert Refusal("rate_limited", 429, words).headers == {"Retry-After": "1"}


def test_another_status_is_no_limit_whatever_it_says() -> None:
    assert Refusal("invalid_body", 400, WORDS).headers == {}


def test_a_cap_in_credits_says_when_to_come_back_and_no_more() -> None:
    words = "monthly_cap: 12.5 credits a month; again in 864000 s"
    assert Refusal("monthly_cap_reached", 429, words).headers == {"Retry-After": "864000"}
