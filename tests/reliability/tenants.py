"""What people do in companies under load: as in `operations`, a class each.

A company's people share its pool, so none of them knows what it holds. What they were told is
compared with the company's books when all is done: `booked` says how, `tenant_checks` the rest.
Recognitions and what becomes of them stand in `tenant_wallets`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from random import Random
from typing import Any, ClassVar, Final
from uuid import UUID

from tests.reliability.firms import MANAGERS, OFFICES, Books, Row
from tests.reliability.model import FAIL, OK, UNKNOWN, Kind, Life, Operation, Rows, Seat

ALLOCATED: Final = ("20", "75.5", "150")
AMOUNTS: Final = ("0.01", "0.5", "3", "7.77", "20", "45.25")
REFUSED: Final = re.compile(r"(?:Available: |the lead has )(-?[\d.]+)(?:, Required: ([\d.]+))?")


class TenantKind(Kind):
    """What is done in companies. Somebody else may have been faster: then it is refused."""

    roles: tuple[str, ...] = (*OFFICES, "employee")
    table = ""  # where its key is to be found
    told: ClassVar[Mapping[str, str]] = {}  # what the answer calls the row's columns
    knows_wallets = True  # whether a refusal tells what was in the wallet

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        if life.seat is None or life.seat.role not in self.roles:
            return None
        asked = self.ask(life.random, life.seat)
        return {**asked, "idempotency_key": key} if asked is not None else None

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        """What somebody in this seat could ask for."""
        raise NotImplementedError

    def same(self, first: Operation, again: dict[str, Any]) -> bool:
        """At the same moment, one may come too early, or be refused for another's sake."""
        return again.get("code") in self.refusals or first.answer == again

    def caused(self, operation: Operation, rows: Rows) -> list[dict[str, Any]]:
        return []

    def booked(self, operation: Operation, life: Life, books: Books) -> Iterator[str]:
        """What was acknowledged is there once, as asked for and told; what was refused is not."""
        found = self.found(operation, books)
        allowed = {OK: (1,), FAIL: (0,), UNKNOWN: (0, 1)}[operation.state]
        if len(found) not in allowed:
            yield f"the book has it {len(found)} times"
        for row in found:
            for name, value in self.asked(operation, life, row).items():
                if row[name] != value:
                    yield f"{name} {value} was asked for, the book has {row[name]}"
            if operation.state == OK:
                yield from _as_told(operation.answer, self.answered(row, books))
        if operation.answer.get("code", "").startswith("insufficient"):
            yield from self.short(operation, life, books)

    def found(self, operation: Operation, books: Books) -> list[Row]:
        """What is there because of it."""
        rows: list[Row] = getattr(books, self.table)
        return [row for row in rows if row["idempotency_key"] == operation.key]

    def asked(self, operation: Operation, life: Life, row: Row) -> Row:
        """What the columns must be."""
        return {"amount": Decimal(operation.body.get("amount") or row["amount"])}

    def answered(self, row: Row, books: Books) -> dict[str, Any]:
        """What its client must have been told."""
        return {name: row[column] for name, column in self.told.items()}

    def short(self, operation: Operation, life: Life, books: Books) -> Iterator[str]:
        """Who was refused wanted more than there was, and that much there was once."""
        said = REFUSED.search(operation.answer["detail"])
        if said is None:
            yield f"it was refused: {operation.answer['detail']}"
            return
        available, required = Decimal(said[1]), self.required(operation, life)
        if available >= required or Decimal(said[2] or required) != required:
            yield f"it was refused: {operation.answer['detail']}, {required} were asked for"
        wallet = f"tenant.wallet:{life.user}" if self.knows_wallets else ""
        accounts = {"insufficient_pool": "tenant.pool", "insufficient_wallet": wallet}
        account = accounts.get(operation.answer["code"])
        if account and available not in books.held[account]:
            yield f"{available} were told, and {account} never held that"

    def required(self, operation: Operation, life: Life) -> Decimal:
        """How much it takes."""
        # All of nothing is too much.
        return Decimal(operation.body.get("amount") or "0.01")


