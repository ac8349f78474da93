"""What went wrong where this came from, and must not here: columns that are not there, double
debits, double grants, and a second wallet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tallybook import schema
from tallybook.local.postgres import EmbeddedPostgres
from tests.conftest import Database
from tests.credits.bank import Bank
from tests.house import catalog
from tests.house.conftest import empty_database
from tests.world import Connection, World, code_of, refused

OURS = "('public', 'ledger', 'internal')"
INSERT = re.compile(r"\binsert\s+into\s+((?:public|internal|ledger)\.\w+)[^(;]*?\(([^)]*)\)")
WRITE = r"\b(?:insert\s+into|update(?:\s+only)?|delete\s+from|merge\s+into)\s+{}\b"
COMMENT = re.compile(r"--.*")


def sources(world: World) -> dict[str, str]:
    """Every procedure's text, by its name with its schema, without comments."""
    rows = world.rows(
        "select n.nspname || '.' || p.proname as name, p.prosrc from pg_proc as p"
        f" join pg_namespace as n on n.oid = p.pronamespace where n.nspname in {OURS}"
    )
    return {row["name"]: COMMENT.sub("", row["prosrc"]).lower() for row in rows}


def writers(world: World, table: str, column: str | None = None) -> set[str]:
    """The procedures that write a table, or only one column of it."""
    found = set()
    for name, text in sources(world).items():
        for match in re.finditer(WRITE.format(re.escape(table)), text):
            # The list of an INSERT's columns, or what an UPDATE sets and takes it from.
            rest = re.split(r"\b(?:where|returning|values|select)\b|;", text[match.end() :])[0]
            if column is None or re.search(rf"\b{column}\b", rest):
                found.add(name)
    return found


def charges(bank: Bank, user: UUID) -> list[D]:
    return [amount for type, amount, _ in bank.statement(user) if type == "usage"]


# Columns


def test_every_column_that_a_procedure_inserts_is_there(world: World) -> None:
    columns: dict[str, set[str]] = {}
    for row in world.rows(
        "select n.nspname || '.' || c.relname as name, array_agg(a.attname::text) as columns"
        " from pg_class as c join pg_namespace as n on n.oid = c.relnamespace"
        " join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        f" where c.relkind = 'r' and n.nspname in {OURS} group by 1"
    ):
        columns[row["name"]] = set(row["columns"])
    inserted = [
        (name, table, {column.strip() for column in listed.split(",")})
        for name, text in sources(world).items()
        for table, listed in INSERT.findall(text)
    ]
    missing = [(name, table, wanted - columns[table]) for name, table, wanted in inserted]
    assert [each for each in missing if each[2]] == []
    found = {table for _, table, _ in inserted}
    assert {"public.credit_transactions", "public.usage_events", "public.user_credits"} <= found


def test_every_field_of_a_deduction_arrives_in_its_column(bank: Bank) -> None:
    user = bank.customer(10)
    told = {
        "amount": D("1.25"),
        "tokens_used": 1234,
        "model": "gpt-4o",
        "provider": "openai",
        "power_level": "precision",
        "metadata": {"chat": [1, {"of": "two"}]},
        "request_id": "r-1",
    }
    of_it = {"reason": "A chat", "idempotency_key": "k"}
    bank.call("deduct_credits", user_id=user, service="chat", **told, **of_it)
    (row,) = bank.world.rows("select * from credit_transactions where transaction_type = 'usage'")
    assert {name: row[name] for name in (*told, *of_it) if name != "amount"} == {
        name: value for name, value in {**told, **of_it}.items() if name != "amount"
    }
    assert (row["amount"], row["cost"], row["balance_after"]) == (D("-1.25"), D("1.25"), D("8.75"))
    assert row["request_hash"] is not None
    (event,) = bank.world.rows("select * from usage_events")
    for name in ("tokens_used", "model", "provider", "power_level", "metadata"):
        assert event[name] == told[name], name
    assert (event["service"], event["cost"], event["transaction_id"], event["tier"]) == (
        "chat", D("1.25"), row["id"], "free",
    )  # fmt: skip
    assert (event["success"], event["event_type"]) == (True, "usage")


# Double debits


def middleware(bank: Bank, user: UUID, through: Connection | None = None, **more: Any) -> Any:
    """Charges every call that passes, by its amount."""
    asked = {"user_id": user, "amount": 1, "idempotency_key": "call-1", **more}
    return bank.call("deduct_credits", through, **asked)


