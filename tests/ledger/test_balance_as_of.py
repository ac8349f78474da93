"""The balance at a time, as it was, or as it was known then."""

from __future__ import annotations

from datetime import timedelta

from tests.ledger.book import Book
from tests.world import NOW

DAY = timedelta(days=1)


def test_a_balance_counts_what_was_effective_by_then(book: Book) -> None:
    book.fill(100)
    book.world.pass_time(DAY)
    book.spend(30)
    assert book.balance_as_of(NOW - DAY) == 0
    assert book.balance_as_of(NOW) == 100
    assert book.balance_as_of(NOW + DAY - timedelta(seconds=1)) == 100
    assert book.balance_as_of(NOW + DAY) == 70


def test_what_was_learned_later_counts_when_it_was_effective(book: Book) -> None:
    book.fill(100)
    book.world.pass_time(10 * DAY)
    book.move("test.source", "test.pool", 5, at=NOW + DAY)
    assert book.balance_as_of(NOW + DAY) == 105
    # A statement printed on the second day knew nothing of it.
    assert book.balance_as_of(NOW + DAY, known=NOW + 2 * DAY) == 100
    assert book.balance_as_of(NOW + DAY, known=NOW + 10 * DAY) == 105


def test_the_last_balance_is_the_accounts_own(book: Book) -> None:
    book.fill(100)
    book.move("test.pool", "test.wallet", 30)
    book.hold(20)
    assert book.balance_as_of(book.world.now()) == book.account()[0] == 70


def test_a_book_without_entries_has_nothing(book: Book) -> None:
    book.fill(1)
    assert book.another().balance_as_of(NOW + DAY) == 0
