"""What the environment says of attestation, and what of it no device could meet."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from tallybook.attestation.apple_root import APPLE_ROOT
from tallybook.attestation.configured import examiner_of
from tallybook.attestation.examiner import Examiner
from tallybook.settings import ConfigurationError, Settings
from tests.attestation.play import GOOGLE

APPLE = {"APP_ATTEST_TEAM_ID": "TEAM567890", "APP_ATTEST_BUNDLE_ID": "com.example.steps"}
PLAY = {
    "PLAY_INTEGRITY_PROJECT_NUMBER": "123456789",
    "PLAY_INTEGRITY_PACKAGE_NAME": "com.example.steps",
    "PLAY_INTEGRITY_CERTIFICATE_SHA256": ":".join(["ab"] * 32) + "," + "cd" * 32,
}
DECRYPTION, VERIFICATION = GOOGLE.console_keys
KEYS = {
    "PLAY_INTEGRITY_DECRYPTION_KEY": DECRYPTION,
    "PLAY_INTEGRITY_VERIFICATION_KEY": VERIFICATION,
}
ACCOUNT = (
    GOOGLE.service_account
    if isinstance(GOOGLE.service_account, str)
    else json.dumps(dict(GOOGLE.service_account))
)


def examiner(**environment: str) -> Examiner:
    return examiner_of(Settings.from_environment(environment))


def test_nothing_configured_is_nothing_examined() -> None:
    assert (examiner().app_attest, examiner().play) == (None, None)


def test_app_attest_trusts_apples_root_and_our_one_app() -> None:
    policy = examiner(**APPLE).app_attest
    assert policy is not None
    assert policy.app_ids == {"TEAM567890.com.example.steps"}
    assert policy.environments == {"production"}
    assert policy.roots == (APPLE_ROOT,)


def test_development_has_to_be_asked_for() -> None:
    policy = examiner(**APPLE, APP_ATTEST_ENVIRONMENTS="production, development").app_attest
    assert policy is not None
    assert policy.environments == {"production", "development"}


def test_play_integrity_opens_with_the_consoles_keys() -> None:
    play = examiner(**PLAY, **KEYS).play
    assert play is not None
    assert (play.google, play.classic_keys) == (None, GOOGLE.classic_keys)
    assert len(play.policy.certificate_sha256) == 2
    assert (play.project_number, play.daily_decodes) == ("123456789", 10_000)


@pytest.mark.parametrize("as_file", [False, True])
async def test_play_integrity_asks_google_with_a_service_account(
    tmp_path: Path, as_file: bool
) -> None:
    file = tmp_path / "account.json"
    file.write_text(ACCOUNT)
    account = str(file) if as_file else ACCOUNT
    play = examiner(**PLAY, PLAY_INTEGRITY_SERVICE_ACCOUNT=account).play
    assert play is not None and play.google is not None
    assert play.classic_keys is None
    await play.google.aclose()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"PLAY_INTEGRITY_CERTIFICATE_SHA256": "beef"}, "PLAY_INTEGRITY_CERTIFICATE_SHA256"),
        ({"APP_ATTEST_TEAM_ID": "my team"}, "APP_ATTEST_TEAM_ID"),
        ({"APP_ATTEST_BUNDLE_ID": "my app"}, "APP_ATTEST_BUNDLE_ID"),
        ({"APP_ATTEST_BUNDLE_ID": "TEAM567890.com.example.steps"}, "APP_ATTEST_BUNDLE_ID"),
        ({"PLAY_INTEGRITY_PACKAGE_NAME": "no package"}, "PLAY_INTEGRITY_PACKAGE_NAME"),
        ({"PLAY_INTEGRITY_DECRYPTION_KEY": "c2hvcnQ="}, "PLAY_INTEGRITY_DECRYPTION_KEY"),
        ({"PLAY_INTEGRITY_VERIFICATION_KEY": "c2hvcnQ="}, "PLAY_INTEGRITY_VERIFICATION_KEY"),
        ({"PLAY_INTEGRITY_SERVICE_ACCOUNT": "{}"}, "PLAY_INTEGRITY_SERVICE_ACCOUNT"),
        ({"PLAY_INTEGRITY_SERVICE_ACCOUNT": "/no/such/file"}, "PLAY_INTEGRITY_SERVICE_ACCOUNT"),
        ({"PLAY_INTEGRITY_SERVICE_ACCOUNT": "\0"}, "PLAY_INTEGRITY_SERVICE_ACCOUNT"),
    ],
)
def test_what_no_device_could_meet_is_named_and_kept_quiet(
    wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        examiner(**{**APPLE, **PLAY, **KEYS, **wrong})
    assert named in caught.value.name
    shown = "".join(traceback.format_exception(caught.value))
    [value] = wrong.values()
    assert value not in shown or len(value) < 3


def test_who_configured_nothing_loads_no_verifier() -> None:
    """A deployed function starts cold for somebody who waits."""
    told = (
        "import sys, tallybook.endpoint; from tallybook.attestation.configured import examiner_of;"
        "from tallybook.settings import Settings; examiner_of(Settings.from_environment({}));"
        "print({'cbor2', 'httpx', 'tallybook.attestation.app_attest'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
