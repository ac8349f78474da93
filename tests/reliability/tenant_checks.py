"""What must be true of a company's books, whatever was asked: `firm_faults` yields what is not.

Its people share the pool, so there is no one order that everybody saw. But every log says what the
pool or the wallet held after it: they must be the steps of one way from nothing to what is there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from tests.reliability.firms import REWARDS, Books, Firm, Move
from tests.reliability.model import ZERO
from tests.reliability.tenants import TenantKind

COUNTERPARTIES: Final = frozenset({"tenant.platform", "tenant.redeemed"})
KEYED: Final = ("allocations", "bills", "delegations", "recognitions", "redemptions")


def firm_faults(firm: Firm, books: Books) -> Iterator[str]:
    """What is wrong with one company's books, as far as they or its people can tell."""
    books.index()
    asked = set()
    for life in firm.lives:
        for operation in life.operations:
            kind = operation.kind
            if isinstance(kind, TenantKind):
                asked |= {operation.key, operation.body.get("redemption_id")}
                for fault in kind.booked(operation, life, books):
                    yield f"{kind.name} {operation.key} ({operation.state}): {fault}"
    for table in KEYED:
        for row in getattr(books, table):
            if row["idempotency_key"] not in asked:
                yield f"nobody asked for {row['id']} among the {table}"
    for row in books.refunded():
        if str(row["id"]) not in asked:
            yield f"nobody asked for the refund of {row['id']}"
    yield from _movements(books)
    yield from _conservation(books)
    yield from _caches(books)
    for account, balance in _balances(books).items():
        if account == "tenant.pool" or account.startswith("tenant.wallet:"):
            yield from _way(account, books.steps(account), balance)
    yield from _sold(books)


def _movements(books: Books) -> Iterator[str]:
    """What the logs tell is what moved, and what touched a wallet stands in its statement."""
    stated, moved = Counter(books.stated()), Counter(books.moved())
    if stated != moved:
        yield f"not moved: {[*(stated - moved)]}, moved without a cause: {[*(moved - stated)]}"
    entries = Counter(
        (row["id"], f"tenant.wallet:{row['user_id']}", row["transaction_type"], row["points"])
        for row in books.entries
    )
    touched = Counter(leg for move in moved.elements() for leg in _wallets(move))
    if entries != touched:
        yield f"not in a statement: {[*(touched - entries)]}, there: {[*(entries - touched)]}"


def _wallets(move: Move) -> Iterator[tuple[Any, ...]]:
    id, source, target, amount = move
    for account, name in ((source, "debit"), (target, "credit")):
        if account.startswith("tenant.wallet:"):
            yield id, account, name, amount


def _conservation(books: Books) -> Iterator[str]:
    """Platform, pool, leads, wallets and what was redeemed are nothing together."""
    balances, net = _balances(books), books.net()
    given = {account: Decimal(net[account]) / 100 for account in COUNTERPARTIES}
    total = sum([*balances.values(), *given.values()], ZERO)
    if total:
        yield f"{total} came from nowhere: {given}, {balances}"
    for account in balances.keys() | net.keys() - COUNTERPARTIES:
        balance = balances.get(account, ZERO)
        if balance * 100 != net[account]:
            yield f"{account} holds {balance}, and {net[account]} hundredths were moved there"
        if balance < 0:
            yield f"{account} is below zero: {balance}"


def _caches(books: Books) -> Iterator[str]:
    """Every place that tells of a balance tells that of the ledger."""
    told: Counter[tuple[str, Decimal]] = Counter()
    for row in books.tenants:
        told["tenant.pool", row["points_allocation_balance"]] += 1
    for row in books.members:
        told[f"tenant.lead:{row['user_id']}", row["lead_distribution_balance"]] += 1
    for row in books.wallets:
        account = f"tenant.wallet:{row['user_id']}"
        told[account, row["balance"]] += 1
        came = [amount for _, _, to, amount in books.moved() if to == account]
        went = [amount for _, source, _, amount in books.moved() if source == account]
        if (row["lifetime_earned"], row["lifetime_spent"]) != (sum(came), sum(went)):
            yield f"{account} says {row['lifetime_earned']} came and {row['lifetime_spent']} went"
    there = Counter(_balances(books).items())
    # Who never had anything has no account, or has one with nothing in it.
    told, there = (Counter({k: n for k, n in c.items() if k[1]}) for c in (told, there))
    if told != there:
        yield f"told: {[*(told - there)]}, there: {[*(there - told)]}"


def _way(account: str, steps: Sequence[tuple[Decimal, Decimal]], end: Decimal) -> Iterator[str]:
    """Its logs are one way from nothing to what it holds, and nowhere below zero."""
    low = [after for _, after in steps if after < 0]
    if low:
        yield f"{account} was below zero: {low}"
    begun = Counter([*(before for before, _ in steps), end])
    ended = Counter([ZERO, *(after for _, after in steps)])
    if begun != ended:
        yield f"{account} went on from {[*(begun - ended)]}, and came to {[*(ended - begun)]}"
    onward = defaultdict(list)
    for before, after in steps:
        onward[before].append(after)
    reached, ahead = set[Decimal](), [ZERO]
    while ahead:
        reached.add(here := ahead.pop())
        ahead += [there for there in onward[here] if there not in reached]
    if lost := set(onward) - reached:
        yield f"{account} never came to {lost}"


def _sold(books: Books) -> Iterator[str]:
    """What is sold is no longer on offer."""
    stocks = {name: stock for name, _, stock in REWARDS}
    for reward in books.rewards:
        stock = stocks[reward["name"]]
        kept = [row for row in books.redemptions if row["status"] == "completed"]
        sold = sum(row["reward_id"] == reward["id"] for row in kept)
        if stock is not None and reward["stock"] != stock - sold:
            yield f"{sold} of {reward['name']} are sold, {reward['stock']} of {stock} are left"


def _balances(books: Books) -> dict[str, Decimal]:
    return {row["account"]: Decimal(row["balance"]) / 100 for row in books.accounts}
