"""One book of the ledger: what comes in, moves, is held, and what is left."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import DictRow

from tests.world import Connection, World, plain

POST = (
    "select o.* from ledger.post(array("
    " select jsonb_populate_record(null::ledger.posting, p.posting)"
    "   from jsonb_array_elements(%s::jsonb) with ordinality as p(posting, n) order by p.n)) as o"
    " order by o.position"
)


def draw_chart(world: World) -> None:
    """Two accounts that keep a balance, one with credit, two counterparties, another asset."""
    world.admin.execute(
        "insert into ledger.assets values ('coins', 2), ('gold', 0);"
        "insert into ledger.chart_of_accounts values"
        " ('test.source', 'coins', null, 'where coins come from'),"
        " ('test.sink',   'coins', null, 'where coins go'),"
        " ('test.pool',   'coins', 0,    'what is not given to anybody yet'),"
        " ('test.wallet', 'coins', 0,    'what somebody has'),"
        " ('test.credit', 'coins', -100, 'what somebody may overdraw'),"
        " ('test.mine',   'gold',  null, 'where gold comes from')"
    )


class Book:
    """Verbs on one book, performed as the owner of the upkeep procedures."""

    def __init__(self, world: World, book_id: UUID | None = None) -> None:
        self.world = world
        self.book_id = book_id or uuid4()

    def another(self) -> Book:
        """A second book in the same world."""
        book = Book(self.world)
        book.__dict__["upkeep"] = self.upkeep
        return book

    @cached_property
    def upkeep(self) -> Connection:
        return self.session()

    def session(self, autocommit: bool = True) -> Connection:
        """A session that acts as the owner of the upkeep procedures, who cannot log in."""
        session = self.world.session()
        session.execute("set role tallybook_upkeep")
        session.autocommit = autocommit
        return session

    # Moving

    def posting(
        self,
        from_account: str,
        to_account: str,
        amount: int,
        transfer_id: UUID | None = None,
        at: datetime | None = None,
    ) -> dict[str, Any]:
        """One movement of value, caused by nothing in particular."""
        return {
            "transfer_id": transfer_id or uuid4(),
            "book_id": self.book_id,
            "from_account": from_account,
            "to_account": to_account,
            "amount": amount,
            "kind": "test_move",
            "source_type": "test",
            "source_id": uuid4(),
            "effective_at": at,
        }

    def post(self, *postings: dict[str, Any], through: Connection | None = None) -> list[DictRow]:
        """Post a set; what became of each, in their order."""
        return self.world.rows(POST, (json.dumps(postings, default=plain),), through or self.upkeep)

    def move(
        self,
        from_account: str,
        to_account: str,
        amount: int,
        transfer_id: UUID | None = None,
        at: datetime | None = None,
        through: Connection | None = None,
    ) -> str:
        """Post one movement; its outcome."""
        posting = self.posting(from_account, to_account, amount, transfer_id, at)
        (posted,) = self.post(posting, through=through)
        return str(posted["outcome"])

    def fill(self, amount: int, account: str = "test.pool") -> None:
        """Let value in from the outside."""
        assert self.move("test.source", account, amount) == "posted"

    def spend(self, amount: int, account: str = "test.pool") -> str:
        """Let value out; the outcome."""
        return self.move(account, "test.sink", amount)

    # Holding

    def hold(
        self,
        amount: int,
        account: str = "test.pool",
        hold_id: UUID | None = None,
        lasts: timedelta = timedelta(minutes=10),
        through: Connection | None = None,
    ) -> DictRow:
        """Set an amount aside; the hold."""
        (hold,) = self.world.rows(
            "select * from ledger.hold(%s, %s, %s, %s, 'test', %s, internal.clock() + %s)",
            (self.book_id, hold_id or uuid4(), account, amount, uuid4(), lasts),
            through or self.upkeep,
        )
        return hold

    def settle(
        self,
        hold_id: UUID,
        amount: int,
        to_account: str = "test.sink",
        through: Connection | None = None,
    ) -> DictRow:
        """Spend a hold; the posting that did."""
        (posted,) = self.world.rows(
            "select * from ledger.settle(%s, %s, %s, %s, 'test_settlement')",
            (self.book_id, hold_id, to_account, amount),
            through or self.upkeep,
        )
        return posted

    def release(self, hold_id: UUID, through: Connection | None = None) -> DictRow:
        """Give a hold back; the hold."""
        (hold,) = self.world.rows(
            "select * from ledger.release(%s, %s)",
            (self.book_id, hold_id),
            through or self.upkeep,
        )
        return hold

    def expire_holds(self, limit: int = 1000, through: Connection | None = None) -> int:
        """Give back every hold whose time is up, in every book; how many."""
        number: int = self.world.value(
            "select ledger.expire_holds(%s)", (limit,), through or self.upkeep
        )
        return number

    # Looking

    def account(self, account: str = "test.pool") -> tuple[int, int]:
        """An account's balance and what of it is held; an account that is not there has nothing."""
        rows = self.world.rows(
            "select balance, held from ledger.accounts where book_id = %s and account = %s",
            (self.book_id, account),
        )
        return (rows[0]["balance"], rows[0]["held"]) if rows else (0, 0)

    def available(self, account: str = "test.pool") -> int:
        """What an account can spend."""
        balance, held = self.account(account)
        return balance - held

    def hold_of(self, hold_id: UUID) -> tuple[str, int]:
        """A hold's status and how much of it was settled."""
        (row,) = self.world.rows(
            "select status, settled from ledger.holds where book_id = %s and hold_id = %s",
            (self.book_id, hold_id),
        )
        return row["status"], row["settled"]

    def transfers(self) -> list[tuple[str, str, int]]:
        """Every movement in the book: from, to, amount."""
        rows = self.world.rows(
            "select from_account, to_account, amount from ledger.transfers"
            " where book_id = %s order by recorded_at, transfer_id",
            (self.book_id,),
        )
        return [(row["from_account"], row["to_account"], row["amount"]) for row in rows]

    def balance_as_of(self, at: datetime, known: datetime | None = None) -> int:
        """The pool's balance at a time, as far as the book knew by another."""
        balance: int = self.world.value(
            "select ledger.balance_as_of(%s, 'test.pool', %s,"
            " coalesce(%s, 'infinity'::timestamptz))",
            (self.book_id, at, known),
            self.upkeep,
        )
        return balance
