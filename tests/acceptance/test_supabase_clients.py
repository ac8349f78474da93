"""The real supabase-js and supabase-py walk the main road, and are refused what is not theirs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from postgrest import APIError
from supabase.lib.client_options import SyncClientOptions as ClientOptions

from supabase import Client, FunctionsHttpError, create_client
from tallybook.schema import ROOT
from tests.conftest import Database
from tests.stack import Stack

CLIENT = Path(__file__).with_name("clients") / "points.mjs"
WORKOUT = 20
"""What a workout earns, and what a coffee costs."""


@dataclass(frozen=True)
class Cast:
    """Alice, who acts; Bob, who has an event that is none of hers; a coffee on offer."""

    alice: UUID
    bob: UUID
    template: UUID


@pytest.fixture
def cast(database: Database) -> Cast:
    alice, bob = uuid4(), uuid4()
    database.connect("tallybook_functions").execute(
        "select public.submit_points_event(%s, 'workout', now(), 'nonce-of-bob-0000')", (bob,)
    )
    row = (
        database.connect()
        .execute(
            "insert into public.coupon_templates (template_name, points_cost, coupon_value_type,"
            " coupon_value, max_redemptions_per_user)"
            " values ('A coffee', %s, 'product', 'coffee', null) returning template_id",
            (WORKOUT,),
        )
        .fetchone()
    )
    assert row is not None
    return Cast(alice, bob, row[0])


@pytest.fixture
def met(stack: Stack, cast: Cast, node: list[str]) -> dict[str, Any]:
    """What supabase-js met on its way."""
    done = subprocess.run(
        [*node, str(CLIENT)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "PATH": os.environ["PATH"],
            "URL": stack.url,
            "PUBLISHABLE_KEY": stack.keys.publishable_key,
            "SECRET_KEY": stack.keys.secret_key,
            "ALICE_TOKEN": stack.keys.token(cast.alice),
            "ALICE": str(cast.alice),
            "BOB": str(cast.bob),
            "TEMPLATE": str(cast.template),
        },
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_supabase_js(met: dict[str, Any], cast: Cast) -> None:
    assert (met["submitted"]["status"], met["submitted"]["data"]["status"]) == (202, "pending")
    assert met["submitted"]["replayed"] is None
    assert (met["replayed"]["status"], met["replayed"]["replayed"]) == (200, "true")
    assert met["replayed"]["data"] == met["submitted"]["data"]
    refused(met["reused"], 409, "nonce_reused")
    refused(met["malformed"], 400, "invalid_body")
    refused(met["validation_by_alice"], 403, "forbidden")
    refused(met["validation_by_anon"], 403, "forbidden")
    assert met["validation_by_service"]["data"]["validated"] == 2
    refused(met["submission_by_anon"], 403, "forbidden")
    refused(met["submission_by_service"], 403, "forbidden")
    assert met["redeemed"]["data"]["success"] is True
    assert met["redeemed"]["data"]["points_remaining"] == 0
    assert met["redeemed"]["data"]["coupon_code"]
    assert met["redeemed_again"]["data"] == met["redeemed"]["data"]
    assert met["redeemed_again"]["replayed"] == "true"
    refused(met["too_dear"], 400, "insufficient_points")

    # PostgREST says 403 to a token and 401 to anon, both with the database's own code.
    assert met["rpc"] == {
        "alice": {"status": 403, "code": "42501"},
        "anon": {"status": 401, "code": "42501"},
    }

    alice, bob = str(cast.alice), str(cast.bob)
    assert met["own_events"]["data"] == [
        {"user_id": alice, "event_type": kind, "validation_status": "validated"}
        for kind in ("workout", "redeem_coupon")
    ]
    assert met["own_balance"]["data"] == [{"user_id": alice, "available_points": 0}]
    assert met["own_coupons"]["data"] == [{"issued_to": alice, "issued_points_cost": WORKOUT}]
    assert met["bobs_events"] == {"status": 200, "data": []}
    assert met["bobs_events_by_service"]["data"] == [{"user_id": bob}]
    assert met["offers"]["data"] == [{"template_id": str(cast.template)}]
    for name in ("events_by_anon", "nonces", "policies"):
        assert met[name]["code"] == "42501", name
    assert {name: answer.get("code") for name, answer in met["written"].items()} == dict.fromkeys(
        met["written"], "42501"
    )


def refused(answer: dict[str, Any], status: int, code: str) -> None:
    """error.context is the whole response: problem+json with everything a client needs."""
    assert answer["status"] == status
    assert answer["type"] == "application/problem+json"
    problem = answer["problem"]
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["error"] == problem["message"]
    assert problem["request_id"]
    assert problem["type"] == f"urn:tallybook:refusal:{code}"


@pytest.fixture
def client(stack: Stack) -> Iterator[Callable[..., Client]]:
    """Makes a supabase-py client: of a user, or with a key alone."""
    with ExitStack() as opened:

        def make(user: UUID | None = None, *, secret: bool = False) -> Client:
            key = stack.keys.secret_key if secret else stack.keys.publishable_key
            headers = {"Authorization": f"Bearer {stack.keys.token(user)}"} if user else {}
            # Given one, it closes nothing itself.
            http = opened.enter_context(httpx.Client())
            return create_client(stack.url, key, ClientOptions(headers=headers, httpx_client=http))

        yield make


# Its own parts hand each other arguments that they call deprecated.
@pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")
def test_supabase_py(client: Callable[..., Client], cast: Cast) -> None:
    alice, anon, service = client(cast.alice), client(), client(secret=True)
    event = {
        "event_type": "workout",
        "event_time": datetime.now(UTC).isoformat(),
        "nonce": "nonce-of-alice-0001",
    }

    def invoke(who: Client, name: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(who.functions.invoke(name, {"body": body}))
        return answer

    submitted = invoke(alice, "submit-points-event", event)
    assert submitted["status"] == "pending"
    assert invoke(alice, "submit-points-event", event) == submitted
    with pytest.raises(FunctionsHttpError) as raised:
        invoke(alice, "submit-points-event", event | {"event_type": "goal_achieved"})
    assert raised.value.status == 409
    # Its message is the problem's member `error`.
    assert "nonce-of-alice-0001" in raised.value.message
    for who in (alice, anon):
        with pytest.raises(FunctionsHttpError) as raised:
            invoke(who, "validate-points-event", {})
        assert raised.value.status == 403
    assert invoke(service, "validate-points-event", {})["validated"] == 2
    bought = invoke(
        alice,
        "redeem-coupon",
        {"template_id": str(cast.template), "idempotency_key": "key-of-alice-0001"},
    )
    assert (bought["success"], bought["points_remaining"]) == (True, 0)

    events = alice.table("points_events").select("user_id").execute().data
    assert events == [{"user_id": str(cast.alice)}] * 2
    assert alice.table("coupons").select("*").eq("issued_to", str(cast.bob)).execute().data == []
    assert len(service.table("points_events").select("id").execute().data) == 3
    row = {"user_id": str(cast.alice), "event_type": "workout", "points_delta": 1000}
    arguments = {
        "p_user_id": str(cast.bob),
        "p_event_type": "workout",
        "p_event_time": event["event_time"],
        "p_nonce": "nonce-of-bob-000001",
    }
    for refused_query in (
        alice.table("points_events").insert(row),
        alice.table("user_points_cache").update({"available_points": 9}).eq("user_id", cast.alice),
        alice.table("points_events").delete().eq("user_id", cast.alice),
        alice.rpc("submit_points_event", arguments),
        anon.rpc("submit_points_event", arguments),
        anon.table("points_events").select("id"),
    ):
        with pytest.raises(APIError) as refusal:
            refused_query.execute()
        assert refusal.value.code == "42501"
