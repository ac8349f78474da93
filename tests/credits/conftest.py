"""Fixtures of the tests about credits."""

from uuid import UUID, uuid4

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


@pytest.fixture
def admin(world: World) -> UUID:
    """An administrator."""
    admin = uuid4()
    world.operator.execute(
        "insert into system_admins (id, email) values (%s, 'ops@example.org')", (admin,)
    )
    return admin
