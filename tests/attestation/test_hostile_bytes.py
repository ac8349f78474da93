"""Whatever comes, it is refused by name: nothing crashes, and nothing that was changed passes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.attestation.app_attest import (
    AppAttestPolicy,
    AttestedKey,
    verify_assertion,
    verify_attestation,
)
from tallybook.attestation.certificates import verify_chain
from tallybook.attestation.evidence import Rejected
from tallybook.attestation.strict_cbor import decode
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey
from tests.attestation.samples import APP, HASH, NOW, SAMPLES

# In production a library's warning is no exception, and must not be what refuses something.
pytestmark = pytest.mark.filterwarnings("ignore")

APPLE = FakeApple.generate(NOW)
POLICY = APPLE.policy(APP)
KEY = FakeAppleKey()
EXTENSIONS = {"apple_validation_category_01": b"\4\0\0\0"}
RECEIPT = bytes(range(64))
ATTESTATION = APPLE.attest(
    KEY, APP, HASH, "production", NOW, extensions=EXTENSIONS, receipt=RECEIPT
)
ASSERTION = KEY.assert_(HASH, APP, extensions=EXTENSIONS)

SAMPLE = SAMPLES[0]
SAMPLE_ATTESTATION = SAMPLE["attestation"]


def attested(data: bytes, policy: AppAttestPolicy = POLICY) -> AttestedKey | None:
    with suppress(Rejected):
        return verify_attestation(data, KEY.key_id, HASH, policy, NOW)
    return None


def asserted(data: bytes) -> Any:
    with suppress(Rejected):
        return verify_assertion(data, KEY.public_key, HASH, POLICY)
    return None


def flipped(data: bytes, masks: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    for position, byte in enumerate(data):
        for mask in masks:
            yield position, data[:position] + bytes([byte ^ mask]) + data[position + 1 :]


def test_a_byte_flipped_in_an_attestation_passes_only_in_the_receipt() -> None:
    good = attested(ATTESTATION)
    begins = ATTESTATION.index(RECEIPT)
    assert good is not None
    assert good.receipt == RECEIPT
    passed = set()
    for position, data in flipped(ATTESTATION, (0x01, 0x20, 0x80, 0xFF)):
        if key := attested(data):
            passed.add(position)
            assert key.receipt != RECEIPT
            assert (key.key_id, key.public_key) == (good.key_id, good.public_key)
            assert (key.app_id, key.environment) == (good.app_id, good.environment)
    assert passed == set(range(begins, begins + len(RECEIPT)))


def test_a_byte_flipped_in_apples_own_sample_passes_only_in_the_receipt() -> None:
    receipt = SAMPLE.verify().receipt
    begins = SAMPLE_ATTESTATION.index(receipt)
    ends = begins + len(receipt)
    key_id, signed, policy = SAMPLE["key_id"], SAMPLE["client_data_hash"], SAMPLE.policy()
    for position, data in flipped(SAMPLE_ATTESTATION, (0x01,)):
        if begins + 16 <= position < ends - 16:
            continue  # it passes, and is known to
        passed = False
        with suppress(Rejected):
            passed = bool(verify_attestation(data, key_id, signed, policy, SAMPLE.valid_from))
        assert passed == (begins <= position < ends), position


def test_a_byte_flipped_in_an_assertion_never_passes() -> None:
    assert asserted(ASSERTION) is not None
    for position, data in flipped(ASSERTION, (0x01, 0x20, 0x80, 0xFF)):
        assert asserted(data) is None, position


def test_no_beginning_of_either_passes() -> None:
    for length in range(len(ATTESTATION)):
        assert attested(ATTESTATION[:length]) is None
    for length in range(len(ASSERTION)):
        assert asserted(ASSERTION[:length]) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert attested(data) is None
    assert asserted(data) is None
    with suppress(Rejected):
        decode(data)
    with suppress(Rejected):
        verify_chain([data], POLICY.roots, NOW)


scalars = st.one_of(
    st.integers(), st.binary(), st.text(), st.booleans(), st.none(), st.floats(), st.datetimes()
)
items = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    fmt=st.just("apple-appattest") | items,
    x5c=st.lists(st.binary(), max_size=5) | items,
    receipt=st.binary() | items,
    data=st.binary(max_size=300) | items,
)
def test_any_members_are_refused(fmt: Any, x5c: Any, receipt: Any, data: Any) -> None:
    def encoded(item: Any) -> bytes:
        return cbor2.dumps(item, timezone=NOW.tzinfo)

    statement = {"x5c": x5c, "receipt": receipt}
    assert attested(encoded({"fmt": fmt, "attStmt": statement, "authData": data})) is None
    assert attested(encoded({"fmt": fmt, "attStmt": x5c, "authData": data})) is None
    assert asserted(encoded({"signature": receipt, "authenticatorData": data})) is None


@given(st.integers(min_value=0), st.data())
def test_mutations_of_what_is_right_are_refused(seed: int, drawn: st.DataObject) -> None:
    """Pieces cut out, put in and doubled, within the CBOR and within the certificates."""
    chance = random.Random(seed)
    chain, receipt_at = cbor2.loads(ATTESTATION)["attStmt"]["x5c"], ATTESTATION.index(RECEIPT)
    for good in (ATTESTATION, ASSERTION, *chain):
        begins = chance.randrange(len(good))
        ends = min(len(good), begins + chance.randrange(9))
        data = good[:begins] + drawn.draw(st.binary(max_size=8)) + good[ends:]
        if data == good:
            continue
        assert asserted(data) is None
        with suppress(Rejected):
            verify_chain([data, chain[1]], POLICY.roots, NOW)
        if good is ATTESTATION and receipt_at <= begins <= ends <= receipt_at + len(RECEIPT):
            continue
        assert attested(data) is None
        swapped = cbor2.loads(ATTESTATION)
        swapped["attStmt"]["x5c"][0] = data
        assert attested(cbor2.dumps(swapped)) is None
