"""`tallybook tenant` sets companies up, fills their pools and puts them right."""

from __future__ import annotations

import re
import shlex
from decimal import Decimal as D
from uuid import uuid4

import pytest

from tallybook.schema import ROOT
from tests.cli.conftest import Run
from tests.tenants.company import Company
from tests.world import World


@pytest.fixture
def company(world: World) -> Company:
    return Company(world)


def test_a_company_is_set_up_filled_and_shown(operate: Run, company: Company) -> None:
    assert operate("tenant", "list").output == "None.\n"
    added = operate("tenant", "add", "Acme", "--currency", "USD", "--json").json
    tenant = added["id"]
    given = operate("tenant", "allocate", "Acme", "50000", "--note", "Start", "--json").json
    assert (given["new_allocation_balance"], given["currency"]) == ("50000", "USD")
    user = uuid4()
    assert operate("tenant", "member", tenant, str(user), "--role", "hr_admin").code == 0

    (listed,) = operate("tenant", "list", "--json").json["tenants"]
    assert (listed["id"], listed["name"], listed["members"]) == (tenant, "Acme", 1)
    assert "50000" in operate("tenant", "list").output
    found = operate("tenant", "show", tenant.upper(), "--json").json
    assert found["tenant"]["points_allocation_balance"] == 50000
    assert [row["user_id"] for row in found["members"]] == [str(user)]
    assert [row["reference_note"] for row in found["allocations"]] == ["Start"]
    assert [row["actor"] for row in found["billing"]] == ["op@example.org"]
    said = operate("tenant", "show", "Acme")
    assert said.code == 0
    for words in ("Acme", "hr_admin", "CREDIT_INJECTION", "Alerts"):
        assert words in said.output


def test_settings_are_changed_and_written_down(operate: Run, company: Company) -> None:
    tenant = str(company.tenant())
    changed = operate(
        "tenant", "set", tenant, "--expiry", "1_year", "--mode", "legacy_fallback",
        "--low-balance", "5.5", "--refill-amount", "1000", "--refill-threshold", "10",
        "--no-peer-to-peer", "--pause-redemptions", "--name", "New", "--reason", "Asked for",
    )  # fmt: skip
    assert changed.code == 0
    assert "expiry_policy never -> 1_year" in changed.output
    (row,) = company.world.rows("select * from tenants")
    assert (row["expiry_policy"], row["allocation_mode"], row["low_balance_threshold"]) == (
        "1_year", "legacy_fallback", D("5.5"),
    )  # fmt: skip
    assert (row["auto_refill_amount"], row["auto_refill_threshold"]) == (D(1000), D(10))
    assert (row["peer_to_peer_enabled"], row["redemptions_paused"]) == (False, True)
    off = ("--refill-amount", "none", "--inactive", "--reason", "x")
    after = operate("tenant", "set", "New", *off, "--json").json["after"]
    assert (after["auto_refill_amount"], after["is_active"]) == (None, False)
    audited = company.world.rows(
        "select actor, reason from audit_log where action = 'settings.update'"
        " and subject_type = 'tenants' order by recorded_at, audit_id"
    )
    assert [tuple(row.values()) for row in audited] == [
        ("op@example.org", "Asked for"), ("op@example.org", "x"),
    ]  # fmt: skip


def test_how_long_wallets_keep_is_a_setting_like_any_other(operate: Run, company: Company) -> None:
    tenant = str(company.tenant())
    done = operate(
        "tenant", "set", tenant, "--wallet-expiry", "90_days", "--no-wallets-permanent",
        "--reason", "New contract", "--json",
    )  # fmt: skip
    wanted = {"wallet_expiry_policy": "90_days", "wallets_permanent": False}
    assert wanted.items() <= done.json["after"].items()
    assert operate("tenant", "set", tenant, "--wallets-permanent", "--reason", "x").code == 0
    company.world.operator.execute("update tenants set wallet_expiry_policy = 'never'")
    audited = company.world.rows(
        "select reason, after ->> 'wallet_expiry_policy' as policy,"
        " (after ->> 'wallets_permanent')::boolean as permanent from audit_log"
        " where action = 'settings.update' and subject_type = 'tenants'"
        " order by recorded_at, audit_id"
    )
    assert [tuple(row.values()) for row in audited] == [
        ("New contract", "90_days", False), ("x", "90_days", True), (None, "never", True),
    ]  # fmt: skip


