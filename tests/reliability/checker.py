"""The checker: what clients were told, against what the books hold, and both against the model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tallybook.coupon_code import CouponKeys
from tests.reliability.credits import credit_faults
from tests.reliability.firms import Books, Firm
from tests.reliability.model import OK, UNKNOWN, Book, Life, Rows
from tests.reliability.tenant_checks import firm_faults

HISTORIES_MAX = 2
FAULTS_SHOWN_MAX = 20

_QUERIES = {
    "events": "select * from points_events where user_id = any(%s)",
    "coupons": "select *, issued_to as user_id from coupons where issued_to = any(%s)",
    "transfers": "select *, book_id as user_id from ledger.transfers where book_id = any(%s)",
    "accounts": "select *, book_id as user_id from ledger.accounts where book_id = any(%s)",
    "credits": "select * from credit_transactions where user_id = any(%s)",
    "reservations": "select * from credit_reservations where user_id = any(%s)",
    "holds": "select *, book_id as user_id from ledger.holds where book_id = any(%s)",
    "cached": "select user_id, balance from user_credits where user_id = any(%s)",
    "lots": "select user_id, remaining from credit_grants where user_id = any(%s)",
    "used": "select user_id, cost - refunded as used from usage_rollups where user_id = any(%s)",
    "caches": "select * from user_points_cache where user_id = any(%s)",
}


class Checker:
    """Reads the books at `dsn` as the operator. `faults` gathers everything that is wrong."""

    def __init__(self, dsn: str, coupon_secret: str) -> None:
        self.faults: list[str] = []
        self.totals: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._histories = 0
        self._dsn = dsn
        self._codes = CouponKeys(coupon_secret)

    def discrepancies(self, when: str) -> None:
        """The invariants, in one snapshot, whatever goes on meanwhile."""
        with psycopg.connect(self._dsn, row_factory=dict_row) as connection:
            rows = connection.execute("select * from ledger.discrepancies").fetchall()
        self.faults += [f"{when}: {row}" for row in rows]

    def pending(self) -> int:
        """How many events nobody has decided yet."""
        with psycopg.connect(self._dsn) as connection:
            row = connection.execute(
                "select count(*) from points_events"
                " where validation_status in ('pending', 'validating') and transfer_id is null"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def check(self, lives: Sequence[Life]) -> None:
        """Everything about these users, once nothing of theirs is under way."""
        rows = self.read(lives)
        for life in lives:
            found = [*life.faults, *self.of(life, rows[life.user])]
            self.faults += [f"user {life.user}: {fault}" for fault in found]
            if found and self._histories < HISTORIES_MAX:
                self._histories += 1
                print(f"history of {life.user}:", *life.history, sep="\n  ")
            life.faults.clear()

    def check_firms(self, firms: Sequence[Firm]) -> None:
        """Everything about these companies, once nothing of their people is under way."""
        books = self.read_firms(firms)
        for firm in firms:
            faults = firm_faults(firm, books[firm.tenant])
            self.faults += [f"company {firm.tenant}: {fault}" for fault in faults]

    def settle(self, lives: Sequence[Life]) -> None:
        """Count what belongs to these users, who are done; `nothing_else` compares in the end."""
        for rows in self.read(lives).values():
            self.totals["points_events"] += len(rows.events)
            self.totals["coupons"] += len(rows.coupons)
            self.totals["credit_transactions"] += len(rows.credits)
            self.totals["credit_reservations"] += len(rows.reservations)
            self.totals["ledger.transfers"] += len(rows.transfers) + len(rows.credit_transfers)
            self.totals["points"] += rows.balance
            self.totals["credits"] += rows.credit_balance

    def settle_firms(self, firms: Sequence[Firm]) -> None:
        """The same for these companies."""
        for books in self.read_firms(firms).values():
            for name, rows in books.counted().items():
                self.totals[name] += len(rows)

    def nothing_else(self) -> None:
        """What was settled is still there, and nothing beside it."""
        counts = {
            name: f"count(*) from {name}"
            for name in (
                "points_events", "coupons", "credit_transactions", "credit_reservations",
                "ledger.transfers", *Books().counted(),
            )
        }  # fmt: skip
        for account, scale in (("points", 1), ("credits", 1_000_000)):
            counts[account] = (
                f"coalesce(sum(balance), 0) / {scale}.0 from ledger.accounts"
                f" where account = '{account}'"
            )
        with psycopg.connect(self._dsn) as connection:
            for name, counted in counts.items():
                row = connection.execute(f"select {counted}".encode()).fetchone()
                assert row is not None
                if row[0] != self.totals[name]:
                    self.faults.append(f"{name}: {self.totals[name]} were settled, {row[0]} are")

    def report(self) -> str:
        """The first of the faults, for a person."""
        return "\n".join([f"{len(self.faults)} faults:", *self.faults[:FAULTS_SHOWN_MAX]])

    def read(self, lives: Sequence[Life]) -> dict[UUID, Rows]:
        """What the books hold of each of these users, in one snapshot."""
        users = [life.user for life in lives]
        found = {user: Rows() for user in users}
        with psycopg.connect(self._dsn, row_factory=dict_row) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            read = {
                name: connection.execute(query.encode(), (users,)).fetchall()
                for name, query in _QUERIES.items()
            }
        for name in ("events", "coupons", "credits", "reservations", "holds"):
            for row in read[name]:
                getattr(found[row["user_id"]], name).append(row)
        for row in read["transfers"]:
            rows = found[row["user_id"]]
            (rows.credit_transfers if row["asset"] == "credits" else rows.transfers).append(row)
        for row in read["accounts"]:
            rows = found[row["user_id"]]
            if row["account"] == "points":
                rows.balance = row["balance"] - row["held"]
            elif row["account"] == "credits":
                rows.credit_balance = Decimal(row["balance"]) / 1_000_000
                rows.credit_held = Decimal(row["held"]) / 1_000_000
        for row in read["cached"]:
            found[row["user_id"]].credit_cache = row["balance"]
        for row in read["lots"]:
            found[row["user_id"]].lots += row["remaining"]
        for row in read["used"]:
            found[row["user_id"]].used += row["used"]
        for row in read["caches"]:
            found[row["user_id"]].cache = row
        return found

    def read_firms(self, firms: Sequence[Firm]) -> dict[UUID, Books]:
        """And of each of these companies."""
        with psycopg.connect(self._dsn, row_factory=dict_row) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return Books.read(connection, [firm.tenant for firm in firms])

    def of(self, life: Life, rows: Rows) -> Iterator[str]:
        """What is wrong with one user's rows, as far as they or the model can tell."""
        book = Book()
        for operation in life.operations:
            for fault in (
                *operation.kind.stored(operation, rows, self._codes),
                *operation.kind.play(book, operation),
            ):
                yield f"{operation.kind.name} {operation.key} ({operation.state}): {fault}"
        asked = {
            event["id"]
            for operation in life.operations
            if operation.state in (OK, UNKNOWN)
            for event in operation.kind.caused(operation, rows)
        }
        for event in rows.events:
            if event["id"] not in asked:
                yield f"nobody asked for event {event['id']}"
        yield from _ledger_faults(book, rows, life)
        yield from credit_faults(book, rows, life)


