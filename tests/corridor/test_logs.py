"""Log lines: their form, what is struck out of them, and that they never get in the way."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tallybook import library_logs, logs
from tallybook.database import PsycopgDatabase
from tallybook.redaction import REDACTED, is_secret_name
from tallybook.refusal import Refusal

CANARY = "canary9f2e71"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    stream = io.StringIO()
    logs.configure(stream, "debug")

    def read() -> list[dict[str, Any]]:
        assert logs.flush()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield read
    logs.configure()


def test_a_line_says_when_what_and_for_whom(lines):
    before = datetime.now(UTC)
    reset = logs.request_id.set("req-7")
    logs.log(logs.POINTS_EVENT_SUBMITTED, user_id=UUID(int=1), trust_score=70.5)
    logs.request_id.reset(reset)
    logs.log(logs.POINTS_FRAUD_DETECTED, "warning")
    first, second = lines()
    assert before <= datetime.fromisoformat(first.pop("time")) <= datetime.now(UTC)
    assert first == {
        "level": "info",
        "event": "points.event.submitted",
        "request_id": "req-7",
        "user_id": str(UUID(int=1)),
        "trust_score": 70.5,
    }
    assert second["level"] == "warning"
    assert "request_id" not in second


def test_lines_keep_their_order(lines):
    for number in range(500):
        logs.log("n", number=number)
    assert [line["number"] for line in lines()] == list(range(500))


def test_the_level_decides_what_is_written(lines):
    logs.configure(logs._sink.stream, "warning")
    for level in ("debug", "info", "warning", "error"):
        logs.log("e", level)
    assert [line["level"] for line in lines()] == ["warning", "error"]


def test_a_field_never_hides_what_the_line_is_about(lines):
    logs.log("e", time="never", request_id="kept")
    (line,) = lines()
    assert line["time"] != "never"
    assert line["request_id"] == "kept"


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "access_token",
        "attestation_token",
        "Authorization",
        "apikey",
        "x-api-key",
        "code",
        "coupon_code",
        "couponCode",
        "COUPON_SECRET",
        "proof_payload",
        "attestation",
        "secret",
        "client_secret",
        "password",
        "db_password",
        "Set-Cookie",
        "sealed_code",
        "credentials",
        "DATABASE_URL",
    ],
)
def test_secrets_are_struck_out_at_any_depth(lines, name):
    logs.log("e", **{name: CANARY})
    logs.log("e", body={"list": [{"deep": ({name: {"inner": CANARY}},)}]})
    found = lines()
    assert found[0][name] == REDACTED
    assert found[1]["body"] == {"list": [{"deep": [{name: REDACTED}]}]}


@pytest.mark.parametrize(
    "name",
    ["nonce", "event_type", "user_id", "idempotency_key", "key_id", "status_code", "refusal"],
)
def test_what_operators_need_stays(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "text",
    [
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIi{CANARY}.c2lnbmF0dXJl",
        f"sb_secret_{CANARY}",
        f"connection to postgresql://user:{CANARY}@host/db failed",
        f"Authorization: Bearer {CANARY}",
    ],
)
@pytest.mark.parametrize("level", ["info", "error"])
def test_secrets_are_known_by_their_shape_too(lines, text, level):
    logs.log(logs.POINTS_ERROR, level, error_message=text, stack_trace=f"line 1\n{text}\nline 3")
    (line,) = lines()
    assert CANARY not in json.dumps(line)
    assert REDACTED in line["error_message"]


def test_a_coupon_code_in_an_error_is_struck_out(lines):
    logs.log(logs.POINTS_ERROR, "error", error_message="bad code 0123-4567-89AB-CDEF-Z!")
    assert lines()[0]["error_message"] == f"bad code {REDACTED}!"


class Guarded:
    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


class Hostile(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError(CANARY)


def test_anything_can_be_logged(lines):
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    logs.log(
        "e",
        guarded=Guarded(),
        cycle=cycle,
        raw=b"12345",
        money=Decimal("1.50"),
        nan=float("nan"),
        numbers={1: 2},
        huge=list(range(1_000)),
        text="x" * 100_000,
        surrogate="\ud800",
    )
    logs.log("e", hostile=Hostile(a=1))
    logs.log("after")
    found = lines()
    assert len(found) == 3
    assert found[-1]["event"] == "after"
    assert found[1]["event"] == "logs.unwritable"
    assert found[1]["of_event"] == "e"
    assert CANARY not in json.dumps(found)


def test_types_of_ours_do_not_print_what_they_guard(lines):
    logs.log("e", guarded=Guarded(), raw=b"12345", money=Decimal("1.50"), huge=list(range(1_000)))
    (line,) = lines()
    assert line["guarded"] == "[Guarded]"
    assert line["raw"] == "[5 bytes]"
    assert line["money"] == 1.5  # a number, as it is in an answer
    assert len(line["huge"]) == 100


class Stuck(io.StringIO):
    """A pipe that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.released.wait(10)
        return super().write(text)


