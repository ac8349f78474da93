"""One app's Google, one request and one moment, for the tests of Play Integrity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tallybook.attestation.binding import base64url, client_data_hash
from tallybook.attestation.evidence import Rejected
from tallybook.local.fake_google import FakeGoogle

GOOGLE = FakeGoogle.generate("com.example.steps")
AT = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
HASH = client_data_hash("POST", "/functions/v1/submit-points-event", b"c" * 32, b'{"steps": 9}')
OTHER_HASH = client_data_hash("POST", "/functions/v1/submit-points-event", b"c" * 32, b"{}")


def payload(classic: bool = False, **wrong: Any) -> dict[str, Any]:
    """A good payload for HASH at AT; `wrong` as FakeGoogle has it."""
    return GOOGLE.payload(base64url(HASH), AT, classic, **wrong)


@contextmanager
def rejected(reason: str) -> Iterator[None]:
    """The block is rejected, for this reason."""
    with pytest.raises(Rejected) as caught:
        yield
    assert caught.value.reason == reason


class Clock:
    """Stands still until it is told the time."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
