"""Fixtures of the tests about tenants."""

from uuid import UUID

import pytest

from tests.tenants.company import Company
from tests.world import World


@pytest.fixture
def company(world: World) -> Company:
    """Sentences about tenants in the test's own database."""
    return Company(world)


@pytest.fixture
def admin(company: Company) -> UUID:
    """An administrator of the platform."""
    return company.admin()
