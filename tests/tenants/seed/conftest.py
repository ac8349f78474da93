"""What the guide's tests take for granted: a session, a tenant, and people in it.

Their text runs as it was given, so `points.service` and `models` must be found by these names.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.conftest import Database
from tests.tenants.company import Company

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from tests.tenants.seed.models import Session, Tenant
else:
    from models import Session, Tenant


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an id."""

    id: UUID


@pytest.fixture
def db(database: Database) -> Iterator[Session]:
    """A database administrator's session: the guide's tests write a balance by hand."""
    session = Session(database.dsn())
    yield session
    session.driver.close()


@pytest.fixture
def tenant(company: Company, db: Session) -> Tenant:
    """A tenant whose pool is not empty."""
    made = Tenant(id=company.tenant(points="250.50"))
    db.refresh(made)
    return made


@pytest.fixture
def admin(company: Company) -> Person:
    """An administrator of the platform."""
    return Person(company.admin())


@pytest.fixture
def user_a(company: Company, tenant: Tenant) -> Person:
    """A manager of the tenant."""
    return Person(company.member(tenant.id, "tenant_manager"))


@pytest.fixture
def user_b(company: Company, tenant: Tenant) -> Person:
    """A member of the tenant."""
    return Person(company.member(tenant.id))
