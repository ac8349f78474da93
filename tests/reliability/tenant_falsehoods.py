"""True books of a company, and what its people remember, falsified in one way each."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from uuid import uuid4

from tests.reliability.firms import Books, Firm, Row
from tests.reliability.model import FAIL, OK, UNKNOWN, Life, Operation
from tests.reliability.tenant_wallets import Award, GiveBack, Recognize, Spend
from tests.reliability.tenants import Allocate, Delegate, TenantKind

Falsify = Callable[[Firm, Books], None]


def done(firm: Firm, kind: type[TenantKind], state: str = OK) -> tuple[Life, Operation]:
    """The first of a kind that ended so."""
    return next(
        (life, operation)
        for life in firm.lives
        for operation in life.operations
        if type(operation.kind) is kind and operation.state == state
    )


def row(firm: Firm, books: Books, kind: type[TenantKind]) -> tuple[Operation, Row]:
    """The same, with its row."""
    _, operation = done(firm, kind)
    return operation, kind().found(operation, books)[0]


def forget(table: list[Row], key: str, value: object) -> None:
    """Drop the rows that say so."""
    table[:] = [row for row in table if row[key] != value]


def shift(books: Books, account: str, amount: Decimal) -> None:
    """Change what an account holds, wherever that is told."""
    owner = account.partition(":")[2]
    for each in books.accounts:
        if each["account"] == account:
            each["balance"] += int(amount * 100)
    for each in books.tenants if account == "tenant.pool" else ():
        each["points_allocation_balance"] += amount
    for each in books.wallets if account.startswith("tenant.wallet") else ():
        if str(each["user_id"]) == owner:
            each["balance"] += amount
            each["lifetime_earned" if amount > 0 else "lifetime_spent"] += abs(amount)


def telling(kind: type[TenantKind], name: str) -> Falsify:
    """The client was told something else."""

    def tell(firm: Firm, books: Books) -> None:
        done(firm, kind)[1].answer[name] = "-1"

    return tell


def lose_an_allocation(firm: Firm, books: Books) -> None:
    """Everything of it."""
    _, bill = row(firm, books, Allocate)
    forget(books.bills, "id", bill["id"])
    forget(books.allocations, "id", bill["allocation_id"])
    forget(books.transfers, "transfer_id", bill["id"])
    shift(books, "tenant.pool", -bill["amount"])


def allocate_twice(firm: Firm, books: Books) -> None:
    """In good order, at the end of all that happened to the pool."""
    _, bill = row(firm, books, Allocate)
    again, lot = uuid4(), uuid4()
    (pool,) = (t["points_allocation_balance"] for t in books.tenants)
    told = {"id": again, "allocation_id": lot, "balance_after": pool + bill["amount"]}
    books.bills.append({**bill, **told})
    (first,) = (a for a in books.allocations if a["id"] == bill["allocation_id"])
    books.allocations.append({**first, "id": lot})
    (moved,) = (t for t in books.transfers if t["transfer_id"] == bill["id"])
    books.transfers.append({**moved, "transfer_id": again})
    shift(books, "tenant.pool", bill["amount"])


def allocate_twice_although_nobody_knows_of_once(firm: Firm, books: Books) -> None:
    allocate_twice(firm, books)
    done(firm, Allocate)[1].state = UNKNOWN


def allocate_another_amount(firm: Firm, books: Books) -> None:
    operation, _ = row(firm, books, Allocate)
    operation.body["amount"] = operation.answer["amount_allocated"] = "1"


def keep_no_lot(firm: Firm, books: Books) -> None:
    forget(books.allocations, "id", row(firm, books, Allocate)[1]["allocation_id"])


def allocate_although_it_was_refused(firm: Firm, books: Books) -> None:
    _, operation = done(firm, Allocate)
    operation.state, operation.answer = FAIL, {"code": "forbidden"}


def allocate_what_nobody_asked_for(firm: Firm, books: Books) -> None:
    life, operation = done(firm, Allocate)
    life.operations.remove(operation)


def delegate_to_another_lead(firm: Firm, books: Books) -> None:
    row(firm, books, Delegate)[1]["lead_user_id"] = uuid4()


def award_to_another(firm: Firm, books: Books) -> None:
    operation, _ = row(firm, books, Award)
    operation.body["to_user_id"] = str(uuid4())


def award_in_anothers_name(firm: Firm, books: Books) -> None:
    row(firm, books, Award)[1]["from_user_id"] = uuid4()


def share_otherwise(firm: Firm, books: Books) -> None:
    """As much in all."""
    for given in books.recognitions:
        shares = [r for r in books.recipients if r["recognition_id"] == given["id"]]
        if len({r["points"] for r in shares}) > 1:
            shares[0]["points"], shares[-1]["points"] = shares[-1]["points"], shares[0]["points"]
            return
    raise StopIteration


def recognize_out_of_the_wrong_purse(firm: Firm, books: Books) -> None:
    given = next(r for r in books.recognitions if r["funded_by"] == "wallet")
    given["funded_by"] = "lead"


def recognize_twice(firm: Firm, books: Books) -> None:
    """A retry that forgot its key: what it gave is there, in good order."""
    _, given = row(firm, books, Recognize)
    again = uuid4()
    books.recognitions.append({**given, "id": again})
    for each in [r for r in books.recipients if r["recognition_id"] == given["id"]]:
        books.recipients.append({**each, "recognition_id": again, "entry_id": uuid4()})


def redeem_another_reward(firm: Firm, books: Books) -> None:
    row(firm, books, Spend)[1]["reward_id"] = uuid4()


def redeem_for_less(firm: Firm, books: Books) -> None:
    row(firm, books, Spend)[1]["points"] -= Decimal("0.01")


def redeem_twice(firm: Firm, books: Books) -> None:
    books.redemptions.append({**row(firm, books, Spend)[1], "id": uuid4()})


def refund_nothing(firm: Firm, books: Books) -> None:
    row(firm, books, GiveBack)[1]["status"] = "completed"


def refund_what_nobody_asked_for(firm: Firm, books: Books) -> None:
    life, operation = done(firm, GiveBack)
    life.operations.remove(operation)


def refuse_what_there_is(firm: Firm, books: Books) -> None:
    _, operation = done(firm, Award, FAIL)
    operation.answer["detail"] = "Available: 100000, Required: " + operation.body["amount"]


def refuse_for_another_amount(firm: Firm, books: Books) -> None:
    done(firm, Award, FAIL)[1].answer["detail"] = "Available: 0, Required: 100000"


def refuse_by_what_never_was(firm: Firm, books: Books) -> None:
    _, operation = done(firm, Award, FAIL)
    operation.answer["detail"] = "Available: -0.33, Required: " + operation.body["amount"]


def move_nothing(firm: Firm, books: Books) -> None:
    books.transfers.pop()


def move_twice(firm: Firm, books: Books) -> None:
    books.transfers.append({**books.transfers[0], "transfer_id": uuid4()})


def move_another_way(firm: Firm, books: Books) -> None:
    """From the pool and not from a budget; the sums of all of it agree."""
    books.transfers[0]["from_account"] = "tenant.lead:nobody"


def raise_the_pool(firm: Firm, books: Books) -> None:
    """Wherever it is told."""
    shift(books, "tenant.pool", Decimal(1))


def raise_the_cached_pool(firm: Firm, books: Books) -> None:
    books.tenants[0]["points_allocation_balance"] += 1


def raise_a_cached_budget(firm: Firm, books: Books) -> None:
    books.members[0]["lead_distribution_balance"] += 1


def raise_a_cached_wallet(firm: Firm, books: Books) -> None:
    books.wallets[0]["balance"] += 1


def raise_what_came(firm: Firm, books: Books) -> None:
    books.wallets[0]["lifetime_earned"] += 1


def lose_an_entry(firm: Firm, books: Books) -> None:
    books.entries.pop()


def state_another_balance(firm: Firm, books: Books) -> None:
    """What nobody was told, and the sums do not show."""
    entry = next(e for e in books.entries if e["transaction_type"] == "debit")
    entry["balance_after"] += Decimal("0.01")


def overwrite_what_another_wrote(firm: Firm, books: Books) -> None:
    """A lost update: the pool's logs go on from where it was before."""
    for after, before in zip(books.bills[1:], books.bills, strict=False):
        after["balance_after"] = before["balance_after"] + after["amount"]
    for operation in (o for life in firm.lives for o in life.operations):
        operation.state = UNKNOWN


def sell_without_a_look_at_the_stock(firm: Firm, books: Books) -> None:
    next(r for r in books.rewards if r["stock"] is not None)["stock"] += 1


def go_round_in_a_circle(firm: Firm, books: Books) -> None:
    """Two entries of a wallet that nothing leads to, and that come to nothing."""
    entry = books.entries[0]
    for name, after in (("credit", 1001), ("debit", 1000)):
        told = {"transaction_type": name, "points": Decimal(1), "balance_after": Decimal(after)}
        books.entries.append({**entry, **told, "id": uuid4()})


def overdraw_a_budget(firm: Firm, books: Books) -> None:
    next(a for a in books.accounts if a["kind"] == "tenant.lead")["balance"] = -1


def overdraw_the_pool(firm: Firm, books: Books) -> None:
    books.bills[0]["balance_after"] = Decimal(-1)
