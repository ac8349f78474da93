"""What each function makes of a request before any procedure sees it, and of the answer after."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from functions.coupons.main import consume, hold, refund, release, revoke, verify
from functions.review.main import approve, reject
from functions.submit_points_event.main import submit_points_event
from functions.validate_points_event.main import validate_points_event
from tallybook import logs
from tallybook.coupon_code import CouponKeys, new_code
from tallybook.http import Handler
from tests.corridor.doubles import PROGRAM, SECRET, USER_ID, ask

OLDER = "o" * 32
CANARY = "canary9f2e71"
NOT_VALID = {"code": "coupon_not_valid", "status": 404, "detail": "This code is not valid"}

BY_CODE = {"verify": verify, "consume": consume, "hold": hold, "release": release}
BY_ID = {"revoke": revoke, "refund": refund}
DECIDING = {"approve": approve, "reject": reject}


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged since the test last looked."""
    logs.flush()
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def shown(handler: Handler, code: str) -> dict[str, Any]:
    """A body that shows a code to one of BY_CODE."""
    return {"code": code} | ({} if handler is verify else {"idempotency_key": "k-1"})


# Coupons by their code


@pytest.mark.parametrize("name", BY_CODE)
async def test_a_code_reaches_the_database_as_its_hashes(name: str) -> None:
    code = new_code()
    asked = await ask(
        BY_CODE[name],
        shown(BY_CODE[name], code.lower()),
        COUPON_SECRETS_PREVIOUS=OLDER,
        TALLYBOOK_CLIENT_ADDRESS="peer",
        client=("203.0.113.7", 1),
    )
    assert asked.status == 200
    assert asked.arguments["code_hashes"] == [
        CouponKeys(SECRET).hash_code(code),
        CouponKeys(OLDER).hash_code(code),
    ]
    assert asked.procedure == f"{name}_coupon"
    assert (asked.arguments["user_id"], asked.arguments["ip_address"]) == (USER_ID, "203.0.113.7")
    assert "code" not in asked.arguments and code not in str(asked)
    assert ("request_id" in asked.arguments) == (name != "verify")


@pytest.mark.parametrize("name", BY_CODE)
@pytest.mark.parametrize("code", ["hello", "0123-4567-89AB-CDEF-0", "x" * 200])
async def test_a_malformed_code_is_asked_for_and_counted_like_an_unknown_one(
    name: str, code: str
) -> None:
    refusal = {"refusal": {**NOT_VALID, "hint": None}}
    unknown = await ask(BY_CODE[name], shown(BY_CODE[name], new_code()), refusal)
    malformed = await ask(BY_CODE[name], shown(BY_CODE[name], code), refusal)
    assert set(malformed.arguments) == set(unknown.arguments)
    assert len(malformed.arguments["code_hashes"]) == len(unknown.arguments["code_hashes"])
    for asked in (unknown, malformed):
        del asked.body["request_id"]
    assert (malformed.status, malformed.body) == (unknown.status, unknown.body)
    assert (malformed.status, malformed.body["code"]) == (404, "coupon_not_valid")