def test_every_setting_of_a_tenant_is_audited(company: Company) -> None:
    """All columns but what the procedures write, which the ledger and the logs tell."""
    rows = company.world.rows(
        "select a.attname::text as name, t.tgattr is not null as is_audited"
        "  from pg_attribute as a"
        "  left join pg_trigger as t on t.tgrelid = a.attrelid"
        "   and t.tgname = 'tenants_are_audited' and a.attnum = any (t.tgattr::int2[])"
        " where a.attrelid = 'public.tenants'::regclass and a.attnum > 0 and not a.attisdropped"
    )
    assert {row["name"] for row in rows if not row["is_audited"]} == {
        "id", "points_allocation_balance", "budget_allocation_balance", "allocations_due_at",
        "created_at", "updated_at",
    }  # fmt: skip


def test_members_come_change_and_go(operate: Run, company: Company) -> None:
    tenant, user = str(company.tenant()), str(uuid4())
    asked = ("tenant", "member", tenant, user)
    first = operate(*asked, "--department", "Sales", "--name", "Eve", "--json").json
    assert (first["role"], first["is_active"]) == ("employee", True)
    second = operate(*asked, "--role", "dept_lead", "--department", "Sales", "--json").json
    assert (second["role"], second["department_id"]) == ("dept_lead", first["department_id"])
    assert operate(*asked, "--remove", "--json").json["is_active"] is False
    gone = operate(*asked, "--remove", "--json")
    assert (gone.code, gone.json["refusal"]["code"]) == (1, "member_not_found")
    back = operate(*asked, "--json").json
    assert (back["role"], back["is_active"]) == ("dept_lead", True)
    (row,) = company.world.rows("select display_name from tenant_members")
    assert row["display_name"] == "Eve"
    assert operate(*asked, "--remove", "--role", "employee").code == 2
    assert company.world.count("audit_log", "subject_type = 'tenant_members'") == 4


def test_a_member_is_known_by_the_e_mail_address_too(operate: Run, company: Company) -> None:
    tenant, user = company.tenant(name="Acme"), uuid4()
    company.world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'eve@example.org')", (user,)
    )
    made = operate("tenant", "member", "Acme", "Eve@example.org", "--role", "manager", "--json")
    assert (made.json["user_id"], made.json["role"]) == (str(user), "manager")
    gone = operate("tenant", "member", "Acme", "eve@example.org", "--remove")
    assert gone.output == "eve@example.org belongs to Acme no more\n"
    assert company.world.count("tenant_members", f"tenant_id = '{tenant}' and not is_active") == 1


def test_what_is_asked_for_by_its_id_is_shown_with_it(operate: Run, company: Company) -> None:
    tenant = company.tenant(name="Acme")
    sales = company.department(tenant, monthly_cap=20)
    company.member(tenant, department_id=sales)
    reward = company.call(
        "set_reward", user_id=None, tenant_id=tenant, name="Mug", points_cost=D(5), stock=3
    )["reward_id"]
    company.department(company.tenant(name="Other"), "Elsewhere")
    found = operate("tenant", "show", "Acme", "--json").json
    assert [(row["id"], row["name"], row["monthly_cap"]) for row in found["departments"]] == [
        (str(sales), "Sales", 20)
    ]
    assert [(row["id"], row["points_cost"], row["stock"]) for row in found["rewards"]] == [
        (reward, 5, 3)
    ]
    assert [row["department"] for row in found["members"]] == ["Sales"]
    said = operate("tenant", "show", "Acme").output
    for words in ("Departments", "Rewards", str(sales), reward, "Mug"):
        assert words in said


def test_the_lines_of_the_guide_run_as_printed(operate: Run, company: Company) -> None:
    company.tenant(10, name="Acme")
    company.world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'test@example.com')", (uuid4(),)
    )
    guide = (ROOT / "docs/tenants.md").read_text()
    lines = re.findall(r"^tallybook (.*)$", guide, re.MULTILINE)
    assert len(lines) >= 14
    for line in lines:
        words = shlex.split(line, comments=True)
        if "ALLOCATION" in words:
            shown = operate("tenant", "show", "Acme", "--json").json["allocations"]
            words[words.index("ALLOCATION")] = shown[0]["id"]
        done = operate(*words)
        assert done.code == 0, (line, done.complaint)


