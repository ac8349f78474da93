"""Expiry: holds whose time is up are given back, by as many workers as there are."""

from __future__ import annotations

from datetime import timedelta

from tests.ledger.book import Book

MINUTE = timedelta(minutes=1)


def test_a_hold_expires_when_its_time_is_up_and_not_before(book: Book) -> None:
    book.fill(100)
    hold_id = book.hold(30, lasts=10 * MINUTE)["hold_id"]
    book.world.pass_time(10 * MINUTE - timedelta(microseconds=1))
    assert book.expire_holds() == 0
    book.world.pass_time(timedelta(microseconds=1))
    assert book.expire_holds() == 1
    assert book.hold_of(hold_id) == ("expired", 0)
    assert book.account() == (100, 0)
    assert len(book.transfers()) == 1


def test_a_second_run_finds_nothing(book: Book) -> None:
    book.fill(100)
    book.hold(30)
    book.world.pass_time(11 * MINUTE)
    assert (book.expire_holds(), book.expire_holds()) == (1, 0)
    assert book.account() == (100, 0)


def test_several_holds_of_one_account_expire_together(book: Book) -> None:
    book.fill(100)
    for amount in (10, 20, 30):
        book.hold(amount)
    lasting = book.hold(40, lasts=60 * MINUTE)["hold_id"]
    book.world.pass_time(11 * MINUTE)
    assert book.expire_holds() == 3
    assert book.account() == (100, 40)
    assert book.hold_of(lasting) == ("held", 0)


def test_the_oldest_go_first_when_there_are_too_many(book: Book) -> None:
    book.fill(100)
    holds = [book.hold(10, lasts=minutes * MINUTE)["hold_id"] for minutes in (3, 1, 2)]
    book.world.pass_time(10 * MINUTE)
    assert book.expire_holds(limit=2) == 2
    assert [book.hold_of(hold)[0] for hold in holds] == ["held", "expired", "expired"]


def test_two_workers_do_not_wait_for_one_another_and_free_nothing_twice(book: Book) -> None:
    other = book.another()
    for b in (book, other):
        b.fill(100)
        b.hold(30)
    # Somebody is busy with the first book, so a worker passes it over.
    book.world.pass_time(11 * MINUTE)
    busy = book.session(autocommit=False)
    book.move("test.pool", "test.sink", 1, through=busy)
    first = book.session(autocommit=False)
    assert book.expire_holds(through=first) == 1
    assert book.expire_holds() == 0
    busy.commit()
    assert book.expire_holds() == 1
    first.commit()
    assert book.expire_holds() == 0
    assert (book.account(), other.account()) == ((99, 0), (100, 0))