def test_a_stuck_stream_holds_nobody_up_and_losses_are_counted():
    stream = Stuck()
    logs.configure(stream)
    try:
        logs.log("first")
        assert stream.entered.wait(5)
        for _ in range(logs.LINES_WAITING_MAX + 25):
            logs.log("n")
        assert not logs.flush(0.01)
        stream.released.set()
        assert logs.flush(5)
    finally:
        stream.released.set()
        logs.configure()
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(written) == 1 + logs.LINES_WAITING_MAX + 1
    assert written[-1]["event"] == "logs.dropped"
    assert written[-1]["lines"] == 25


def test_a_closed_stream_costs_nothing():
    stream = io.StringIO()
    stream.close()
    logs.configure(stream)
    logs.log("lost")
    assert logs.flush()
    logs.configure(stream := io.StringIO())
    logs.log("found")
    assert logs.flush()
    logs.configure()
    assert json.loads(stream.getvalue())["event"] == "found"


def test_what_a_library_says_is_a_line_of_ours(lines, capfd):
    library_logs.adopt("some.library")
    library_logs.adopt("some.library")
    theirs = logging.getLogger("some.library.pool")
    theirs.warning("no connection to %s", f"postgresql://user:{CANARY}@host/db")
    theirs.info("as quiet as ever")
    theirs.error("it takes %d", "no number")
    try:
        raise ValueError("inside")
    except ValueError:
        theirs.exception("it failed")
    found = [(line["event"], line["level"], line["message"]) for line in lines()]
    assert found[0] == (
        "some.library.pool",
        "warning",
        f"no connection to postgresql://{REDACTED}host/db",
    )
    assert found[1] == ("some.library.pool", "error", "it takes %d")
    assert found[2][2].startswith("it failed\nTraceback") and "inside" in found[2][2]
    assert len(found) == 3
    assert capfd.readouterr().err == ""


async def test_the_pool_speaks_in_our_lines(lines, monkeypatch):
    monkeypatch.setattr("tallybook.database.CONNECT_SECONDS_MAX", 0.3)
    database = PsycopgDatabase(f"postgresql://user:{CANARY}@127.0.0.1:1/nothing")
    with pytest.raises(Refusal):
        await database.call("anything", {})
    await database.close()
    said = [line for line in lines() if line["event"] == "psycopg.pool"]
    assert said and said[0]["level"] == "warning"
    assert CANARY not in json.dumps(said)


def run(script: str) -> list[str]:
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert finished.stdout == ""
    return [json.loads(line)["event"] for line in finished.stderr.splitlines()]


def test_the_last_lines_are_written_when_the_process_ends():
    script = "from tallybook.logs import log\nfor n in range(100): log(f'e{n}')"
    assert run(script) == [f"e{n}" for n in range(100)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_logs_for_itself_and_only_once():
    script = (
        "import os, warnings; warnings.simplefilter('ignore')\n"
        "from tallybook.logs import log, flush\n"
        "log('parent'); flush()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    log('child'); flush(); os._exit(0)\n"
        "os.waitpid(child, 0); log('parent again')"
    )
    assert run(script) == ["parent", "child", "parent again"]
