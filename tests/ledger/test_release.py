"""Releasing: a hold is given back."""

from __future__ import annotations

from uuid import uuid4

from tests.ledger.book import Book
from tests.world import refused


def test_a_hold_is_given_back(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    hold = book.release(hold_id)
    assert (hold["status"], hold["settled"]) == ("released", 0)
    assert hold["closed_at"] == book.world.now()
    assert book.account() == (100, 0)
    assert len(book.transfers()) == 1


def test_one_hold_of_several_is_given_back(book: Book) -> None:
    book.fill(100)
    first, second = book.hold(30)["hold_id"], book.hold(50)["hold_id"]
    book.release(first)
    assert book.account() == (100, 50)
    assert book.hold_of(second) == ("held", 0)


def test_the_same_release_again_gives_nothing_more(book: Book) -> None:
    book.fill(100)
    book.hold(50)
    hold_id = book.hold(30)["hold_id"]
    assert book.release(hold_id) == book.release(hold_id)
    assert book.account() == (100, 50)


def test_the_same_release_from_two_sessions_gives_back_once(book: Book) -> None:
    book.fill(100)
    book.hold(50)
    hold_id = book.hold(30)["hold_id"]
    first = book.session(autocommit=False)
    hold = book.release(hold_id, through=first)
    with book.world.in_background(
        lambda session: book.release(hold_id, through=session), book.session()
    ) as second:
        first.commit()
    assert second.result() == hold
    assert book.account() == (100, 50)


def test_a_hold_that_is_not_there_is_refused(book: Book) -> None:
    with refused("hold_not_found", 404):
        book.release(uuid4())


def test_a_settled_hold_is_refused(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    book.settle(hold_id, 10)
    with refused("hold_closed", 409):
        book.release(hold_id)
    assert book.account() == (90, 0)
