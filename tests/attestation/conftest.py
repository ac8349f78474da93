"""A stand-in for Apple, a key in a device, and devices in the test's own world."""

from __future__ import annotations

import pytest

from tallybook.attestation.app_attest import AppAttestPolicy
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey
from tests.attestation.devices import Devices
from tests.attestation.samples import APP, NOW
from tests.world import World


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


@pytest.fixture
def devices(world: World) -> Devices:
    """The devices. The clock stands still."""
    world.freeze()
    return Devices(world)
