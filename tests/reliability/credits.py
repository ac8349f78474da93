"""What clients do with credits under load: as in `operations`, a class each.

Nobody but these operations moves a user's credits, and a user does one thing after another, so the
model knows the balance to the millionth. Only a hold may end by itself, at any time after its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from tallybook.coupon_code import CouponKeys
from tests.reliability.model import (
    FAIL,
    OK,
    UNKNOWN,
    ZERO,
    Book,
    Kind,
    Life,
    Operation,
    Rows,
    credits,
)

AMOUNTS: Final = ("0.000001", "0.5", "1.25", "3", "8.333333")
GIVEN: Final = ("0.5", "5", "12.000001", "20")
SECONDS: Final = (1, 1, 600)  # the worker takes back what lasts a second only
MODEL: Final = "gpt-4o"


class CreditKind(Kind):
    """What has to do with credits. Its `play` yields what the model cannot follow."""

    def same(self, first: Operation, again: dict[str, Any]) -> bool:
        if first.state == FAIL:
            return bool(first.answer["code"] == again.get("code"))
        return first.answer == again

    def caused(self, operation: Operation, rows: Rows) -> list[dict[str, Any]]:
        return []

    def transactions(self, operation: Operation, rows: Rows) -> list[dict[str, Any]]:
        """The transactions that are there because of it."""
        return [t for t in rows.credits if t["idempotency_key"] == operation.key]

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        """What was acknowledged is there once, as it was told."""
        found = self.transactions(operation, rows)
        allowed = {OK: (1,), FAIL: (0,), UNKNOWN: (0, 1)}[operation.state]
        if len(found) not in allowed:
            yield f"the book has it {len(found)} times"
        told = operation.answer
        for row in found if operation.state == OK else ():
            if str(row["id"]) != told["transaction_id"]:
                yield f"the client was told {told['transaction_id']}, the book has {row['id']}"
            if row["balance_after"] != credits(told["new_balance"]):
                yield f"a balance of {told['new_balance']} was told, not {row['balance_after']}"
            if row["amount"] != self.amount(operation):
                yield f"{self.amount(operation)} were told, the book has {row['amount']}"

    def amount(self, operation: Operation) -> Decimal:
        """How much it moved, as the client was told."""
        return -credits(operation.answer["cost"])

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        if operation.state == OK:
            book.purse.balance += self.amount(operation)
            yield from book.purse.look("after it", operation.answer["new_balance"])
        elif operation.answer.get("code") == "insufficient_credits":
            yield from refused(book, operation)


def refused(book: Book, operation: Operation) -> Iterator[str]:
    """Who is refused has not enough: "Insufficient credits. Balance: 1, Required: 3"."""
    words = operation.answer["detail"].replace(",", "").split()
    available, required = Decimal(words[3]), Decimal(words[5])
    if available >= required or not book.purse.may_have(available):
        yield f"it was refused: {operation.answer['detail']}, the model has {book.purse}"


class Give(CreditKind):
    """A program gives credits, which last."""

    name = "give credits"
    slug = "credit-admin/allocate"
    weight = 12
    by_service = True
    at_once = True

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        amount = float(life.random.choice(GIVEN))
        return {
            "user_id": str(life.user), "amount": amount, "reason": "why not",
            "priority": life.random.choice((50, 100)), "idempotency_key": key,
        }  # fmt: skip

    def amount(self, operation: Operation) -> Decimal:
        return credits(operation.body["amount"])


class Deduct(CreditKind):
    """A use at a cost that the client names."""

    name = "deduct"
    slug = "credits/deduct"
    weight = 16
    refusals = frozenset({"insufficient_credits"})

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        return {"amount": float(life.random.choice(AMOUNTS)), "idempotency_key": key}

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        yield from super().play(book, operation)
        if operation.state == OK and operation.answer["cost"] != operation.body["amount"]:
            yield f"{operation.answer['cost']} were charged for {operation.body}"


class Reserve(CreditKind):
    """Credits are set aside for a call, for long or for a second."""

    name = "reserve"
    slug = "credit-reservations/reserve"
    weight = 12
    refusals = frozenset({"insufficient_credits"})

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        return {
            "model": MODEL, "power_level": "precision", "max_tokens": 10**6,
            "max_cost": float(life.random.choice(AMOUNTS)), "idempotency_key": key,
            "expires_in_seconds": life.random.choice(SECONDS),
        }  # fmt: skip

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        told = operation.answer
        if operation.state == OK:
            yield from book.purse.look("with it", told["balance"])
            book.purse.reserved[told["reservation_id"]] = credits(told["reserved"])
            if not book.purse.may_have(credits(told["available"])):
                yield f"{told['available']} were left, the model has {book.purse}"
            if operation.body["expires_in_seconds"] == min(SECONDS):
                book.purse.short.add(told["reservation_id"])
        elif told.get("code") == "insufficient_credits":
            yield from refused(book, operation)

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        found = [r for r in rows.reservations if r["idempotency_key"] == operation.key]
        allowed = {OK: (1,), FAIL: (0,), UNKNOWN: (0, 1)}[operation.state]
        if len(found) not in allowed:
            yield f"the book has it {len(found)} times"
        for row in found:
            told = operation.answer.get("reservation_id", str(row["id"]))
            if str(row["id"]) != told or row["amount"] != credits(operation.body["max_cost"]):
                yield f"the client was told {told}, the book has {row}"


class Ending(CreditKind):
    """What ends a reservation: each is ended once by its client, or by the clock."""

    refusals = frozenset({"reservation_closed"})

    def open(self, life: Life) -> str | None:
        """A reservation that nobody has ended."""
        ended = {o.body.get("reservation_id") for o in life.operations}
        ids = [o.answer["reservation_id"] for o in life.done(Reserve)]
        ids = [id for id in ids if id not in ended]
        return life.random.choice(ids) if ids else None

    def end(self, book: Book, operation: Operation) -> Iterator[str]:
        """It is no longer held; what was not meant to end has not ended by itself."""
        id = operation.body["reservation_id"]
        if operation.state == FAIL and id not in book.purse.short:
            yield f"it was refused: {operation.answer}, and it was held"
        if operation.state != UNKNOWN:
            book.purse.reserved.pop(id, None)
            book.purse.short.discard(id)

    def ended(self, operation: Operation, rows: Rows, status: str) -> Iterator[str]:
        """The hold says so too."""
        id = operation.body["reservation_id"]
        allowed = {OK: {status}, FAIL: {"expired"}, UNKNOWN: {status, "held", "expired"}}
        for hold in rows.holds:
            if str(hold["hold_id"]) == id and hold["status"] not in allowed[operation.state]:
                yield f"the hold is {hold['status']}"


class Settle(Ending):
    """The call cost less than was reserved, or more, or nothing."""

    name = "settle"
    slug = "credit-reservations/settle"
    weight = 24
    at_once = True

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        id = self.open(life)
        cost = float(life.random.choice(("0", *AMOUNTS)))
        return {"reservation_id": id, "cost": cost} if id else None

    def amount(self, operation: Operation) -> Decimal:
        return -credits(operation.answer["charged"])

    def transactions(self, operation: Operation, rows: Rows) -> list[dict[str, Any]]:
        return [t for t in rows.credits if str(t["id"]) == operation.body["reservation_id"]]

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        yield from super().play(book, operation)
        told = operation.answer
        if operation.state == OK:
            cost, charged = credits(told["cost"]), credits(told["charged"])
            reserved = book.purse.reserved[operation.body["reservation_id"]]
            if (
                cost != credits(operation.body["cost"])
                or not min(cost, reserved) <= charged <= cost
            ):
                yield f"{told} for what was reserved: {reserved}"
        yield from self.end(book, operation)
        if book.purse.balance < 0:
            yield f"more was charged than there was: {book.purse}"

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        yield from super().stored(operation, rows, codes)
        yield from self.ended(operation, rows, "settled")


class Release(Ending):
    """The call is not made."""

    name = "release credits"
    slug = "credit-reservations/release"
    weight = 6

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        id = self.open(life)
        return {"reservation_id": id} if id else None

    def transactions(self, operation: Operation, rows: Rows) -> list[dict[str, Any]]:
        return []

    def play(self, book: Book, operation: Operation) -> Iterator[str]:
        yield from self.end(book, operation)
        if operation.state == OK and not book.purse.may_have(
            credits(operation.answer["available"])
        ):
            yield f"{operation.answer} was told, the model has {book.purse}"

    def stored(self, operation: Operation, rows: Rows, codes: CouponKeys) -> Iterator[str]:
        yield from self.ended(operation, rows, "released")


CREDIT_KINDS: Final = (Give(), Deduct(), Reserve(), Settle(), Release())


def credit_faults(book: Book, rows: Rows, life: Life) -> Iterator[str]:
    """Everything that tells of a user's credits says the same, and as much as the model."""
    asked = {
        transaction["id"]
        for operation in life.operations
        if isinstance(operation.kind, CreditKind) and operation.state != FAIL
        for transaction in operation.kind.transactions(operation, rows)
    }
    for row in rows.credits:
        if row["id"] not in asked:
            yield f"nobody asked for transaction {row['id']}"
    stated = Counter((t["id"], t["amount"]) for t in rows.credits if t["amount"])
    moved = Counter((t["transfer_id"], _credits(t)) for t in rows.credit_transfers)
    if stated != moved:
        yield f"not moved: {dict(stated - moved)}, moved without a cause: {dict(moved - stated)}"
    total = sum((row["amount"] for row in rows.credits), ZERO)
    used = -sum((r["amount"] for r in rows.credits if r["transaction_type"] == "usage"), ZERO)
    sums = {
        "the ledger": rows.credit_balance, "the cache": rows.credit_cache, "the lots": rows.lots,
    }  # fmt: skip
    for name, number in sums.items():
        if number != total:
            yield f"{name} has {number}, the statement {total}"
    if used != rows.used:
        yield f"{used} were used by the statement, {rows.used} by the month"
    if life.known and total != book.purse.balance:
        yield f"the statement has {total}, the model {book.purse.balance}"
    held = sum((hold["amount"] for hold in rows.holds if hold["status"] == "held"), 0)
    if rows.credit_held * 1_000_000 != held:
        yield f"{rows.credit_held} are held, and these are the holds: {rows.holds}"
    if rows.credit_balance < rows.credit_held:
        yield f"{rows.credit_held} are held of {rows.credit_balance}"
    settled = {hold["hold_id"] for hold in rows.holds if hold["status"] == "settled"}
    charged = {t["id"] for t in rows.credits} & {r["id"] for r in rows.reservations}
    if settled != charged:
        yield f"settled: {settled}, charged: {charged}"


def _credits(transfer: dict[str, Any]) -> Decimal:
    amount = Decimal(transfer["amount"]) / 1_000_000
    return amount if transfer["to_account"] == "credits" else -amount
