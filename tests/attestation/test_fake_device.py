"""`tallybook attestation fake-device` against a stack that trusts what `tallybook dev` trusts."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from typer.testing import CliRunner

from tallybook.attestation.examiner import TOKEN_HEADER
from tallybook.cli import app
from tallybook.local import demo
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_google import FakeGoogle
from tallybook.local.fake_phone import WRONG
from tallybook.local.fake_platforms import APP_ID, FILES, PACKAGE_NAME, FakePlatforms
from tallybook.local.signing import LocalKeys
from tallybook.schema import ROOT
from tests.attestation import document
from tests.conftest import Database
from tests.stack import Stack, running
from tests.world import World


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a local stack keeps its keys; they are dear to make."""
    folder = tmp_path_factory.mktemp("local")
    LocalKeys.load_or_create(folder)
    FakePlatforms.load_or_create(folder)
    return folder


@pytest.fixture
def stack(database: Database, folder: Path) -> Iterator[Stack]:
    """As `tallybook dev` serves it."""
    examiner = FakePlatforms.load_or_create(folder).examiner()
    with running(database, folder, with_postgrest=False, examiner=examiner) as stack:
        yield stack


@dataclass(frozen=True)
class Done:
    """How the command ended."""

    code: int
    output: str
    complaint: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


Play = Callable[..., Done]


@pytest.fixture
def play(folder: Path) -> Play:
    """Run the command, from the folder of the stack or from another."""

    def play(*options: str, home: Path = folder, **more: str) -> Done:
        environment: Mapping[str, str] = {"TALLYBOOK_FOLDER": str(home), "COLUMNS": "200", **more}
        arguments = ["attestation", "fake-device", *options]
        done = CliRunner().invoke(app, arguments, env=environment)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    return play


def stored(world: World, event_id: str) -> dict[str, Any]:
    (row,) = world.rows("select * from points_events where id = %s", (event_id,))
    return dict(row)


def test_an_iphone_registers_a_key_and_its_event_is_verified(
    play: Play, stack: Stack, world: World
) -> None:
    done = play("--url", stack.url, "--json")
    assert done.code == 0, done.complaint
    said = done.json
    assert [(step["function"], step["status"]) for step in said["steps"]] == [
        ("attestation/challenge", 200),
        ("attestation/register", 200),
        ("attestation/challenge", 200),
        ("submit-points-event", 202),
    ]
    row = stored(world, said["event_id"])
    key_id = world.value("select key_id from device_keys where app_id = %s", (APP_ID,))
    assert (row["attestation"], row["device_key"]) == ("verified", key_id)
    assert row["user_id"] == demo.USER


@pytest.mark.parametrize("options", [(), ("--classic",)], ids=["standard", "classic"])
def test_an_android_telephones_event_is_verified(
    play: Play, stack: Stack, world: World, options: tuple[str, ...]
) -> None:
    user = uuid4()
    done = play(
        "--url", stack.url, "--platform", "android", "--user", str(user), "--json", *options
    )
    assert done.code == 0, done.complaint
    row = stored(world, done.json["event_id"])
    assert (row["attestation"], row["user_id"]) == ("verified", user)
    assert world.validate()["validated"] == 1
    assert stored(world, done.json["event_id"])["trust_score"] == 85
    assert world.count("attestation_decodes") == (0 if options else 1)


def test_people_are_told_each_step(play: Play, stack: Stack) -> None:
    done = play("--url", stack.url, "--event-type", "workout")
    lines = done.output.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["200", "attestation/challenge"],
        ["200", "attestation/register"],
        ["200", "attestation/challenge"],
        ["202", "submit-points-event"],
    ]
    event_id = lines[-1].split()[2]
    assert lines[-1] == f"Accepted: event {UUID(event_id)} is pending."


def test_the_documented_lines_do_what_they_say(play: Play, stack: Stack) -> None:
    lines = re.findall(
        r"^\.venv/bin/tallybook attestation fake-device(.*?)(?:#(.*))?$",
        document.section("Try it without a telephone"),
        re.MULTILINE,
    )
    assert len(lines) == 3
    for options, said in lines:
        done = play("--url", stack.url, *options.split())
        reason = re.search(r"reason: (\w+)", said)
        assert done.code == (1 if reason else 0)
        assert not reason or reason[1] in done.output.splitlines()[-1]


REASONS = {
    ("ios", "body"): "wrong_signature",
    ("ios", "challenge"): "challenge_not_valid",
    ("ios", "counter"): "counter_not_greater",
    ("ios", "key"): "unknown_key",
    ("ios", "app-id"): "wrong_app_id",
    ("ios", "environment"): "wrong_environment",
    ("android", "body"): "wrong_request_hash",
    ("android", "challenge"): "challenge_not_valid",
    ("android", "age"): "token_too_old",
    ("android", "token"): "token_undecodable",
    ("android", "app-id"): "wrong_package",
    ("android", "certificate"): "wrong_certificate",
    ("android", "changed-app"): "app_unrecognized",
    ("android", "device"): "device_untrusted",
    ("android", "licence"): "unlicensed",
    ("android", "testing"): "testing_response",
}


def test_every_way_to_go_wrong_is_tried() -> None:
    assert {(platform, thing) for platform in WRONG for thing in WRONG[platform]} == set(REASONS)


