"""What an attested key signs: one request, of one app, once more than before."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from tallybook.attestation.app_attest import AppAttestPolicy, Assertion, verify_assertion
from tallybook.attestation.binding import client_data_hash
from tallybook.local.fake_apple_key import FakeAppleKey, head
from tests.attestation.samples import APP, HASH, OTHER_APP, SAMPLES, Sample, refused

REAL = Sample("node_app_attest_assertion", SAMPLES[0].valid_from, SAMPLES[0].valid_until)


def test_what_a_device_signed_verifies() -> None:
    policy = REAL.policy("production")
    assertion, key, signed = REAL["assertion"], REAL["public_key"], REAL["client_data_hash"]
    found = verify_assertion(assertion, key, signed, policy)
    assert found == Assertion(REAL.said("sign_count"), REAL.said("app_id"))
    with refused("wrong_signature"):
        verify_assertion(assertion, key, HASH, policy)


def test_each_assertion_counts_one_more(key: FakeAppleKey, policy: AppAttestPolicy) -> None:
    for count in (1, 2, 3):
        assertion = key.assert_(HASH, APP)
        assert verify_assertion(assertion, key.public_key, HASH, policy) == Assertion(count, APP)


def test_the_counter_is_unsigned(key: FakeAppleKey, policy: AppAttestPolicy) -> None:
    assertion = key.assert_(HASH, APP, counter=2**32 - 1)
    assert verify_assertion(assertion, key.public_key, HASH, policy).sign_count == 2**32 - 1


def test_a_counter_of_zero_is_refused(key: FakeAppleKey, policy: AppAttestPolicy) -> None:
    with refused("wrong_counter"):
        verify_assertion(key.assert_(HASH, APP, counter=0), key.public_key, HASH, policy)


def test_a_changed_request_is_refused(key: FakeAppleKey, policy: AppAttestPolicy) -> None:
    """Not one of method, path, challenge and body can be another's."""
    request: tuple[str, str, bytes, bytes] = ("POST", "/submit-points-event", HASH, b"{}")
    assertion = key.assert_(client_data_hash(*request), APP)
    verify_assertion(assertion, key.public_key, client_data_hash(*request), policy)
    for place, other in enumerate(("PUT", "/redeem-coupon", bytes(32), b"{ }")):
        changed: Any = [*request[:place], other, *request[place + 1 :]]
        with refused("wrong_signature"):
            verify_assertion(assertion, key.public_key, client_data_hash(*changed), policy)


def test_another_apps_or_devices_key_is_refused(key: FakeAppleKey, policy: AppAttestPolicy) -> None:
    with refused("wrong_app_id"):
        verify_assertion(key.assert_(HASH, OTHER_APP), key.public_key, HASH, policy)
    with refused("wrong_signature"):
        verify_assertion(FakeAppleKey().assert_(HASH, APP), key.public_key, HASH, policy)


def test_a_counter_that_was_raised_afterwards_is_refused(
    key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    assertion = cbor2.loads(key.assert_(HASH, APP))
    data = assertion["authenticatorData"]
    assertion["authenticatorData"] = data[:33] + (7).to_bytes(4, "big") + data[37:]
    with refused("wrong_signature"):
        verify_assertion(cbor2.dumps(assertion), key.public_key, HASH, policy)


def test_shuffled_parts_of_two_assertions_are_refused(
    key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    first, second = (cbor2.loads(key.assert_(HASH, APP)) for _ in range(2))
    mixed = first | {"signature": second["signature"]}
    with refused("wrong_signature"):
        verify_assertion(cbor2.dumps(mixed), key.public_key, HASH, policy)


@pytest.mark.parametrize(
    "stored", [b"", b"\x04" + bytes(64), bytes(65)], ids=["none", "off", "bad"]
)
def test_a_stored_key_that_is_none_verifies_nothing(
    key: FakeAppleKey, policy: AppAttestPolicy, stored: bytes
) -> None:
    with refused("wrong_signature"):
        verify_assertion(key.assert_(HASH, APP), stored, HASH, policy)


def test_data_that_ends_early_is_refused_even_when_signed(
    key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    data = head(APP, 1)[:-1]
    signature = key.private.sign(sha256(data + HASH).digest(), ec.ECDSA(SHA256()))
    assertion = cbor2.dumps({"signature": signature, "authenticatorData": data})
    with refused("malformed_authenticator_data"):
        verify_assertion(assertion, key.public_key, HASH, policy)


@pytest.mark.parametrize(
    "item",
    [{}, [], {"signature": b""}, {"signature": "", "authenticatorData": b""}, "text"],
    ids=str,
)
def test_what_is_no_assertion_is_refused(item: Any, policy: AppAttestPolicy) -> None:
    with refused("malformed_assertion"):
        verify_assertion(cbor2.dumps(item), bytes(65), HASH, policy)


def test_more_bytes_than_an_assertion_can_have_are_refused(
    key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    assertion = cbor2.loads(key.assert_(HASH, APP)) | {"cdHash": bytes(4096)}
    with refused("malformed_cbor"):
        verify_assertion(cbor2.dumps(assertion), key.public_key, HASH, policy)
    assertion["cdHash"] = bytes(20)
    verify_assertion(cbor2.dumps(assertion), key.public_key, HASH, policy)
