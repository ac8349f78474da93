"""Posting: value moves once, whole or not at all, and never below an account's floor."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from tests.ledger.book import Book


def test_one_posting_moves_value_between_two_accounts(book: Book) -> None:
    book.fill(100)
    transfer_id = uuid4()
    (posted,) = book.post(book.posting("test.pool", "test.wallet", 30, transfer_id))
    assert posted == {
        "position": 1,
        "transfer_id": transfer_id,
        "outcome": "posted",
        "from_available": 70,
        "to_available": 30,
    }
    assert book.account("test.pool") == (70, 0)
    assert book.account("test.wallet") == (30, 0)


def test_a_counterparty_keeps_no_balance(book: Book) -> None:
    (posted,) = book.post(book.posting("test.source", "test.pool", 5))
    assert (posted["from_available"], posted["to_available"]) == (None, 5)
    assert book.world.count("ledger.accounts", "account = 'test.source'") == 0


def test_a_transfer_remembers_when_it_counts_and_when_it_was_learned(book: Book) -> None:
    counts = book.world.now().replace(year=2020)
    book.move("test.source", "test.pool", 5, at=counts)
    book.fill(1)
    book.post(
        book.posting("test.source", "test.pool", 5, at=counts),
        book.posting("test.source", "test.pool", 1),
    )
    rows = book.world.rows("select * from ledger.transfers order by effective_at")
    for early, usual in zip(rows[:2], rows[2:], strict=True):
        assert (early["effective_at"], early["recorded_at"]) == (counts, book.world.now())
        assert usual["effective_at"] == usual["recorded_at"] == book.world.now()


def test_a_thousand_postings_in_one_call(book: Book) -> None:
    postings = [book.posting("test.source", "test.pool", amount) for amount in range(1, 1001)]
    posted = book.post(*postings)
    assert [o["outcome"] for o in posted] == ["posted"] * 1000
    assert [o["transfer_id"] for o in posted] == [p["transfer_id"] for p in postings]
    assert [o["position"] for o in posted] == list(range(1, 1001))
    assert book.account() == (500_500, 0)


def test_a_thousand_books_in_one_call(book: Book) -> None:
    books = [book.another() for _ in range(1000)]
    posted = book.post(*(b.posting("test.source", "test.pool", 7) for b in books))
    assert {o["outcome"] for o in posted} == {"posted"}
    assert book.world.count("ledger.accounts", "balance = 7 and account = 'test.pool'") == 1000


def test_the_same_transfer_again_moves_nothing(book: Book) -> None:
    book.fill(100)
    posting = book.posting("test.pool", "test.wallet", 60)
    assert [o["outcome"] for o in book.post(posting)] == ["posted"]
    # Sixty more would not fit, and a replay does not ask.
    assert [o["outcome"] for o in book.post(posting)] == ["replayed"]
    assert book.available("test.wallet") == 60
    assert len(book.transfers()) == 2


def test_the_same_transfer_amid_new_ones_moves_nothing(book: Book) -> None:
    posting = book.posting("test.source", "test.pool", 60)
    book.post(posting)
    posted = book.post(book.posting("test.source", "test.pool", 1), posting)
    assert [o["outcome"] for o in posted] == ["posted", "replayed"]
    assert book.available() == 61


def test_a_transfer_id_of_another_book_is_another_transfer(book: Book) -> None:
    transfer_id = uuid4()
    other = book.another()
    assert book.move("test.source", "test.pool", 1, transfer_id) == "posted"
    assert other.move("test.source", "test.pool", 1, transfer_id) == "posted"
    third = book.another()
    posted = book.post(
        third.posting("test.source", "test.pool", 1, transfer_id),
        book.another().posting("test.source", "test.pool", 1, transfer_id),
        other.posting("test.source", "test.pool", 1, transfer_id),
    )
    assert [o["outcome"] for o in posted] == ["posted", "posted", "replayed"]
    assert (third.available(), other.available()) == (1, 1)


def test_below_the_floor_is_refused_and_writes_nothing(book: Book) -> None:
    book.fill(100)
    assert book.spend(101) == "insufficient_funds"
    assert book.available() == 100
    assert len(book.transfers()) == 1
    assert book.spend(100) == "posted"
    assert book.account() == (0, 0)


def test_an_account_that_is_not_there_has_nothing_to_spend(book: Book) -> None:
    assert book.spend(1) == "insufficient_funds"
    assert book.world.count("ledger.accounts") == 0


def test_what_is_held_is_gone_for_a_posting(book: Book) -> None:
    book.fill(100)
    book.hold(60)
    assert book.spend(41) == "insufficient_funds"
    assert book.spend(40) == "posted"


def test_an_account_with_credit_falls_to_its_floor(book: Book) -> None:
    assert book.spend(101, "test.credit") == "insufficient_funds"
    assert book.spend(100, "test.credit") == "posted"
    assert book.account("test.credit") == (-100, 0)
    assert book.spend(1, "test.credit") == "insufficient_funds"


def test_what_is_refused_leaves_room_for_a_smaller_one_after_it(book: Book) -> None:
    book.fill(100)
    posted = book.post(
        book.posting("test.pool", "test.sink", 80),
        book.posting("test.pool", "test.sink", 50),
        book.posting("test.pool", "test.sink", 20),
    )
    assert [o["outcome"] for o in posted] == ["posted", "insufficient_funds", "posted"]
    assert book.available() == 0


def test_what_is_refused_in_one_book_does_not_touch_another(book: Book) -> None:
    other = book.another()
    book.fill(10)
    other.fill(10)
    posted = book.post(
        book.posting("test.pool", "test.sink", 11),
        other.posting("test.pool", "test.sink", 10),
        book.posting("test.pool", "test.sink", 10),
    )
    assert [o["position"] for o in posted] == [1, 2, 3]
    assert [o["outcome"] for o in posted] == ["insufficient_funds", "posted", "posted"]
    assert book.available() == other.available() == 0


def test_postings_are_taken_in_order_of_arrival(book: Book) -> None:
    income = book.posting("test.source", "test.pool", 10)
    expense = book.posting("test.pool", "test.sink", 10)
    assert [o["outcome"] for o in book.post(expense, income)] == ["insufficient_funds", "posted"]
    other = book.another()
    income = other.posting("test.source", "test.pool", 10)
    expense = other.posting("test.pool", "test.sink", 10)
    assert [o["outcome"] for o in other.post(income, expense)] == ["posted", "posted"]
    assert (book.available(), other.available()) == (10, 0)


def test_value_that_arrives_in_a_set_can_leave_in_it_through_two_accounts(book: Book) -> None:
    posted = book.post(
        book.posting("test.source", "test.pool", 10),
        book.posting("test.pool", "test.wallet", 10),
        book.posting("test.wallet", "test.sink", 4),
    )
    assert [o["outcome"] for o in posted] == ["posted"] * 3
    # What an account can spend is said as it is after the whole set.
    assert [o["to_available"] for o in posted] == [0, 6, None]
    assert (book.account("test.pool"), book.account("test.wallet")) == ((0, 0), (6, 0))


@pytest.mark.parametrize(
    ("from_account", "to_account"),
    [("test.pool", "test.nowhere"), ("test.nowhere", "test.pool"), ("test.mine", "test.pool")],
    ids=["to an unknown account", "from an unknown account", "between two assets"],
)
def test_value_goes_only_between_known_accounts_of_one_asset(
    book: Book, from_account: str, to_account: str
) -> None:
    book.fill(100)
    with pytest.raises(psycopg.errors.NotNullViolation):
        book.move(from_account, to_account, 1)
    with pytest.raises(psycopg.errors.NotNullViolation):
        book.post(
            book.posting("test.pool", "test.wallet", 1), book.posting(from_account, to_account, 1)
        )
    assert book.account() == (100, 0)


@pytest.mark.parametrize("amount", [0, -5])
def test_only_amounts_above_zero_move(book: Book, amount: int) -> None:
    book.fill(100)
    book.fill(100, "test.wallet")
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        book.move("test.pool", "test.wallet", amount)
    assert refusal.value.diag.constraint_name == "amount_is_positive"


def test_value_does_not_go_in_circles(book: Book) -> None:
    book.fill(100)
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        book.move("test.pool", "test.pool", 1)
    assert refusal.value.diag.constraint_name == "two_sides"


def test_the_check_holds_the_floor_behind_the_procedure(book: Book) -> None:
    book.fill(100)
    with pytest.raises(psycopg.errors.CheckViolation) as refusal:
        book.upkeep.execute("update ledger.accounts set balance = -1")
    assert refusal.value.diag.constraint_name == "available_is_not_below_floor"


def test_fifty_at_once_on_a_balance_that_affords_one(book: Book) -> None:
    book.fill(100)

    def spend(session: psycopg.Connection[dict[str, object]]) -> object:
        session.execute("set role tallybook_upkeep")
        return book.move("test.pool", "test.sink", 100, through=session)

    outcomes = book.world.at_once([spend] * 50, user="postgres")
    assert sorted(map(str, outcomes)) == ["insufficient_funds"] * 49 + ["posted"]
    assert book.account() == (0, 0)


def test_whoever_waits_for_a_balance_sees_what_was_left_of_it(book: Book) -> None:
    book.fill(100)
    first = book.session(autocommit=False)
    assert book.move("test.pool", "test.sink", 60, through=first) == "posted"
    with book.world.in_background(
        lambda session: book.move("test.pool", "test.sink", 60, through=session), book.session()
    ) as second:
        first.commit()
    assert second.result() == "insufficient_funds"
    assert book.available() == 40


def test_a_set_that_waits_for_a_balance_sees_what_was_left_of_it(book: Book) -> None:
    book.fill(100)
    postings = [book.posting("test.pool", "test.sink", 30) for _ in range(2)]
    first = book.session(autocommit=False)
    assert book.move("test.pool", "test.sink", 60, through=first) == "posted"
    with book.world.in_background(
        lambda session: book.post(*postings, through=session), book.session()
    ) as second:
        first.commit()
    assert [o["outcome"] for o in second.result()] == ["posted", "insufficient_funds"]
    assert book.available() == 10


def test_one_transfer_from_two_sessions_moves_once(book: Book) -> None:
    book.fill(100)
    posting = book.posting("test.pool", "test.sink", 10)
    first = book.session(autocommit=False)
    book.post(posting, through=first)
    with book.world.in_background(
        lambda session: book.post(posting, through=session), book.session()
    ) as second:
        first.commit()
    assert [o["outcome"] for o in second.result()] == ["replayed"]
    assert book.available() == 90


def test_a_set_takes_its_locks_in_the_order_of_the_books_and_not_of_arrival(book: Book) -> None:
    low, high = sorted((book, book.another()), key=lambda b: b.book_id)
    low.fill(10)
    high.fill(10)
    holder = book.session(autocommit=False)
    low.move("test.pool", "test.sink", 1, through=holder)
    postings = [b.posting("test.pool", "test.sink", 1) for b in (high, low)]
    with book.world.in_background(
        lambda session: book.post(*postings, through=session), book.session()
    ) as waiting:
        # It waits for the lower book and has not taken the higher one.
        bystander = book.session()
        bystander.execute("set lock_timeout = '2s'")
        assert high.move("test.pool", "test.sink", 1, through=bystander) == "posted"
        holder.commit()
    assert [o["outcome"] for o in waiting.result()] == ["posted", "posted"]
    assert (low.available(), high.available()) == (8, 8)


def test_crossing_transfers_neither_deadlock_nor_lose(book: Book) -> None:
    rounds = 60
    other = book.another()
    for b in (book, other):
        b.fill(1000, "test.pool")
        b.fill(1000, "test.wallet")

    def cross(*ways: tuple[Book, str, str]) -> object:
        def run(session: psycopg.Connection[dict[str, object]]) -> list[str]:
            session.execute("set role tallybook_upkeep")
            return [
                posted["outcome"]
                for _ in range(rounds)
                for posted in book.post(*(b.posting(f, t, 1) for b, f, t in ways), through=session)
            ]

        return run

    there, back = ("test.pool", "test.wallet"), ("test.wallet", "test.pool")
    results = book.world.at_once(
        [cross((book, *there), (other, *back)), cross((other, *there), (book, *back))] * 2,  # type: ignore[list-item]
        user="postgres",
    )
    assert results == [["posted"] * rounds * 2] * 4
    for b in (book, other):
        assert (b.account("test.pool"), b.account("test.wallet")) == ((1000, 0), (1000, 0))


def test_a_replay_in_a_set_is_no_income(book: Book) -> None:
    deposit = book.posting("test.source", "test.pool", 100)
    book.post(deposit)
    book.move("test.pool", "test.sink", 40)
    posted = book.post(deposit, book.posting("test.pool", "test.sink", 150))
    assert [o["outcome"] for o in posted] == ["replayed", "insufficient_funds"]
    assert book.available() == 60


def test_what_accounts_hold_is_told_of_after_the_whole_set(book: Book) -> None:
    """Also where not everything fits, and so one is posted after the other."""
    book.fill(10)
    posted = book.post(
        book.posting("test.pool", "test.wallet", 8),
        book.posting("test.pool", "test.wallet", 5),
        book.posting("test.wallet", "test.pool", 1),
        book.posting("test.pool", "test.wallet", 3),
    )
    assert [o["outcome"] for o in posted] == ["posted", "insufficient_funds", "posted", "posted"]
    told = [(o["from_available"], o["to_available"]) for o in posted]
    assert told == [(0, 10), (None, None), (10, 0), (0, 10)]


def test_what_comes_in_on_the_way_may_be_spent(book: Book) -> None:
    """A wallet that holds nothing gives what the same set gives it, in this order alone."""
    book.fill(10)
    into, out = ("test.pool", "test.wallet", 4), ("test.wallet", "test.pool", 4)
    posted = book.post(book.posting(*out), book.posting(*into), book.posting(*out))
    assert [o["outcome"] for o in posted] == ["insufficient_funds", "posted", "posted"]
    assert book.account("test.wallet") == (0, 0)


def test_what_comes_in_later_pays_for_nothing_before_it(book: Book) -> None:
    """Although nothing would be missing in the end."""
    book.fill(10)
    into, out = ("test.pool", "test.wallet", 4), ("test.wallet", "test.pool", 4)
    posted = book.post(book.posting(*out), book.posting(*into))
    assert [o["outcome"] for o in posted] == ["insufficient_funds", "posted"]
    posted = book.post(book.posting("test.wallet", "test.pool", 5), book.posting(*into))
    assert [o["outcome"] for o in posted] == ["insufficient_funds", "posted"]
    assert book.account("test.wallet") == (8, 0)


def test_a_transfer_that_comes_twice_in_a_set_moves_once_at_most(book: Book) -> None:
    book.fill(100)
    twice = book.posting("test.pool", "test.sink", 40)
    assert [o["outcome"] for o in book.post(twice, twice)] == ["posted", "replayed"]
    assert book.available() == 60
    twice = book.posting("test.pool", "test.sink", 60)
    assert [o["outcome"] for o in book.post(twice, twice)] == ["posted", "replayed"]
    assert book.available() == 0


def test_a_set_may_be_of_several_assets_and_books(book: Book) -> None:
    book.world.admin.execute(
        "insert into ledger.chart_of_accounts values ('test.vault', 'gold', 0, 'what gold is left')"
    )
    other = book.another()
    book.fill(10)
    posted = book.post(
        other.posting("test.mine", "test.vault:1", 7),
        book.posting("test.pool", "test.wallet", 4),
        other.posting("test.mine", "test.vault:2", 2),
        book.posting("test.mine", "test.vault:1", 3),
        book.posting("test.pool", "test.wallet", 7),
        other.posting("test.source", "test.pool", 5),
    )
    assert [o["position"] for o in posted] == [*range(1, 7)]
    assert [o["outcome"] for o in posted] == [*["posted"] * 4, "insufficient_funds", "posted"]
    # Of a book that is crowded as of one that is not, everybody is told of the own account.
    assert [o["to_available"] for o in posted] == [7, 4, 2, 3, None, 5]
    assert (book.available(), book.available("test.vault:1")) == (6, 3)
    told = book.world.rows(
        "select asset, array_agg(distinct split_part(to_account, ':', 1)) as accounts"
        " from ledger.transfers group by asset order by asset"
    )
    assert [tuple(row.values()) for row in told] == [
        ("coins", ["test.pool", "test.wallet"]),
        ("gold", ["test.vault"]),
    ]


def test_a_replay_in_a_crowded_book_leaves_its_place_to_others(book: Book) -> None:
    book.fill(10)
    other = book.another()
    other.fill(5)
    known = book.posting("test.pool", "test.sink", 4)
    book.post(known)
    posted = book.post(
        other.posting("test.pool", "test.wallet", 2),
        known,
        book.posting("test.pool", "test.wallet", 6),
        book.posting("test.pool", "test.wallet", 1),
        other.posting("test.wallet", "test.pool", 1),
    )
    assert [o["outcome"] for o in posted] == [
        "posted",
        "replayed",
        "posted",
        "insufficient_funds",
        "posted",
    ]
    assert (book.available(), book.available("test.wallet")) == (0, 6)


def test_new_accounts_are_opened_in_the_order_of_their_names_and_not_of_arrival(book: Book) -> None:
    holder = book.session(autocommit=False)
    book.move("test.source", "test.pool", 1, through=holder)
    postings = [book.posting("test.source", a, 1) for a in ("test.wallet", "test.pool")]
    with book.world.in_background(
        lambda session: book.post(*postings, through=session), book.session()
    ) as waiting:
        # It waits for the pool and has not opened the wallet.
        bystander = book.session()
        bystander.execute("set lock_timeout = '2s'")
        assert book.move("test.source", "test.wallet", 1, through=bystander) == "posted"
        holder.commit()
    assert [o["outcome"] for o in waiting.result()] == ["posted", "posted"]
    assert (book.available(), book.available("test.wallet")) == (2, 2)


def test_a_set_locks_a_books_accounts_in_the_order_of_their_names(book: Book) -> None:
    for account in ("test.pool", "test.wallet"):
        book.fill(10, account)
    holder = book.session(autocommit=False)
    book.move("test.pool", "test.sink", 1, through=holder)
    postings = [book.posting(a, "test.sink", 1) for a in ("test.wallet", "test.pool")]
    with book.world.in_background(
        lambda session: book.post(*postings, through=session), book.session()
    ) as waiting:
        # It waits for the pool and has not taken the wallet.
        bystander = book.session()
        bystander.execute("set lock_timeout = '2s'")
        assert book.move("test.wallet", "test.sink", 1, through=bystander) == "posted"
        holder.commit()
    assert [o["outcome"] for o in waiting.result()] == ["posted", "posted"]
    assert (book.available(), book.available("test.wallet")) == (8, 8)


def test_what_is_held_is_gone_for_a_set_too(book: Book) -> None:
    book.fill(100)
    book.hold(60)
    posted = book.post(
        book.posting("test.pool", "test.wallet", 30),
        book.posting("test.pool", "test.wallet", 20),
        book.posting("test.pool", "test.wallet", 10),
    )
    assert [o["outcome"] for o in posted] == ["posted", "insufficient_funds", "posted"]
    assert [o["from_available"] for o in posted] == [0, None, 0]