def handler(bank: Bank, user: UUID, through: Connection | None = None, **more: Any) -> Any:
    """Charges the call that it handles, by its tokens."""
    priced = {"tokens_used": 1000, "model": "gpt-4o", "power_level": "precision"}
    asked = {"user_id": user, **priced, "idempotency_key": "call-1", **more}
    return bank.call("deduct_credits", through, **asked)


@pytest.mark.parametrize("who", [middleware, handler])
def test_both_charge_the_same_and_it_is_charged_once(bank: Bank, who: Callable[..., Any]) -> None:
    user = bank.customer(10)
    first, second = who(bank, user), who(bank, user)
    assert second["replayed"] is True
    assert first["transaction_id"] == second["transaction_id"]
    assert len(charges(bank, user)) == 1


@pytest.mark.parametrize(
    ("first", "second"), [(middleware, handler), (handler, middleware)], ids=lambda f: f.__name__
)
def test_one_by_the_amount_and_one_by_the_tokens_is_no_second_charge(
    bank: Bank, first: Callable[..., Any], second: Callable[..., Any]
) -> None:
    user = bank.customer(10)
    first(bank, user)
    with refused("nonce_reused", 409, "idempotency_key:"):
        second(bank, user)
    # Also where both come to the same amount.
    with refused("nonce_reused", 409):
        middleware(bank, user, amount=D("0.015"))
    assert len(charges(bank, user)) == 1
    assert bank.world.count("usage_events") == 1


def test_both_at_the_same_time_are_one_charge(bank: Bank) -> None:
    user = bank.customer(10)
    calls = [lambda session, who=who: who(bank, user, session) for who in (middleware, handler) * 4]
    results = bank.world.at_once(calls)
    codes = Counter(code_of(result) for result in results if not isinstance(result, dict))
    assert codes == {"nonce_reused": 4}
    answers = [result for result in results if isinstance(result, dict)]
    assert len({answer["transaction_id"] for answer in answers}) == 1
    assert len(charges(bank, user)) == 1


# Double grants


def granted(bank: Bank, user: UUID) -> list[D]:
    return [amount for type, amount, _ in bank.statement(user) if type == "purchase"]


def test_a_webhook_that_comes_again_grants_nothing_again(bank: Bank) -> None:
    user = bank.customer()
    asked = {"user_id": None, "account": str(user), "package": "credits_10000"}
    calls = [
        lambda session: bank.call("record_credit_purchase", session, payment_id="pay_1", **asked)
        for _ in range(6)
    ]
    answers = bank.world.at_once(calls)
    assert len({answer["transaction_id"] for answer in answers}) == 1  # type: ignore[index]
    assert granted(bank, user) == [D(10000)]
    bank.call("record_credit_purchase", payment_id="pay_2", **asked)
    assert granted(bank, user) == [D(10000)] * 2


def test_a_grant_that_is_sent_again_is_made_once(bank: Bank) -> None:
    user = bank.customer()
    asked = {"user_id": None, "account": str(user), "amount": 50, "reason": "paid"}
    more = {"transaction_type": "purchase", "idempotency_key": "invoice-7"}
    calls = [
        lambda session: bank.call("allocate_credits", session, **asked, **more) for _ in range(6)
    ]
    answers = bank.world.at_once(calls)
    assert len({answer["transaction_id"] for answer in answers}) == 1  # type: ignore[index]
    assert granted(bank, user) == [D(50)]


# A second wallet


