"""Users' keys for providers: encrypted for one user, and openable under the keys there are."""

from __future__ import annotations

import base64
import hashlib
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from tallybook.provider_keys import ProviderKeys
from tallybook.settings import ConfigurationError, Settings

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
API_KEY = "sk-or-v1-0123456789abcdef"
USER = uuid4()


def test_what_is_encrypted_opens_and_says_under_which_key() -> None:
    keys = ProviderKeys(NEW)
    encrypted, key_id = keys.encrypt(USER, API_KEY)
    assert API_KEY not in encrypted and str(USER) not in encrypted
    assert key_id == keys.key_id == hashlib.sha256(NEW.encode()).hexdigest()[:12]
    assert keys.decrypt(USER, encrypted) == API_KEY
    assert keys.encrypt(USER, API_KEY)[0] != encrypted


def test_a_row_copied_to_another_user_does_not_open() -> None:
    keys = ProviderKeys(NEW)
    encrypted, _ = keys.encrypt(USER, API_KEY)
    with pytest.raises(ValueError, match="does not open") as caught:
        keys.decrypt(uuid4(), encrypted)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("wrong", ["altered", "unknown key", "no token", "other contents"])
def test_what_does_not_open_tells_nothing(wrong: str) -> None:
    keys = ProviderKeys(NEW)
    encrypted, _ = keys.encrypt(USER, API_KEY)
    spoiled = {
        "altered": encrypted[:-6] + ("A" if encrypted[-6] != "A" else "B") + encrypted[-5:],
        "unknown key": ProviderKeys(OLD).encrypt(USER, API_KEY)[0],
        "no token": API_KEY,
        "other contents": Fernet(NEW).encrypt(API_KEY.encode()).decode(),
    }[wrong]
    with pytest.raises(ValueError, match=r"^This key does not open here\.$") as caught:
        keys.decrypt(USER, spoiled)
    assert caught.value.__context__ is None


def test_a_previous_key_still_opens_and_asks_to_be_rotated() -> None:
    encrypted, key_id = ProviderKeys(OLD).encrypt(USER, API_KEY)
    keys = ProviderKeys(NEW, [OLD])
    assert keys.decrypt(USER, encrypted) == API_KEY
    assert keys.needs_rotation(key_id)
    again, its = keys.encrypt(USER, API_KEY)
    assert not keys.needs_rotation(its)
    assert ProviderKeys(NEW).decrypt(USER, again) == API_KEY


def test_a_key_without_its_padding_is_the_same_key() -> None:
    bare = NEW.rstrip("=")
    assert bare != NEW and ProviderKeys(bare).key_id == ProviderKeys(NEW).key_id


def test_no_key_shows() -> None:
    settings = Settings.from_environment({"ENCRYPTION_KEY": NEW, "ENCRYPTION_KEYS_PREVIOUS": OLD})
    keys = ProviderKeys.from_settings(settings)
    shown = f"{keys!r} {vars(keys)!r} {settings!r}"
    assert NEW not in shown and OLD not in shown


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"ENCRYPTION_KEYS_PREVIOUS": OLD}, "ENCRYPTION_KEY"),
        ({"ENCRYPTION_KEY": NEW, "ENCRYPTION_KEYS_PREVIOUS": f"{OLD},short"}, "PREVIOUS"),
        ({"ENCRYPTION_KEY": base64.b64encode(b"x" * 31).decode()}, "ENCRYPTION_KEY"),
    ],
)
def test_half_a_configuration_does_not_start(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment(environ)
    assert name in caught.value.name and OLD not in str(caught.value)


def test_without_a_key_there_is_nothing_to_encrypt_with() -> None:
    with pytest.raises(ConfigurationError):
        ProviderKeys.from_settings(Settings.from_environment({}))
