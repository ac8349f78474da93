"""Whether the books agree: reads `ledger.discrepancies`, which must be empty, and sorts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row

ROWS_MAX: Final = 20
OPERATOR: Final = "tallybook_operator"

INVARIANTS: Final = {
    "I1": "Every acknowledged operation is in the ledger exactly once",
    "I2": "No ledger row lacks a cause",
    "I3": "Every cache equals the ledger",
    "I4": "No balance, pool or stock is below zero",
    "I5": "Every transfer has two sides, and each asset sums to zero",
    "I6": "A coupon has one owner, a code hash one row, and limits hold",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One fault: of this `subject` in this book, `expected` should be and `actual` is."""

    invariant: str
    book_id: UUID | None
    subject: str
    expected: str | None
    actual: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: how many faults there are, and the first of them."""

    invariant: str
    meaning: str
    faults: int
    rows: tuple[Discrepancy, ...]


def verify(url: str, *, rows_max: int = ROWS_MAX) -> list[Finding]:
    """What each invariant looks like now, all in one snapshot, at most `rows_max` rows of each.

    Reads as the operator, who sees every book and changes none. Raises psycopg.Error when the
    database is away, has no such view, or the login may not act as the operator.
    """
    with psycopg.connect(url, row_factory=class_row(_Counted)) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute(sql.SQL("set local role {}").format(sql.Identifier(OPERATOR)))
        found = connection.execute(_QUERY, {"rows_max": rows_max}).fetchall()
    names = [*INVARIANTS, *sorted({row.invariant for row in found} - INVARIANTS.keys())]
    return [_finding(name, [row for row in found if row.invariant == name]) for name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted(Discrepancy):
    faults: int


_QUERY: Final = """
select d.invariant, d.book_id, d.subject, d.expected, d.actual, d.faults
  from (select v.*, count(*) over (partition by v.invariant) as faults,
               row_number() over (partition by v.invariant order by v.book_id, v.subject) as place
          from ledger.discrepancies as v) as d
 where d.place <= greatest(1, %(rows_max)s)
 order by d.invariant, d.place
"""


def _finding(name: str, rows: list[_Counted]) -> Finding:
    shown = tuple(
        Discrepancy(
            invariant=row.invariant,
            book_id=row.book_id,
            subject=row.subject,
            expected=row.expected,
            actual=row.actual,
        )
        for row in rows
    )
    return Finding(name, INVARIANTS.get(name, ""), rows[0].faults if rows else 0, shown)