class Allocate(TenantKind):
    """The platform's administrator gives a company points."""

    name = "allocate"
    slug = "allocations/to-tenant"
    weight = 10
    by_administrator = at_once = True
    table = "bills"
    told: ClassVar[Mapping[str, str]] = {
        "tenant_id": "tenant_id", "amount_allocated": "amount", "platform_log_id": "id",
        "new_allocation_balance": "balance_after", "allocation_log_id": "allocation_id",
    }  # fmt: skip

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        return {"tenant_id": str(seat.tenant), "amount": random.choice(ALLOCATED)}

    def booked(self, operation: Operation, life: Life, books: Books) -> Iterator[str]:
        yield from super().booked(operation, life, books)
        lots = [(a["id"], a["amount"]) for a in books.allocations
                if a["idempotency_key"] == operation.key]  # fmt: skip
        bills = [(b["allocation_id"], b["amount"]) for b in self.found(operation, books)]
        if lots != bills:
            yield f"the pool has the lots {lots}, the platform billed {bills}"


class ClawBack(TenantKind):
    """And takes some of it back, or all that the pool holds."""

    name = "claw back"
    slug = "allocations/clawback"
    weight = 3
    by_administrator = at_once = True
    refusals = frozenset({"insufficient_pool"})
    table = "bills"
    told: ClassVar[Mapping[str, str]] = {"new_balance": "balance_after", "platform_log_id": "id"}

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        some = {"amount": random.choice(AMOUNTS)} if random.random() < 0.8 else {}
        return {"tenant_id": str(seat.tenant), "reason": "Too much", **some}

    def asked(self, operation: Operation, life: Life, row: Row) -> Row:
        return {"amount": -Decimal(operation.body.get("amount") or -row["amount"])}

    def answered(self, row: Row, books: Books) -> dict[str, Any]:
        return {**super().answered(row, books), "amount_clawed_back": -row["amount"]}


class Delegate(TenantKind):
    """A manager gives a lead some of the pool."""

    name = "delegate"
    slug = "allocations/delegate"
    weight = 40
    at_once = True
    roles = MANAGERS
    refusals = frozenset({"insufficient_pool"})
    table = "delegations"
    told: ClassVar[Mapping[str, str]] = {
        "amount": "amount", "lead_new_balance": "lead_balance", "delegation_id": "id",
        "tenant_remaining_balance": "pool_balance", "lead_user_id": "lead_user_id",
    }  # fmt: skip
    sign = 1

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        lead = str(random.choice(seat.leads)) if seat.leads else None
        return {"lead_user_id": lead, "amount": random.choice(AMOUNTS)} if lead else None

    def asked(self, operation: Operation, life: Life, row: Row) -> Row:
        amount = self.sign * Decimal(operation.body.get("amount") or abs(row["amount"]))
        lead = UUID(operation.body["lead_user_id"])
        return {"amount": amount, "delegated_by": life.user, "lead_user_id": lead}

    def answered(self, row: Row, books: Books) -> dict[str, Any]:
        return {**super().answered(row, books), "amount": self.sign * row["amount"]}


class Recall(Delegate):
    """And takes some back, or all that is left."""

    name = "recall"
    slug = "allocations/recall"
    weight = 30
    refusals = frozenset({"insufficient_budget"})
    sign = -1

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        asked = super().ask(random, seat)
        if asked is None or random.random() < 0.3:
            return asked
        # Leads give quickly what they have.
        del asked["amount"]
        return asked


def _as_told(answer: dict[str, Any], stored: dict[str, Any]) -> Iterator[str]:
    """Amounts are told as decimal texts, ids as texts."""
    for name, value in stored.items():
        if not _equal(answer.get(name), value):
            yield f"the client was told {name} {answer.get(name)}, the book has {value}"


def _equal(told: Any, stored: Any) -> bool:
    if isinstance(stored, list):
        return len(told) == len(stored) and all(
            one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
            for one, other in zip(told, stored, strict=True)
        )
    if isinstance(stored, Decimal):
        return told is not None and Decimal(told) == stored
    return bool(told == str(stored))


POOL_KINDS: Final = (Allocate(), ClawBack(), Delegate(), Recall())
