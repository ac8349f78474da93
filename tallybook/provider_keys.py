"""Users' keys for providers, encrypted under ENCRYPTION_KEY before they go to the database.

What is encrypted says whose key it is: a row that somebody copies to another user does not open.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tallybook.settings import Settings

KEY_ID_LENGTH: Final = 12


class ProviderKeys:
    """Encrypts under the current key; opens what older ones encrypted.

    To rotate: put a new key first and keep the old one among `previous` until nothing is left
    under it. A key's id is the beginning of its SHA-256, and is stored beside what it encrypted.
    """

    def __init__(self, key: str, previous: Iterable[str] = ()) -> None:
        keys = [_canonical(each) for each in (key, *previous)]
        self.key_id: Final = _key_id(keys[0])
        """Of the key that is encrypted under now."""
        self._fernet = MultiFernet([Fernet(each) for each in keys])

    @classmethod
    def from_settings(cls, settings: Settings) -> ProviderKeys:
        """Raises ConfigurationError when ENCRYPTION_KEY is not set."""
        settings.require("ENCRYPTION_KEY")
        return cls(settings.encryption_key or "", settings.encryption_keys_previous)

    def encrypt(self, user_id: UUID, api_key: str) -> tuple[str, str]:
        """The user's key, encrypted, and the id of the key that it was encrypted under."""
        plain = msgspec.json.encode(_Kept(user_id, api_key))
        return self._fernet.encrypt(plain).decode(), self.key_id

    def decrypt(self, user_id: UUID, encrypted: str) -> str:
        """The user's key. Raises ValueError when it is altered, another user's, or encrypted under
        a key that is not here; the text tells nothing of it."""
        try:
            kept = msgspec.json.decode(self._fernet.decrypt(encrypted), type=_Kept)
            if kept.user_id == user_id:
                return kept.key
        except (InvalidToken, msgspec.MsgspecError):
            pass
        # Raised outside the handler: a chained exception might carry the key along.
        raise ValueError("This key does not open here.")

    def needs_rotation(self, key_id: str) -> bool:
        """True for what is not encrypted under the current key."""
        return key_id != self.key_id


class _Kept(msgspec.Struct):
    user_id: UUID
    key: str


def _canonical(key: str) -> bytes:
    """The key with the padding that the setting may lack."""
    return base64.urlsafe_b64encode(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:KEY_ID_LENGTH]
