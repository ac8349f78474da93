"""A stand-in for Apple, and a key in a device."""

from __future__ import annotations

import pytest

from tallybook.attestation.app_attest import AppAttestPolicy
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey
from tests.attestation.samples import APP, NOW


@pytest.fixture(scope="session")
def apple() -> FakeApple:
    return FakeApple.generate(NOW)


@pytest.fixture
def key() -> FakeAppleKey:
    return FakeAppleKey()


@pytest.fixture(scope="session")
def policy(apple: FakeApple) -> AppAttestPolicy:
    """Our one app, in production."""
    return apple.policy(APP)
