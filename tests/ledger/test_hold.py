"""Holding: an amount is set aside, stays in the balance, and cannot be spent."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from tests.ledger.book import Book
from tests.world import code_of, refused


def test_what_is_held_stays_in_the_balance_and_cannot_be_spent(book: Book) -> None:
    book.fill(100)
    hold = book.hold(30)
    assert (hold["status"], hold["amount"], hold["settled"]) == ("held", 30, 0)
    assert hold["created_at"] == book.world.now()
    assert book.account() == (100, 30)
    assert book.transfers() == [("test.source", "test.pool", 100)]


def test_the_same_hold_again_holds_nothing_more(book: Book) -> None:
    book.fill(100)
    first = book.hold(30)
    assert book.hold(30, hold_id=first["hold_id"]) == first
    assert book.account() == (100, 30)


def test_a_closed_hold_is_answered_as_it_stands(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    book.release(hold_id)
    assert book.hold(30, hold_id=hold_id)["status"] == "released"
    assert book.account() == (100, 0)


def test_more_than_is_available_is_refused(book: Book) -> None:
    book.fill(100)
    book.hold(60)
    with refused("insufficient_funds", 400, "Available: 40, Required: 41"):
        book.hold(41)
    assert book.account() == (100, 60)
    book.hold(40)
    assert book.available() == 0


def test_an_empty_book_holds_nothing(book: Book) -> None:
    with refused("insufficient_funds", 400, "Available: 0, Required: 1"):
        book.hold(1)


@pytest.mark.parametrize("amount", [0, -1, None])
def test_only_amounts_above_zero_are_held(book: Book, amount: int) -> None:
    book.fill(100)
    with refused("invalid_amount", 400):
        book.hold(amount)


def test_twenty_at_once_on_a_balance_that_affords_one(book: Book) -> None:
    book.fill(100)

    def hold(session: psycopg.Connection[dict[str, object]]) -> object:
        session.execute("set role tallybook_upkeep")
        return book.hold(60, through=session)["status"]

    outcomes = [code_of(o) for o in book.world.at_once([hold] * 20, user="postgres")]
    assert sorted(outcomes) == ["'held'"] + ["insufficient_funds"] * 19
    assert book.account() == (100, 60)


def test_one_hold_from_two_sessions_holds_once(book: Book) -> None:
    book.fill(100)
    hold_id = uuid4()
    first = book.session(autocommit=False)
    book.hold(30, hold_id=hold_id, through=first)
    with book.world.in_background(
        lambda session: book.hold(30, hold_id=hold_id, through=session), book.session()
    ) as second:
        first.commit()
    assert second.result()["hold_id"] == hold_id
    assert book.account() == (100, 30)


def test_a_hold_and_a_posting_do_not_share_the_last_coin(book: Book) -> None:
    book.fill(100)
    first = book.session(autocommit=False)
    book.hold(100, through=first)
    with book.world.in_background(
        lambda session: book.move("test.pool", "test.sink", 1, through=session), book.session()
    ) as second:
        first.commit()
    assert second.result() == "insufficient_funds"


def test_another_amount_under_the_same_id_is_refused(book: Book) -> None:
    book.fill(100)
    hold = uuid4()
    at = book.world.now() + timedelta(hours=1)

    def take(amount: int) -> None:
        book.world.admin.execute(
            "select ledger.hold(%s, %s, 'test.pool', %s, 'test', %s, %s)",
            (book.book_id, hold, amount, uuid4(), at),
        )

    take(60)
    with refused("hold_reused", 409):
        take(50)
    assert book.account("test.pool") == (100, 60)
