"""What must hold after every step in companies: everything is stored as the model has it."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

from hypothesis.stateful import invariant

from tests.machine.model_purse import ZERO
from tests.machine.model_rewards import Rewards
from tests.machine.steps import Steps


class TenantBooks(Steps):
    """The tables, read by somebody who may see all of them."""

    companies: Rewards

    @invariant()
    def everything_is_stored_as_the_model_has_it(self) -> None:
        accounts: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
        for tenant, account, balance in self.rows(ACCOUNTS):
            accounts[tenant][account] = balance
        wallets: defaultdict[str, dict[Any, Any]] = defaultdict(dict)
        for tenant, user, *facts in self.rows(WALLETS):
            wallets[tenant][user] = tuple(facts)
        bills, alerts, entries = (self.counted(query) for query in (BILLS, ALERTS, STATEMENTS))
        stored: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for tenant, id, *more in self.rows(STANDING):
            stored[tenant][id] = tuple(more)
        for id, tenant in self.companies.tenants.items():
            same(accounts[id], tenant.accounts(), tenant.name)
            assert sum(tenant.accounts().values()) == ZERO, tenant.name
            same(
                wallets[id],
                {
                    user: (w.balance, w.earned, w.spent)
                    for user, w in tenant.wallets.items()
                    if w.statement
                },
                tenant.name,
            )
            same(
                entries[id],
                Counter(
                    {
                        (user, *entry): times
                        for user, w in tenant.wallets.items()
                        for entry, times in w.statement.items()
                    }
                ),
                tenant.name,
            )
            same(bills[id], tenant.bills, tenant.name)
            same(alerts[id], +tenant.alerts, tenant.name)
            same(
                stored[id],
                {
                    **{
                        lot.id: (lot.status, lot.reversed, lot.expired)
                        for lot in tenant.pool.lots
                        if lot.is_allocation
                    },
                    **{
                        r.id: ("revoked" if r.ended else "active", r.points, None)
                        for r in tenant.recognitions.values()
                    },
                    **{
                        r.id: ("refunded" if r.ended else "completed", r.points, None)
                        for r in tenant.redemptions.values()
                    },
                    **{r.id: (str(r.stock), r.cost, None) for r in tenant.rewards.values()},
                },
                tenant.name,
            )
        assert self.rows("select * from internal.tenant_discrepancies") == []

    def counted(self, query: str) -> defaultdict[str, Counter[Any]]:
        """How often each thing is there, by tenant."""
        found: defaultdict[str, Counter[Any]] = defaultdict(Counter)
        for tenant, *facts in self.rows(query):
            found[tenant][facts[0] if len(facts) == 1 else tuple(facts)] += 1
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.stage.world.rows(query)]


def same(told: dict[Any, Any], expected: dict[Any, Any], of: str) -> None:
    """Thing for thing; what is not is shown from both sides."""
    if told != expected:
        names = [n for n in {**told, **expected} if told.get(n) != expected.get(n)]
        raise AssertionError(f"{of}: {[(n, told.get(n), expected.get(n)) for n in names]}")


# What is beyond a company has no balance of its own: there the transfers say it.
ACCOUNTS = """
    select book_id::text, account, balance / 100.0 as balance
      from ledger.accounts where asset = 'tenant_points' and balance <> 0
    union all
    select t.book_id::text, l.account, sum(l.delta) / 100.0
      from ledger.transfers as t
     cross join lateral (values (t.from_account, -t.amount), (t.to_account, t.amount))
             as l(account, delta)
      join ledger.chart_of_accounts as c on c.account = l.account
     where c.asset = 'tenant_points' and c.floor is null
     group by t.book_id, l.account having sum(l.delta) <> 0
"""
WALLETS = "select tenant_id::text, user_id, balance, lifetime_earned, lifetime_spent from wallets"
STATEMENTS = """
    select tenant_id::text, user_id, transaction_type, source, points, balance_after, created_at
      from wallet_ledger
"""
BILLS = "select tenant_id::text, transaction_type, amount, balance_after from platform_billing_logs"
ALERTS = "select tenant_id::text, kind from tenant_alerts"
STANDING = """
    select tenant_id::text, id::text, status, reversed_amount as points, expired_amount as expired
      from allocation_logs
    union all
    select tenant_id::text, id::text, status, points, null from recognitions
    union all
    select tenant_id::text, id::text, status, points, null from reward_redemptions
    union all
    select tenant_id::text, id::text, coalesce(stock::text, 'None'), points_cost, null from rewards
"""
