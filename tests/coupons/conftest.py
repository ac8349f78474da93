"""A partner's till in the test's own world."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from tests.coupons.till import Till
from tests.world import World


@pytest.fixture
def till(world: World) -> Till:
    """The till. The clock stands still."""
    world.freeze()
    return Till(world)


@pytest.fixture
def admin(world: World) -> UUID:
    """An administrator."""
    admin = uuid4()
    world.operator.execute(
        "insert into system_admins (id, email) values (%s, 'ops@example.org')", (admin,)
    )
    return admin
