"""The examiner that the environment describes. Its roots are Apple's and Google's and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tallybook.attestation.examiner import Examiner
from tallybook.settings import ConfigurationError, Settings

if TYPE_CHECKING:
    from tallybook.attestation.app_attest import AppAttestPolicy
    from tallybook.attestation.play import Play

T = TypeVar("T")


def examiner_of(settings: Settings) -> Examiner:
    """Raises ConfigurationError for a value that no device could meet."""
    return Examiner(app_attest=_app_attest(settings), play=_play(settings))


def _app_attest(settings: Settings) -> AppAttestPolicy | None:
    team, bundle = settings.app_attest_team_id, settings.app_attest_bundle_id
    if team is None or bundle is None:
        return None
    # Imported here, as below: who configured no platform pays for none.
    from tallybook.attestation.app_attest import AppAttestPolicy

    # A value that no App ID begins or ends with would refuse every telephone, and say why to none.
    for name, value, pattern in (
        ("APP_ATTEST_TEAM_ID", team, r"[A-Z0-9]{10}"),
        # Not the App ID, which begins with the team: that would stand there twice.
        ("APP_ATTEST_BUNDLE_ID", bundle, rf"(?!{re.escape(team)}\.)[A-Za-z0-9.-]+"),
    ):
        if not re.fullmatch(pattern, value):
            raise ConfigurationError(name, "what the Apple developer account shows")
    return AppAttestPolicy(
        frozenset({f"{team}.{bundle}"}), frozenset(settings.app_attest_environments)
    )


def _play(settings: Settings) -> Play | None:
    package, project = settings.play_integrity_package_name, settings.play_integrity_project_number
    if package is None or project is None:
        return None
    from tallybook.attestation.android_app import certificate_digest
    from tallybook.attestation.google import PlayIntegrity
    from tallybook.attestation.play import Play
    from tallybook.attestation.play_integrity import PlayIntegrityPolicy
    from tallybook.attestation.play_token import ClassicKeys

    digests = _usable(
        "PLAY_INTEGRITY_CERTIFICATE_SHA256",
        "SHA-256 digests of the signing certificates, in hexadecimal or in base64",
        lambda: frozenset(map(certificate_digest, settings.play_integrity_certificates)),
    )
    policy = _usable(
        "PLAY_INTEGRITY_PACKAGE_NAME",
        "the package name of an Android application",
        lambda: PlayIntegrityPolicy(package, digests),
    )
    account = settings.play_integrity_service_account
    google = account and _usable(
        "PLAY_INTEGRITY_SERVICE_ACCOUNT",
        "the JSON key of a service account, or the file that holds it",
        lambda: PlayIntegrity(_account(account), package),
    )
    ours = (settings.play_integrity_decryption_key, settings.play_integrity_verification_key)
    keys = ours[0] and _usable(
        "PLAY_INTEGRITY_DECRYPTION_KEY and PLAY_INTEGRITY_VERIFICATION_KEY",
        "the two keys that the Play console gave",
        lambda: ClassicKeys.from_console(str(ours[0]), str(ours[1])),
    )
    return Play(
        policy, project, google or None, keys or None, settings.play_integrity_daily_decodes
    )


def _account(text: str) -> str:
    """A service account's JSON: the text itself, or what the file of this name holds."""
    return text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8")


def _usable(name: str, must_be: str, make: Callable[[], T]) -> T:
    """What `make` gives; the complaint names the variable, and never the value."""
    try:
        return make()
    except (ValueError, OSError):
        pass
    raise ConfigurationError(name, must_be)
