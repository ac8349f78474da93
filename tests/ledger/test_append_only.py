"""What the book has gained it keeps: not even its owner changes or removes a transfer."""

from __future__ import annotations

import psycopg
import pytest

from tests.ledger.book import Book

CHANGES = [
    "update ledger.transfers set amount = amount + 1",
    "delete from ledger.transfers",
    "truncate ledger.transfers",
]


@pytest.mark.parametrize(
    "role",
    [
        "postgres",
        "tallybook_procedures",
        "tallybook_upkeep",
        "tallybook_operator",
        "service_role",
        "authenticated",
        "anon",
    ],
)
def test_a_transfer_stays_as_it_is(book: Book, role: str) -> None:
    book.fill(100)
    for change in CHANGES:
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            book.world.admin.transaction(),
        ):
            book.world.admin.execute(f"set local role {role}")
            book.world.admin.execute(change)
    assert book.transfers() == [("test.source", "test.pool", 100)]


@pytest.mark.parametrize("table", ["accounts", "holds"])
def test_accounts_and_holds_are_not_removed(book: Book, table: str) -> None:
    book.fill(100)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        book.upkeep.execute(f"delete from ledger.{table}")


def test_an_operator_reads_the_book_and_writes_nothing(book: Book) -> None:
    book.fill(100)
    assert len(book.world.rows("select * from ledger.transfers", through=book.world.operator)) == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        book.world.operator.execute("update ledger.accounts set balance = 1000000")