@pytest.mark.parametrize("name", BY_CODE)
@pytest.mark.parametrize("how", ["accepted", "refused", "limited", "defect"])
async def test_a_code_never_reaches_a_log(
    name: str, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answers: dict[str, Any] = {
        "accepted": {"coupon_id": str(uuid4())},
        "refused": {"refusal": {**NOT_VALID, "hint": None}},
        "limited": {"refusal": {**NOT_VALID, "status": 429, "hint": None}},
        "defect": RuntimeError("the inside"),
    }
    for code in (new_code(), f"{CANARY}-as-a-code"):
        asked = await ask(BY_CODE[name], shown(BY_CODE[name], code), answers[how])
        logs.flush()
        written = capfd.readouterr().err + json.dumps(asked.body) + str(asked.headers)
        assert code not in written and code.replace("-", "") not in written
        assert CANARY not in written


@pytest.mark.parametrize("name", [*BY_CODE, *BY_ID])
async def test_what_happened_to_a_coupon_is_logged(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    coupon = str(uuid4())
    if name in BY_CODE:
        body = shown(BY_CODE[name], new_code())
    else:
        body = {"coupon_id": coupon, "reason": f"Because of {CANARY}."}
    handler = (BY_CODE | BY_ID)[name]
    await ask(handler, body, {"coupon_id": coupon})
    (line,) = lines(capfd)
    events = {"verify": "verified", "consume": "consumed", "hold": "held", "release": "released"}
    events |= {"revoke": "revoked", "refund": "refunded"}
    assert line["event"] == f"points.coupon.{events[name]}"
    assert (line["coupon_id"], line["user_id"]) == (coupon, str(USER_ID))
    # What an administrator writes is kept in the audit log, and may say anything.
    assert CANARY not in json.dumps(line)
    # What happened before is not said again.
    await ask(handler, body, {"coupon_id": coupon, "replayed": True})
    assert lines(capfd) == []


@pytest.mark.parametrize("handler", [consume, hold, release])
async def test_the_key_may_come_as_a_header(handler: Handler) -> None:
    body = {"code": new_code()}
    asked = await ask(handler, body, headers={"idempotency-key": "k-7"})
    assert asked.arguments["idempotency_key"] == "k-7"
    without = await ask(handler, body)
    assert (without.status, without.body["details"]) == (400, {"path": "$.idempotency_key"})


async def test_what_a_partner_wants_to_keep_is_handed_on() -> None:
    body = {**shown(consume, new_code()), "redemption_proof": {"till": 4}, "device_id": "till-4"}
    asked = await ask(consume, body, caller=PROGRAM)
    assert asked.arguments["redemption_proof"] == {"till": 4}
    assert (asked.arguments["device_id"], asked.arguments["user_id"]) == ("till-4", None)


@pytest.mark.parametrize("given", [{}, {"refund": False}, {"refund": True}], ids=str)
async def test_a_revoked_coupons_points_come_back_when_that_is_said(given: dict[str, bool]) -> None:
    coupon = uuid4()
    asked = await ask(revoke, {"coupon_id": coupon, "reason": "Stolen.", **given})
    del asked.arguments["request_id"]  # type: ignore[attr-defined]
    assert asked.arguments == {
        "user_id": USER_ID,
        "coupon_id": coupon,
        "reason": "Stolen.",
        "refund": given.get("refund", False),
    }


# Reviews


@pytest.mark.parametrize(("name", "decision"), [("approve", "approved"), ("reject", "rejected")])
async def test_the_address_says_the_decision(
    name: str, decision: str, capfd: pytest.CaptureFixture[str]
) -> None:
    event = uuid4()
    answer = {
        "event_id": str(event),
        "user_id": str(uuid4()),
        "decision": decision,
        "validation_status": "validated",
        "points_awarded": 20,
        "trust_score": 50,
        "reviewed_by": "admin@example.com",
        "replayed": False,
    }
    body = {"event_id": event, "reason": "It was a race.", "label": "false_positive"}
    asked = await ask(DECIDING[name], body, answer, headers={"x-request-id": "r-1"})
    assert asked.procedure == "review_points_event"
    assert asked.arguments == {
        **body,
        "user_id": USER_ID,
        "decision": decision,
        "request_id": "r-1",
    }
    assert asked.body == {name: value for name, value in answer.items() if name != "replayed"}
    (line,) = lines(capfd)
    del line["time"]
    assert line == {
        "level": "info",
        "event": "points.event.validated",
        "request_id": "r-1",
        "event_id": str(event),
        "validation_status": "validated",
        "points_awarded": 20,
        "trust_score": 50,
        "reviewed_by": "admin@example.com",
    }


# The points that were there before


async def test_a_program_validates_as_nobody() -> None:
    answer = {"validated": 0, "events": [], "insights": []}
    assert (await ask(validate_points_event, {}, answer)).arguments == {"user_id": USER_ID}
    asked = await ask(validate_points_event, {}, answer, caller=PROGRAM)
    assert asked.arguments == {"user_id": None}


async def test_an_event_that_could_not_be_decided_is_a_warning(
    capfd: pytest.CaptureFixture[str],
) -> None:
    events = [
        {"event_id": name, "validation_status": name, "points_awarded": 0, "trust_score": None}
        for name in ("validated", "flagged")
    ]
    await ask(validate_points_event, {}, {"events": events, "insights": []}, caller=PROGRAM)
    said = [(line["event_id"], line["level"]) for line in lines(capfd)]
    assert said == [("validated", "info"), ("flagged", "warning")]


async def test_a_submission_says_where_it_came_from_and_what_proves_it() -> None:
    body = {
        "event_type": "workout",
        "event_time": "2026-03-02T09:00:00Z",
        "nonce": "n-1",
        "proof_type": "apple_health",
    }
    asked = await ask(
        submit_points_event,
        body,
        {"id": str(uuid4())},
        headers=[("x-forwarded-for", "10.0.0.1, 203.0.113.7")],
        TALLYBOOK_CLIENT_ADDRESS="x-forwarded-for",
    )
    assert asked.status == 202
    assert asked.arguments["ip_address"] == "203.0.113.7"
    assert asked.arguments["proof_type"] == "apple_health"


EVENT, COUPON = {"event_id": uuid4(), "reason": "r"}, {"coupon_id": uuid4(), "reason": "r"}
HELD = {"code": "c", "idempotency_key": "k"}


@pytest.mark.parametrize(
    ("handler", "body", "path"),
    [
        (verify, {}, "$.code"),
        (verify, {"code": ""}, "$.code"),
        (verify, {"code": "x" * 201}, "$.code"),
        (verify, {"code": "x", "code_hashes": []}, "$.code_hashes"),
        (verify, {"code": "x", "ip_address": "203.0.113.7"}, "$.ip_address"),
        (consume, {**HELD, "redemption_proof": "paper"}, "$.redemption_proof"),
        (hold, {**HELD, "hold_seconds": 0}, "$.hold_seconds"),
        (hold, {**HELD, "hold_seconds": 86_401}, "$.hold_seconds"),
        (revoke, {"coupon_id": uuid4()}, "$.reason"),
        (revoke, {**COUPON, "refund": "yes"}, "$.refund"),
        (revoke, {**COUPON, "actor": "somebody else"}, "$.actor"),
        (refund, {**COUPON, "coupon_id": "seven"}, "$.coupon_id"),
        (refund, {**COUPON, "reason": "r" * 1001}, "$.reason"),
        (approve, {"event_id": uuid4()}, "$.reason"),
        (approve, {**EVENT, "label": "perhaps"}, "$.label"),
        (reject, {**EVENT, "decision": "approved"}, "$.decision"),
    ],
)
async def test_a_faulty_body_is_refused_before_the_database(
    handler: Handler, body: dict[str, Any], path: str
) -> None:
    asked = await ask(handler, body)
    assert (asked.status, asked.body["code"], asked.procedure) == (400, "invalid_body", "")
    assert asked.body["details"] == {"path": path}