@pytest.fixture
def migrated(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """A database that was made by the migrations, of which the sources build the last."""
    built = {schema.ROOT / path: text for path, text in schema.build().items()}
    with (
        empty_database(postgres) as name,
        psycopg.connect(postgres.dsn(name), autocommit=True) as connection,
    ):
        for path in schema.migrations():
            connection.execute((built.get(path) or path.read_text()).encode())
        yield connection


def test_a_migrated_database_has_the_same_credits(
    database: Database, migrated: psycopg.Connection[Any]
) -> None:
    assert catalog.differences(catalog.dump(database.connect()), catalog.dump(migrated)) == []
    tables = {table for table, _ in created("50_credits") if table.startswith("public.")}
    assert {"public.user_credits", "public.credit_transactions"} <= tables
    known = migrated.execute(
        "select count(*) from unnest(%s::text[]) as t where to_regclass(t) is not null",
        (sorted(tables),),
    ).fetchone()
    assert known == (len(tables),)


def test_no_table_is_made_twice() -> None:
    made = Counter(table for table, _ in created("*"))
    assert [table for table, times in made.items() if times > 1] == []


def created(room: str) -> list[tuple[str, str]]:
    """The tables that the sources make, and where."""
    return [
        (name, str(path))
        for path in sorted((schema.ROOT / "sql").glob(f"{room}/*.sql"))
        for name in re.findall(r"^create table (\S+)", path.read_text(), re.MULTILINE)
    ]


def test_one_function_moves_credits(world: World) -> None:
    # A use that comes alone has short statements of its own, which nobody else calls.
    only = {"internal.move_credits", "internal.charge_use"}
    callers = {name for name, text in sources(world).items() if "charge_use(" in text}
    assert callers - {"internal.charge_use"} == {"internal.move_credits"}
    assert writers(world, "public.user_credits", "balance") == only
    assert writers(world, "public.credit_transactions") == only
    assert writers(world, "public.credit_lot_entries") == only
    assert writers(world, "public.credit_grants", "remaining") == only
    # The look is not blind: who writes the rest of these rows is seen.
    assert "public.switch_tier" in writers(world, "public.user_credits")
    assert "internal.expire_credit_lots" in writers(world, "public.credit_grants", "expires_at")
    posting = {name for name, text in sources(world).items() if re.search(r"ledger\.post", text)}
    assert {name for name in posting if re.search("credit|charge", name)} == only


def test_no_trigger_writes_a_balance(world: World) -> None:
    rows = world.rows(
        "select t.tgfoid::regproc::text as name from pg_trigger as t"
        " where not t.tgisinternal and t.tgrelid = any (array["
        " 'user_credits', 'credit_transactions', 'credit_grants', 'credit_lot_entries'"
        "]::regclass[])"
    )
    assert {row["name"] for row in rows} == {"internal.append_only"}


def test_nobody_who_logs_in_may_write_what_the_function_writes(world: World) -> None:
    rows = world.rows(
        "select r.rolname, c.oid::regclass::text as name"
        " from pg_roles as r, pg_class as c,"
        " (values ('insert'), ('update'), ('delete')) as k(command)"
        " where not r.rolsuper and r.rolname !~ '^pg_'"
        " and c.oid = any (array['user_credits', 'credit_transactions', 'credit_grants',"
        "   'credit_lot_entries']::regclass[])"
        " and has_table_privilege(r.oid, c.oid, k.command)"
    )
    assert {row["rolname"] for row in rows} == {"tallybook_procedures", "tallybook_upkeep"}


def test_no_other_column_keeps_anybodys_credits(world: World) -> None:
    rows = world.rows(
        "select n.nspname || '.' || c.relname || '.' || a.attname as name from pg_attribute as a"
        " join pg_class as c on c.oid = a.attrelid and c.relkind = 'r'"
        f" join pg_namespace as n on n.oid = c.relnamespace and n.nspname in {OURS}"
        " where a.attnum > 0 and not a.attisdropped and a.attname ~ 'balance|credit|wallet'"
        " and a.atttypid in ('numeric'::regtype, 'bigint'::regtype, 'int'::regtype)"
        # What a company keeps is another asset, in its own book.
        " and c.relname <> 'tenants' and not exists (select from pg_attribute as t"
        "   where t.attrelid = c.oid and t.attname = 'tenant_id')"
    )
    assert {row["name"] for row in rows} == {
        "ledger.accounts.balance",
        "public.user_credits.balance",
        "public.user_credits.credits_remaining",  # the same, under its old name
        "public.user_credits.credits_allocated",
        "public.credit_transactions.balance_after",
        "public.credit_reservations.balance",  # what a reservation was answered
        "public.credit_packages.credits",
        "public.pricing_tiers.monthly_credits",
        "public.pricing_tiers.low_balance_below",
        "public.coupon_codes.credits_expire_after_days",
        "public.openrouter_accounts.free_credits",
    }
    user = Bank(world).customer(7)
    (row,) = world.rows(
        "select balance, credits_remaining from user_credits where user_id = %s", (user,)
    )
    assert row["balance"] == row["credits_remaining"] == D(7)
