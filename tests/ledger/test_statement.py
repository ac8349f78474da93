"""The statement: signed entries in the order in which they count, with the balance after each."""

from __future__ import annotations

from datetime import timedelta

from tests.ledger.book import Book
from tests.world import NOW

HOUR = timedelta(hours=1)


def entries(book: Book, account: str) -> list[tuple[object, ...]]:
    rows = book.world.rows(
        "select effective_at, amount, balance_after from ledger.statement"
        " where book_id = %s and account = %s order by effective_at, transfer_id",
        (book.book_id, account),
        book.world.operator,
    )
    return [tuple(row.values()) for row in rows]


def test_each_side_reads_its_own_entries(book: Book) -> None:
    book.fill(100)
    book.world.pass_time(HOUR)
    book.move("test.pool", "test.wallet", 30)
    assert entries(book, "test.pool") == [(NOW, 100, 100), (NOW + HOUR, -30, 70)]
    assert entries(book, "test.wallet") == [(NOW + HOUR, 30, 30)]
    assert entries(book, "test.source") == [(NOW, -100, -100)]


def test_an_entry_recorded_late_stands_where_it_counts(book: Book) -> None:
    book.fill(100)
    book.world.pass_time(2 * HOUR)
    book.spend(50)
    book.move("test.source", "test.pool", 7, at=NOW + HOUR)
    assert entries(book, "test.pool") == [
        (NOW, 100, 100),
        (NOW + HOUR, 7, 107),
        (NOW + 2 * HOUR, -50, 57),
    ]


def test_every_transfer_is_in_it_twice_and_all_amounts_make_nothing(book: Book) -> None:
    book.fill(100)
    book.move("test.pool", "test.wallet", 30)
    book.another().fill(5)
    (row,) = book.world.rows("select count(*) as n, sum(amount) as total from ledger.statement")
    assert (row["n"], row["total"]) == (6, 0)


def test_books_do_not_mix(book: Book) -> None:
    book.fill(100)
    other = book.another()
    other.fill(5)
    assert [e[1:] for e in entries(other, "test.pool")] == [(5, 5)]
