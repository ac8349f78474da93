"""A user's statement, page by page, and one transaction with all that belongs to it."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.credits.bank import Bank
from tests.world import NOW, refused

DAY = timedelta(days=1)
FIELDS = {
    "id", "amount", "balance_after", "transaction_type", "reason", "provider", "model",
    "power_level", "tokens_used", "cost", "metadata", "refund_of", "created_at",
}  # fmt: skip


@pytest.fixture(autouse=True)
def frozen(bank: Bank) -> None:
    bank.world.freeze()


def page(bank: Bank, user: UUID, **asked: Any) -> Any:
    return bank.call("credit_transactions_page", user_id=user, **asked)


def amounts(answer: dict[str, Any]) -> list[float]:
    return [row["amount"] for row in answer["transactions"]]


def all_of(bank: Bank, user: UUID, limit: int, **asked: Any) -> list[str]:
    """The ids of every page, one after the other."""
    ids, cursor = [], None
    while True:
        answer = page(bank, user, limit=limit, cursor=cursor, **asked)
        ids += [row["id"] for row in answer["transactions"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            return ids
        assert len(answer["transactions"]) == limit


def test_who_did_nothing_has_an_empty_page(bank: Bank) -> None:
    assert page(bank, uuid4()) == {"transactions": [], "next_cursor": None}


def test_a_transaction_is_told_whole_and_nobody_behind_it(bank: Bank) -> None:
    user = bank.customer(10)
    bank.world.pass_time(DAY)
    asked = {"amount": "2.5", "tokens_used": 7, "model": "gpt-4o", "provider": "openai"}
    more = {"power_level": "eco", "reason": "chat", "metadata": {"a": [1]}}
    usage = bank.call("deduct_credits", user_id=user, **asked, **more)["transaction_id"]
    told = page(bank, user)["transactions"][0]
    assert set(told) == FIELDS
    assert told == {
        "id": usage,
        "amount": -2.5,
        "balance_after": 7.5,
        "transaction_type": "usage",
        "reason": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "power_level": "eco",
        "tokens_used": 7,
        "cost": 2.5,
        "metadata": {"a": [1]},
        "refund_of": None,
        "created_at": (NOW + DAY).isoformat(),
    }


def test_the_newest_come_first_whenever_they_came(bank: Bank) -> None:
    user = bank.customer()
    for n in range(1, 8):
        bank.give(user, n)
        if n % 3 == 0:
            bank.world.pass_time(DAY)
    assert amounts(page(bank, user)) == [7, 6, 5, 4, 3, 2, 1]
    assert amounts(page(bank, user, limit=2)) == [7, 6]
    assert amounts(page(bank, user, limit=2, offset=3)) == [4, 3]
    assert page(bank, user, offset=7) == {"transactions": [], "next_cursor": None}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_a_cursor_leads_through_all_of_it(bank: Bank, limit: int) -> None:
    user = bank.customer()
    bank.customer(99)
    ids = []
    for n in range(1, 8):
        ids.append(str(bank.give(user, n)))
        if n % 3 == 0:
            bank.world.pass_time(timedelta(microseconds=1))
    assert all_of(bank, user, limit) == ids[::-1]


def test_what_comes_meanwhile_moves_no_page(bank: Bank) -> None:
    user = bank.customer()
    for n in range(1, 5):
        bank.give(user, n)
    cursor = page(bank, user, limit=2)["next_cursor"]
    bank.give(user, 5)
    bank.world.pass_time(DAY)
    bank.give(user, 6)
    assert amounts(page(bank, user, limit=2, cursor=cursor)) == [2, 1]
    assert amounts(page(bank, user, limit=1, offset=1, cursor=cursor)) == [1]


def test_types_and_days_are_told_apart(bank: Bank) -> None:
    user = bank.customer(10)
    bank.give(user, -1, "usage")
    bank.world.pass_time(DAY)
    bank.give(user, -2, "usage")
    bank.give(user, 3, "purchase")
    bank.world.pass_time(DAY)
    bank.give(user, -4, "usage")
    assert amounts(page(bank, user, type="usage")) == [-4, -2, -1]
    assert len(all_of(bank, user, 1, type="usage")) == 3
    # From the first moment on, and before the last.
    assert amounts(page(bank, user, start_date=NOW + DAY)) == [-4, 3, -2]
    assert amounts(page(bank, user, end_date=NOW + DAY)) == [-1, 10]
    between = {"start_date": NOW + DAY, "end_date": NOW + 2 * DAY}
    assert amounts(page(bank, user, type="usage", **between)) == [-2]
    assert len(all_of(bank, user, 1, **between)) == 2
    assert amounts(page(bank, user, start_date=NOW + DAY, end_date=NOW)) == []
    for type in ("bonus", "refund", "adjustment", "allocation", "expiry"):
        assert len(page(bank, user, type=type)["transactions"]) == (type == "bonus")


def test_ten_thousand_come_in_one_page(bank: Bank) -> None:
    user = bank.customer()
    bank.move(*({"user_id": user, "amount": 1, "transaction_type": "bonus"} for _ in range(250)))
    assert len(page(bank, user, limit=10_000)["transactions"]) == 250
    assert len(page(bank, user, limit=None, offset=None)["transactions"]) == 50


def test_a_page_reads_no_more_than_it_shows(bank: Bank) -> None:
    """Of a long statement, wherever the page lies, and however rare what is looked for."""
    user, world = bank.customer(), bank.world
    with world.admin.transaction():
        world.admin.execute("set local session_replication_role = replica")
        world.admin.execute(
            "insert into credit_transactions (user_id, amount, balance_after, transaction_type,"
            " created_at) select %s, 0, 0, case when g %% 500 = 0 then 'expiry' else 'usage' end,"
            " %s - g * interval '1 minute' from generate_series(1, 4000) as g",
            (user, NOW),
        )
    world.admin.execute("analyze")

    def read() -> int:
        for session in (world.functions, world.admin):
            session.execute("select pg_stat_force_next_flush()")
        world.admin.execute("select pg_stat_clear_snapshot()")
        rows: int = world.value(
            "select idx_tup_fetch + seq_tup_read from pg_stat_user_tables"
            " where relname = 'credit_transactions'"
        )
        return rows

    cursor = page(bank, user, offset=2000)["next_cursor"]
    for asked in (
        {},
        {"cursor": cursor},
        {"end_date": NOW - 2 * DAY},
        {"start_date": NOW - DAY, "limit": 50},
        {"type": "expiry"},
        {"type": "expiry", "cursor": cursor},
    ):
        before = read()
        assert page(bank, user, **asked)["transactions"]
        assert read() - before <= 60, asked
    with world.admin.transaction():
        world.admin.execute("set local session_replication_role = replica")
        world.admin.execute("delete from credit_transactions")


BAD_CURSORS = [
    "", "nonsense", "!" * 32, "A" * 31, "A" * 33, "_" * 32, "=" * 32, "A" * 31 + "=",
    urlsafe_b64encode(b"\x7f" * 24).decode(), urlsafe_b64encode(b"\xff" * 8 + b"\0" * 16).decode(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        *(({"cursor": cursor}, "cursor:") for cursor in BAD_CURSORS),
        ({"type": "everything"}, "type:"),
        ({"type": ""}, "type:"),
        ({"limit": 0}, "limit:"),
        ({"limit": 10_001}, "limit:"),
        ({"limit": -1}, "limit:"),
        ({"offset": -1}, "offset:"),
        ({"offset": 10_001}, "offset:"),
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_refused(
    bank: Bank, asked: dict[str, Any], detail: str
) -> None:
    with refused("invalid_body", 400, detail):
        page(bank, bank.customer(1), **asked)


def test_one_is_told_with_its_lots_and_refunds(bank: Bank) -> None:
    user = bank.customer(3, source="first", priority=1)
    second = bank.give(user, 3, source="second")
    usage = bank.give(user, -5, "usage")
    refund = bank.give(user, 1, "refund", refund_of=usage, reason="It failed")
    told = bank.call("credit_transaction", user_id=user, transaction_id=usage)
    assert set(told) == FIELDS | {"lots", "refunds"}
    assert [(lot["source"], lot["amount"]) for lot in told["lots"]] == [
        ("first", -3),
        ("second", -2),
    ]
    assert told["lots"][1]["grant_id"] == str(second)
    assert told["refunds"] == [
        {"id": str(refund), "amount": 1.0, "reason": "It failed", "created_at": NOW.isoformat()}
    ]
    back = bank.call("credit_transaction", user_id=user, transaction_id=refund)
    assert (back["refund_of"], back["refunds"]) == (str(usage), [])
    assert back["lots"] == [{"grant_id": str(second), "source": "second", "amount": 1.0}]


def test_another_users_is_not_there(bank: Bank) -> None:
    user, other = bank.customer(1), bank.customer()
    transaction = bank.give(user, 1)
    for who, which in ((other, transaction), (user, uuid4())):
        with refused("transaction_not_found", 404, "transaction_id:"):
            bank.call("credit_transaction", user_id=who, transaction_id=which)
    assert page(bank, other)["transactions"] == []


def test_a_type_is_paged_through_though_all_came_at_once(bank: Bank) -> None:
    user = bank.customer()
    ids = []
    for n in range(1, 4):
        ids.append(str(bank.give(user, n, "purchase")))
        bank.give(user, n)
    assert all_of(bank, user, 1, type="purchase") == ids[::-1]


@pytest.mark.parametrize("type", [None, "bonus"])
def test_a_page_that_is_full_and_the_last_says_so(bank: Bank, type: str | None) -> None:
    user = bank.customer(1)
    bank.give(user, 2)
    assert page(bank, user, limit=2, type=type)["next_cursor"] is None
    assert page(bank, user, limit=1, type=type)["next_cursor"] is not None
