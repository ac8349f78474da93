"""Tenants' points for code in the same process: thin over the database's procedures.

    from tallybook.points_service import PointsService

    result = PointsService.award_to_user(
        db=session, tenant_id=tenant_id, from_user_id=manager_id, to_user_id=user_id,
        amount=Decimal("1000"), recognition_message="Great work!",
    )

`db` is a psycopg connection or a session that lends its own, as SQLAlchemy's does. Who calls may
do what the role of that connection may: the procedures ask who a user is, and believe it.

What is answered is committed, with whatever the session had under way before; `commit=False`
leaves that to the caller, who must not tell anybody before. What the database refuses is a
PointsRefused, which is a ValueError; it undoes nothing of what the caller had under way.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol, cast
from uuid import UUID

from tallybook.refusal import Refusal

logger: Final = logging.getLogger(__name__)

Id = UUID | str
Amount = Decimal | int | str

_SAVEPOINT: Final = "tallybook_points_service"
_IDLE: Final = 0
"""What libpq calls a connection without a transaction."""


class PointsRefused(ValueError):
    """The database said no. `code` and `status` are the refusal's; the text is for a person."""

    def __init__(self, refusal: Refusal) -> None:
        words = refusal.detail or refusal.title
        # The words that callers of this class have always looked for.
        super().__init__(
            words.replace("Insufficient company allocation", "Insufficient allocation")
        )
        self.code = refusal.code
        self.status = refusal.status


class Database(Protocol):
    """A connection, or a session."""

    def commit(self) -> None: ...


class PointsService:
    """What becomes of tenants' points. The answers are the procedures'; amounts are texts."""

    @staticmethod
    def allocate_to_tenant(
        db: Database,
        tenant_id: Id,
        admin_id: Id | None,
        amount: Amount,
        currency: str | None = None,
        reference_note: str | None = None,
        *,
        idempotency_key: str | None = None,
        commit: bool = True,
    ) -> dict[str, Any]:
        """Points of the platform for a tenant's pool; without an administrator a program gives."""
        logger.info("Allocating %s to tenant %s", amount, tenant_id)
        result = _call(
            db,
            "allocate_to_tenant",
            commit,
            user_id=admin_id,
            tenant_id=tenant_id,
            amount=_points(amount),
            reference_note=reference_note,
            currency=currency,
            idempotency_key=idempotency_key,
        )
        logger.debug("Current balance: %s", result["new_allocation_balance"])
        return result

    @staticmethod
    def award_to_user(
        db: Database,
        tenant_id: Id,
        from_user_id: Id | None,
        to_user_id: Id,
        amount: Amount,
        recognition_message: str,
        recognition_id: Id | None = None,
        *,
        idempotency_key: str | None = None,
        commit: bool = True,
    ) -> dict[str, Any]:
        """Points for a member's wallet, from one source; without a giver the system awards.

        A `recognition_id` makes a second award for the same recognition the first one again.
        """
        if idempotency_key is None and recognition_id is not None:
            idempotency_key = f"recognition:{recognition_id}"
        return _call(
            db,
            "award_to_user",
            commit,
            user_id=from_user_id,
            to_user_id=to_user_id,
            amount=_points(amount),
            recognition_message=recognition_message,
            tenant_id=tenant_id,
            idempotency_key=idempotency_key,
        )

    @staticmethod
    def delegate_to_lead(
        db: Database,
        tenant_id: Id,
        from_user_id: Id,
        lead_user_id: Id,
        amount: Amount,
        reference_note: str | None = None,
        *,
        idempotency_key: str | None = None,
        commit: bool = True,
    ) -> dict[str, Any]:
        """Points of the pool for a lead to award, by a manager."""
        return _call(
            db,
            "delegate_to_lead",
            commit,
            user_id=from_user_id,
            lead_user_id=lead_user_id,
            amount=_points(amount),
            reference_note=reference_note,
            tenant_id=tenant_id,
            idempotency_key=idempotency_key,
        )

    @staticmethod
    def clawback_allocation(
        db: Database,
        tenant_id: Id,
        admin_id: Id | None,
        amount: Amount | None = None,
        reason: str | None = None,
        *,
        idempotency_key: str | None = None,
        commit: bool = True,
    ) -> dict[str, Any]:
        """Points of the pool back to the platform: so many, or all. Wallets are never touched."""
        return _call(
            db,
            "clawback_allocation",
            commit,
            user_id=admin_id,
            tenant_id=tenant_id,
            amount=None if amount is None else _points(amount),
            reason=reason,
            idempotency_key=idempotency_key,
        )

    allocateToTenant = allocate_to_tenant
    awardToUser = award_to_user
    delegateToLead = delegate_to_lead
    clawback = clawback_allocation
    clawbackAllocation = clawback_allocation


def _call(db: Database, procedure: str, commit: bool, **arguments: Any) -> dict[str, Any]:
    """The procedure's answer, durable before it is given unless the caller sees to that."""
    named = ", ".join(f"p_{name} => %({name})s" for name in arguments)
    # The name is one of ours; whatever a caller says is a parameter.
    query = f"select public.{procedure}({named}) as answer"
    values = {name: _said(name, value) for name, value in arguments.items()}
    connection = _connection(db)
    with_savepoint = _in_transaction(connection)
    cursor = connection.cursor()
    try:
        if with_savepoint:
            cursor.execute(f"savepoint {_SAVEPOINT}")
        try:
            cursor.execute(query, values)
            row = cursor.fetchone()
        except Exception as error:
            if with_savepoint and not connection.closed:
                cursor.execute(f"rollback to savepoint {_SAVEPOINT}")
            refusal = _refusal(error)
            if refusal is None:
                raise
            raise PointsRefused(refusal) from error
        if with_savepoint:
            cursor.execute(f"release savepoint {_SAVEPOINT}")
    finally:
        cursor.close()
    if commit:
        db.commit()
    answer = row["answer"] if isinstance(row, Mapping) else row[0]
    return cast("dict[str, Any]", json.loads(answer) if isinstance(answer, str) else answer)


def _connection(db: Any) -> Any:
    """The driver's own connection: `db`, or what the session has for its transaction."""
    while not hasattr(db, "cursor"):
        # A session's is a method, and what it returns has its driver's as an attribute.
        db = db.connection() if callable(db.connection) else db.connection
    # A pool hands out a connection of its own making, around the driver's.
    return getattr(db, "driver_connection", db)


def _in_transaction(connection: Any) -> bool:
    """Whether there is a transaction, or the next statement begins one."""
    return not connection.autocommit or connection.info.transaction_status != _IDLE


def _refusal(error: Any) -> Refusal | None:
    """What the database refused; None for an error of any other kind."""
    said = getattr(error, "diag", None)
    if said is None:
        return None
    return Refusal.from_sqlstate(
        said.sqlstate, said.message_primary, said.message_detail, said.message_hint
    )


def _said(name: str, value: Any) -> Any:
    """An argument as the database takes it. Raises ValueError for what is none to any database."""
    if name.endswith("_id") and value is not None:
        try:
            return str(value if isinstance(value, UUID) else UUID(value))
        except (ValueError, AttributeError, TypeError):
            raise ValueError(f"{name}: {value!r} is no id") from None
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{name}: a text must not contain the character U+0000")
    return value


def _points(amount: Amount) -> Decimal:
    """An amount as the database takes it. How much is allowed is for the database to say."""
    try:
        return Decimal(str(amount))
    except InvalidOperation:
        raise ValueError(f"{amount!r} is no amount") from None
