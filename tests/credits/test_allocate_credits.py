"""Credits by an administrator's decision: given once, written down, never to oneself."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.credits.bank import Bank
from tests.world import NOW, Connection, World, code_of, refused


def allocate(
    bank: Bank, user: object, amount: object = 100, through: Connection | None = None, **more: Any
) -> Any:
    asked = {"user_id": None, "account": str(user), "amount": amount, "reason": "bonus", **more}
    return bank.call("allocate_credits", through, **asked)


def someone(world: World, email: str) -> UUID:
    user = uuid4()
    world.admin.execute("insert into auth.users (id, email) values (%s, %s)", (user, email))
    return user


def test_credits_are_given_as_the_seed_says_it(bank: Bank) -> None:
    user = someone(bank.world, "test@example.com")
    answer = allocate(bank, "Test@Example.com", "100.0")
    account = answer.pop("account")
    assert answer == {"new_balance": 100.0, "transaction_id": answer["transaction_id"]}
    assert account == {
        "user_id": str(user), "balance": 100.0, "tier": "free", "monthly_cap": None, "version": 1,
    }  # fmt: skip
    assert bank.statement(user) == [("bonus", D(100), D(100))]
    assert bank.lots(user) == [("bonus", D(100))]


def test_what_was_given_stays_given_when_it_has_ended_since(bank: Bank) -> None:
    bank.world.freeze(NOW)
    user, ends = bank.customer(), NOW + timedelta(hours=1)
    first = allocate(bank, user, 5, expires_at=ends, idempotency_key="k")
    bank.world.freeze(ends)
    again = allocate(bank, user, 5, expires_at=ends, idempotency_key="k")
    assert again.pop("replayed")
    assert (again["transaction_id"], again["new_balance"]) == (first["transaction_id"], 5.0)
    with refused("invalid_body", 400, "expires_at: must lie in the future"):
        allocate(bank, user, 5, expires_at=ends, idempotency_key="another")
    with refused("nonce_reused", 409):
        allocate(bank, user, 6, expires_at=ends, idempotency_key="k")
    assert bank.balance(user) == 0


def test_everything_that_is_told_arrives(bank: Bank, admin: UUID) -> None:
    user, ends = bank.customer(), bank.world.now() + timedelta(days=7)
    allocate(
        bank,
        user,
        "0.000001",
        user_id=admin,
        reason="A gift",
        transaction_type="purchase",
        source="voucher",
        priority=5,
        expires_at=ends,
        idempotency_key="k",
        actor="somebody else",
        request_id="r-1",
    )
    (row,) = bank.world.rows(
        "select t.amount, t.transaction_type, t.reason, t.idempotency_key, t.actor, t.request_id,"
        " t.request_hash is not null as hashed, g.source, g.priority, g.expires_at,"
        " g.grant_id = t.id as of_it"
        " from credit_transactions as t join credit_grants as g on g.user_id = t.user_id"
    )
    assert row == {
        "amount": D("0.000001"),
        "transaction_type": "purchase",
        "reason": "A gift",
        "idempotency_key": "k",
        "actor": "ops@example.org",
        "request_id": "r-1",
        "hashed": True,
        "source": "voucher",
        "priority": 5,
        "expires_at": ends,
        "of_it": True,
    }


def test_it_is_audited_once(bank: Bank, admin: UUID) -> None:
    user = bank.customer(5)
    for _ in range(2):
        allocate(bank, user, 10, user_id=admin, idempotency_key="k", request_id="r-1")
    (row,) = bank.world.rows("select * from audit_log where action = 'credits.allocate'")
    assert (row["actor"], row["subject_id"], row["reason"], row["request_id"]) == (
        "ops@example.org", str(user), "bonus", "r-1",
    )  # fmt: skip
    assert (row["before"], row["after"]["balance"], row["after"]["amount"]) == (
        {"balance": 5.0}, 15.0, 10.0,
    )  # fmt: skip


def test_a_program_and_an_operator_act_by_name(bank: Bank) -> None:
    user = bank.customer()
    allocate(bank, user, 1, actor="billing")
    allocate(bank, user, 1, bank.world.operator, actor="eve@example.org")
    rows = bank.world.rows("select actor from credit_transactions order by id")
    assert [row["actor"] for row in rows] == ["billing", "eve@example.org"]


def test_an_adjustment_takes_what_is_there(bank: Bank) -> None:
    user = bank.customer(10, source="first", priority=1)
    bank.give(user, 10, source="second")
    answer = allocate(bank, user, "-12.5", transaction_type="adjustment")
    assert answer["new_balance"] == 7.5
    assert bank.lots(user) == [("second", D("7.5"))]
    with refused("insufficient_credits", 402, "Insufficient credits. Balance: 7.5, Required: 8"):
        allocate(bank, user, -8, transaction_type="adjustment")
    assert bank.balance(user) == D("7.5")
    with refused("invalid_amount", 400, "amount:"):
        allocate(bank, user, "-1000000000.000001", transaction_type="adjustment")


def test_an_adjustment_says_what_can_be_taken_of_who_has_reserved_and_of_who_may_owe(
    bank: Bank,
) -> None:
    user = bank.customer(10)
    bank.call("reserve_credits", user_id=user, model="gpt-4o", max_tokens=1000)
    with refused("insufficient_credits", 402, "Insufficient credits. Balance: 9.99625, Required: "):
        allocate(bank, user, -10, transaction_type="adjustment")
    bank.world.admin.execute("update ledger.accounts set floor = -5000000")
    with refused("insufficient_credits", 402, "Insufficient credits. Balance: 14.99625, Required:"):
        allocate(bank, user, -15, transaction_type="adjustment")
    assert allocate(bank, user, -14, transaction_type="adjustment")["new_balance"] == -4


def test_what_ends_now_is_no_gift(bank: Bank) -> None:
    bank.world.freeze()
    user, now = bank.customer(), bank.world.now()
    with refused("invalid_body", 400, "expires_at:"):
        allocate(bank, user, 1, expires_at=now)
    allocate(bank, user, 1, expires_at=now + timedelta(microseconds=1))


def test_what_has_ended_is_not_there_to_be_taken(bank: Bank) -> None:
    bank.world.freeze()
    user = bank.customer(10, expires_at=bank.world.now() + timedelta(days=1))
    bank.world.pass_time(timedelta(days=1))
    with refused("insufficient_credits", 402, "Insufficient credits. Balance: 0, Required: 1"):
        allocate(bank, user, -1, transaction_type="adjustment")
    assert allocate(bank, user, 3)["new_balance"] == 3


def test_under_a_key_it_happens_once(bank: Bank) -> None:
    user, other = bank.customer(), bank.customer()
    first = allocate(bank, user, 10, idempotency_key="k", request_id="r-1")
    allocate(bank, user, 5)
    again = allocate(bank, user, "10.000", idempotency_key="k", request_id="r-2")
    assert again["replayed"] is True
    assert (again["transaction_id"], again["new_balance"]) == (first["transaction_id"], 10)
    assert again["account"]["balance"] == 15
    for other_content in (
        {"amount": 11}, {"reason": "Another"}, {"source": "gift"}, {"priority": 1},
        {"transaction_type": "purchase"}, {"expires_at": bank.world.now() + timedelta(days=1)},
    ):  # fmt: skip
        with refused("nonce_reused", 409, "idempotency_key:"):
            allocate(bank, user, **{"amount": 10, "idempotency_key": "k", **other_content})
    # A key is a user's own.
    assert "replayed" not in allocate(bank, other, 10, idempotency_key="k")
    assert (bank.balance(user), bank.balance(other)) == (D(15), D(10))


def test_the_same_key_at_the_same_time_gives_once(bank: Bank) -> None:
    user = bank.customer()
    calls = [
        lambda session: allocate(bank, user, 10, session, idempotency_key="k") for _ in range(6)
    ]
    answers = bank.world.at_once(calls)
    assert Counter("replayed" in answer for answer in answers) == {True: 5, False: 1}  # type: ignore[operator]
    assert len({answer["transaction_id"] for answer in answers}) == 1  # type: ignore[index]
    assert bank.balance(user) == D(10)


def test_adjustments_at_the_same_time_take_no_more_than_there_is(bank: Bank) -> None:
    user = bank.customer(25)
    calls = [
        lambda session: allocate(bank, user, -10, session, transaction_type="adjustment")
        for _ in range(5)
    ]
    results = bank.world.at_once(calls)
    refusals = Counter(code_of(result) for result in results if not isinstance(result, dict))
    assert refusals == {"insufficient_credits": 3}
    assert bank.balance(user) == D(5)


@pytest.mark.parametrize(
    ("more", "code", "status", "detail"),
    [
        ({"reason": " "}, "reason_required", 400, "reason:"),
        ({"reason": None}, "reason_required", 400, "reason:"),
        ({"amount": 0}, "invalid_amount", 400, "amount:"),
        ({"amount": None}, "invalid_amount", 400, "amount:"),
        ({"amount": "NaN"}, "invalid_amount", 400, "amount:"),
        ({"amount": "Infinity"}, "invalid_amount", 400, "amount:"),
        ({"amount": "-0.5"}, "invalid_amount", 400, "amount:"),
        ({"amount": "0.0000001"}, "invalid_amount", 400, "amount:"),
        ({"amount": "1000000000.000001"}, "invalid_amount", 400, "amount:"),
        ({"amount": "1e9000"}, "invalid_amount", 400, "amount:"),
        ({"transaction_type": "usage"}, "invalid_body", 400, "transaction_type:"),
        ({"transaction_type": None}, "invalid_body", 400, "transaction_type:"),
        ({"source": "A source"}, "invalid_body", 400, "source:"),
        ({"expires_at": "2020-01-01T00:00Z"}, "invalid_body", 400, "expires_at:"),
        ({"expires_at": "infinity"}, "invalid_body", 400, "expires_at:"),
        ({"idempotency_key": ""}, "invalid_body", 400, "idempotency_key:"),
        ({"idempotency_key": "k" * 201}, "invalid_body", 400, "idempotency_key:"),
        ({"idempotency_key": "purchase:1"}, "invalid_body", 400, "idempotency_key:"),
        ({"account": "nobody@example.org"}, "user_not_found", 404, "account:"),
        ({"account": None}, "user_not_found", 404, "account:"),
        ({"user_id": uuid4()}, "forbidden", 403, ""),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_allocation_is_refused(
    bank: Bank, more: dict[str, Any], code: str, status: int, detail: str
) -> None:
    with refused(code, status, detail):
        allocate(bank, uuid4(), **more)
    assert (
        bank.world.count("credit_transactions")
        == bank.world.count("audit_log", "action like 'credits%%'")
        == 0
    )


def test_nobody_allocates_to_themselves(bank: Bank, admin: UUID) -> None:
    with refused("own_event", 403, "account:"):
        allocate(bank, admin, user_id=admin)
    # Their address is them as well.
    bank.world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'ops@example.org')", (admin,)
    )
    with refused("own_event", 403, "account:"):
        allocate(bank, "OPS@example.org", user_id=admin)
    assert bank.balance(admin) == 0


def test_a_user_may_not_call_it(bank: Bank) -> None:
    session = bank.world.session()
    session.execute("set role authenticated")
    with pytest.raises(Exception, match="permission denied"):
        allocate(bank, uuid4(), 1, session)


def test_no_account_gets_more_than_it_can_hold(bank: Bank) -> None:
    user = bank.customer(899_999_999_999)
    allocate(bank, user, 1)
    with refused("invalid_amount", 400, "amount:"):
        allocate(bank, user, 1)
    assert bank.balance(user) == D(900_000_000_000)


def test_what_is_refused_takes_no_room_in_an_account(bank: Bank) -> None:
    user = bank.customer(899_999_999_998)
    answer = bank.call(
        "bulk_allocate_credits",
        user_id=None,
        reason="a gift",
        allocations=Jsonb(
            [
                {"user_id": str(user), "amount": 100, "source": "No Source"},
                {"user_id": str(user), "amount": 2},
                {"user_id": str(user), "amount": 1},
            ]
        ),
    )
    assert [entry.get("code") for entry in answer["results"]] == [
        "invalid_body", None, "invalid_amount",
    ]  # fmt: skip


def test_an_address_is_found_however_it_is_written_and_of_two_the_older(bank: Bank) -> None:
    older = someone(bank.world, "Ada@Example.com")
    younger = someone(bank.world, "ada@example.com")
    bank.world.admin.execute(
        "update auth.users set created_at = now() - interval '1 day' where id = %s", (older,)
    )
    allocate(bank, "ADA@example.com", 1)
    assert (bank.balance(older), bank.balance(younger)) == (D(1), D(0))
