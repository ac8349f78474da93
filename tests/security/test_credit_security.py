"""Who may do what with credits: over HTTP with every kind of token, and past it, in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from tests.conftest import Database
from tests.credits.bank import Bank
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.world import World, refused

CREDITS = "/api/v1/credits"
ADMIN = "/api/v1/admin/credits"


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def bank(world: World) -> Bank:
    return Bank(world)


def get(client: Client, path: str, **query: Any) -> httpx.Response:
    return httpx.get(
        f"{client.stack.url}{path}", params=query, headers=client.credentials or {}, timeout=20
    )


def allocation(user: UUID, amount: float = 1000) -> dict[str, Any]:
    return {"user_id": str(user), "amount": amount, "reason": "because"}


ONE = {"user_id": str(uuid4()), "amount": 1}
ADMINISTRATORS_ONLY = [
    ("POST", f"{ADMIN}/allocate", {"user_id": str(uuid4()), "amount": 1, "reason": "x"}),
    ("POST", f"{ADMIN}/bulk-allocate", {"allocations": [ONE], "reason": "x"}),
    (
        "POST",
        f"{CREDITS}/refund",
        {"user_id": str(uuid4()), "transaction_id": str(uuid4()), "reason": "x"},
    ),
    (
        "POST",
        f"{ADMIN}/purchases",
        {"user_id": str(uuid4()), "package": "credits_10000", "payment_id": "p"},
    ),
    (
        "POST",
        f"{ADMIN}/coupons",
        {"code": "MINE", "discount_type": "fixed", "discount_value": 1000},
    ),
    ("GET", f"{ADMIN}/coupons", None),
    ("DELETE", f"{ADMIN}/coupons/WELCOME100", None),
    ("GET", f"{ADMIN}/analytics/system", None),
    ("GET", f"{ADMIN}/analytics/top-spenders", None),
    ("GET", f"{ADMIN}/analytics/distribution", None),
]
USERS_OWN = [
    ("GET", "balance"),
    ("GET", "transactions"),
    ("GET", "transactions/export"),
    ("GET", "monthly-cap"),
    ("GET", "lots"),
    ("GET", "usage/stats"),
    ("GET", "usage/by-model"),
    ("GET", "packages"),
    ("GET", "openrouter/account"),
]


class TestAuthorizationChecks:
    @pytest.mark.parametrize(("method", "path", "body"), ADMINISTRATORS_ONLY)
    def test_what_administrators_do_is_refused_to_everybody_else(
        self, stack: Stack, world: World, method: str, path: str, body: Any
    ) -> None:
        statuses = [
            httpx.request(
                method, f"{stack.url}{path}", json=body, headers=client.credentials, timeout=20
            ).status_code
            for client in (
                Client(stack, credentials={}),
                Client(stack, credentials={"apikey": stack.keys.publishable_key}),
                Client(stack),
                administrator(stack, world, active=False),
            )
        ]
        assert statuses == [401, 403, 403, 403]

    @pytest.mark.parametrize(("method", "path"), USERS_OWN)
    def test_nobody_looks_at_what_is_anothers(self, stack: Stack, method: str, path: str) -> None:
        user, other = Client(stack), Client(stack)
        mine = get(user, f"{CREDITS}/{path}", user_id=str(user.user)).status_code
        theirs = get(user, f"{CREDITS}/{path}", user_id=str(other.user)).status_code
        nobodys = get(Client(stack, credentials={}), f"{CREDITS}/{path}").status_code
        assert (mine in (200, 404), theirs, nobodys) == (True, 403, 401)

    @pytest.mark.parametrize("path", ["deduct", "reserve", "calculate-and-deduct"])
    def test_nobody_spends_what_is_anothers(self, stack: Stack, bank: Bank, path: str) -> None:
        victim, thief = bank.customer(10), Client(stack)
        body = {
            "deduct": {"amount": 1},
            "reserve": {"model": "gpt-4o", "max_tokens": 1},
            "calculate-and-deduct": {"model": "gpt-4o", "tokens_used": 1},
        }[path]
        response = thief.post(f"{CREDITS}/{path}", {**body, "user_id": str(victim)})
        assert response.status_code == 403
        assert bank.balance(victim) == 10

    def test_another_users_transaction_is_not_there(self, stack: Stack, bank: Bank) -> None:
        victim = bank.customer()
        transaction = bank.give(victim, 10)
        response = get(Client(stack), f"{CREDITS}/transactions/{transaction}")
        assert (response.status_code, response.json()["code"]) == (404, "transaction_not_found")

    def test_another_users_reservation_is_not_there(self, stack: Stack, bank: Bank) -> None:
        victim = bank.customer(10)
        reserved = bank.call("reserve_credits", user_id=victim, model="gpt-4o", by_user=True)
        body = {"reservation_id": reserved["reservation_id"]}
        for path in ("release", "settle"):
            response = Client(stack).post(
                f"{CREDITS}/{path}", {**body, **({"tokens_used": 0} if path == "settle" else {})}
            )
            assert (response.status_code, response.json()["code"]) == (404, "reservation_not_found")

    def test_a_user_cannot_pass_for_an_administrator_by_what_a_token_says_of_them(
        self, stack: Stack
    ) -> None:
        user = uuid4()
        for claims in (
            {"user_metadata": {"role": "admin", "is_admin": True}},
            {"app_metadata": {"role": "admin"}, "is_admin": True},
        ):
            token = stack.keys.token(user, **claims)
            client = Client(stack, user, credentials={"authorization": f"Bearer {token}"})
            response = client.post(f"{ADMIN}/allocate", allocation(user))
            assert response.status_code == 403

    def test_an_administrator_does_not_give_to_themselves(self, stack: Stack, world: World) -> None:
        admin = administrator(stack, world)
        response = admin.post(f"{ADMIN}/allocate", allocation(admin.user))
        assert (response.status_code, response.json()["code"]) == (403, "own_event")

    def test_no_charge_is_a_gift(self, stack: Stack, bank: Bank) -> None:
        client = Client(stack)
        bank.give(client.user, 1)
        for amount in ("-1000", "-0.000001", "0"):
            client.post(f"{CREDITS}/deduct", f'{{"amount": {amount}}}'.encode())
        assert bank.balance(client.user) == 1

    def test_a_user_says_nothing_of_their_own_price(self, stack: Stack, bank: Bank) -> None:
        client = Client(stack)
        bank.give(client.user, 1)
        for extra in ({"tier": "free"}, {"price": 0}, {"cost": 0}, {"pricing_version": 1}):
            body = {"model": "gpt-4o", "tokens_used": 1000, **extra}
            response = client.post(f"{CREDITS}/calculate-and-deduct", body)
            assert (response.status_code, response.json()["code"]) == (400, "invalid_body")

    def test_a_forged_cache_lets_nothing_be_spent(self, stack: Stack, bank: Bank) -> None:
        client = Client(stack)
        bank.world.admin.execute(
            "insert into user_credits (user_id, balance) values (%s, 1000000)", (client.user,)
        )
        response = client.post(f"{CREDITS}/deduct", {"amount": 1})
        assert response.status_code == 402
        bank.world.admin.execute("delete from user_credits")

    def test_guessing_codes_is_throttled(self, stack: Stack) -> None:
        client = Client(stack)
        statuses = [
            client.post(f"{CREDITS}/coupons/redeem", {"code": f"GUESS{n}"}).status_code
            for n in range(30)
        ]
        assert statuses[0] == 404 and statuses[-1] == 429

    def test_injection_is_only_text(self, stack: Stack, bank: Bank) -> None:
        client = Client(stack)
        bank.give(client.user, 10)
        evil = "x'; drop table user_credits; --"
        body = {"amount": 1, "reason": evil, "metadata": {"model": evil, "provider": evil}}
        assert client.post(f"{CREDITS}/deduct", body).status_code == 200
        (entry, _) = get(client, f"{CREDITS}/transactions").json()["transactions"]
        assert (entry["reason"], entry["model"]) == (evil, evil)
        assert get(client, f"{CREDITS}/transactions", type=evil).status_code == 400

    def test_a_program_needs_the_secret_key(self, stack: Stack, bank: Bank) -> None:
        user = bank.customer(10)
        body = {"user_id": str(user), "amount": 1}
        wrong = Client(stack, credentials={"apikey": "sb_secret_" + "x" * 40})
        assert wrong.post(f"{CREDITS}/deduct", body).status_code == 401
        assert service(stack).post(f"{CREDITS}/deduct", body).status_code == 200


TABLES = [
    "user_credits",
    "credit_transactions",
    "credit_grants",
    "credit_lot_entries",
    "credit_reservations",
    "usage_events",
    "usage_rollups",
    "coupon_codes",
    "coupon_redemptions",
    "openrouter_accounts",
    "pricing_versions",
    "pricing_models",
    "pricing_tiers",
    "credit_packages",
]


class TestInSql:
    @pytest.mark.parametrize("table", TABLES)
    @pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
    def test_nobody_writes_past_the_procedures(self, world: World, table: str, role: str) -> None:
        session = world.session(autocommit=False)
        session.execute(f"set local role {role}")
        for statement in (
            f"insert into {table} default values",
            f"update {table} set updated_at = now()",
            f"delete from {table}",
            f"truncate {table}",
        ):
            if "updated_at" in statement and not has_updated_at(world, table):
                continue
            with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
                session.execute(statement)

    @pytest.mark.parametrize(
        "table", ["user_credits", "credit_transactions", "credit_grants", "usage_events"]
    )
    def test_a_user_sees_their_own_rows_and_no_others(
        self, world: World, bank: Bank, table: str
    ) -> None:
        mine, other = bank.customer(5), bank.customer(5)
        for user in (mine, other):
            bank.call("deduct_credits", user_id=user, amount=1)
        session = world.session(autocommit=False)
        session.execute("set local role authenticated")
        session.execute(f'set local request.jwt.claims = \'{{"sub": "{mine}"}}\'')
        seen = session.execute(f"select user_id from {table}").fetchall()
        assert seen and {row["user_id"] for row in seen} == {mine}

    def test_nobody_reads_a_provider_key_through_an_api(self, world: World) -> None:
        for role in ("anon", "authenticated", "service_role"):
            session = world.session(autocommit=False)
            session.execute(f"set local role {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("select * from openrouter_accounts")

    @pytest.mark.parametrize("table", ["credit_transactions", "credit_lot_entries", "usage_events"])
    def test_what_was_written_down_stays(self, world: World, bank: Bank, table: str) -> None:
        user = bank.customer(5)
        bank.call("deduct_credits", user_id=user, amount=1)
        for statement in (f"delete from {table}", f"update {table} set user_id = user_id"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                world.admin.execute(statement)

    def test_a_client_calls_no_procedure(self, world: World, bank: Bank) -> None:
        user = bank.customer(5)
        session = world.session(autocommit=False)
        session.execute("set local role authenticated")
        session.execute(f'set local request.jwt.claims = \'{{"sub": "{user}"}}\'')
        for call in (
            "public.deduct_credits(gen_random_uuid(), 1)",
            "public.credit_balance(gen_random_uuid())",
            "public.allocate_credits(null, 'a@example.com', 5, 'mine')",
            "internal.move_credits('{}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
                session.execute(f"select {call}")

    def test_an_administrators_procedure_knows_who_is_none(self, world: World, bank: Bank) -> None:
        with refused("forbidden", 403):
            bank.call(
                "allocate_credits", user_id=uuid4(), account=str(uuid4()), amount=1, reason="x"
            )


def has_updated_at(world: World, table: str) -> bool:
    return bool(
        world.rows(
            "select from information_schema.columns"
            " where table_name = %s and column_name = 'updated_at'",
            (table,),
        )
    )
