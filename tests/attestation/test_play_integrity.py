"""What Google says is held against the request, the app, the device and the licence, in order."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.attestation.binding import base64url
from tallybook.attestation.evidence import Rejected
from tallybook.attestation.play_integrity import PlayVerdict, judge
from tests.attestation.play import AT, GOOGLE, HASH, OTHER_HASH, payload, rejected

POLICY = GOOGLE.policy()
MS = timedelta(milliseconds=1)
MINUTE = timedelta(minutes=1)


def judged(said: Mapping[str, Any], policy: Any = POLICY, classic: bool = False) -> PlayVerdict:
    return judge(said, HASH, policy, AT, classic)


def refuses(reason: str, **wrong: Any) -> None:
    with rejected(reason):
        judged(payload(**wrong))


def test_a_good_payload_is_accepted_and_told():
    for classic in (False, True):
        assert judged(payload(classic), classic=classic) == PlayVerdict(
            device=("MEETS_BASIC_INTEGRITY", "MEETS_DEVICE_INTEGRITY"),
            licensing="LICENSED",
            app="PLAY_RECOGNIZED",
            strong=False,
        )


def test_any_mapping_and_unknown_members_will_do():
    """Google adds members as it likes."""
    wrong = {"environmentDetails__playProtectVerdict": "NO_ISSUES", "new": [1]}
    judged(MappingProxyType(payload(**wrong)))


def test_a_device_whose_hardware_vouches_is_strong():
    verdicts = ["MEETS_STRONG_INTEGRITY", "MEETS_DEVICE_INTEGRITY"]
    assert judged(payload(deviceIntegrity__deviceRecognitionVerdict=verdicts)).strong


def test_the_testing_flag_is_refused_unless_it_is_allowed():
    refuses("testing_response", testingDetails__isTestingResponse=True)
    judged(payload(testingDetails__isTestingResponse=False))
    testing = payload(testingDetails__isTestingResponse=True)
    judged(testing, GOOGLE.policy(allow_testing=True))


def test_another_package_is_refused_whoever_names_it():
    for path in ("requestDetails__requestPackageName", "appIntegrity__packageName"):
        for name in ("com.example.steps2", "COM.example.steps", "", None):
            refuses("wrong_package", **{path: name})


def test_another_request_s_hash_is_refused():
    for text in (
        base64url(OTHER_HASH),
        base64url(HASH[:31]),
        base64url(HASH + b"\0"),
        base64url(HASH) + "*",
        HASH.hex(),
        "é" * 43,
        "\ud800" * 43,
        "A" * 500,
        "=" * 600,
        "",
        None,
    ):
        refuses("wrong_request_hash", requestDetails__requestHash=text)


def test_padding_is_no_difference_but_what_is_longer_than_google_takes_is():
    padded = base64.urlsafe_b64encode(HASH).decode()
    assert padded.endswith("=")
    judged(payload(requestDetails__requestHash=padded))
    refuses("wrong_request_hash", requestDetails__requestHash=padded + "=" * 460)


def test_a_classic_request_is_bound_by_its_nonce_and_a_standard_one_by_its_hash():
    """Neither passes for the other: an app that asks in one way does not set the other field."""
    with rejected("wrong_request_hash"):
        judged(payload(classic=True), classic=False)
    with rejected("wrong_request_hash"):
        judged(payload(classic=False), classic=True)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (AT - 15 * MINUTE, None),
        (AT - 15 * MINUTE - MS, "token_too_old"),
        (AT + 5 * MINUTE, None),
        (AT + 5 * MINUTE + MS, "token_from_the_future"),
    ],
)
def test_a_token_is_neither_old_nor_from_the_future(made, reason):
    said = GOOGLE.payload(base64url(HASH), made)
    if reason is None:
        judged(said)
    else:
        with rejected(reason):
            judged(said)


def test_the_limits_of_age_are_the_policy_s():
    tight = replace(POLICY, max_age=MINUTE, max_ahead=timedelta())
    judged(GOOGLE.payload(base64url(HASH), AT - MINUTE), tight)
    for made, reason in ((AT - MINUTE - MS, "token_too_old"), (AT + MS, "token_from_the_future")):
        with rejected(reason):
            judged(GOOGLE.payload(base64url(HASH), made), tight)


def test_a_time_is_digits_in_a_text_and_nothing_else():
    for text in ("", " 1", "1.5", "-1", "+1", "1e3", "٣", "9" * 16, "9" * 5000, None):
        refuses("malformed_timestamp", requestDetails__timestampMillis=text)
    refuses("token_from_the_future", requestDetails__timestampMillis="9" * 15)
    refuses("malformed_payload", requestDetails__timestampMillis=int(AT.timestamp() * 1000))


def test_an_app_that_play_does_not_know_is_refused():
    for verdict, reason in (
        ("UNRECOGNIZED_VERSION", "app_unrecognized"),
        ("UNKNOWN", "app_unrecognized"),
        ("play_recognized", "app_unrecognized"),
        (None, "app_unrecognized"),
        ("UNEVALUATED", "app_unevaluated"),
    ):
        refuses(reason, appIntegrity__appRecognitionVerdict=verdict)
    refuses("app_unrecognized", appIntegrity=None)


def test_another_certificate_is_refused():
    other = base64url(b"o" * 32)
    for digests in ([other], [], [GOOGLE.certificate_sha256.lower()], [""], None):
        refuses("wrong_certificate", appIntegrity__certificateSha256Digest=digests)


def test_one_certificate_of_several_is_enough():
    other = base64url(b"o" * 32)
    both = [other, GOOGLE.certificate_sha256 + "="]
    judged(payload(appIntegrity__certificateSha256Digest=both))
    judged(payload(), GOOGLE.policy(certificate_sha256=frozenset({other, both[1][:-1]})))


def test_a_device_that_meets_too_little_is_refused():
    for verdicts in (["MEETS_BASIC_INTEGRITY"], ["MEETS_VIRTUAL_INTEGRITY"], [], None):
        refuses("device_untrusted", deviceIntegrity__deviceRecognitionVerdict=verdicts)
    refuses("device_untrusted", deviceIntegrity=None)


def test_what_is_enough_of_a_device_is_the_policy_s():
    virtual = GOOGLE.policy(device_verdicts=frozenset({"MEETS_VIRTUAL_INTEGRITY"}))
    judged(payload(deviceIntegrity__deviceRecognitionVerdict=["MEETS_VIRTUAL_INTEGRITY"]), virtual)
    with rejected("device_untrusted"):
        judged(payload(), virtual)


def test_an_unlicensed_account_is_refused_where_a_licence_is_required():
    unlicensed = payload(accountDetails__appLicensingVerdict="UNLICENSED")
    with rejected("unlicensed"):
        judged(unlicensed)
    assert judged(unlicensed, GOOGLE.policy(require_licensed=False)).licensing == "UNLICENSED"


def test_a_licence_that_nobody_looked_at_is_no_refusal():
    for wrong in (
        {"accountDetails__appLicensingVerdict": "UNEVALUATED"},
        {"accountDetails__appLicensingVerdict": None},
        {"accountDetails": None},
    ):
        assert judged(payload(**wrong)).licensing == "UNEVALUATED"


STEPS = [
    ("malformed_payload", {"accountDetails": []}),
    ("testing_response", {"testingDetails__isTestingResponse": True}),
    ("wrong_package", {"requestDetails__requestPackageName": "com.example.other"}),
    ("wrong_request_hash", {"requestDetails__requestHash": base64url(OTHER_HASH)}),
    ("token_too_old", {"requestDetails__timestampMillis": "1"}),
    ("app_unrecognized", {"appIntegrity__appRecognitionVerdict": "UNRECOGNIZED_VERSION"}),
    ("wrong_package", {"appIntegrity__packageName": "com.example.other"}),
    ("wrong_certificate", {"appIntegrity__certificateSha256Digest": []}),
    ("device_untrusted", {"deviceIntegrity__deviceRecognitionVerdict": []}),
    ("unlicensed", {"accountDetails__appLicensingVerdict": "UNLICENSED"}),
]


@pytest.mark.parametrize("first", range(len(STEPS)))
def test_of_several_faults_the_first_is_told(first):
    wrong: dict[str, Any] = {}
    for _, fault in reversed(STEPS[first:]):
        wrong |= fault
    refuses(STEPS[first][0], **wrong)


def test_a_field_of_another_type_is_malformed():
    for wrong in (
        {"requestDetails": []},
        {"requestDetails": "text"},
        {"requestDetails__requestHash": 1},
        {"requestDetails__requestPackageName": ["com.example.steps"]},
        {"appIntegrity__certificateSha256Digest": GOOGLE.certificate_sha256},
        {"appIntegrity__certificateSha256Digest": {GOOGLE.certificate_sha256: 1}},
        {"deviceIntegrity__deviceRecognitionVerdict": "MEETS_DEVICE_INTEGRITY"},
        {"testingDetails__isTestingResponse": "false"},
        {"testingDetails__isTestingResponse": 0},
    ):
        refuses("malformed_payload", **wrong)


def test_a_name_that_is_no_text_is_malformed():
    """Python's own JSON reader lets half a character through."""
    for said in ({"\ud800": 1}, {"requestDetails": {"\ud800": 1}}, {b"requestDetails": {}}, {1: 2}):
        with rejected("malformed_payload"):
            judged(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(JSON | st.binary() | st.dictionaries(st.integers() | st.binary(), st.integers()))
def test_nothing_arbitrary_is_accepted_or_breaks_it(said):
    with pytest.raises(Rejected):
        judged(said)


PATHS = [
    *((section,) for section in payload()),
    *((section, name) for section, fields in payload().items() for name in fields),
]


@given(st.sampled_from(PATHS), JSON, st.booleans())
def test_a_good_payload_with_anything_in_one_place_is_judged_or_rejected(path, value, classic):
    said = payload(classic)
    *above, name = path
    members = said
    for step in above:
        members = members[step]
    members[name] = value
    try:
        verdict = judged(said, classic=classic)
    except Rejected as error:
        assert error.reason.isidentifier()
    else:
        assert verdict.app == "PLAY_RECOGNIZED"


@pytest.mark.parametrize(
    "other",
    [
        {"package_name": ""},
        {"package_name": "com.example.steps/v1"},
        {"certificate_sha256": frozenset()},
        {"certificate_sha256": frozenset({"AA" * 32})},
        {"certificate_sha256": frozenset({"A" * 42})},
        {"device_verdicts": frozenset()},
    ],
)
def test_a_policy_that_nothing_could_meet_is_refused(other):
    with pytest.raises(ValueError):
        GOOGLE.policy(**other)
