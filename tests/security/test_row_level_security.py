"""Who sees and does what: a user their own rows and nothing else, and nobody writes by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from tests.world import Connection, World

OWNED = {
    "points_events": "user_id",
    "user_points_cache": "user_id",
    "coupons": "issued_to",
}
# tests/security/test_credit_security.py has who sees which rows of these.
CREDITS = {
    *("user_credits", "credit_transactions", "credit_grants", "credit_lot_entries"),
    *("credit_reservations", "usage_events", "usage_rollups", "coupon_redemptions"),
    *("pricing_versions", "pricing_models", "pricing_providers", "pricing_power_levels"),
    *("pricing_tiers", "credit_packages"),
}
# tests/security/test_tenant_isolation.py has who sees which rows of these.
TENANTS = {
    *("tenants", "departments", "tenant_members", "allocation_logs", "platform_billing_logs"),
    *("wallets", "wallet_ledger", "recognitions", "recognition_groups", "rewards"),
    *("reward_redemptions", "tenant_alerts", "lead_delegations"),
}
POLICIES_ASK = {
    *("internal.member_tenants()", "internal.member_departments()"),
    "internal.managed_tenants()",
}
CLAIMS = {
    "the seed's": "set local request.jwt.claims.sub = '{0}'",
    "PostgREST's": """set local request.jwt.claims = '{{"sub": "{0}", "role": "authenticated"}}'""",
    "PostgREST's of old": "set local request.jwt.claim.sub = '{0}'",
}


@dataclass(frozen=True)
class People:
    alice: UUID
    bob: UUID


@pytest.fixture
def people(world: World) -> People:
    """Two users who each earned, bought and wait for something."""
    people = People(world.user(points=500), world.user(points=700))
    template = world.template(cost=300)
    world.template(cost=1, active=False, name="Withdrawn")
    for user in (people.alice, people.bob):
        world.redeem(user, template)
        world.submit(user)
    return people


@contextmanager
def acting(world: World, role: str, claim: str = "") -> Iterator[Connection]:
    """A transaction in which the SQL editor plays a client."""
    with world.admin.transaction(force_rollback=True):
        world.admin.execute(f"SET LOCAL ROLE {role};")
        if claim:
            world.admin.execute(claim)
        yield world.admin


@contextmanager
def permission_denied(connection: Connection) -> Iterator[None]:
    """The block must end in 42501; the transaction around it goes on."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
        yield


def relations(world: World, kinds: str = "rpv") -> dict[tuple[str, str], str]:
    """Every table and view of ours by schema and name, with its first column; "rp" are tables."""
    rows = world.rows(
        "select n.nspname, c.relname, a.attname from pg_class as c"
        " join pg_namespace as n on n.oid = c.relnamespace"
        " join pg_attribute as a on a.attrelid = c.oid and a.attnum = 1"
        " where n.nspname in ('public', 'ledger', 'internal') and c.relkind::text = any (%s)"
        " order by 1, 2",
        (list(kinds),),
    )
    return {(row["nspname"], row["relname"]): row["attname"] for row in rows}


def functions(world: World) -> dict[str, sql.Composed]:
    """A call, with nulls, of every function of ours, under its signature."""
    rows = world.rows(
        "select p.oid::regprocedure::text as signature, n.nspname, p.proname,"
        " array(select format_type(a.t, null)"
        "         from unnest(p.proargtypes) with ordinality as a(t, n) order by a.n) as types"
        "  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace"
        " where n.nspname in ('public', 'ledger', 'internal') order by 1"
    )
    return {
        row["signature"]: sql.SQL("select {}({})").format(
            sql.Identifier(row["nspname"], row["proname"]),
            sql.SQL(", ").join(sql.SQL(f"null::{name}") for name in row["types"]),
        )
        for row in rows
    }


# The seed's own checks


def test_a_user_sees_only_their_own_rows_and_cannot_update_them(
    world: World, people: People
) -> None:
    with world.admin.transaction(force_rollback=True):
        world.admin.execute("SET LOCAL ROLE authenticated;")
        world.admin.execute(f"SET LOCAL request.jwt.claims.sub = '{people.alice}';")
        events = world.rows("SELECT * FROM points_events;")
        assert [e["user_id"] for e in events] == [people.alice] * 3
        (cache,) = world.rows("SELECT * FROM user_points_cache;")
        assert (cache["user_id"], cache["available_points"]) == (people.alice, 200)
        with permission_denied(world.admin):
            world.admin.execute(
                "UPDATE user_points_cache SET available_points = 999999"
                f" WHERE user_id = '{people.alice}';"
            )
    assert world.cache(people.alice) == (200, 10, 500, 300)


