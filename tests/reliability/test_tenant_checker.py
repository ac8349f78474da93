"""The checker finds what is wrong in companies too: true books are falsified, one way each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from tallybook.local.signing import LocalKeys
from tests.conftest import Database
from tests.reliability.checker import Checker
from tests.reliability.firms import TABLES, Books, Firm, employ
from tests.reliability.load import Load
from tests.reliability.machine import serving
from tests.reliability.tenant_checks import firm_faults
from tests.reliability.tenant_falsehoods import FALSEHOODS, Falsify
from tests.reliability.tenant_wallets import TENANT_KINDS

OPERATIONS = 1200  # for everything there is a company among them that has done it


async def test_whatever_is_falsified_in_a_company_is_found(
    database: Database, seed: str, tmp_path: Path
) -> None:
    keys, operator = LocalKeys.new(), database.dsn("tallybook_operator")
    with serving(database, keys, tmp_path / "serve.log") as port:
        load = Load(seed, port, keys, {}, TENANT_KINDS)
        lives = load.lives("only", OPERATIONS)
        firms = employ(operator, lives, load.credentials)
        await load.run(lives)
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


def falsified(falsify: Falsify, firms: list[Firm], found: dict[UUID, Books]) -> tuple[Firm, Books]:
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
