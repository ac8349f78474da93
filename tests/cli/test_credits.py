"""`tallybook credits` shows, gives, takes and gives back."""

from __future__ import annotations

from decimal import Decimal as D
from uuid import UUID, uuid4

import pytest

from tests.cli.conftest import Run
from tests.credits.bank import Bank
from tests.world import World

EMAIL = "test@example.com"


@pytest.fixture
def bank(world: World) -> Bank:
    return Bank(world)


@pytest.fixture
def user(world: World) -> UUID:
    user = uuid4()
    world.admin.execute("insert into auth.users (id, email) values (%s, %s)", (user, EMAIL))
    return user


def test_credits_are_given_and_taken(operate: Run, bank: Bank, user: UUID) -> None:
    given = operate("credits", "allocate", EMAIL, "100.5", "--reason", "bonus", "--json").json
    assert (given["new_balance"], given["dry_run"]) == (100.5, False)
    done = operate(
        "credits", "allocate", str(user), "-0.25", "--type", "adjustment", "--reason", "A mistake"
    )
    assert done.code == 0
    assert "100.25" in done.output
    assert [row[:2] for row in bank.statement(user)] == [
        ("bonus", D("100.5")),
        ("adjustment", D("-0.25")),
    ]
    actors = bank.world.rows("select distinct actor from credit_transactions")
    assert [row["actor"] for row in actors] == ["op@example.org"]


def test_a_lot_is_what_the_options_say(operate: Run, bank: Bank, user: UUID) -> None:
    more = ("--type", "purchase", "--source", "voucher", "--expires", "2099-01-31", "--key", "k")
    asked = ("credits", "allocate", EMAIL, "5", "--reason", "x", *more)
    assert [operate(*asked, "--json").json.get("replayed") for _ in range(2)] == [None, True]
    assert "under the same key" in operate(*asked).output
    (lot,) = operate("credits", "show", EMAIL, "--json").json["lots"]
    assert (lot["source"], lot["remaining"], lot["expires_at"][:10]) == (
        "voucher", 5.0, "2099-01-31",
    )  # fmt: skip
    assert bank.statement(user) == [("purchase", D(5), D(5))]


def test_a_millionth_is_shown(operate: Run, bank: Bank, user: UUID) -> None:
    bank.give(user, 144)
    bank.give(user, D("-0.000001"), "usage")
    said = operate("credits", "show", EMAIL).output.split()
    assert said.count("143.999999") == 4  # the balance, what is available, the lot, the statement
    assert "-0.000001" in said


def test_what_there_is_is_shown(operate: Run, bank: Bank, user: UUID) -> None:
    bank.give(user, 10, reason="A gift")
    bank.give(user, -4, "usage", reason="A chat")
    told = operate("credits", "show", EMAIL, "--json").json
    assert (told["user_id"], told["balance"], told["tier"]) == (str(user), 6, "free")
    assert [row["amount"] for row in told["transactions"]] == [-4, 10]
    said = operate("credits", "show", str(user))
    assert said.code == 0
    for words in ("balance    6", "free", "A gift", "A chat", "usage"):
        assert words in said.output
    assert operate("credits", "show", str(uuid4())).code == 0


def test_a_usage_is_refunded(operate: Run, bank: Bank, user: UUID) -> None:
    bank.give(user, 10)
    usage = str(bank.give(user, -4, "usage"))
    asked = ("credits", "refund", EMAIL, usage, "--reason", "It failed")
    assert operate(*asked, "--amount", "1.5", "--json").json["refunded"] == 1.5
    assert operate(*asked).code == 0
    done = operate(*asked, "--json")
    assert (done.code, done.json["refusal"]["code"]) == (1, "refund_exceeded")
    assert bank.balance(user) == D(10)


def test_a_user_is_put_into_a_tier(operate: Run, bank: Bank, user: UUID) -> None:
    done = operate("credits", "tier", EMAIL, "professional")
    assert done.code == 0
    assert "professional" in done.output
    assert operate("credits", "show", EMAIL, "--json").json["tier"] == "professional"
    refused = operate("credits", "tier", EMAIL, "golden", "--json")
    assert (refused.code, refused.json["refusal"]["code"]) == (1, "unknown_tier")


def test_a_dry_run_changes_nothing_and_is_refused_as_well(
    operate: Run, bank: Bank, user: UUID
) -> None:
    bank.give(user, 10)
    usage = str(bank.give(user, -4, "usage"))
    written = bank.world.count("audit_log")
    for arguments in (
        ("allocate", EMAIL, "5", "--reason", "x"),
        ("refund", EMAIL, usage, "--reason", "x"),
        ("tier", EMAIL, "starter"),
    ):
        tried = operate("credits", *arguments, "--dry-run", "--json")
        assert (tried.code, tried.json["dry_run"]) == (0, True)
    assert operate("credits", "allocate", EMAIL, "5", "--reason", " ", "--dry-run").code == 1
    assert bank.balance(user) == D(6)
    assert bank.world.count("audit_log") == written
    assert operate("credits", "show", EMAIL, "--json").json["tier"] == "free"


def test_a_refusal_is_code_1_and_wrong_usage_code_2(operate: Run) -> None:
    for arguments in (
        ("show", "nobody@example.com"),
        ("allocate", "nobody@example.com", "5", "--reason", "x"),
        ("allocate", str(uuid4()), "-5", "--reason", "x"),
        ("allocate", str(uuid4()), "5", "--reason", "x", "--type", "usage"),
        ("refund", str(uuid4()), str(uuid4()), "--reason", "x"),
    ):
        assert operate("credits", *arguments).code == 1, arguments
    for arguments in (
        ("allocate", str(uuid4()), "5"),
        ("allocate", str(uuid4()), "much", "--reason", "x"),
        ("allocate", str(uuid4()), "nan", "--reason", "x"),
        ("allocate", str(uuid4()), "5", "--reason", "x", "--expires", "someday"),
        ("refund", str(uuid4()), "that one", "--reason", "x"),
    ):
        assert operate("credits", *arguments).code == 2, arguments
