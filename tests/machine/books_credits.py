"""What must hold after every step with credits: everything is stored as the model has it."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

from hypothesis.stateful import invariant

from tests.machine.model_purse import ZERO
from tests.machine.stage import USERS
from tests.machine.steps import Steps


class CreditBooks(Steps):
    """The tables, read by somebody who may see all of them."""

    @invariant()
    def everything_is_stored_as_the_model_has_it(self) -> None:
        accounts = {user: facts for user, *facts in self.rows(ACCOUNTS)}
        lots = defaultdict(list)
        for user, *facts in self.rows(LOTS):
            lots[user].append(tuple(facts))
        months: defaultdict[Any, dict[str, Decimal]] = defaultdict(dict)
        for user, month, spent in self.rows(MONTHS):
            months[user][month] = spent
        moved: defaultdict[Any, Counter[Any]] = defaultdict(Counter)
        for user, kind, amount, times in self.rows(STATEMENT):
            moved[user][kind, amount] = times
        for name in USERS:
            user = self.user(name)
            has = self.credits.customers[user]
            assert accounts.get(user, [ZERO, ZERO, ZERO, "free", None, None]) == [
                has.balance, has.held, has.balance, has.tier, has.cap, has.allocation_due
            ], name  # fmt: skip
            assert lots[user] == [
                (lot.id, lot.source, lot.remaining, lot.expires_at) for lot in has.open_lots()
            ], name
            assert months[user] == has.months, name
            assert moved[user] == has.statement, name
        assert dict(self.rows(HOLDS)) == {
            r.id: r.status for r in self.credits.reservations.values() if r.amount
        }

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.stage.world.rows(query)]


ACCOUNTS = """
    select coalesce(a.book_id, c.user_id) as user_id, coalesce(a.balance, 0) / 1000000.0,
           coalesce(a.held, 0) / 1000000.0 as held, coalesce(c.balance, 0) as cached,
           coalesce(c.tier, 'free') as tier, c.monthly_cap, c.allocation_due_at
      from (select * from ledger.accounts where account = 'credits') as a
      full join user_credits as c on c.user_id = a.book_id
"""
LOTS = """
    select user_id, grant_id::text, source, remaining, expires_at from credit_grants where is_open
     order by user_id, priority, expires_at, created_at, grant_id
"""
MONTHS = """
    select user_id, to_char(month, 'YYYY-MM') as month, sum(cost - refunded) as spent
      from usage_rollups group by user_id, month
"""
STATEMENT = """
    select user_id, transaction_type, amount, count(*) from credit_transactions
     group by user_id, transaction_type, amount
"""
HOLDS = "select hold_id::text, status from ledger.holds where account = 'credits'"
