"""Fixtures of the tests about credits."""

import pytest

from tests.credits.bank import Bank
from tests.credits.meter import Meter
from tests.world import World


@pytest.fixture
def bank(world: World) -> Bank:
    """Sentences about credits in the test's own database."""
    return Bank(world)


@pytest.fixture
def meter(bank: Bank) -> Meter:
    """Sentences about usage in the test's own database."""
    return Meter(bank)
