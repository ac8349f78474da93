"""What iOS 27 adds behind authenticator data, whatever the flags say."""

from __future__ import annotations

from typing import Any

import pytest

from tallybook.attestation.app_attest import AppAttestPolicy, verify_assertion, verify_attestation
from tallybook.attestation.authenticator_data import read_asserted, read_attested
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey, encoded, head
from tests.attestation.samples import APP, HASH, NOW, refused

NAME = "apple_validation_category_01"

SAID: dict[str, tuple[Any, int | None]] = {
    "four bytes": ({"apple_bundle_version_01": "7", NAME: b"\4\0\0\0"}, 4),
    "a number": ({NAME: 2}, 2),
    "one that we do not know": ({NAME: b"\0\1\0\0"}, 256),
    "nothing of it": ({"apple_bundle_version_01": "7"}, None),
    "an empty map": ({}, None),
    "nothing at all": (b"", None),
}


@pytest.mark.parametrize(("members", "category"), SAID.values(), ids=SAID)
def test_the_validation_category_is_read_where_it_is(
    apple: FakeApple,
    key: FakeAppleKey,
    policy: AppAttestPolicy,
    members: Any,
    category: int | None,
) -> None:
    attestation = apple.attest(key, APP, HASH, "production", NOW, extensions=members)
    found = verify_attestation(attestation, key.key_id, HASH, policy, NOW)
    assert found.validation_category == category
    assertion = key.assert_(HASH, APP, extensions=members)
    assert verify_assertion(assertion, key.public_key, HASH, policy).sign_count == 1
    assert read_asserted(head(APP, 1) + encoded(members)).validation_category == category


def test_the_flags_say_nothing() -> None:
    for flags in range(256):
        data = head(APP, 7)
        changed = data[:32] + bytes([flags]) + data[33:] + encoded({NAME: b"\3\0\0\0"})
        assert read_asserted(changed).counter == 7
        assert read_asserted(changed).validation_category == 3


ODD: dict[str, Any] = {
    "three bytes": {NAME: b"\4\0\0"},
    "text": {NAME: "4"},
    "a truth": {NAME: True},
    "a negative number": {NAME: -1},
    "five bytes of number": {NAME: 2**32},
    "a list": b"\x80",
    "half a map": b"\xa1\x61",
    "a map and more": b"\xa0\x00",
}


@pytest.mark.parametrize("members", ODD.values(), ids=ODD)
def test_odd_extensions_are_refused(
    apple: FakeApple, key: FakeAppleKey, policy: AppAttestPolicy, members: Any
) -> None:
    attestation = apple.attest(key, APP, HASH, "production", NOW, extensions=members)
    with refused("malformed_authenticator_data"):
        verify_attestation(attestation, key.key_id, HASH, policy, NOW)
    with refused("malformed_authenticator_data"):
        assertion = key.assert_(HASH, APP, extensions=members)
        verify_assertion(assertion, key.public_key, HASH, policy)


def test_every_truncation_of_attested_data_is_refused(key: FakeAppleKey) -> None:
    cose = {1: 2, 3: -7, -1: 1, -2: key.public_key[1:33], -3: key.public_key[33:]}
    data = head(APP, 0) + b"appattestdevelop" + b"\0\x20" + key.key_id + encoded(cose)
    assert read_attested(data).public_key == key.public_key
    for length in range(len(data)):
        with refused("malformed_authenticator_data"):
            read_attested(data[:length])
