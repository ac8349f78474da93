"""Any sequence of postings and holds leaves the book as a few lines of Python say it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger.book import Book

ACCOUNTS = ("test.source", "test.sink", "test.pool", "test.wallet", "test.credit")
FLOORS = {"test.pool": 0, "test.wallet": 0, "test.credit": -100}

amounts = st.integers(1, 120)
kept = st.sampled_from(sorted(FLOORS))
movements = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS), amounts).filter(
    lambda movement: movement[0] != movement[1]
)
steps = st.one_of(
    st.tuples(st.just("post"), st.lists(movements, min_size=1, max_size=6)),
    st.tuples(st.just("hold"), kept, amounts),
    st.tuples(st.just("settle"), st.integers(0, 5), amounts),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("expire")),
)


@dataclass
class Model:
    """What the ledger promises, one thing after the other and without a database."""

    balance: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACCOUNTS, 0))
    holds: dict[UUID, tuple[str, int]] = field(default_factory=dict)

    def available(self, account: str) -> int:
        return self.balance[account] - sum(n for a, n in self.holds.values() if a == account)

    def affords(self, account: str, amount: int) -> bool:
        return account not in FLOORS or self.available(account) - amount >= FLOORS[account]

    def post(self, from_account: str, to_account: str, amount: int) -> str:
        if not self.affords(from_account, amount):
            return "insufficient_funds"
        self.balance[from_account] -= amount
        self.balance[to_account] += amount
        return "posted"


@given(st.lists(steps, max_size=12))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_book_is_what_the_model_says(book: Book, sequence: list[tuple[object, ...]]) -> None:
    model, account_book, opened = Model(), book.another(), list[UUID]()
    # What the sequence before this one left on hold does not count here.
    book.world.pass_time(timedelta(minutes=11))
    book.expire_holds()
    for step in sequence:
        take(step, model, account_book, opened)
        for account, floor in FLOORS.items():
            assert account_book.account(account) == (
                model.balance[account],
                model.balance[account] - model.available(account),
            )
            assert account_book.available(account) >= floor
    assert sum(model.balance.values()) == 0
    rows = book.world.rows(
        "select account, sum(amount) as balance from ledger.statement"
        " where book_id = %s group by account",
        (account_book.book_id,),
    )
    told = {row["account"]: row["balance"] for row in rows}
    assert {a: told.get(a, 0) for a in ACCOUNTS} == model.balance


def take(step: tuple[object, ...], model: Model, book: Book, opened: list[UUID]) -> None:
    """Take one step in both worlds; they must answer alike."""
    match step:
        case ("post", [*movements]):
            posted = book.post(*(book.posting(*movement) for movement in movements))
            assert [o["outcome"] for o in posted] == [model.post(*m) for m in movements]
        case ("hold", str(account), int(amount)):
            hold_id = uuid4()
            expected = "held" if model.affords(account, amount) else "insufficient_funds"
            if exists(book, account):
                assert answer(lambda: book.hold(amount, account, hold_id)["status"]) == expected
                if expected == "held":
                    model.holds[hold_id] = (account, amount)
                    opened.append(hold_id)
        case ("settle", int(number), int(amount)) if number < len(opened):
            hold_id = opened[number]
            account, held = model.holds.get(hold_id, ("", None))
            sink = "test.sink"
            got = answer(lambda: book.settle(hold_id, amount, sink)["outcome"])
            if held is None:
                assert got in ("hold_closed", "hold_exceeded", "replayed")
            elif amount > held:
                assert got == "hold_exceeded"
            else:
                assert got == "posted"
                del model.holds[hold_id]
                assert model.post(account, sink, amount) == "posted"
        case ("release", int(number)) if number < len(opened):
            got = answer(lambda: book.release(opened[number])["status"])
            assert got in ("released", "hold_closed")
            assert got == "released" or opened[number] not in model.holds
            model.holds.pop(opened[number], None)
        case ("expire",):
            book.world.pass_time(timedelta(minutes=11))
            assert book.expire_holds() == len(model.holds)
            model.holds.clear()


def exists(book: Book, account: str) -> bool:
    """An account opens with its first posting; before that even credit cannot be held."""
    return bool(
        book.world.count("ledger.accounts", "book_id = %s and account = %s", book.book_id, account)
    )


def answer(call: object) -> object:
    """What a call says: its answer, or the code of its refusal."""
    try:
        return call()  # type: ignore[operator]
    except psycopg.Error as error:
        return error.diag.message_primary
