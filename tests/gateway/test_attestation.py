"""Device attestation over HTTP: real signatures under a root of the test's own, a real database."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallybook import logs
from tallybook.attestation.binding import base64url_decode, client_data_hash, request_hash
from tallybook.attestation.examiner import Examiner
from tallybook.attestation.google import PlayIntegrity
from tallybook.attestation.play import Play
from tallybook.attestation.recheck import recheck
from tallybook.database import PsycopgDatabase
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey
from tallybook.local.fake_google import FakeGoogle
from tallybook.local.fake_google_endpoints import FakeEndpoints
from tests.conftest import Database
from tests.gateway.client import Client, event
from tests.stack import Stack, running
from tests.world import World

APP = "TEAM567890.com.example.steps"
PATH = "/functions/v1/submit-points-event"


@dataclass
class Platforms:
    """Apple and Google as the server under test knows them."""

    apple: FakeApple = field(default_factory=lambda: FakeApple.generate(datetime.now(UTC)))
    google: FakeGoogle = field(default_factory=lambda: FakeGoogle.generate("com.example.steps"))

    def __post_init__(self) -> None:
        self.endpoints: FakeEndpoints = self.google.transport()
        asked = PlayIntegrity(self.google.service_account, "com.example.steps", self.endpoints)
        self.play = Play(self.google.policy(), "123456789", asked, self.google.classic_keys, 5)
        self.examiner = Examiner(self.apple.policy(APP), self.play)


@pytest.fixture(scope="module")
def roots() -> Platforms:
    return Platforms()


@pytest.fixture
def platforms(roots: Platforms) -> Platforms:
    """Keys are dear to make; what was asked of Google is each test's own."""
    return Platforms(roots.apple, roots.google)


@pytest.fixture
def stack(database: Database, tmp_path: Path, platforms: Platforms) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False, examiner=platforms.examiner) as stack:
        yield stack


@dataclass
class Phone(Client):
    """One user's telephone of either platform."""

    platforms: Platforms = field(default_factory=Platforms)
    key: FakeAppleKey = field(default_factory=FakeAppleKey)

    @property
    def key_id(self) -> str:
        return base64.b64encode(self.key.key_id).decode()

    def challenge(self, purpose: str = "submit", platform: str = "ios") -> dict[str, Any]:
        answer = self.post(
            "/functions/v1/attestation/challenge", {"purpose": purpose, "platform": platform}
        )
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    def register(self, **wrong: Any) -> httpx.Response:
        asked = self.challenge("register")["challenge"]
        hashed = sha256(base64url_decode(asked)).digest()
        app = wrong.pop("app", APP)
        attestation = self.platforms.apple.attest(
            self.key, app, hashed, "production", datetime.now(UTC), **wrong
        )
        body = {
            "key_id": self.key_id,
            "challenge": asked,
            "attestation": base64.b64encode(attestation).decode(),
        }
        return self.post("/functions/v1/attestation/register", body)

    def signed(self, body: bytes, counter: int | None = None) -> dict[str, str]:
        """What an iPhone sends beside this body."""
        asked = self.challenge()["challenge"]
        hashed = client_data_hash("POST", PATH, base64url_decode(asked), body)
        assertion = self.key.assert_(hashed, APP, **({"counter": counter} if counter else {}))
        return {
            "x_attestation_challenge": asked,
            "x_attestation_key": self.key_id,
            "x_attestation_token": base64.b64encode(assertion).decode(),
        }

    def vouched(self, body: bytes, classic: bool = False, **wrong: Any) -> dict[str, str]:
        """What an Android telephone sends beside this body."""
        asked = self.challenge(platform="android")["challenge"]
        hashed = request_hash("POST", PATH, base64url_decode(asked), body)
        google = self.platforms.google
        payload = google.payload(hashed, datetime.now(UTC), classic, **wrong)
        token = google.classic_token(payload) if classic else google.standard_token(payload)
        return {"x_attestation_challenge": asked, "x_attestation_token": token}


@pytest.fixture
def phone(stack: Stack, platforms: Platforms) -> Phone:
    return Phone(stack, platforms=platforms)


