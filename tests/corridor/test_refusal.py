"""What a refusal looks like to a client, and which of the database's errors become one."""

from __future__ import annotations

import msgspec
import pytest

from tallybook import refusal
from tallybook.refusal import CORRIDOR_REFUSALS, Refusal


def test_a_problem_has_exactly_the_agreed_members():
    problem = Refusal(
        "insufficient_points", 400, "Needs 500.", title="Not enough points", hint="Earn more."
    ).problem("/functions/v1/redeem-coupon", "req-1")
    assert problem == {
        "type": "urn:tallybook:refusal:insufficient_points",
        "title": "Not enough points",
        "status": 400,
        "detail": "Needs 500.",
        "instance": "/functions/v1/redeem-coupon",
        "error": "Needs 500.",
        "code": "insufficient_points",
        "message": "Needs 500.",
        "details": None,
        "hint": "Earn more.",
        "request_id": "req-1",
        "retryable": False,
    }
    assert msgspec.json.decode(msgspec.json.encode(problem)) == problem


def test_without_a_detail_the_title_is_shown():
    problem = Refusal("coupon_used", 409).problem("/", "r")
    assert problem["detail"] is None
    assert problem["title"] == problem["message"] == problem["error"] == "Coupon used"


def test_a_fault_in_the_body_is_told_by_its_path():
    problem = refusal.invalid_body("Expected `str`", "$.nonce").problem("/", "r")
    assert problem["details"] == {"path": "$.nonce"}


@pytest.mark.parametrize("status", range(400, 600))
def test_only_passing_failures_are_retryable(status):
    assert Refusal("any", status).retryable == (status in {408, 425, 429, 502, 503, 504})


def test_the_corridor_has_these_refusals():
    assert dict(CORRIDOR_REFUSALS) == {
        "invalid_body": 400,
        "unauthorized": 401,
        "forbidden": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "body_too_large": 413,
        "internal_error": 500,
        "unavailable": 503,
        "provider_key_rejected": 400,
    }


def test_statuses_bring_their_headers():
    assert refusal.unauthorized().headers == {"WWW-Authenticate": "Bearer"}
    assert refusal.unavailable().headers == {"Retry-After": "1"}
    assert refusal.unavailable(retry_after_seconds=30).headers == {"Retry-After": "30"}
    assert refusal.method_not_allowed(["POST", "OPTIONS"]).headers == {"Allow": "POST, OPTIONS"}
    assert refusal.forbidden().headers == {}


def test_an_internal_error_tells_nothing_of_its_cause():
    assert refusal.internal_error().detail is None


def test_the_database_refuses_with_its_own_codes():
    refused = Refusal.from_sqlstate("PT429", "rate_limited", "100 an hour", "Wait.")
    assert refused is not None
    assert (refused.code, refused.status, refused.detail, refused.hint) == (
        "rate_limited",
        429,
        "100 an hour",
        "Wait.",
    )
    away = Refusal.from_sqlstate("PT503", "feature_off", "", "")
    assert away is not None
    assert away.headers == {"Retry-After": "1"}
    assert away.detail is None and away.hint is None


@pytest.mark.parametrize(
    "sqlstate",
    [None, "", "23505", "P0001", "PT20", "PT200", "PT302", "PT600", "PT4000", "PT4x0", "PT40²"],
)
def test_other_errors_of_the_database_are_not_refusals(sqlstate):
    assert Refusal.from_sqlstate(sqlstate, "whatever") is None
