"""Fixtures of the tests about credits."""

import pytest

from tests.credits.bank import Bank
from tests.world import World


@pytest.fixture
def bank(world: World) -> Bank:
    """Sentences about credits in the test's own database."""
    return Bank(world)
