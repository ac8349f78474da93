"""The guide's `Tenant`, and a session over psycopg that knows what the guide asks of one.

It writes what a caller changed by hand with an UPDATE, as an ORM does; the database makes a
posting of a balance that comes in so.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row

COLUMNS = ("id", "name", "points_allocation_balance")


class Column:
    """A column: a value of a tenant, a condition when it is the class that is asked."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, tenant: Tenant | None, owner: type) -> Any:
        return self if tenant is None else tenant.values[self.name]

    def __set__(self, tenant: Tenant, value: Any) -> None:
        tenant.values[self.name] = value

    def __eq__(self, value: object) -> Any:
        return self.name, value

    __hash__ = None  # type: ignore[assignment]


class Tenant:
    """A row of `tenants`. Amounts have no places that say nothing, as the addresses write them."""

    id = Column()
    name = Column()
    points_allocation_balance = Column()

    def __init__(self, **values: Any) -> None:
        self.values = values


class Query:
    """The tenants that satisfy a condition."""

    def __init__(self, session: Session, condition: tuple[str, Any] | None = None) -> None:
        self.session, self.condition = session, condition

    def filter(self, condition: tuple[str, Any]) -> Query:
        return Query(self.session, condition)

    def first(self) -> Tenant | None:
        assert self.condition is not None
        values = self.session.read(*self.condition)
        return None if values is None else Tenant(**values)


class Session:
    """A unit of work."""

    def __init__(self, dsn: str) -> None:
        self.driver: psycopg.Connection[DictRow] = psycopg.connect(dsn, row_factory=dict_row)
        self.added: list[Tenant] = []

    def connection(self) -> Session:
        return self

    def cursor(self) -> psycopg.Cursor[DictRow]:
        return self.driver.cursor()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def query(self, model: type[Tenant]) -> Query:
        assert model is Tenant
        return Query(self)

    def add(self, tenant: Tenant) -> None:
        self.added.append(tenant)

    def commit(self) -> None:
        while self.added:
            self.driver.execute(
                "update tenants set name = %(name)s,"
                " points_allocation_balance = %(points_allocation_balance)s where id = %(id)s",
                self.added.pop().values,
            )
        self.driver.commit()

    def refresh(self, tenant: Tenant) -> None:
        values = self.read("id", tenant.id)
        assert values is not None
        tenant.values = values

    def read(self, column: str, value: UUID | str) -> dict[str, Any] | None:
        assert column in COLUMNS
        row = self.driver.execute(
            "select id, name, trim_scale(points_allocation_balance) as points_allocation_balance"
            f" from tenants where {column} = %s",  # type: ignore[arg-type]
            (value,),
        ).fetchone()
        return None if row is None else dict(row)
