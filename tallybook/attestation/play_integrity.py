"""What Google says of an Android device and app, held against what this request should be.

Fields and values: https://developer.android.com/google/play/integrity/verdicts
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from tallybook.attestation.android_app import certificate_digest, check_package_name
from tallybook.attestation.binding import base64url_decode
from tallybook.attestation.evidence import Rejected

REQUEST_HASH_LENGTH_MAX: Final = 499
UNEVALUATED: Final = "UNEVALUATED"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class PlayIntegrityPolicy:
    """What a payload must say. Raises ValueError for a policy that nothing could meet.

    `certificate_sha256` are the app's signing certificates as `certificate_digest` makes them;
    one must match. One of `device_verdicts` is enough. `require_licensed` refuses UNLICENSED;
    a licence that Google did not evaluate is no refusal. `allow_testing` accepts the canned
    answers of Google's test accounts. A token is at most `max_age` old, and at most `max_ahead`
    ahead of this clock.
    """

    package_name: str
    certificate_sha256: frozenset[str]
    device_verdicts: frozenset[str] = frozenset({"MEETS_DEVICE_INTEGRITY"})
    require_licensed: bool = True
    allow_testing: bool = False
    max_age: timedelta = timedelta(minutes=15)
    max_ahead: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        check_package_name(self.package_name)
        if not self.certificate_sha256:
            raise ValueError("a Play Integrity policy needs a certificate's digest")
        for digest in self.certificate_sha256:
            if certificate_digest(digest) != digest:
                raise ValueError(f"{digest} is not base64url without padding")
        if not self.device_verdicts:
            raise ValueError("a Play Integrity policy needs a device verdict that is enough")


@dataclass(frozen=True, slots=True)
class PlayVerdict:
    """What Google said of an accepted request, in its words.

    `device` holds all verdicts on the device, sorted; `licensing` is UNEVALUATED where nothing
    was said; `strong` tells whether the device's hardware vouches for it.
    """

    device: tuple[str, ...]
    licensing: str
    app: str
    strong: bool


def judge(
    payload: Mapping[str, Any],
    request_hash: bytes,
    policy: PlayIntegrityPolicy,
    at: datetime,
    classic: bool,
) -> PlayVerdict:
    """The verdict on a decoded `tokenPayloadExternal` that belongs to this request, at this time.

    `request_hash` is the 32 bytes of `client_data_hash`, expected in the nonce when `classic` and
    in the request hash otherwise; `at` has a time zone. Raises Rejected, checked in this order:
    malformed_payload, testing_response, wrong_package, wrong_request_hash, malformed_timestamp,
    token_too_old, token_from_the_future, app_unevaluated, app_unrecognized, wrong_package (of the
    app that Play found), wrong_certificate, device_untrusted, unlicensed.
    """
    said = _read(payload)
    if said.testing_details.is_testing_response and not policy.allow_testing:
        raise Rejected("testing_response", "a canned answer for a test account")
    request = said.request_details
    if request.request_package_name != policy.package_name:
        raise Rejected("wrong_package", "requested for another package")
    _check_request_hash(request.nonce if classic else request.request_hash, request_hash)
    _check_age(request.timestamp_millis, policy, at)
    _check_app(said.app_integrity, policy)
    device = tuple(sorted(set(said.device_integrity.device_recognition_verdict)))
    if policy.device_verdicts.isdisjoint(device):
        raise Rejected("device_untrusted", "no device verdict that is enough")
    licensing = said.account_details.app_licensing_verdict
    if licensing == "UNLICENSED" and policy.require_licensed:
        raise Rejected("unlicensed", "the account did not get the app from Play")
    return PlayVerdict(
        device=device,
        licensing=licensing,
        app=said.app_integrity.app_recognition_verdict,
        strong="MEETS_STRONG_INTEGRITY" in device,
    )


def _check_request_hash(given: str, expected: bytes) -> None:
    if len(given) > REQUEST_HASH_LENGTH_MAX:
        raise Rejected("wrong_request_hash", "longer than Google accepts")
    try:
        # Android's encoder pads unless it is told not to.
        decoded = base64url_decode(given.rstrip("="))
    except ValueError:
        raise Rejected("wrong_request_hash", "not base64url") from None
    if not hmac.compare_digest(decoded, expected):
        raise Rejected("wrong_request_hash", "bound to another request")


def _check_age(timestamp_millis: str, policy: PlayIntegrityPolicy, at: datetime) -> None:
    # Limited in length first: the time of a hostile number is out of any calendar's range.
    if not _MILLISECONDS.fullmatch(timestamp_millis):
        raise Rejected("malformed_timestamp", "not milliseconds in decimal digits")
    age = (at - _EPOCH) - timedelta(milliseconds=int(timestamp_millis))
    if age > policy.max_age:
        raise Rejected("token_too_old", f"{age} old")
    if -age > policy.max_ahead:
        raise Rejected("token_from_the_future", f"{-age} ahead")


def _check_app(app: _AppIntegrity, policy: PlayIntegrityPolicy) -> None:
    if app.app_recognition_verdict == UNEVALUATED:
        raise Rejected("app_unevaluated", "Google did not look at the app")
    if app.app_recognition_verdict != "PLAY_RECOGNIZED":
        raise Rejected("app_unrecognized", "not the app that Play distributes")
    if app.package_name != policy.package_name:
        raise Rejected("wrong_package", "Play found another package")
    digests = {digest.rstrip("=") for digest in app.certificate_sha256_digest}
    if policy.certificate_sha256.isdisjoint(digests):
        raise Rejected("wrong_certificate", "signed by somebody else")


# Every field may be missing. One that is must not pass for a good one: the empty text matches
# nothing that is expected.


class _RequestDetails(msgspec.Struct, rename="camel"):
    request_package_name: str = ""
    request_hash: str = ""
    nonce: str = ""
    timestamp_millis: str = ""


class _AppIntegrity(msgspec.Struct, rename="camel"):
    app_recognition_verdict: str = ""
    package_name: str = ""
    certificate_sha256_digest: list[str] = []


class _DeviceIntegrity(msgspec.Struct, rename="camel"):
    device_recognition_verdict: list[str] = []


class _AccountDetails(msgspec.Struct, rename="camel"):
    app_licensing_verdict: str = UNEVALUATED


class _TestingDetails(msgspec.Struct, rename="camel"):
    is_testing_response: bool = False


class _Payload(msgspec.Struct, rename="camel"):
    request_details: _RequestDetails = msgspec.field(default_factory=_RequestDetails)
    app_integrity: _AppIntegrity = msgspec.field(default_factory=_AppIntegrity)
    device_integrity: _DeviceIntegrity = msgspec.field(default_factory=_DeviceIntegrity)
    account_details: _AccountDetails = msgspec.field(default_factory=_AccountDetails)
    testing_details: _TestingDetails = msgspec.field(default_factory=_TestingDetails)


def _read(payload: Mapping[str, Any]) -> _Payload:
    try:
        return msgspec.convert(payload, _Payload)
    # A ValueError is what it raises for a name with half a character in it.
    except (msgspec.ValidationError, ValueError) as error:
        raise Rejected("malformed_payload", str(error)) from None