def test_points_are_taken_back_and_put_right(operate: Run, company: Company) -> None:
    tenant = str(company.tenant())
    given = operate("tenant", "allocate", tenant, "100.5", "--key", "k", "--json").json
    again = operate("tenant", "allocate", tenant, "100.5", "--key", "k")
    assert "under the same key" in again.output
    taken = operate(
        "tenant", "reverse", tenant, given["allocation_log_id"], "--amount", "0.5",
        "--reason", "x", "--json",
    )  # fmt: skip
    assert taken.json["new_balance"] == "100"
    assert "holds 60 now" in operate(
        "tenant", "clawback", tenant, "--amount", "40", "--reason", "x"
    ).output  # fmt: skip
    assert "by 49940 points" in operate("adjust", tenant, "50000", "--reason", "Ticket 7").output
    done = operate("tenant", "adjust", tenant, "10", "--reason", "Ticket 8", "--json").json
    assert (done["adjusted_by"], done["new_allocation_balance"]) == ("-49990", "10")
    assert operate("tenant", "clawback", tenant, "--reason", "x").code == 0
    assert company.billing(company.world.value("select id from tenants")) == [
        ("CREDIT_INJECTION", "100.5"), ("REVERSAL", "-0.5"), ("CLAWBACK", "-40"),
        ("ADJUSTMENT", "49940"), ("ADJUSTMENT", "-49990"), ("CLAWBACK", "-10"),
    ]  # fmt: skip
    rows = company.world.rows("select distinct actor from platform_billing_logs")
    assert [row["actor"] for row in rows] == ["op@example.org"]


def test_a_dry_run_changes_nothing(operate: Run, company: Company) -> None:
    tenant = company.tenant(name="Acme")
    given = company.allocate(tenant, 10)
    written = company.world.count("audit_log")
    for arguments in (
        ("tenant", "add", "Other"),
        ("tenant", "set", "Acme", "--name", "Other", "--reason", "x"),
        ("tenant", "member", "Acme", str(uuid4())),
        ("tenant", "allocate", "Acme", "5"),
        ("tenant", "clawback", "Acme", "--reason", "x"),
        ("tenant", "reverse", "Acme", given["allocation_log_id"], "--reason", "x"),
        ("adjust", "Acme", "5", "--reason", "x"),
    ):
        tried = operate(*arguments, "--dry-run", "--json")
        assert (tried.code, tried.json["dry_run"]) == (0, True), arguments
    assert (company.pool(tenant), company.world.count("audit_log")) == ("10", written)
    assert company.world.count("tenants") == 1


def test_a_refusal_is_code_1_and_wrong_usage_code_2(operate: Run, company: Company) -> None:
    company.tenant(10, name="Acme")
    for _ in range(2):
        company.tenant(name="Twin")
    for arguments, code in (
        (("tenant", "show", "Nobody"), "tenant_not_found"),
        (("tenant", "show", str(uuid4())), "tenant_not_found"),
        (("tenant", "show", "Twin"), "invalid_body"),
        (("tenant", "member", "Acme", "eve"), "user_not_found"),
        (("tenant", "allocate", "Acme", "0"), "invalid_amount"),
        (("tenant", "clawback", "Acme", "--amount", "11", "--reason", "x"), "insufficient_pool"),
        (("adjust", "Acme", "-1", "--reason", "x"), "invalid_amount"),
        (("tenant", "set", "Acme", "--low-balance", "1e400", "--reason", "x"), "invalid_value"),
        (("adjust", "Acme", "1", "--reason", " "), "reason_required"),
    ):
        done = operate(*arguments, "--json")
        assert (done.code, done.json["refusal"]["code"]) == (1, code), arguments
    for wrong in (
        ("tenant", "allocate", "Acme", "much"),
        ("tenant", "set", "Acme", "--reason", "x"),
        ("tenant", "set", "Acme", "--expiry", "someday", "--reason", "x"),
        ("tenant", "set", "Acme", "--low-balance", "0.001", "--reason", "x"),
        ("tenant", "set", "Acme", "--refill-amount", "0.001", "--reason", "x"),
        ("adjust", "Acme", "5"),
    ):
        assert operate(*wrong).code == 2, wrong
