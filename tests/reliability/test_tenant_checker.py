"""The checker finds what is wrong in companies too: true books are falsified, one way each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import UUID

from tallybook.local.signing import LocalKeys
from tests.conftest import Database
from tests.reliability import tenant_falsehoods as falsehoods
from tests.reliability.checker import Checker
from tests.reliability.firms import TABLES, Books, Firm, employ
from tests.reliability.load import Load
from tests.reliability.machine import serving
from tests.reliability.model import Life
from tests.reliability.tenant_checks import firm_faults
from tests.reliability.tenant_wallets import TENANT_KINDS, Award, GiveBack
from tests.reliability.tenants import Allocate, ClawBack, Recall

OPERATIONS = 1500  # at once, until everything was done by some company


# What the checker must say to each.
FALSEHOODS: Final[dict[falsehoods.Falsify, str]] = {
    falsehoods.lose_an_allocation: "ok): the book has it 0 times",
    falsehoods.allocate_twice: "ok): the book has it 2 times",
    falsehoods.allocate_twice_although_nobody_knows_of_once: "unknown): the book has it 2 times",
    falsehoods.allocate_another_amount: "amount 1 was asked for",
    falsehoods.telling(
        Allocate, "new_allocation_balance"
    ): "the client was told new_allocation_balance -1",
    falsehoods.keep_no_lot: "the pool has the lots []",
    falsehoods.allocate_although_it_was_refused: "fail): the book has it 1 times",
    falsehoods.allocate_what_nobody_asked_for: "nobody asked for",
    falsehoods.telling(ClawBack, "amount_clawed_back"): "the client was told amount_clawed_back -1",
    falsehoods.delegate_to_another_lead: "lead_user_id",
    falsehoods.telling(Recall, "amount"): "the client was told amount -1",
    falsehoods.award_to_another: "was asked for, the book has [(",
    falsehoods.award_in_anothers_name: "from_user_id",
    falsehoods.telling(
        Award, "recipient_new_wallet_balance"
    ): "the client was told recipient_new_wallet_balance -1",
    falsehoods.share_otherwise: "was asked for, the book has [(",
    falsehoods.recognize_out_of_the_wrong_purse: "was paid by the lead",
    falsehoods.recognize_twice: "ok): the book has it 2 times",
    falsehoods.redeem_another_reward: "reward_id",
    falsehoods.redeem_for_less: "the client was told points_spent",
    falsehoods.redeem_twice: "ok): the book has it 2 times",
    falsehoods.refund_nothing: "ok): the book has it 0 times",
    falsehoods.refund_what_nobody_asked_for: "nobody asked for the refund",
    falsehoods.telling(GiveBack, "new_wallet_balance"): "the client was told new_wallet_balance -1",
    falsehoods.refuse_what_there_is: "it was refused",
    falsehoods.refuse_for_another_amount: "it was refused",
    falsehoods.refuse_by_what_never_was: "never held that",
    falsehoods.move_nothing: "not moved: [(",
    falsehoods.move_twice: "moved without a cause: [(",
    falsehoods.move_another_way: "moved without a cause: [(",
    falsehoods.raise_the_pool: "came from nowhere",
    falsehoods.raise_the_cached_pool: "told: [('tenant.pool'",
    falsehoods.raise_a_cached_budget: "told: [('tenant.lead",
    falsehoods.raise_a_cached_wallet: "told: [('tenant.wallet",
    falsehoods.raise_what_came: "came and",
    falsehoods.lose_an_entry: "not in a statement: [(",
    falsehoods.state_another_balance: "went on from",
    falsehoods.overwrite_what_another_wrote: "tenant.pool went on from",
    falsehoods.go_round_in_a_circle: "never came to",
    falsehoods.overdraw_a_budget: "is below zero",
    falsehoods.overdraw_the_pool: "was below zero",
    falsehoods.sell_without_a_look_at_the_stock: "are sold",
}


async def test_whatever_is_falsified_in_a_company_is_found(
    database: Database, seed: str, tmp_path: Path
) -> None:
    keys, operator = LocalKeys.new(), database.dsn("tallybook_operator")
    with serving(database, keys, tmp_path / "serve.log") as port:
        load = Load(seed, port, keys, {}, TENANT_KINDS)
        lives, firms = list[Life](), list[Firm]()
        while not all(load.counts[f"{kind.name} ok"] for kind in TENANT_KINDS):
            more = load.lives(f"{len(lives)}", OPERATIONS)
            firms += employ(operator, more, load.credentials)
            await load.run(more)
            lives += more
    checker = Checker(operator, keys.coupon_secret)
    checker.discrepancies("in the end")
    checker.check_firms(firms)
    assert not [fault for life in lives for fault in life.faults]
    assert not checker.faults, checker.report()
    checker.settle_firms(firms)
    checker.nothing_else()
    assert not checker.faults, checker.report()
    # What was counted is missed, and what was not is too much.
    checker.settle_firms(firms[:1])
    checker.nothing_else()
    found = checker.read_firms(firms)
    assert {fault.split(":")[0] for fault in checker.faults} == {*Books().counted()}
    for falsify, words in FALSEHOODS.items():
        firm, books = falsified(falsify, firms, found)
        faults = list(firm_faults(firm, books))
        assert any(words in fault for fault in faults), (falsify.__name__, faults)


def falsified(
    falsify: falsehoods.Falsify, firms: list[Firm], found: dict[UUID, Books]
) -> tuple[Firm, Books]:
    """What the first company that has done it remembers, and what its books say then."""
    for firm in firms:
        memory, books = copied(firm, found[firm.tenant])
        with suppress(StopIteration):
            falsify(memory, books)
            return memory, books
    raise AssertionError(f"nobody has done what it takes to {falsify.__name__}")


def copied(firm: Firm, books: Books) -> tuple[Firm, Books]:
    """As deep as anything is changed here."""
    lives = [
        replace(life, operations=[
            replace(o, body={**o.body}, answer={**o.answer}) for o in life.operations
        ])
        for life in firm.lives
    ]  # fmt: skip
    copy = Books()
    for name in TABLES:
        setattr(copy, name, [{**row} for row in getattr(books, name)])
    return Firm(firm.tenant, lives), copy
