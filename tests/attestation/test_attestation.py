"""A new key: Apple's own samples, and each thing that can be wrong with an attestation."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from tallybook.attestation.app_attest import AppAttestPolicy, verify_attestation
from tallybook.attestation.apple_root import APPLE_ROOT
from tallybook.local.fake_apple import RECEIPT, FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey
from tests.attestation.samples import APP, HASH, NOW, OTHER_APP, SAMPLES, Sample, refused

SECOND = timedelta(seconds=1)
SAMPLE = SAMPLES[0]

by_name = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def test_the_root_is_the_one_apple_publishes() -> None:
    published = "1cb9823ba28ba6ad2d33a006941de2ae4f513ef1d4e831b9f7e0fa7b6242c932"
    assert APPLE_ROOT.fingerprint(SHA256()).hex() == published


@by_name
def test_what_a_device_sent_verifies_while_its_certificate_is_valid(sample: Sample) -> None:
    for at in (sample.valid_from, sample.valid_until):
        key = sample.verify(at)
        assert key.app_id == sample.said("app_id")
        assert key.environment == sample.said("environment")
        assert key.key_id == sample["key_id"] == sha256(key.public_key).digest()
        assert len(key.public_key) == 65
        assert key.validation_category == sample.said("validation_category")
        assert key.receipt in sample["attestation"]


@by_name
def test_it_is_refused_before_and_after(sample: Sample) -> None:
    for at in (sample.valid_from - SECOND, sample.valid_until + SECOND):
        with refused("certificate_out_of_date"):
            sample.verify(at)


@by_name
def test_it_is_refused_in_an_environment_that_is_not_allowed(sample: Sample) -> None:
    other = {"production": "development", "development": "production"}
    with refused("wrong_environment"):
        sample.verify(policy=sample.policy(other[sample.said("environment")]))
    sample.verify(policy=sample.policy("production", "development"))
    with refused("wrong_environment"):
        sample.verify(policy=AppAttestPolicy(frozenset({sample.said("app_id")}), frozenset()))


@by_name
def test_it_is_refused_for_what_it_was_not_made_for(sample: Sample, apple: FakeApple) -> None:
    with refused("wrong_challenge"):
        sample.verify(client_data_hash=sample["client_data_hash"] + b"!")
    with refused("wrong_key_id"):
        sample.verify(key_id=bytes(32))
    with refused("wrong_key_id"):
        sample.verify(key_id=b"")
    with refused("wrong_app_id"):
        allowed = frozenset({sample.said("app_id") + "s"})
        sample.verify(policy=AppAttestPolicy(allowed, frozenset({sample.said("environment")})))
    with refused("untrusted_chain"):
        environment = sample.said("environment")
        sample.verify(policy=apple.policy(sample.said("app_id"), environments=(environment,)))


def attested(apple: FakeApple, key: FakeAppleKey, policy: AppAttestPolicy, **wrong: Any) -> Any:
    """Attest, wrong as given, and verify."""
    environment = wrong.pop("environment", "production")
    attestation = apple.attest(key, wrong.pop("app_id", APP), HASH, environment, NOW, **wrong)
    return verify_attestation(attestation, key.key_id, HASH, policy, NOW)


def test_the_stand_ins_attestations_verify(
    apple: FakeApple, key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    found = attested(apple, key, policy)
    assert found.public_key == key.public_key
    assert (found.key_id, found.app_id, found.environment) == (key.key_id, APP, "production")
    assert (found.receipt, found.validation_category) == (RECEIPT, None)


def test_one_of_several_apps_is_told_from_the_others(apple: FakeApple, key: FakeAppleKey) -> None:
    policy = apple.policy(APP, OTHER_APP, environments=("production", "development"))
    found = attested(apple, key, policy, app_id=OTHER_APP, environment="development")
    assert (found.app_id, found.environment) == (OTHER_APP, "development")


P384 = ec.generate_private_key(ec.SECP384R1())
ANOTHER = FakeAppleKey()
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def cose(key: FakeAppleKey, **other: Any) -> dict[int, Any]:
    members: dict[int, Any] = {1: 2, 3: -7, -1: 1}
    members |= {-2: key.public_key[1:33], -3: key.public_key[33:]}
    return members | {int(name[1:].replace("_", "-")): v for name, v in other.items()}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another app": ({"app_id": OTHER_APP}, "wrong_app_id"),
    "development": ({"environment": "development"}, "wrong_environment"),
    "an aaguid that only begins right": (
        {"aaguid": b"appattest\0\0\0\0\0\0\1"},
        "wrong_environment",
    ),
    "a counter": ({"counter": 1}, "wrong_counter"),
    "a counter that would be negative": ({"counter": 2**32 - 1}, "wrong_counter"),
    "another format": ({"format": "packed"}, "wrong_format"),
    "no nonce": ({"nonce": None}, "malformed_certificate"),
    "an empty nonce": ({"nonce": b""}, "wrong_challenge"),
    "a nonce of other bytes": ({"nonce": bytes.fromhex("3024a1220420") + HASH}, "wrong_challenge"),
    "another credential id": ({"credential_id": ANOTHER.key_id}, "wrong_key_id"),
    "no credential id": ({"credential_id": b""}, "wrong_key_id"),
    "another key certified": ({"certified": ANOTHER.private}, "wrong_key_id"),
    "a key of another kind": ({"certified": P384}, "wrong_key_type"),
    "another COSE key": ({"cose_key": cose(ANOTHER)}, "wrong_public_key"),
    "a COSE key for encryption": ({"cose_key": cose(ANOTHER, _3=-25)}, "wrong_key_type"),
    "a short coordinate": ({"cose_key": cose(ANOTHER, __2=b"\1")}, "wrong_key_type"),
    "a COSE key with more": ({"cose_key": cose(ANOTHER, _4=[2])}, "wrong_key_type"),
    "a COSE key that is none": ({"cose_key": b"\1"}, "wrong_key_type"),
    "no COSE key": ({"cose_key": b""}, "malformed_authenticator_data"),
    "bytes behind the key": ({"extensions": b"\0"}, "malformed_authenticator_data"),
    "a leaf that is a CA": ({"leaf_is_ca": True}, "leaf_is_ca"),
    "a leaf that may sign": ({"leaf_signs_certificates": True}, "leaf_is_ca"),
    "a critical extension": ({"leaf_extension": (UNKNOWN, True)}, "malformed_certificate"),
    "a leaf of yesterday": ({"leaf_not_after": NOW - SECOND}, "certificate_out_of_date"),
    "an issuer of yesterday": ({"issuer_not_after": NOW - SECOND}, "certificate_out_of_date"),
    "an issuer that is no CA": ({"issuer_is_ca": False}, "issuer_is_no_ca"),
    "an issuer that may not sign": ({"issuer_signs_certificates": False}, "issuer_is_no_ca"),
    "an issuer too many": ({"issuers": 2}, "issuer_is_no_ca"),
    "issuers without end": ({"issuers": 4}, "untrusted_chain"),
}


@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_is_refused_for_that(
    apple: FakeApple,
    key: FakeAppleKey,
    policy: AppAttestPolicy,
    wrong: dict[str, Any],
    reason: str,
) -> None:
    with refused(reason):
        attested(apple, key, policy, **wrong)


def test_an_extension_nobody_must_understand_is_let_pass(
    apple: FakeApple, key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    assert attested(apple, key, policy, leaf_extension=(UNKNOWN, False)).app_id == APP


def test_another_root_of_the_same_name_is_not_trusted(
    apple: FakeApple, key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    impostor = FakeApple.generate(NOW)
    assert impostor.root.certificate.subject == apple.root.certificate.subject
    with refused("untrusted_chain"):
        attested(impostor, key, policy)
    with refused("untrusted_chain"):
        attested(apple, key, AppAttestPolicy(policy.app_ids, policy.environments))
    with refused("untrusted_chain"):
        attested(apple, key, AppAttestPolicy(policy.app_ids, policy.environments, ()))


def test_a_chain_that_is_cut_or_shuffled_is_not_trusted(
    apple: FakeApple, key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    attestation = cbor2.loads(apple.attest(key, APP, HASH, "production", NOW))
    leaf, issuer = attestation["attStmt"]["x5c"]
    for chain in (
        [leaf],
        [issuer, leaf],
        [leaf, leaf],
        [leaf, issuer, issuer],
        [leaf, leaf, issuer],
    ):
        attestation["attStmt"]["x5c"] = chain
        with refused("untrusted_chain"):
            verify_attestation(cbor2.dumps(attestation), key.key_id, HASH, policy, NOW)
    for chain in ([b""], [leaf, b"\x30\x00"], [leaf[:-1], issuer], [leaf + b"\0", issuer]):
        attestation["attStmt"]["x5c"] = chain
        with refused("malformed_certificate"):
            verify_attestation(cbor2.dumps(attestation), key.key_id, HASH, policy, NOW)


def test_bits_that_a_signature_leaves_unused_are_refused(
    apple: FakeApple, key: FakeAppleKey, policy: AppAttestPolicy
) -> None:
    """Nothing signs their number, and a signature may well end in zero bits."""
    attestation = cbor2.loads(apple.attest(key, APP, HASH, "production", NOW))
    for place, der in enumerate(attestation["attStmt"]["x5c"]):
        signature = x509.load_der_x509_certificate(der).signature
        for unused in range(1, 8):
            changed = der[: -len(signature) - 1] + bytes([unused]) + signature
            chain = list(attestation["attStmt"]["x5c"])
            chain[place] = changed
            statement = attestation["attStmt"] | {"x5c": chain}
            with refused("malformed_certificate"):
                wrong = cbor2.dumps(attestation | {"attStmt": statement})
                verify_attestation(wrong, key.key_id, HASH, policy, NOW)


def test_a_policy_without_apps_lets_nothing_pass(apple: FakeApple, key: FakeAppleKey) -> None:
    with refused("wrong_app_id"):
        attested(apple, key, apple.policy())


NOT_ATTESTATIONS: dict[str, Any] = {
    "a list": [],
    "a number": 1,
    "an empty map": {},
    "no statement": {"fmt": "apple-appattest", "authData": b""},
    "no certificates": {
        "fmt": "apple-appattest", "attStmt": {"x5c": [], "receipt": b""}, "authData": b""
    },
    "a certificate that is text": {
        "fmt": "apple-appattest", "attStmt": {"x5c": [b"", ""], "receipt": b""}, "authData": b""
    },
    "no receipt": {"fmt": "apple-appattest", "attStmt": {"x5c": [b""]}, "authData": b""},
    "data that is text": {
        "fmt": "apple-appattest", "attStmt": {"x5c": [b""], "receipt": b""}, "authData": ""
    },
}  # fmt: skip


@pytest.mark.parametrize("item", NOT_ATTESTATIONS.values(), ids=NOT_ATTESTATIONS)
def test_what_is_no_attestation_is_refused(item: Any, policy: AppAttestPolicy) -> None:
    with refused("malformed_attestation"):
        verify_attestation(cbor2.dumps(item), bytes(32), HASH, policy, NOW)


def test_members_that_ios_adds_are_let_pass() -> None:
    """Older systems put a code directory hash beside the rest, where nothing signs it."""
    attestation = cbor2.loads(SAMPLE["attestation"])
    attestation["cdHash"] = {"hash": bytes(20), "type": 2}
    assert SAMPLE.verify(attestation=cbor2.dumps(attestation)) == SAMPLE.verify()


def test_trailing_and_truncated_bytes_are_refused() -> None:
    attestation = SAMPLE["attestation"]
    for wrong in (attestation + b"\0", attestation + attestation, attestation[:-1], b""):
        with refused("malformed_cbor"):
            SAMPLE.verify(attestation=wrong)


def test_a_key_twice_is_refused_at_every_depth() -> None:
    attestation = SAMPLE["attestation"]
    assert attestation[:1] == b"\xa3"
    again = cbor2.dumps("fmt") + cbor2.dumps("apple-appattest")
    with refused("malformed_cbor"):
        SAMPLE.verify(attestation=b"\xa4" + attestation[1:] + again)
    statement = cbor2.dumps("attStmt") + b"\xa2"
    assert statement in attestation
    inner = cbor2.dumps("receipt") + cbor2.dumps(b"")
    doubled = attestation.replace(statement, statement[:-1] + b"\xa3" + inner)
    with refused("malformed_cbor"):
        SAMPLE.verify(attestation=doubled)
