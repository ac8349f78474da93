"""Users' accounts at OpenRouter as the database keeps them: for one user, and encrypted."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from cryptography.fernet import Fernet

from tallybook.provider_keys import ProviderKeys
from tests.credits.bank import Bank
from tests.world import Connection, code_of, refused

OLD, NEW = (ProviderKeys(Fernet.generate_key().decode()) for _ in range(2))


def connect(bank: Bank, user: UUID, keys: ProviderKeys = OLD, **more: Any) -> tuple[str, Any]:
    """A key of the user's, stored; how it was encrypted, and the answer."""
    encrypted, key_id = keys.encrypt(user, "sk-or-v1-x")
    more = {"openrouter_account_id": "acc", "free_credits": D("1.5"), **more}
    answer = bank.call(
        "store_openrouter_account",
        user_id=user,
        openrouter_api_key_encrypted=encrypted,
        key_id=key_id,
        **more,
    )
    return encrypted, answer


def note(bank: Bank, user: UUID, seen: str, **more: Any) -> Any:
    said = {"openrouter_account_id": "acc", "free_credits": D("0.25"), **more}
    return bank.call("note_openrouter_sync", user_id=user, seen=seen, **said)


def stored(bank: Bank, user: UUID) -> tuple[str, str]:
    """The encrypted key and the id of what it is encrypted under."""
    (row,) = bank.world.rows("select * from openrouter_accounts where user_id = %s", (user,))
    return row["openrouter_api_key_encrypted"], row["key_id"]


# It does


def test_an_account_is_kept_and_told_without_its_key(bank: Bank) -> None:
    bank.world.freeze()
    user = uuid4()
    encrypted, answer = connect(bank, user)
    assert answer == {
        "connected": True,
        "openrouter_account_id": "acc",
        "free_credits": 1.5,
        "last_synced": "2026-03-02T09:00:00+00:00",
        "updated_at": "2026-03-02T09:00:00+00:00",
    }
    assert bank.call("openrouter_account", user_id=user) == answer
    assert bank.call("openrouter_account", user_id=user, with_key=True) == {
        **answer,
        "openrouter_api_key_encrypted": encrypted,
        "key_id": OLD.key_id,
    }


def test_another_key_takes_the_place_of_the_first(bank: Bank) -> None:
    bank.world.freeze()
    user = uuid4()
    connect(bank, user)
    bank.world.pass_time(timedelta(hours=1))
    encrypted, answer = connect(bank, user, NEW, openrouter_account_id=None, free_credits=None)
    assert stored(bank, user) == (encrypted, NEW.key_id)
    assert (answer["openrouter_account_id"], answer["free_credits"]) == (None, None)
    assert answer["last_synced"] == "2026-03-02T10:00:00+00:00"


def test_what_openrouter_says_later_is_noted_and_the_key_stays(bank: Bank) -> None:
    bank.world.freeze()
    user = uuid4()
    seen, _ = connect(bank, user)
    bank.world.pass_time(timedelta(hours=1))
    answer = note(bank, user, seen, openrouter_account_id="other")
    assert (answer["free_credits"], answer["openrouter_account_id"]) == (0.25, "other")
    assert answer["last_synced"] == "2026-03-02T10:00:00+00:00"
    assert stored(bank, user) == (seen, OLD.key_id)


def test_with_the_note_the_key_is_encrypted_anew(bank: Bank) -> None:
    user = uuid4()
    seen, _ = connect(bank, user)
    again, key_id = NEW.encrypt(user, "sk-or-v1-x")
    answer = note(bank, user, seen, reencrypted=again, key_id=key_id)
    assert stored(bank, user) == (again, NEW.key_id)
    assert again not in str(answer) and "key_id" not in answer


def test_a_forgotten_account_is_gone_and_its_neighbour_is_not(bank: Bank) -> None:
    user, neighbour = uuid4(), uuid4()
    connect(bank, user)
    connect(bank, neighbour)
    assert bank.call("delete_openrouter_account", user_id=user) == {"connected": False}
    assert bank.world.count("openrouter_accounts") == 1
    assert bank.call("openrouter_account", user_id=neighbour)["connected"]


def test_an_operator_rotates_a_key_and_changes_nothing_else(bank: Bank) -> None:
    bank.world.freeze()
    user = uuid4()
    seen, before = connect(bank, user)
    bank.world.pass_time(timedelta(hours=1))
    again, key_id = NEW.encrypt(user, "sk-or-v1-x")
    answer = bank.call(
        "reencrypt_openrouter_account",
        bank.world.operator,
        user_id=user,
        seen=seen,
        reencrypted=again,
        key_id=key_id,
    )
    assert answer == {"rotated": True}
    assert stored(bank, user) == (again, NEW.key_id)
    after = bank.call("openrouter_account", user_id=user)
    assert after == {**before, "updated_at": "2026-03-02T10:00:00+00:00"}


# It replays


def test_a_note_about_a_key_that_was_replaced_changes_nothing(bank: Bank) -> None:
    user = uuid4()
    seen, _ = connect(bank, user)
    encrypted, current = connect(bank, user, NEW)
    assert note(bank, user, seen) == current
    stale, key_id = OLD.encrypt(user, "sk-or-v1-x")
    assert note(bank, user, seen, reencrypted=stale, key_id=key_id) == current
    assert stored(bank, user) == (encrypted, NEW.key_id)


