"""No procedure walks through a table that grows, nor through all rows of its subject for one.

Procedures keep one plan a session, made when the tables were empty, until autovacuum analyzes
them; row-level security offers the planner all rows of the subjects, and that is the wrong way in.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.attestation.devices import Devices, a_hash
from tests.coupons.till import Till, code_of_any_key
from tests.credits.bank import Bank
from tests.credits.meter import Meter, line
from tests.tenants.company import Company
from tests.tenants.logs import allocated, given
from tests.trust.court import review
from tests.world import Connection, World

GROWING = [
    "points_events",
    "used_nonces",
    "coupons",
    "coupon_attempts",
    "user_points_cache",
    "transfers",
    "accounts",
    "trust_assessments",
    "device_users",
    "fraud_insights",
    "points_reviews",
    "points_review_notes",
    "entity_owners",
    "attestation_challenges",
    "device_keys",
    "device_key_users",
    "attestation_cache",
    "attestation_rechecks",
    "attestation_failures",
    "user_credits",
    "credit_transactions",
    "credit_grants",
    "credit_lot_entries",
    "credit_reservations",
    "usage_events",
    "usage_rollups",
    "usage_deltas",
    "coupon_redemptions",
    "holds",
    "tenants",
    "departments",
    "tenant_members",
    "allocation_logs",
    "platform_billing_logs",
    "wallets",
    "wallet_ledger",
    "recognitions",
    "recognition_groups",
    "rewards",
    "reward_redemptions",
    "tenant_alerts",
]
EVENTS = 3000
AT = datetime.now(UTC) - timedelta(days=1)


def walked(world: World) -> dict[str, tuple[int, int]]:
    """Table -> sequential scans, and rows read through indexes, of those that grow."""
    # Everybody's, or what was done before the day began would be counted with it.
    for session in (world.functions, world.worker, world.admin):
        session.execute("select pg_stat_force_next_flush()")
    world.admin.execute("select pg_stat_clear_snapshot()")
    rows = world.rows(
        "select relname, seq_scan, idx_tup_fetch from pg_stat_user_tables where relname = any (%s)",
        (GROWING,),
    )
    return {row["relname"]: (row["seq_scan"], row["idx_tup_fetch"]) for row in rows}


def a_day(world: World, user: UUID, template: UUID, worker: Connection) -> None:
    known = {"device_id": "phone", "related_entity_type": "goal", "related_entity_id": uuid4()}
    event = world.submit(user, event_type="goal_achieved", **known)
    soon = datetime.fromisoformat(event["event_time"]) + timedelta(seconds=5)
    doubted = world.submit(user, at=soon, **known)
    others = [world.event(world.user(), device_id="phone") for _ in range(5)]
    world.submit_batch(*others)
    world.validate(event["id"], through=worker)
    world.validate(limit=10, through=worker)
    review(world, doubted["id"], None, through=world.functions, actor="op")
    said = {"user_id": None, "event_id": event["id"], "label": "false_positive"}
    world.call("public.label_points_event", said, world.functions)
    world.redeem(user, template, key="bought again and again")
    world.redeem(user, template)
    world.submit(user, nonce="again and again", at=AT)
    world.redeem_batch(*(world.redemption(world.user(), template) for _ in range(5)))


def test_no_procedure_walks_through_what_grows(world: World) -> None:
    user, template = world.user(points=1000), world.template(cost=10, limit=None)
    # Many share the device here, and are believed all the same.
    world.operator.execute("update trust_rules set mode = 'shadow' where weight <> -20")
    for _ in range(8):
        a_day(world, user, template, world.worker)
    world.admin.execute(
        "insert into points_events (user_id, id, event_type, event_time, points_delta, nonce,"
        " payload_hash, validation_status, created_at)"
        " select %s, internal.uuidv7_floor(h.at), 'workout', h.at, 0, g::text, md5(g::text),"
        " 'validated', h.at from generate_series(25, 24 + %s) as g,"
        " lateral (select now() - g * interval '1 hour') as h(at)",
        (user, EVENTS),
    )
    world.admin.execute(
        "insert into used_nonces (user_id, nonce, event_type, payload_hash)"
        " select %s, g::text, 'workout', md5(g::text) from generate_series(1, %s) as g",
        (user, EVENTS),
    )
    world.admin.execute(
        "insert into device_users select 'phone', gen_random_uuid(), now()"
        " from generate_series(1, %(n)s)"
        " union all select g::text, %(user)s, now() from generate_series(1, %(n)s) as g",
        {"n": EVENTS, "user": user},
    )
    world.admin.execute(
        "insert into trust_assessments (user_id, event_id, policy_id, policy_version, trust_score,"
        " verdict, features, hits) select %(user)s, gen_random_uuid(), 'default', 1, 70,"
        " 'validated', '{}', '[]' from generate_series(1, %(n)s)",
        {"n": EVENTS, "user": user},
    )
    world.admin.execute(
        "insert into fraud_insights (user_id, insight_type, severity, created_at)"
        " select %(user)s, 'manual_flag', 'high', now() - g * interval '1 day'"
        " from generate_series(1, %(n)s) as g",
        {"n": EVENTS, "user": user},
    )
    world.admin.execute("analyze")
    before = walked(world)
    a_day(world, user, template, world.worker)
    after = walked(world)
    assert {table: after[table][0] - before[table][0] for table in GROWING} == dict.fromkeys(
        GROWING, 0
    )
    read = {table: after[table][1] - before[table][1] for table in GROWING}
    assert {table: rows for table, rows in read.items() if rows > EVENTS / 10} == {}


def an_hour_at_the_till(world: World, till: Till, template: UUID, member: UUID) -> None:
    coupon, another = till.coupon(template), till.coupon(template)
    till.verify(coupon.owner, coupon)
    till.verify(member, coupon, device_id="till", ip_address="192.0.2.1")
    till.hold(member, coupon, "cart")
    till.release(member, coupon, "cart")
    till.consume(member, coupon, "cart")
    till.consume(member, coupon, "cart")
    till.verify(member, code_of_any_key())
    world.call(
        "public.refund_coupon",
        {"user_id": None, "coupon_id": another.id, "reason": "goodwill"},
        world.functions,
    )
    for upkeep in ("mark_expired_coupons", "forget_sealed_codes", "cleanup_coupon_attempts"):
        world.call(f"public.{upkeep}", {"limit": 10}, world.worker)


def test_no_till_walks_through_what_grows(world: World) -> None:
    till = Till(world)
    template = world.template(cost=500, partner_id="coffee-house", max_redemptions=10_000)
    member = till.member()
    for _ in range(8):
        an_hour_at_the_till(world, till, template, member)
    world.admin.execute(
        "insert into coupons (template_id, code_hash, key_id, issued_to, issued_points_cost,"
        " points_event_id, expires_at, metadata)"
        " select %s, encode(sha256(g::text::bytea), 'hex'), 'k', %s, 1, gen_random_uuid(),"
        " now() + interval '1 day', '{\"of\": \"many\"}' from generate_series(1, %s) as g",
        (template, member, EVENTS),
    )
    world.admin.execute(
        "insert into coupon_attempts (scope, subject, window_started_at, failures)"
        " select 'device', 'd' || g, now(), 1 from generate_series(1, %s) as g",
        (EVENTS,),
    )
    world.admin.execute("analyze")
    before = walked(world)
    an_hour_at_the_till(world, till, template, member)
    after = walked(world)
    assert {table: after[table][0] - before[table][0] for table in GROWING} == dict.fromkeys(
        GROWING, 0
    )
    read = {table: after[table][1] - before[table][1] for table in GROWING}
    assert {table: rows for table, rows in read.items() if rows > EVENTS / 10} == {}
    # Nobody paid for these.
    with world.admin.transaction():
        world.admin.execute("set local session_replication_role = replica")
        world.admin.execute("delete from coupons where metadata ? 'of'")


def a_day_of_devices(world: World, devices: Devices, user: UUID, key: str, day: int) -> None:
    newcomer = world.user()
    attested = devices.vouched(devices.challenge(newcomer, "register"))
    new_key = devices.register(newcomer, evidence=attested)["key_id"]
    devices.register(newcomer, new_key, attested)
    request = {"nonce": f"day {day}", "at": AT + timedelta(minutes=day)}
    evidence = devices.signed(user, key, day)
    for _ in range(2):
        devices.submit(user, evidence, **request)
    devices.submit(user, devices.signed(user, key, day))
    guests = [world.user() for _ in range(3)]
    proofs = [devices.signed(guest, new_key, n) for n, guest in enumerate(guests, 1)]
    known = zip(guests, proofs, strict=True)
    world.submit_batch(*(world.event(guest, attestation=proof) for guest, proof in known))
    unchecked = devices.submit(newcomer, devices.unchecked(newcomer))["id"]
    world.admin.execute(
        "update attestation_rechecks set due_at = now() where event_id = %s", (unchecked,)
    )
    (due,) = devices.due(10)["due"]
    devices.recheck(newcomer, due["event_id"], "failed", "wrong_package")
    world.validate(limit=10)
    token = {"token_hash": a_hash()}
    for procedure, more in (
        ("claim_attestation", {"user_id": None, "budget": 10_000}),
        ("record_attestation", {"until": None, "is_valid": True, "verdict": {}}),
        ("claim_attestation", {"user_id": None, "budget": 10_000}),
    ):
        world.call(f"public.{procedure}", {**token, **more}, world.functions)
    devices.clean(10)


def test_no_device_walks_through_what_grows(world: World) -> None:
    devices, user = Devices(world), world.user()
    key = devices.key(user)
    for day in range(1, 9):
        a_day_of_devices(world, devices, user, key, day)
    numbers = "from generate_series(1, %(n)s) as g"
    some_hash = "encode(sha256(g::text::bytea), 'hex')"
    for statement in (
        "insert into attestation_challenges (user_id, challenge_hash, purpose, platform)"
        f" select gen_random_uuid(), {some_hash}, 'submit', 'ios' {numbers}",
        "insert into device_keys (key_id, public_key, user_id, app_id, environment, receipt,"
        " challenge_hash) select encode(sha256(g::text::bytea), 'base64'), k.public_key,"
        f" k.user_id, k.app_id, k.environment, k.receipt, {some_hash} {numbers},"
        " lateral (select * from device_keys limit 1) as k",
        f"insert into device_key_users select %(key)s, gen_random_uuid(), now() {numbers}",
        f"insert into device_key_users select g::text, %(user)s, now() {numbers}",
        "insert into attestation_cache (attestation_token_hash, platform)"
        f" select {some_hash}, 'android' {numbers}",
        "insert into attestation_rechecks (user_id, event_id, token, request_hash, due_at)"
        f" select %(user)s, gen_random_uuid(), 't', {some_hash}, now() + interval '1 hour'"
        f" {numbers}",
        "insert into attestation_failures (user_id, hour, reason, purpose, platform)"
        f" select %(user)s, now() - g * interval '1 minute', 'why', 'submit', 'ios' {numbers}",
    ):
        world.admin.execute(statement, {"n": EVENTS, "user": user, "key": key})
    world.admin.execute("delete from fraud_insights")
    world.admin.execute("analyze")
    before = walked(world)
    a_day_of_devices(world, devices, user, key, 9)
    after = walked(world)
    assert {table: after[table][0] - before[table][0] for table in GROWING} == dict.fromkeys(
        GROWING, 0
    )
    read = {table: after[table][1] - before[table][1] for table in GROWING}
    assert {table: rows for table, rows in read.items() if rows > EVENTS / 10} == {}


def a_day_of_credits(bank: Bank, user: UUID, day: int) -> None:
    admin, call, name = bank.world.admin, bank.call, f"day {day}"
    whose: dict[str, Any] = {"user_id": None, "account": str(user), "reason": "goodwill"}
    soon = datetime.now(UTC) + timedelta(days=1)
    given = call("allocate_credits", amount=20, expires_at=soon, idempotency_key=name, **whose)
    many = [{"user_id": str(each), "amount": 1} for each in (user, uuid4(), uuid4(), uuid4())]
    bulk: dict[str, Any] = {"user_id": None, "reason": "goodwill"}
    call("bulk_allocate_credits", allocations=Jsonb(many), **bulk)
    call("set_monthly_cap", user_id=user, monthly_cap=10_000 + day)
    used: dict[str, Any] = {
        "model": f"gpt-{day}",
        "tokens_used": 1000,
        "idempotency_key": f"use {day}",
    }
    for _ in range(2):
        charged = call("deduct_credits", user_id=user, **used)["transaction_id"]
    users = [bank.customer(1) for _ in range(5)]
    requests = [{"user_id": each, "amount": 0.5, "idempotency_key": name} for each in users]
    bank.world.batch("internal.deduct_credits_batch", requests, None)
    for end in ("settle_credits", "release_credits"):
        more: dict[str, Any] = {"tokens_used": 500} if end == "settle_credits" else {}
        reservation = call("reserve_credits", user_id=user, model="gpt-4o", max_tokens=1000)
        for _ in range(2):
            call(end, user_id=user, reservation_id=reservation["reservation_id"], **more)
    for _ in range(2):
        refund: dict[str, Any] = {
            "transaction_id": charged,
            "idempotency_key": f"back {day}",
            **whose,
        }
        call("refund_credits", amount="0.001", **refund)
    call("redeem_promotion", user_id=user, code="SPRING")
    call("validate_promotion", user_id=user, code="SPRING")
    for _ in range(2):
        bought: dict[str, Any] = {"user_id": None, "account": str(user), "package": "credits_10000"}
        call("record_credit_purchase", payment_id=f"pay_{day}", **bought)
    call("credit_packages_on_offer", user_id=user)
    call("credit_balance", user_id=user)
    call("credit_balance", user_id=user, include_history=True)
    page = call("credit_transactions_page", user_id=user, limit=20)
    call("credit_transactions_page", user_id=user, limit=20, cursor=page["next_cursor"])
    call("credit_transactions_page", user_id=user, type="purchase", limit=20)
    call("credit_transactions_page", user_id=user, start_date=soon - timedelta(days=2), limit=20)
    call("credit_transaction", user_id=user, transaction_id=charged)
    call("credit_lots", user_id=user)
    call("monthly_cap", user_id=user)
    call("usage_statistics", user_id=user, group_by="model", start_date=soon - timedelta(days=2))
    call("compare_tiers", user_id=user, tokens_used=1000, model="gpt-4o")
    call("calculate_credit_cost", user_id=user, tokens_used=1000, model="gpt-4o")
    # The lot's time is up, and the user's month begins.
    admin.execute(
        "update credit_grants set expires_at = now() where user_id = %s and grant_id = %s",
        (user, given["transaction_id"]),
    )
    admin.execute(
        "update user_credits set tier = 'starter', lots_due_at = now(),"
        " allocation_due_at = now() - %s * interval '1 day' where user_id = %s",
        (day, user),
    )
    call("credit_balance", user_id=user)
    assert call("expire_credits", bank.world.worker, limit=10)["expired"] == 1
    assert call("allocate_monthly_credits", bank.world.worker, limit=10)["allocated"] == 1
    Meter(bank).fold(limit=100)


@pytest.mark.parametrize("whose", ["one user's", "everybody's"])
def test_no_credits_walk_through_what_grows(world: World, whose: str) -> None:
    bank, user = Bank(world), uuid4()
    world.operator.execute(
        "insert into coupon_codes (code, discount_type, discount_value, max_uses_per_user)"
        " values ('SPRING', 'fixed', 1, 100000)"
    )
    for day in range(1, 9):
        a_day_of_credits(bank, user, day)
    anybody = "%(user)s::uuid" if whose == "one user's" else "gen_random_uuid()"
    of_many = (
        f"(select {anybody} as user_id, gen_random_uuid() as id, g.n,"
        " now() - g.n * interval '1 hour' as at from generate_series(1, %(n)s) as g(n))"
    )
    for statement in (
        "insert into user_credits (user_id)"
        " select gen_random_uuid() from generate_series(1, %(n)s)",
        "insert into credit_transactions (user_id, id, amount, balance_after, transaction_type,"
        " idempotency_key, refund_of, created_at) select m.user_id, m.id, 0, 0,"
        " case m.n %% 2 when 0 then 'usage' else 'refund' end, 'k' || m.n,"
        f" case m.n %% 2 when 1 then m.id end, m.at from {of_many} as m",
        "with many as materialized (select * from " + of_many + " as m), entered as ("
        " insert into credit_lot_entries select m.user_id, t.id, m.id, t.amount from many as m,"
        " lateral (values (m.id, 1), (gen_random_uuid(), -1)) as t(id, amount))"
        " insert into credit_grants (user_id, grant_id, source, amount, remaining, expires_at,"
        " created_at) select m.user_id, m.id, 'of_many', 1, 0, m.at, m.at from many as m",
        "insert into credit_reservations (user_id, id, amount, power_level, tier, pricing_version,"
        " is_price_known, by_user, balance, available, idempotency_key, request_hash,"
        " expires_at, released_at, created_at) select m.user_id, m.id, 0, 'balanced', 'free', 1,"
        f" true, false, 0, 0, 'k' || m.n, 'h', m.at, m.at, m.at from {of_many} as m",
        "insert into coupon_redemptions (user_id, code, redemption, discount_type, discount_value,"
        " redeemed_at) select m.user_id, 'SPRING', 100 + m.n, 'fixed', 1, m.at"
        f" from {of_many} as m",
        "update coupon_codes set times_used = times_used + %(n)s",
    ):
        world.admin.execute(statement, {"n": EVENTS, "user": user})
    for first in range(0, EVENTS, 1000):
        Meter(bank).bring(
            *(
                line(
                    n,
                    user if whose == "one user's" else uuid4(),
                    n % 7,
                    datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=n),
                    model=f"m{n}",
                )
                for n in range(first, first + 1000)
            )
        )
    while Meter(bank).fold():
        pass
    world.operator.execute("select pg_stat_force_next_flush()")
    world.admin.execute("analyze")
    before = walked(world)
    a_day_of_credits(bank, user, 20)
    after = walked(world)
    assert {table: after[table][0] - before[table][0] for table in GROWING} == dict.fromkeys(
        GROWING, 0
    )
    read = {table: after[table][1] - before[table][1] for table in GROWING}
    assert {table: rows for table, rows in read.items() if rows > EVENTS / 10} == {}
    # No transaction brought these.
    with world.admin.transaction():
        world.admin.execute("set local session_replication_role = replica")
        world.admin.execute(
            "delete from credit_lot_entries as e using credit_grants as g"
            " where g.user_id = e.user_id and g.grant_id = e.grant_id and g.source = 'of_many'"
        )
        world.admin.execute("delete from credit_grants where source = 'of_many'")
        world.admin.execute("delete from coupon_redemptions where redemption > 100")
        world.admin.execute(
            "update coupon_codes set times_used = (select count(*) from coupon_redemptions)"
        )


def a_day_of_a_tenant(company: Company, tenant: UUID, manager: UUID, user: UUID) -> None:
    """What is looked at; sums over all tenants, which read all of them, are not among it."""
    allocated(company, tenant, 10, datetime.now(UTC))
    given(company, tenant, 3, user, at=datetime.now(UTC))
    company.call("tenant_allocation_stats", user_id=manager)
    company.call("tenant_allocation_stats", user_id=None, tenant_id=tenant)
    for page in ("allocation_logs_page", "platform_billing_logs_page", "wallet_ledger_page"):
        for whose in ({"user_id": manager}, {"user_id": None}):
            answer = company.call(page, **whose, limit=5)
            company.call(page, **whose, limit=5, cursor=answer["next_cursor"])
            company.call(page, **whose, limit=5, direction="asc")
            company.call(page, **whose, limit=5, page=2)
            company.call(page, **whose, limit=5, start_date=AT)
    for page in ("allocation_logs_page", "platform_billing_logs_page"):
        answer = company.call(page, user_id=None, limit=5, sort="amount")
        company.call(page, user_id=None, limit=5, sort="amount", cursor=answer["next_cursor"])
    company.call("wallet_ledger_page", user_id=manager, member_id=user, limit=5)


@pytest.mark.parametrize("whose", ["one tenant's", "everybody's"])
def test_no_tenant_walks_through_what_grows(world: World, whose: str) -> None:
    company = Company(world)
    tenant = company.tenant(1000)
    manager, user = company.member(tenant, "tenant_manager"), company.member(tenant)
    for _ in range(8):
        a_day_of_a_tenant(company, tenant, manager, user)
    many = (
        "select g.n, case when %(one)s then %(tenant)s else gen_random_uuid() end as tenant_id,"
        " gen_random_uuid() as id, now() - g.n * interval '1 hour' as at"
        " from generate_series(1, %(n)s) as g(n)"
    )
    told = {"one": whose == "one tenant's", "tenant": tenant, "n": EVENTS}
    with world.admin.transaction():
        # No transfer brought these, and so they go again.
        for statement in (
            "insert into tenants (id, name) select gen_random_uuid(), 'Of many' from many",
            "insert into tenant_members (tenant_id, user_id) select m.tenant_id, m.id from many m",
            "insert into allocation_logs (tenant_id, actor, amount, created_at)"
            " select m.tenant_id, 'of many', m.n, m.at from many as m",
            "insert into platform_billing_logs (tenant_id, actor, amount, transaction_type,"
            " created_at) select m.tenant_id, 'of many', m.n, 'ADJUSTMENT', m.at from many as m",
            "insert into wallets (tenant_id, user_id) select m.tenant_id, m.id from many as m",
            "insert into wallet_ledger (tenant_id, id, wallet_id, user_id, transaction_type,"
            " source, points, balance_after, description, created_at) select m.tenant_id, m.id,"
            " m.id, m.id, 'credit', 'recognition', m.n, 0, 'of many', m.at from many as m",
        ):
            world.admin.execute(f"with many as ({many}) {statement}", told)
    world.admin.execute("analyze")
    before = walked(world)
    a_day_of_a_tenant(company, tenant, manager, user)
    after = walked(world)
    assert {table: after[table][0] - before[table][0] for table in GROWING} == dict.fromkeys(
        GROWING, 0
    )
    read = {table: after[table][1] - before[table][1] for table in GROWING}
    # Whoever sorts what has one time takes at least 32 rows, a page, and there are eleven pages.
    assert {table: rows for table, rows in read.items() if rows > EVENTS / 5} == {}
    with world.admin.transaction():
        world.admin.execute("set local session_replication_role = replica")
        world.admin.execute("delete from wallet_ledger where description = 'of many'")


def test_whoever_forbids_sequential_scans_forbids_compiling_plans(world: World) -> None:
    """Before PostgreSQL 18 a forbidden scan, where there is no other, makes a plan look so dear
    that it is compiled first: a submission took 900 ms instead of one."""
    rows = world.rows(
        "select p.oid::regprocedure::text as name from pg_proc as p"
        " where 'enable_seqscan=off' = any (p.proconfig) and not 'jit=off' = any (p.proconfig)"
    )
    assert [row["name"] for row in rows] == []