@pytest.fixture
def registered(phone: Phone) -> Phone:
    assert phone.register().status_code == 200
    return phone


def body(**fields: Any) -> bytes:
    return json.dumps(event(**fields)).encode()


def outcome(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def told(answer: httpx.Response, reason: str) -> bool:
    assert outcome(answer) == (403, "attestation_failed"), answer.text
    return bool(answer.json()["detail"] == f"reason: {reason}")


def stored(world: World, answer: httpx.Response) -> Any:
    (row,) = world.rows("select * from points_events where id = %s", (answer.json()["id"],))
    return row


def score(world: World, answer: httpx.Response) -> int:
    assert answer.status_code == 202, answer.text
    world.validate()
    return int(stored(world, answer)["trust_score"])


def insights(world: World) -> list[tuple[str, str, str]]:
    rows = world.rows("select * from fraud_insights order by created_at, insight_id")
    return [(r["insight_type"], r["severity"], r["details"]["reason"]) for r in rows]


def test_a_verified_request_scores_higher_than_a_bare_one(
    registered: Phone, platforms: Platforms, world: World
) -> None:
    sent = body()
    bare = score(world, Phone(registered.stack, platforms=platforms).submit(body()))
    signed = score(world, registered.submit(sent, **registered.signed(sent)))
    other = Phone(registered.stack, platforms=platforms)
    vouched = score(world, other.submit(sent, **other.vouched(sent)))
    classic = body()
    opened = score(world, other.submit(classic, **other.vouched(classic, classic=True)))
    assert (bare, signed, vouched, opened) == (70, 85, 85, 85)
    assert Counter(row["attestation"] for row in world.rows("select * from points_events")) == {
        "missing": 1,
        "verified": 3,
    }


def test_a_key_is_registered_once(phone: Phone, platforms: Platforms, world: World) -> None:
    first = phone.register()
    assert (first.status_code, first.json()["key_id"]) == (200, phone.key_id)
    assert first.json()["environment"] == "production"
    assert outcome(phone.register()) == (409, "device_key_taken")
    stranger = Phone(phone.stack, platforms=platforms, key=phone.key)
    assert outcome(stranger.register()) == (409, "device_key_taken")
    assert world.count("device_keys") == 1


def test_a_registration_whose_reply_was_lost_is_answered_again(phone: Phone) -> None:
    asked = phone.challenge("register")["challenge"]
    hashed = sha256(base64url_decode(asked)).digest()
    attestation = phone.platforms.apple.attest(
        phone.key, APP, hashed, "production", datetime.now(UTC)
    )
    sent = {
        "key_id": phone.key_id,
        "challenge": asked,
        "attestation": base64.b64encode(attestation).decode(),
    }
    first, again = (phone.post("/functions/v1/attestation/register", sent) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")


def test_a_forged_attestation_is_refused_and_remembered(phone: Phone, world: World) -> None:
    assert told(phone.register(app="TEAM567890.com.example.other"), "wrong_app_id")
    assert told(phone.register(leaf_is_ca=True), "leaf_is_ca")
    assert insights(world) == [
        ("attestation_failure", "high", "wrong_app_id"),
        ("attestation_failure", "high", "leaf_is_ca"),
    ]
    assert world.count("device_keys") == 0


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("x_attestation_challenge", "short", "malformed_challenge"),
        ("x_attestation_challenge", "?" * 43, "malformed_challenge"),
        ("x_attestation_key", "no base64!", "unknown_key"),
        ("x_attestation_key", base64.b64encode(b"k" * 32).decode(), "unknown_key"),
        ("x_attestation_key", "a2" * 21 + "b=", "unknown_key"),
        ("x_attestation_token", "no base64!", "malformed_assertion"),
        ("x_attestation_token", base64.b64encode(b"rubbish").decode(), "malformed_cbor"),
    ],
)
def test_rubbish_is_refused_with_its_reason(
    registered: Phone, world: World, header: str, value: str, reason: str
) -> None:
    sent = body()
    headers = {**registered.signed(sent), header: value}
    assert told(registered.submit(sent, **headers), reason)
    assert world.count("points_events") == 0
    grave = "medium" if reason == "unknown_key" else "high"
    assert insights(world) == [("attestation_failure", grave, reason)]


