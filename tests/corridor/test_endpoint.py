"""The corridor with no server around it: a deployed function, asked for the first time."""

from __future__ import annotations

import json

import pytest

from functions.submit_points_event.main import submit_points_event
from tallybook import logs
from tallybook.http import AsgiRequest, Message


async def nothing() -> Message:
    raise AssertionError("the body is not asked for")


async def test_a_function_without_its_configuration_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABASE_URL", "SUPABASE_DB_URL"):
        monkeypatch.delenv(name, raising=False)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    answer = await submit_points_event(AsgiRequest(scope, nothing))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert json.loads(answer.body)["code"] == "unavailable"
    logs.flush()
    # The log names it, the client does not learn it.
    assert "DATABASE_URL" in capfd.readouterr().err
    assert b"DATABASE_URL" not in answer.body
