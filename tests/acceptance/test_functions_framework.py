"""A function runs under functions-framework as it stands, and answers as under our own server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tallybook.local.postgres import free_port
from tallybook.schema import ROOT
from tests.stack import Stack

# Differs from run to run, and nothing else may.
UNLIKE = {"id", "created_at", "request_id", "instance"}

# A folder that holds several functions is named before the target.
TARGETS = ["submit_points_event", "redeem_coupon", "validate_points_event", "coupons/verify"]


@pytest.fixture
def served(stack: Stack, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts a function by its name, as its documentation says, and returns its URL."""
    with ExitStack() as running:

        def start(name: str) -> str:
            folder, _, target = name.rpartition("/")
            port = free_port()
            program = Path(sys.executable).with_name("functions-framework")
            source = ROOT / "functions" / (folder or target) / "main.py"
            command = [program, "--target", target, "--source", source, "--asgi"]
            log = running.enter_context((tmp_path / f"{target}.log").open("wb"))
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | stack.environment,
            )
            running.callback(process.wait, 20)
            running.callback(process.terminate)
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    httpx.options(url, timeout=5)
                except httpx.TransportError:
                    time.sleep(0.05)
                else:
                    return url
            raise AssertionError((tmp_path / f"{target}.log").read_text())

        yield start


def compared(response: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str | None]]:
    """What must be the same under both servers."""
    body = {name: value for name, value in response.json().items() if name not in UNLIKE}
    names = ["content-type", "idempotent-replayed", "www-authenticate", "allow", "retry-after"]
    names += ["access-control-allow-origin", "access-control-expose-headers", "vary"]
    return response.status_code, body, {name: response.headers.get(name) for name in names}


def test_it_answers_as_under_the_gateway(stack: Stack, served: Callable[[str], str]) -> None:
    ours = f"{stack.url}/functions/v1/submit-points-event"
    theirs = served("submit_points_event")
    token = {"authorization": f"Bearer {stack.keys.token(uuid4())}"}
    browser = {"origin": "https://app.example.com"}
    now = datetime.now(UTC).isoformat()

    def event(nonce: str, **changed: Any) -> dict[str, Any]:
        return {"event_type": "workout", "event_time": now, "nonce": nonce} | changed

    def both(**request: Any) -> httpx.Response:
        """Ask both servers; they must agree."""
        answers = []
        for url, nonce in ((ours, "nonce-of-our-server"), (theirs, "nonce-of-the-other-")):
            if "event" in request:
                request["json"] = event(nonce, **request["event"])
            sent = {name: value for name, value in request.items() if name != "event"}
            answers.append(httpx.request(sent.pop("method", "POST"), url, timeout=20, **sent))
        here, there = (compared(answer) for answer in answers)
        assert here[0] == there[0]
        assert str(here[1]).replace("nonce-of-our-server", "nonce-of-the-other-") == str(there[1])
        assert here[2] == there[2]
        assert answers[1].headers["x-request-id"]
        return answers[1]

    assert both(event={}, headers=token | browser).status_code == 202
    assert both(event={}, headers=token | browser).headers["idempotent-replayed"] == "true"
    assert both(event={"event_type": "goal_achieved"}, headers=token).status_code == 409
    assert both(event={"points_delta": 9}, headers=token).json()["code"] == "invalid_body"
    assert both(content=b"x" * 70_000, headers=token).status_code == 413
    assert both(content=b'{"a"', headers=token | browser).status_code == 400
    assert both(event={}).status_code == 401
    assert both(event={}, headers={"apikey": stack.keys.secret_key}).status_code == 403
    assert both(method="GET", headers=token).headers["allow"] == "POST, OPTIONS"


def test_a_preflight_is_answered_without_a_token(
    stack: Stack, served: Callable[[str], str]
) -> None:
    url = served("submit_points_event")
    response = httpx.options(url, headers={"origin": "https://app.example.com"})
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "https://app.example.com"
    # The framework sends every path to the function.
    assert httpx.options(f"{url}/any/path").status_code == 204


@pytest.mark.parametrize("target", TARGETS)
def test_every_function_runs_by_itself(
    stack: Stack, served: Callable[[str], str], target: str
) -> None:
    url = served(target)
    assert httpx.post(url, json={}).json()["code"] == "unauthorized"
    if target == "validate_points_event":
        answer = httpx.post(url, json={}, headers={"apikey": stack.keys.secret_key}, timeout=20)
        assert answer.json()["validated"] == 0
    if target == "coupons/verify":
        body, token = {"code": "hello"}, stack.keys.token(uuid4())
        answer = httpx.post(
            url, json=body, headers={"authorization": f"Bearer {token}"}, timeout=20
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "coupon_not_valid")