def test_what_is_signed_is_this_body(registered: Phone, world: World) -> None:
    sent = body()
    headers = registered.signed(sent)
    changed = sent.replace(b'"workout"', b'"goal_achieved"')
    assert told(registered.submit(changed, **headers), "wrong_signature")
    assert world.count("points_events") == 0
    # The assertion was not used up by whoever changed the body.
    assert registered.submit(sent, **headers).status_code == 202


def test_a_challenge_and_a_counter_are_good_for_one_request(
    registered: Phone, platforms: Platforms
) -> None:
    first, second = body(), body()
    headers = registered.signed(first)
    assert registered.submit(first, **headers).status_code == 202
    # The very same bytes are the same request.
    again = registered.submit(first, **headers)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert told(
        registered.submit(second, **registered.signed(second, counter=1)), "counter_not_greater"
    )
    asked = client_data_hash(
        "POST", PATH, base64url_decode(headers["x_attestation_challenge"]), second
    )
    reused = {
        **headers,
        "x_attestation_token": base64.b64encode(registered.key.assert_(asked, APP)).decode(),
    }
    assert told(registered.submit(second, **reused), "challenge_not_valid")
    stranger = Phone(registered.stack, platforms=platforms)
    foreign = stranger.signed(second)
    own = {**foreign, "x_attestation_key": registered.key_id}
    assert told(registered.submit(second, **own), "wrong_signature")


def test_another_apps_key_is_refused(registered: Phone) -> None:
    sent = body()
    asked = registered.challenge()["challenge"]
    hashed = client_data_hash("POST", PATH, base64url_decode(asked), sent)
    headers = {
        "x_attestation_challenge": asked,
        "x_attestation_key": registered.key_id,
        "x_attestation_token": base64.b64encode(
            registered.key.assert_(hashed, "TEAM567890.com.example.other")
        ).decode(),
    }
    assert told(registered.submit(sent, **headers), "wrong_app_id")


def test_of_sixteen_replays_at_once_one_is_accepted(registered: Phone, world: World) -> None:
    """The very same bytes: one is new, the others are told what the first one was."""
    sent = body()
    headers = registered.signed(sent)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: registered.submit(sent, **headers), range(16)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 15}
    assert world.count("points_events") == 1


def test_of_sixteen_requests_with_one_number_one_is_accepted(
    registered: Phone, world: World
) -> None:
    bodies = [body() for _ in range(16)]
    signed = [registered.signed(sent, counter=7) for sent in bodies]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: registered.submit(bodies[n], **signed[n]), range(16)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 403: 15}
    assert world.count("points_events") == 1
    assert world.value("select failures from attestation_failures") == 15
    assert insights(world) == [("attestation_failure", "medium", "counter_not_greater")]


@pytest.mark.parametrize("classic", [False, True], ids=["standard", "classic"])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"testingDetails__isTestingResponse": True}, "testing_response"),
        ({"requestDetails__requestPackageName": "com.example.other"}, "wrong_package"),
        ({"appIntegrity__appRecognitionVerdict": "UNRECOGNIZED_VERSION"}, "app_unrecognized"),
        ({"deviceIntegrity__deviceRecognitionVerdict": []}, "device_untrusted"),
        ({"accountDetails__appLicensingVerdict": "UNLICENSED"}, "unlicensed"),
    ],
)
def test_what_google_does_not_vouch_for_is_refused(
    phone: Phone, world: World, wrong: dict[str, Any], reason: str, classic: bool
) -> None:
    sent = body()
    assert told(phone.submit(sent, **phone.vouched(sent, classic, **wrong)), reason)
    assert insights(world) == [("attestation_failure", "high", reason)]
    assert world.count("points_events") == 0


def test_a_token_is_for_this_body_and_is_decoded_once(
    phone: Phone, platforms: Platforms, world: World
) -> None:
    sent = body()
    headers = phone.vouched(sent)
    assert told(phone.submit(body(), **headers), "wrong_request_hash")
    assert phone.submit(sent, **headers).status_code == 202
    assert phone.submit(sent, **headers).status_code == 200
    assert platforms.endpoints.decodes == 1