def test_who_rotates_what_was_rotated_is_told_so(bank: Bank) -> None:
    user = uuid4()
    seen, _ = connect(bank, user)
    answers = []
    for _ in range(2):
        again, key_id = NEW.encrypt(user, "sk-or-v1-x")
        request = {"user_id": user, "seen": seen, "reencrypted": again, "key_id": key_id}
        answers.append(
            bank.call("reencrypt_openrouter_account", bank.world.operator, **request)["rotated"]
        )
    assert answers == [True, False]


# It refuses


@pytest.mark.parametrize(
    ("procedure", "more"),
    [
        ("openrouter_account", {}),
        ("delete_openrouter_account", {}),
        ("note_openrouter_sync", {"seen": "x", "openrouter_account_id": None, "free_credits": 1}),
    ],
)
def test_where_there_is_none(bank: Bank, procedure: str, more: dict[str, Any]) -> None:
    connect(bank, uuid4())
    with refused("account_not_found", 404):
        bank.call(procedure, user_id=uuid4(), **more)


@pytest.mark.parametrize(
    ("encrypted", "key_id"),
    [
        ("sk-or-v1-0123456789abcdef", "0" * 12),
        ("sk-or-v1-" + "a" * 200, "0" * 12),
        ("gAAAA" + "a" * 200 + " ", "0" * 12),
        ("gAAAA" + "a" * 200 + "\n", "0" * 12),
        ("gAAAA" + "a" * 5000, "0" * 12),
        ("gAAAA" + "a" * 200, "0" * 11),
        ("gAAAA" + "a" * 200, None),
        (None, "0" * 12),
    ],
)
def test_a_key_as_it_is_does_not_get_in(
    bank: Bank, encrypted: str | None, key_id: str | None
) -> None:
    user, other = uuid4(), uuid4()
    with refused("invalid_body", 400):
        bank.call(
            "store_openrouter_account",
            user_id=user,
            openrouter_api_key_encrypted=encrypted,
            key_id=key_id,
        )
    seen, before = connect(bank, other)
    with refused("invalid_body", 400):
        note(bank, other, seen, reencrypted=encrypted, key_id=key_id)
    with refused("invalid_body", 400):
        bank.call(
            "reencrypt_openrouter_account",
            bank.world.operator,
            user_id=other,
            seen=seen,
            reencrypted=encrypted,
            key_id=key_id,
        )
    assert stored(bank, other) == (seen, OLD.key_id)
    assert bank.call("openrouter_account", user_id=other) == before


@pytest.mark.parametrize("role", ["anon", "authenticated", "tallybook_worker"])
def test_nobody_else_reads_or_calls(bank: Bank, role: str) -> None:
    user = uuid4()
    connect(bank, user)
    with bank.world.admin.transaction():
        bank.world.admin.execute(f"set local role {role}")
        for asked in (
            "select * from public.openrouter_accounts",
            f"select public.openrouter_account('{user}', true)",
            f"select public.delete_openrouter_account('{user}')",
        ):
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege),
                bank.world.admin.transaction(),
            ):
                bank.world.admin.execute(asked)


# It races


def test_of_two_who_rotate_one_stores(bank: Bank) -> None:
    user = uuid4()
    seen, _ = connect(bank, user)

    def rotate(session: Connection) -> str:
        again, key_id = NEW.encrypt(user, "sk-or-v1-x")
        bank.call(
            "note_openrouter_sync",
            session,
            user_id=user,
            seen=seen,
            openrouter_account_id="acc",
            free_credits=1,
            reencrypted=again,
            key_id=key_id,
        )
        return again

    results = bank.world.at_once([rotate] * 5)
    assert stored(bank, user)[0] in results and stored(bank, user)[1] == NEW.key_id


def test_a_note_waits_for_a_new_key_and_then_leaves_it_alone(bank: Bank) -> None:
    user = uuid4()
    seen, _ = connect(bank, user)
    first = bank.world.session("tallybook_functions", autocommit=False)
    encrypted, key_id = NEW.encrypt(user, "sk-or-v1-y")
    bank.call(
        "store_openrouter_account",
        first,
        user_id=user,
        openrouter_api_key_encrypted=encrypted,
        key_id=key_id,
        free_credits=7,
    )
    with bank.world.in_background(
        lambda session: bank.call(
            "note_openrouter_sync",
            session,
            user_id=user,
            seen=seen,
            openrouter_account_id="acc",
            free_credits=1,
        ),
        bank.world.session("tallybook_functions"),
    ) as noted:
        first.commit()
        assert noted.result()["free_credits"] == 7
    assert stored(bank, user) == (encrypted, NEW.key_id)


def test_connecting_at_once_leaves_one_account(bank: Bank) -> None:
    user = uuid4()
    results = bank.world.at_once(
        [
            lambda session: bank.call(
                "store_openrouter_account",
                session,
                user_id=user,
                **dict(
                    zip(
                        ("openrouter_api_key_encrypted", "key_id"),
                        NEW.encrypt(user, "sk-or-v1-x"),
                        strict=True,
                    )
                ),
            )["connected"]
        ]
        * 5
    )
    assert results == [True] * 5, [code_of(result) for result in results]
    assert bank.world.count("openrouter_accounts") == 1
