"""`tallybook serve` starts only when it is told everything, and ends without losing a request."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from tallybook.local.postgres import free_port
from tallybook.local.signing import LocalKeys
from tests.cli.conftest import PROGRAM, SECONDS_MAX, Run
from tests.conftest import Database
from tests.world import World

Serve = Callable[..., tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def keys(home: Path) -> LocalKeys:
    return LocalKeys.load_or_create(home)


@pytest.fixture
def told(environment: dict[str, str], database: Database, keys: LocalKeys) -> dict[str, str]:
    """An environment that lacks nothing."""
    return environment | {
        "DATABASE_URL": database.dsn("tallybook_functions"),
        "SUPABASE_JWKS": json.dumps(keys.jwks),
        "COUPON_SECRET": keys.coupon_secret,
    }


@pytest.fixture
def serve(told: dict[str, str]) -> Iterator[Serve]:
    """Start a server and wait until it is ready; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> tuple[subprocess.Popen[bytes], str]:
        port = free_port()
        started.append(
            subprocess.Popen([PROGRAM, "serve", "--port", str(port), *options], env=told)
        )
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz").is_success:
                    return started[-1], url
            assert started[-1].poll() is None
            time.sleep(0.02)
        raise AssertionError("it does not get ready")

    yield start
    for process in started:
        process.terminate()
        process.wait(SECONDS_MAX)


@pytest.mark.parametrize("name", ["DATABASE_URL", "COUPON_SECRET", "SUPABASE_JWKS"])
def test_it_refuses_to_start_and_names_what_is_missing(
    run: Run, told: dict[str, str], name: str
) -> None:
    for command in (("serve",), ("config", "check")):
        done = run(*command, env={**told, name: ""})
        assert done.code == 2
        assert name in done.complaint


@pytest.mark.parametrize("command", [("serve",), ("config", "check")])
@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"APP_ATTEST_TEAM_ID": "TEAM567890"}, "APP_ATTEST_BUNDLE_ID"),
        ({"APP_ATTEST_TEAM_ID": "t", "APP_ATTEST_BUNDLE_ID": "com.x"}, "APP_ATTEST_TEAM_ID"),
    ],
)
def test_half_an_attestation_does_not_start(
    run: Run, told: dict[str, str], said: dict[str, str], name: str, command: tuple[str, ...]
) -> None:
    done = run(*command, env={**told, **said})
    assert done.code == 2
    assert name in done.complaint and "Traceback" not in done.complaint


def test_config_check_tells_no_value(run: Run, told: dict[str, str], keys: LocalKeys) -> None:
    done = run("config", "check", "--json", env=told)
    assert done.code == 0
    assert done.json["set"]["COUPON_SECRET"] is True
    assert keys.coupon_secret not in done.output + done.complaint


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_and_ends_orderly(
    serve: Serve, world: World, keys: LocalKeys, workers: str
) -> None:
    process, url = serve("--workers", workers)
    event = world.event(user := world.user())
    event |= {"event_time": event["event_time"].isoformat(), "user_id": None}
    del event["user_id"]
    answer = httpx.post(
        f"{url}/functions/v1/submit-points-event",
        json=event,
        headers={"authorization": f"Bearer {keys.token(user)}"},
    )
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS_MAX) == 0


def test_a_busy_port_is_said(run: Run, told: dict[str, str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        assert run("serve", "--port", port, env=told).code == 2


def test_what_is_under_way_is_answered(serve: Serve, world: World, keys: LocalKeys) -> None:
    """A request waits for somebody's lock while the server is told to end."""
    process, url = serve()
    user, template = world.user(points=500), world.template()
    holder = world.session(autocommit=False)
    holder.execute("select from ledger.accounts where book_id = %s for update", (user,))
    answers: list[httpx.Response] = []

    def redeem() -> None:
        answers.append(
            httpx.post(
                f"{url}/functions/v1/redeem-coupon",
                json={"template_id": str(template), "idempotency_key": "one"},
                headers={"authorization": f"Bearer {keys.token(user)}"},
                timeout=SECONDS_MAX,
            )
        )

    client = threading.Thread(target=redeem)
    client.start()
    blocked = "datname = current_database() and wait_event_type = 'Lock'"
    deadline = time.monotonic() + SECONDS_MAX
    while not world.count("pg_stat_activity", blocked):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    holder.rollback()
    client.join(SECONDS_MAX)
    assert answers[0].status_code == 200
    assert process.wait(SECONDS_MAX) == 0