@pytest.mark.parametrize(("platform", "wrong"), REASONS)
def test_what_goes_wrong_on_purpose_is_refused_for_that(
    play: Play, stack: Stack, world: World, platform: str, wrong: str
) -> None:
    done = play("--url", stack.url, "--platform", platform, "--wrong", wrong, "--json")
    said = done.json
    assert (done.code, said["accepted"], said["code"]) == (1, False, "attestation_failed")
    assert said["detail"] == f"reason: {REASONS[platform, wrong]}"
    assert world.value("select reason from attestation_failures") == REASONS[platform, wrong]
    # What the counter's second request is behind is right.
    assert world.count("points_events") == (1 if wrong == "counter" else 0)


@pytest.mark.parametrize("wrong", ["token", "age"])
def test_a_classic_token_can_go_wrong_as_well(play: Play, stack: Stack, wrong: str) -> None:
    options = ("--url", stack.url, "--platform", "android", "--classic", "--wrong", wrong)
    done = play(*options)
    reason = {"token": "token_undecryptable", "age": "token_too_old"}[wrong]
    assert done.code == 1
    assert done.output.splitlines()[-1] == f"Refused: attestation_failed, reason: {reason}."


def test_the_printed_steps_can_be_sent_again(play: Play, stack: Stack) -> None:
    """The same bytes and headers are the same request."""
    *_, last = play("--url", stack.url, "--json").json["steps"]
    assert TOKEN_HEADER in last["headers"]
    token = stack.keys.token(demo.USER)
    again = httpx.post(
        f"{stack.url}/functions/v1/{last['function']}",
        content=last["body"].encode(),
        headers={**last["headers"], "authorization": f"Bearer {token}"},
    )
    assert (again.status_code, again.json()["id"]) == (200, last["answer"]["id"])
    assert "authorization" not in last["headers"]


def test_a_dry_run_asks_nobody(play: Play, folder: Path, database: Database, world: World) -> None:
    nowhere = "http://127.0.0.1:9"
    said = play("--dry-run", "--json", "--url", nowhere, home=folder / "none").json
    assert (said["dry_run"], said["event"]["event_type"]) == (True, "habit_completion")
    assert "register a key" in play("--dry-run").output
    assert "register a key" not in play("--dry-run", "--platform", "android").output
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--wrong", "certificate"),
        ("--platform", "android", "--wrong", "counter"),
        ("--classic",),
        ("--platform", "web"),
        ("--user", "somebody"),
    ],
)
def test_wrong_usage_is_code_2(play: Play, options: tuple[str, ...]) -> None:
    assert play(*options).code == 2


def test_without_a_stack_it_says_how_to_start_one(play: Play, tmp_path: Path, folder: Path) -> None:
    nobody = play(home=tmp_path)
    assert (nobody.code, "make dev" in nobody.complaint) == (2, True)
    assert list(tmp_path.iterdir()) == []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = play("--url", f"http://127.0.0.1:{port}")
    assert (away.code, "make dev" in away.complaint) == (2, True)


def test_the_keys_of_the_stand_ins_are_their_owners_alone(folder: Path) -> None:
    assert {(folder / name).stat().st_mode & 0o777 for name in FILES} == {0o600}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--platform", "ios"), "untrusted_chain"),
        (("--platform", "android", "--classic"), "token_undecryptable"),
    ],
    ids=["ios", "android"],
)
def test_a_server_that_its_environment_configures_believes_no_stand_in(
    play: Play,
    database: Database,
    folder: Path,
    world: World,
    options: tuple[str, ...],
    reason: str,
) -> None:
    """For the same app and in the same folder: there is no variable that brings another root."""
    team, _, bundle = APP_ID.partition(".")
    google = FakePlatforms.load_or_create(folder).google
    decryption_key, verification_key = FakeGoogle.generate(PACKAGE_NAME).console_keys
    told = {
        "APP_ATTEST_TEAM_ID": team,
        "APP_ATTEST_BUNDLE_ID": bundle,
        "APP_ATTEST_ENVIRONMENTS": "production,development",
        "PLAY_INTEGRITY_PROJECT_NUMBER": "123456789012",
        "PLAY_INTEGRITY_PACKAGE_NAME": PACKAGE_NAME,
        "PLAY_INTEGRITY_CERTIFICATE_SHA256": google.certificate_sha256,
        "PLAY_INTEGRITY_DECRYPTION_KEY": decryption_key,
        "PLAY_INTEGRITY_VERIFICATION_KEY": verification_key,
        "ENVIRONMENT": "development",
        "TALLYBOOK_FOLDER": str(folder),
    }
    with running(database, folder, with_postgrest=False, **told) as stack:
        said = play("--url", stack.url, "--json", *options).json
    assert (said["accepted"], said["detail"]) == (False, f"reason: {reason}")
    assert world.count("points_events") == 0


def test_nothing_but_the_local_stack_and_this_command_knows_a_stand_in() -> None:
    """`tallybook serve` and `worker` are commands as well, and might import what they like."""
    knowing = {
        str(path.relative_to(ROOT / "tallybook"))
        for path in (ROOT / "tallybook").rglob("*.py")
        if re.search(r"^\s*(?:from|import) .*\bfake_", path.read_text(), re.MULTILINE)
    }
    assert {name for name in knowing if not name.startswith("local/")} == {"cli/attestation.py"}


def test_another_machines_stand_in_is_not_believed(
    play: Play, stack: Stack, tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "keys.json").write_bytes((folder / "keys.json").read_bytes())
    FakeApple.load_or_create(tmp_path, datetime.now(UTC))
    FakeGoogle.load_or_create(tmp_path, PACKAGE_NAME)
    for platform, reason in (("ios", "untrusted_chain"), ("android", "token_undecodable")):
        done = play("--url", stack.url, "--platform", platform, "--json", home=tmp_path)
        assert (done.code, done.json["detail"]) == (1, f"reason: {reason}")