@pytest.mark.parametrize("failure", [429, 503, "timeout", 403])
def test_when_google_cannot_be_asked_the_event_waits_and_is_checked_again(
    phone: Phone,
    platforms: Platforms,
    world: World,
    capfd: pytest.CaptureFixture[str],
    database: Database,
    failure: int | str,
) -> None:
    # Two of each: a timeout and a 503 are tried once more.
    platforms.endpoints.fail("decode", failure, failure)
    sent = body()
    answer = phone.submit(sent, **phone.vouched(sent))
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    row = stored(world, answer)
    assert row["attestation"] == "unavailable"
    assert ("attestation.alert" in capfd.readouterr().err) == (failure == 403)
    # It waits for its evidence, and nobody is suspected.
    assert world.validate()["validated"] == 0
    assert insights(world) == []
    world.admin.execute("update attestation_rechecks set due_at = now()")
    if failure in (429, 403):
        platforms.endpoints.fail("decode")
    assert rechecked(platforms, database) == 1
    assert score(world, answer) == 85
    assert world.count("attestation_rechecks") == 0


def rechecked(platforms: Platforms, database: Database) -> int:
    """One round of a worker, with a fresh connection to Google."""

    async def once() -> int:
        book = PsycopgDatabase(database.dsn("tallybook_worker"))
        fresh = Play(
            platforms.play.policy,
            platforms.play.project_number,
            PlayIntegrity(
                platforms.google.service_account, "com.example.steps", platforms.google.transport()
            ),
        )
        try:
            return await recheck(fresh, book)
        finally:
            await book.close()

    return asyncio.run(once())


def test_what_is_found_out_later_to_be_forged_is_rejected(
    phone: Phone, platforms: Platforms, world: World, database: Database
) -> None:
    platforms.endpoints.fail("decode", 429)
    sent = body()
    wrong = {"deviceIntegrity__deviceRecognitionVerdict": []}
    answer = phone.submit(sent, **phone.vouched(sent, **wrong))
    assert answer.status_code == 202
    world.admin.execute("update attestation_rechecks set due_at = now()")
    assert rechecked(platforms, database) == 1
    assert world.validate()["rejected"] == 1
    types = [insight[0] for insight in world_insights(world)]
    assert types == ["attestation_failure", "attestation_failure"]


def world_insights(world: World) -> list[tuple[str, str]]:
    rows = world.rows("select * from fraud_insights order by created_at, insight_id")
    return [(row["insight_type"], row["severity"]) for row in rows]


