"""The stand-in for Apple is the same for all who share its folder."""

from __future__ import annotations

from pathlib import Path

from tallybook.attestation.app_attest import verify_assertion, verify_attestation
from tallybook.local.fake_apple import FILE, FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey
from tests.attestation.samples import APP, HASH, NOW


def test_two_that_share_a_folder_share_a_root(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    first, second = (FakeApple.load_or_create(folder, NOW) for _ in range(2))
    assert first.root.certificate == second.root.certificate
    key = FakeAppleKey()
    attestation = first.attest(key, APP, HASH, "production", NOW)
    verify_attestation(attestation, key.key_id, HASH, second.policy(APP), NOW)


def test_nobody_else_reads_its_keys(tmp_path: Path) -> None:
    FakeApple.load_or_create(tmp_path, NOW)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_put_away_signs_on(apple: FakeApple) -> None:
    key = FakeAppleKey()
    key.assert_(HASH, APP)
    again = FakeAppleKey.from_pem(key.to_pem(), key.counter)
    assert again.key_id == key.key_id
    found = verify_assertion(again.assert_(HASH, APP), key.public_key, HASH, apple.policy(APP))
    assert found.sign_count == 2