def test_every_coupon_is_secure(world: World, people: People) -> None:
    rows = world.rows(
        """
        SELECT coupon_id, code_hash,
               CASE WHEN plaintext_code IS NULL THEN 'SECURE' ELSE 'INSECURE' END as security
        FROM coupons;
        """,
        through=world.operator,
    )
    assert [row["security"] for row in rows] == ["SECURE"] * 2
    counted = "SELECT COUNT(*) FROM coupons WHERE plaintext_code IS NOT NULL;"
    assert world.value(counted, through=world.operator) == 0


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_nobody_can_store_a_code_in_plain_text(world: World, people: People, role: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        getattr(world, role).execute("update coupons set plaintext_code = 'ABCD-EFGH-JKLM-NPQR'")


def test_a_code_hash_is_a_hash(world: World) -> None:
    user, template = world.user(points=500), world.template(cost=500)
    with pytest.raises(psycopg.errors.CheckViolation):
        world.redeem(user, template, code_hash="ABCD-EFGH-JKLM-NPQR")
    assert world.points(user) == 500


# Reading


@pytest.mark.parametrize("spelling", CLAIMS)
def test_every_spelling_of_the_claim_shows_own_rows(
    world: World, people: People, spelling: str
) -> None:
    with acting(world, "authenticated", CLAIMS[spelling].format(people.bob)):
        for table, owner in OWNED.items():
            rows = world.rows(f"select {owner} as owner from {table}")
            assert {row["owner"] for row in rows} == {people.bob}


def test_whoever_has_no_claim_sees_nothing(world: World, people: People) -> None:
    with acting(world, "authenticated"):
        for table in OWNED:
            assert world.rows(f"select * from {table}") == []


@pytest.mark.parametrize("spelling", CLAIMS)
def test_a_claim_ends_with_its_transaction(world: World, people: People, spelling: str) -> None:
    with acting(world, "authenticated", CLAIMS[spelling].format(people.bob)):
        assert world.rows("select * from points_events")
    with acting(world, "authenticated") as client:
        assert client.execute("select * from points_events").fetchall() == []


@pytest.mark.parametrize("spelling", CLAIMS)
def test_a_subject_that_is_no_uuid_is_nobody(world: World, people: People, spelling: str) -> None:
    alice = str(people.alice)
    for subject in ("", "nobody", "alice@example.org", "1", f"{{{alice}}}", f"{alice}0", "null"):
        with acting(world, "authenticated", CLAIMS[spelling].format(subject)):
            for table in OWNED:
                assert world.rows(f"select * from {table}") == []


def test_a_stranger_sees_nothing(world: World, people: People) -> None:
    claim = CLAIMS["PostgREST's"].format(uuid4())
    with acting(world, "authenticated", claim) as client:
        for table in OWNED:
            assert client.execute(f"select * from {table}").fetchall() == []


def test_everybody_signed_in_sees_what_is_on_offer_and_what_earns_points(
    world: World, people: People
) -> None:
    with acting(world, "authenticated"):
        offers = world.rows("select template_name from coupon_templates")
        assert [offer["template_name"] for offer in offers] == ["Coffee"]
        assert world.count("points_rules", "client_submittable") == 7


def test_nothing_else_is_for_a_users_eyes(world: World, people: People) -> None:
    readable = {
        ("public", name)
        for name in (
            *(*OWNED, *CREDITS, *TENANTS),
            *("coupon_templates", "points_rules", "streak_multipliers", "recognition_recipients"),
        )
    }
    others = relations(world).keys() - readable
    assert len(others) > 10
    claim = CLAIMS["PostgREST's"].format(people.alice)
    with acting(world, "authenticated", claim) as client:
        for name in others:
            with permission_denied(client):
                client.execute(sql.SQL("select * from {}").format(sql.Identifier(*name)))


def test_what_devices_prove_is_for_no_clients_eyes(world: World, people: People) -> None:
    """Not even the service reads a challenge, or a token that is checked again."""
    tables = {name for schema, name in relations(world) if schema == "public"}
    assert tables >= ATTESTATION
    private = {"attestation_challenges", "attestation_rechecks"}
    readers = {"anon": set(), "authenticated": set(), "service_role": ATTESTATION - private}
    for role, readable in readers.items():
        with acting(world, role, CLAIMS["PostgREST's"].format(people.alice)) as client:
            for table in ATTESTATION - readable:
                with permission_denied(client):
                    client.execute(sql.SQL("select * from {}").format(sql.Identifier(table)))
            for table in readable:
                client.execute(sql.SQL("select * from {}").format(sql.Identifier(table)))


def test_whoever_is_not_signed_in_sees_no_table(world: World, people: People) -> None:
    claim = CLAIMS["PostgREST's"].format(people.alice)
    tables = relations(world)
    with acting(world, "anon", claim) as client:
        for name in tables:
            with permission_denied(client):
                client.execute(sql.SQL("select * from {}").format(sql.Identifier(*name)))


def test_the_service_sees_everybody(world: World, people: People) -> None:
    with acting(world, "service_role"):
        for table, owner in OWNED.items():
            rows = world.rows(f"select distinct {owner} as owner from {table}")
            assert {row["owner"] for row in rows} == {people.alice, people.bob}


# Writing


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_no_client_writes_any_table(world: World, people: People, role: str) -> None:
    claim = CLAIMS["PostgREST's"].format(people.alice)
    tables = relations(world, kinds="rp")
    assert len(tables) > 15
    with acting(world, role, claim) as client:
        for name, first in tables.items():
            table, column = sql.Identifier(*name), sql.Identifier(first)
            for statement in (
                sql.SQL("insert into {} default values").format(table),
                sql.SQL("update {} set {} = default").format(table, column),
                sql.SQL("delete from {}").format(table),
                sql.SQL("truncate {}").format(table),
            ):
                with permission_denied(client):
                    client.execute(statement)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_no_client_calls_any_function(world: World, people: People, role: str) -> None:
    calls = functions(world)
    assert len(calls) > 30
    claim = CLAIMS["PostgREST's"].format(people.alice)
    with acting(world, role, claim) as client:
        for signature, call in calls.items():
            if signature == "internal.caller_id()":
                # Policies ask who the caller is, as the caller.
                assert client.execute(call).fetchall() == [{"caller_id": people.alice}]
                continue
            if signature in POLICIES_ASK and role == "authenticated":
                # They say of the caller alone: here somebody of no tenant.
                assert [*client.execute(call).fetchall()[0].values()] == [[]]
                continue
            with permission_denied(client):
                client.execute(call)


def test_an_owners_own_rows_are_not_theirs_to_change(world: World, people: People) -> None:
    claim = CLAIMS["PostgREST's"].format(people.alice)
    with acting(world, "authenticated", claim) as client:
        for statement in (
            "update points_events set points_delta = 1000",
            "update coupons set status = 'issued'",
            "insert into points_events (user_id, event_type, event_time, points_delta,"
            f" validation_status) values ('{people.alice}', 'admin_award', now(), 5, 'validated')",
            "select * from points_events for update",
        ):
            with permission_denied(client):
                client.execute(statement)


def test_what_a_client_cannot_write_the_functions_write(world: World, people: People) -> None:
    assert world.submit(people.alice)["status"] == "pending"
    assert world.count("points_events", "user_id = %s", people.alice) == 4


# Our own roles

REQUEST = {
    "submit_points_event",
    "submit_points_event_batch",
    "redeem_coupon",
    "redeem_coupon_batch",
    "create_attestation_challenge",
    "register_device_key",
    "device_public_key",
}
BATCH = {
    "refresh_user_points_cache",
    "cleanup_expired_nonces",
    "expire_holds",
    "cleanup_expired_attestations",
    "due_attestations",
    "recheck_points_event",
}
BOTH = {"validate_points_events", "readiness", "claim_attestation", "record_attestation"}
ATTESTATION = {
    "attestation_challenges",
    "device_keys",
    "device_key_users",
    "attestation_cache",
    "attestation_decodes",
    "attestation_rechecks",
    "attestation_failures",
}


def executable(world: World, role: str) -> set[str]:
    """The names of our functions that a role may call: in a schema it cannot enter, none."""
    rows = world.rows(
        "select p.proname::text as name from pg_proc as p"
        " join pg_namespace as n on n.oid = p.pronamespace"
        " where n.nspname in ('public', 'ledger', 'internal')"
        "   and has_schema_privilege(%(role)s, n.oid, 'usage')"
        "   and has_function_privilege(%(role)s, p.oid, 'execute')",
        {"role": role},  # type: ignore[arg-type]
    )
    return {row["name"] for row in rows}


def test_the_functions_call_the_request_procedures_and_no_upkeep(world: World) -> None:
    assert executable(world, "tallybook_functions") >= REQUEST | BOTH
    assert executable(world, "tallybook_functions").isdisjoint(BATCH)


def test_the_worker_calls_the_batch_procedures_and_no_request(world: World) -> None:
    assert executable(world, "tallybook_worker") >= BATCH | BOTH
    assert executable(world, "tallybook_worker").isdisjoint(REQUEST)


@pytest.mark.parametrize("role", ["tallybook_functions", "tallybook_worker"])
def test_nobody_who_logs_in_moves_value_or_uses_the_helpers(world: World, role: str) -> None:
    helpers = {"post", "hold", "settle", "release", "move_points", "act_for", "subjects", "refuse"}
    helpers |= {"settle_attestations", "fail_attestation", "suspect_failed_attestation"}
    assert executable(world, role).isdisjoint(helpers)


@pytest.mark.parametrize("role", ["functions", "worker"])
def test_nobody_who_logs_in_reads_or_writes_a_table(
    world: World, people: People, role: str
) -> None:
    connection = getattr(world, role)
    for table in (*OWNED, *ATTESTATION, "used_nonces", "ledger.accounts", "ledger.transfers"):
        for statement in (f"select * from {table}", f"delete from {table}"):
            with permission_denied(connection):
                connection.execute(statement)


def test_a_procedure_leaves_no_subject_behind(world: World, people: People) -> None:
    with world.functions.transaction():
        world.submit(people.alice)
    row = world.functions.execute(
        "select coalesce(current_setting('tallybook.subjects', true), '') as subjects"
    ).fetchone()
    assert row == {"subjects": ""}