def test_the_days_budget_is_kept_and_an_alert_comes_at_four_fifths(
    phone: Phone, platforms: Platforms, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(6):
        sent = body()
        assert phone.submit(sent, **phone.vouched(sent)).status_code == 202
    assert platforms.endpoints.decodes == 5
    statuses = Counter(row["attestation"] for row in world.rows("select * from points_events"))
    assert statuses == {"verified": 5, "unavailable": 1}
    alerts = [line for line in capfd.readouterr().err.splitlines() if "attestation.alert" in line]
    assert [json.loads(line)["reason"] for line in alerts] == [
        "decodes_at_80_percent",
        "decodes_spent",
    ]


def test_rubbish_uses_up_nobodys_budget(phone: Phone, platforms: Platforms, world: World) -> None:
    never_asked = {"x_attestation_challenge": "A" * 43}
    for token in ("a b", "", "x" * 40_000, "opaque"):
        answer = phone.submit(body(), **never_asked, x_attestation_token=token)
        assert outcome(answer) == (403, "attestation_failed")
    assert (platforms.endpoints.decodes, world.count("attestation_decodes")) == (0, 0)
    sent = body()
    assert phone.submit(sent, **phone.vouched(sent)).status_code == 202
    assert platforms.endpoints.decodes == 1


def test_a_payload_that_no_database_keeps_is_refused_once_and_for_all(
    phone: Phone, platforms: Platforms, world: World
) -> None:
    sent = body()
    headers = phone.vouched(sent, requestDetails__requestHash="a\0b")
    assert told(phone.submit(sent, **headers), "malformed_payload")
    assert told(phone.submit(sent, **headers), "token_undecodable")
    assert platforms.endpoints.decodes == 1
    assert world.count("points_events") == 0


def test_each_of_several_is_checked_again(
    phone: Phone, platforms: Platforms, world: World, database: Database
) -> None:
    platforms.endpoints.fail("decode", 429, 429)
    events = []
    for _ in range(2):
        sent = body()
        events.append(phone.submit(sent, **phone.vouched(sent)))
    world.admin.execute(
        "update attestation_rechecks set due_at = now(), request_hash = repeat('0', 64),"
        " token = case when event_id = %s then token || 'x' else token end",
        (events[0].json()["id"],),
    )
    assert rechecked(platforms, database) == 2
    statuses = [stored(world, answer)["attestation"] for answer in events]
    assert statuses == ["failed", "failed"]


def test_evidence_of_a_platform_that_is_not_configured_is_none(
    database: Database, tmp_path: Path, platforms: Platforms, world: World
) -> None:
    """Or a script that sends some would be better off than an honest browser."""
    only_apple = Examiner(platforms.examiner.app_attest)
    with running(database, tmp_path, with_postgrest=False, examiner=only_apple) as stack:
        sent = body()
        phone = Phone(stack, platforms=platforms)
        answer = phone.submit(sent, **phone.vouched(sent))
    assert stored(world, answer)["attestation"] == "missing"


def test_every_refusal_is_logged_and_counted(
    registered: Phone, capfd: pytest.CaptureFixture[str]
) -> None:
    def failed() -> float:
        text = httpx.get(f"{registered.stack.url}/metrics").text
        line = 'tallybook_attestations_total{platform="ios",status="failed"} '
        return sum(float(x.removeprefix(line)) for x in text.splitlines() if x.startswith(line))

    before = failed()
    first, second = body(), body()
    assert registered.submit(first, **registered.signed(first, counter=3)).status_code == 202
    assert told(
        registered.submit(second, **registered.signed(second, counter=3)), "counter_not_greater"
    )
    assert told(registered.register(app="TEAM567890.com.example.other"), "wrong_app_id")
    assert outcome(registered.register()) == (409, "device_key_taken")
    assert failed() == before + 3
    logs.flush()
    said = [json.loads(x) for x in capfd.readouterr().err.splitlines() if "attestation.failed" in x]
    reasons = ["counter_not_greater", "wrong_app_id", "device_key_taken"]
    assert [line["reason"] for line in said] == reasons
    assert {line["user_id"] for line in said} == {str(registered.user)}


def test_a_device_may_say_that_it_cannot(phone: Phone, world: World) -> None:
    answer = phone.submit(body(), x_attestation_unsupported="simulator")
    assert score(world, answer) == 70
    assert stored(world, answer)["attestation"] == "unsupported"


def test_a_token_in_the_body_proves_nothing(phone: Phone, world: World) -> None:
    """It is bound to nothing: whoever has one could send it with anything."""
    answer = phone.submit(body(attestation_token="anything", attestation={"token": "t"}))
    assert score(world, answer) == 70
    assert stored(world, answer)["attestation"] == "missing"


def test_where_nobody_configured_it_everything_is_neutral(
    database: Database, tmp_path: Path, world: World
) -> None:
    with running(database, tmp_path, with_postgrest=False) as stack:
        phone = Phone(stack)
        sent = body()
        answers = [
            phone.submit(body()),
            phone.submit(sent, **phone.vouched(sent)),
        ]
        assert [score(world, answer) for answer in answers] == [70, 70]
        assert outcome(phone.register()) == (403, "forbidden")
    rows = world.rows("select distinct attestation from points_events")
    assert rows == [{"attestation": "not_configured"}]
    assert insights(world) == []


def test_an_android_app_learns_its_project(phone: Phone) -> None:
    said = phone.challenge(platform="android")
    assert said["cloud_project_number"] == "123456789"
    assert len(base64url_decode(said["challenge"])) == 32
    assert "cloud_project_number" not in phone.challenge()
