"""Many allocations in one call: each is done or refused by itself, and is done once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.credits.bank import Bank
from tests.world import Connection, refused


def bulk(
    bank: Bank, *allocations: Any, through: Connection | None = None, **more: Any
) -> dict[str, Any]:
    asked = {"user_id": None, "allocations": Jsonb(list(allocations)), "reason": "bonus", **more}
    answer: dict[str, Any] = bank.call("bulk_allocate_credits", through, **asked)
    return answer


def to(user: object, amount: object, **more: Any) -> dict[str, Any]:
    return {"user_id": str(user), "amount": amount, **more}


def codes(answer: dict[str, Any]) -> list[str]:
    return [result.get("code", "done") for result in answer["results"]]


def test_each_gets_theirs(bank: Bank, admin: UUID) -> None:
    first, second = bank.customer(5), uuid4()
    bank.world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'b@example.org')", (second,)
    )
    ends = bank.world.now() + timedelta(days=3)
    answer = bulk(
        bank,
        to(first, 10),
        to("B@example.org", "2.5", reason="Second", expires_at=ends.isoformat()),
        user_id=admin,
        request_id="r-1",
    )
    assert (answer["success_count"], answer["failed_count"]) == (2, 0)
    assert [(r["position"], r["user_id"], r["new_balance"]) for r in answer["results"]] == [
        (1, str(first), 15.0), (2, "B@example.org", 2.5),
    ]  # fmt: skip
    assert {account["user_id"]: account["balance"] for account in answer["accounts"]} == {
        str(first): 15.0, str(second): 2.5,
    }  # fmt: skip
    rows = bank.world.rows(
        "select t.id::text, t.user_id, t.reason, t.actor, t.request_id, g.expires_at"
        " from credit_transactions as t join credit_grants as g on g.grant_id = t.id"
        " where t.request_id is not null order by t.id"
    )
    assert [tuple(row.values())[1:] for row in rows] == [
        (first, "bonus", "ops@example.org", "r-1", None),
        (second, "Second", "ops@example.org", "r-1", ends),
    ]
    assert [row["id"] for row in rows] == [r["transaction_id"] for r in answer["results"]]
    audited = bank.world.rows("select subject_id from audit_log where action = 'credits.allocate'")
    assert {row["subject_id"] for row in audited} == {str(first), str(second)}


def test_one_bad_entry_touches_no_other(bank: Bank, admin: UUID) -> None:
    user = bank.customer()
    in_the_past = {"expires_at": "2020-01-01T00:00:00Z"}
    answer = bulk(
        bank,
        to(user, 1),
        to("nobody@example.org", 1),
        to(user, -1),
        to(user, "much"),
        to(user, True),
        to(user, [1]),
        to(user, 10**300),
        to(user, "0.0000001"),
        to(user, 1, **in_the_past),
        to(user, 1, expires_at="2026-02-30"),
        to(user, 1, expires_at="tomorrow"),
        to(user, 1, priority="high"),
        to(user, 1, reason=" "),
        to(user, 1, idempotency_key="k" * 201),
        to(admin, 1),
        {"amount": 1},
        5,
        None,
        "text",
        [],
        to(user, 2),
        user_id=admin,
    )
    assert codes(answer) == [
        "done", "user_not_found", *["invalid_amount"] * 6, *["invalid_body"] * 4, "reason_required",
        "invalid_body", "own_event", "user_not_found", *["invalid_body"] * 4, "done",
    ]  # fmt: skip
    assert (answer["success_count"], answer["failed_count"]) == (2, 19)
    assert all(result["detail"] for result in answer["results"] if "code" in result)
    assert bank.statement(user) == [("bonus", D(1), D(1)), ("bonus", D(2), D(3))]


def test_the_same_user_twice_is_fine(bank: Bank) -> None:
    user = bank.customer()
    answer = bulk(bank, to(user, 1), to(str(user).upper(), 2), to(user, 3))
    assert [result["new_balance"] for result in answer["results"]] == [1, 3, 6]
    assert len(bank.lots(user)) == 3
    assert len(answer["accounts"]) == 1


def test_of_adjustments_what_comes_is_there_for_what_goes(bank: Bank) -> None:
    user, poor = bank.customer(5), bank.customer(1)
    answer = bulk(
        bank,
        to(user, -8),
        to(poor, -2),
        to(user, 4),
        to(poor, -1),
        to(user, -2),
        transaction_type="adjustment",
    )
    assert codes(answer) == ["done", "insufficient_credits", "done", "done", "insufficient_credits"]
    assert answer["results"][1]["detail"].startswith("Insufficient credits. Balance: ")
    assert [row[1:] for row in bank.statement(user)] == [
        (D(5), D(5)), (D(4), D(9)), (D(-8), D(1)),
    ]  # fmt: skip
    assert bank.balance(poor) == 0


def test_all_of_it_again_gives_nothing_again(bank: Bank) -> None:
    users = [bank.customer() for _ in range(3)]
    run = [to(user, 10, idempotency_key="july") for user in users]
    first = bulk(bank, *run)
    again = bulk(bank, *run, to(users[0], 11, idempotency_key="july"), to(users[1], 1))
    assert codes(again) == ["done", "done", "done", "nonce_reused", "done"]
    assert [r["transaction_id"] for r in again["results"][:3]] == [
        r["transaction_id"] for r in first["results"]
    ]
    assert [r.get("replayed") for r in again["results"]] == [True, True, True, None, None]
    assert [bank.balance(user) for user in users] == [D(10), D(11), D(10)]
    assert bank.world.count("audit_log", "action = 'credits.allocate'") == 4


def test_a_key_twice_in_one_call_counts_once(bank: Bank) -> None:
    user, poor = bank.customer(), bank.customer()
    answer = bulk(
        bank,
        to(user, 10, idempotency_key="k"),
        to(user, "10.0", idempotency_key="k"),
        to(user, 11, idempotency_key="k"),
        to(poor, -1, idempotency_key="k"),
        to(poor, -1, idempotency_key="k"),
        transaction_type="adjustment",
    )
    assert codes(answer) == [
        "done", "done", "nonce_reused", "insufficient_credits", "insufficient_credits",
    ]  # fmt: skip
    assert answer["results"][1]["replayed"] is True
    assert bank.balance(user) == D(10)


def test_runs_at_the_same_time_give_once(bank: Bank) -> None:
    users = [bank.customer() for _ in range(20)]
    run = [to(user, 1, idempotency_key="run") for user in users]
    calls = [
        # In any order: whoever locks, locks in one.
        lambda session, turn=turn: bulk(bank, *run[turn:], *run[:turn], through=session)
        for turn in (0, 7, 13)
    ]
    answers = bank.world.at_once(calls)
    assert [answer["success_count"] for answer in answers] == [20, 20, 20]  # type: ignore[index]
    assert {bank.balance(user) for user in users} == {D(1)}
    assert bank.world.count("credit_transactions") == 20


@pytest.mark.parametrize(
    ("allocations", "detail"),
    [
        (None, "allocations:"),
        ({}, "allocations:"),
        ([], "allocations:"),
        ([{}] * 1001, "allocations:"),
    ],
    ids=["null", "object", "none", "too many"],
)
def test_what_is_no_list_of_allocations_is_refused(
    bank: Bank, allocations: Any, detail: str
) -> None:
    with refused("invalid_body", 400, detail):
        bulk(bank, allocations=None if allocations is None else Jsonb(allocations))


def test_who_is_no_administrator_is_refused(bank: Bank) -> None:
    user = bank.customer()
    with refused("forbidden", 403):
        bulk(bank, to(user, 1), user_id=user)
    with refused("invalid_body", 400, "transaction_type:"):
        bulk(bank, to(user, 1), transaction_type="refund")


def test_a_thousand_fit(bank: Bank) -> None:
    users = [uuid4() for _ in range(999)]
    answer = bulk(bank, *(to(user, "0.000001") for user in users), to(users[0], 1))
    assert answer["success_count"] == 1000
    assert bank.balance(users[0]) == D("1.000001")