def _ledger_faults(book: Book, rows: Rows, life: Life) -> Iterator[str]:
    """Each validated event moved its points once, and the sums are the model's."""
    owed = Counter(
        (event["id"], event["points_delta"])
        for event in rows.events
        if event["validation_status"] == "validated" and event["points_delta"]
    )
    moved = Counter((transfer["source_id"], _signed(transfer)) for transfer in rows.transfers)
    if owed != moved:
        yield f"not moved: {dict(owed - moved)}, moved without a cause: {dict(moved - owed)}"
    came = sum(points for _, points in owed.elements() if points > 0)
    went = -sum(points for _, points in owed.elements() if points < 0)
    returned = sum(e["points_delta"] for e in rows.events if e["event_type"] == "coupon_refund")
    if life.known and (went, returned) != (book.spent, book.returned):
        yield f"{book.spent} were spent and {book.returned} came back, not {went} and {returned}"
    if not book.seen <= came - returned <= book.possible:
        yield f"{came - returned} were earned, between {book.seen} and {book.possible} can be"
    if rows.balance != came - went:
        yield f"the balance is {rows.balance}, and should be {came - went}"
    expected = {
        "available_points": came - went,
        "pending_points": sum(
            e["points_delta"] for e in rows.events if e["validation_status"] == "pending_review"
        ),
        "lifetime_earned": came,
        "lifetime_spent": went,
    }
    if rows.events and expected != {name: rows.cache.get(name) for name in expected}:
        yield f"the cache is {rows.cache}, and should be {expected}"


def _signed(transfer: dict[str, Any]) -> int:
    amount: int = transfer["amount"]
    return amount if transfer["to_account"] == "points" else -amount
