"""Settling: a hold is spent, whole or in part, and what is left of it becomes available again."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.ledger.book import Book
from tests.world import refused

LATER = timedelta(minutes=11)


def test_a_hold_is_spent_whole(book: Book) -> None:
    book.fill(100)
    hold = book.hold(30)
    posted = book.settle(hold["hold_id"], 30)
    assert (posted["outcome"], posted["from_available"]) == ("posted", 70)
    assert book.hold_of(hold["hold_id"]) == ("settled", 30)
    assert book.account() == (70, 0)


def test_a_hold_is_spent_in_part_and_the_rest_is_free(book: Book) -> None:
    book.fill(100)
    hold = book.hold(100)
    assert book.settle(hold["hold_id"], 30, "test.wallet")["to_available"] == 30
    assert book.hold_of(hold["hold_id"]) == ("settled", 30)
    assert book.account() == (70, 0)
    assert book.account("test.wallet") == (30, 0)


def test_the_transfer_bears_the_name_and_the_cause_of_its_hold(book: Book) -> None:
    book.fill(100)
    hold = book.hold(30)
    book.settle(hold["hold_id"], 30)
    (transfer,) = book.world.rows(
        "select * from ledger.transfers where transfer_id = %s", (hold["hold_id"],)
    )
    assert (transfer["kind"], transfer["source_type"]) == ("test_settlement", "test")
    assert transfer["source_id"] == hold["source_id"]


def test_the_same_settlement_again_moves_nothing(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    book.settle(hold_id, 20)
    assert book.settle(hold_id, 20)["outcome"] == "replayed"
    assert book.account() == (80, 0)


def test_the_same_settlement_from_two_sessions_moves_once(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    first = book.session(autocommit=False)
    book.settle(hold_id, 20, through=first)
    with book.world.in_background(
        lambda session: book.settle(hold_id, 20, through=session), book.session()
    ) as second:
        first.commit()
    assert second.result()["outcome"] == "replayed"
    assert book.account() == (80, 0)


def test_another_settlement_of_the_same_hold_is_refused(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    book.settle(hold_id, 20)
    with refused("hold_closed", 409):
        book.settle(hold_id, 10)
    assert book.account() == (80, 0)


def test_more_than_was_held_is_refused(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    with refused("hold_exceeded", 400, "Held: 30, Required: 31"):
        book.settle(hold_id, 31)
    assert book.account() == (100, 30)


@pytest.mark.parametrize("amount", [0, -1, None])
def test_only_amounts_above_zero_are_settled(book: Book, amount: int) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    with refused("invalid_amount", 400):
        book.settle(hold_id, amount)


def test_a_hold_that_is_not_there_is_refused(book: Book) -> None:
    with refused("hold_not_found", 404):
        book.settle(uuid4(), 1)


def test_a_hold_of_another_book_is_not_there(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    with refused("hold_not_found", 404):
        book.another().settle(hold_id, 30)


@pytest.mark.parametrize("end", ["released", "expired"])
def test_a_hold_that_ended_otherwise_is_refused(book: Book, end: str) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    if end == "released":
        book.release(hold_id)
    else:
        book.world.pass_time(LATER)
        book.expire_holds()
    with refused("hold_closed", 409):
        book.settle(hold_id, 30)
    assert book.hold_of(hold_id) == (end, 0)
    assert book.account() == (100, 0)


def test_expiry_leaves_alone_what_is_being_settled(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    book.world.pass_time(LATER)
    settling = book.session(autocommit=False)
    book.settle(hold_id, 30, through=settling)
    assert book.expire_holds() == 0
    settling.commit()
    assert book.expire_holds() == 0
    assert book.hold_of(hold_id) == ("settled", 30)
    assert book.account() == (70, 0)


def test_a_settlement_that_comes_after_the_expiry_is_refused(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    book.world.pass_time(LATER)
    expiring = book.session(autocommit=False)
    assert book.expire_holds(through=expiring) == 1
    with book.world.in_background(
        lambda session: book.settle(hold_id, 30, through=session), book.session()
    ) as settling:
        expiring.commit()
    with refused("hold_closed", 409):
        settling.result()
    assert book.hold_of(hold_id) == ("expired", 0)
    assert book.account() == (100, 0)


def test_a_settlement_and_a_release_do_not_both_win(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30)["hold_id"]
    settling = book.session(autocommit=False)
    book.settle(hold_id, 30, through=settling)
    with book.world.in_background(
        lambda session: book.release(hold_id, through=session), book.session()
    ) as releasing:
        settling.commit()
    with refused("hold_closed", 409):
        releasing.result()
    assert book.account() == (70, 0)
