"""`tallybook tenant`: the companies, who belongs to them, and how they are set up."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from tallybook.cli.connection import UNUSABLE, DatabaseUrl, DryRun, Json, fail, print_json
from tallybook.cli.credits import Account, parsed_amount
from tallybook.cli.operator import Actor, Operator, OptionalReason, Reason, reading, told, writing
from tallybook.cli.setting import NONE, change_row, changes
from tallybook.cli.tables import print_fields, print_line, show
from tallybook.refusal import Refusal

app = typer.Typer(no_args_is_help=True, help="Companies: set up, filled, looked into.")

LAST: Final = 10
"""How much of each is shown."""


class Role(StrEnum):
    """What somebody is in a company."""

    TENANT_MANAGER = "tenant_manager"
    HR_ADMIN = "hr_admin"
    TENANT_LEAD = "tenant_lead"
    DEPT_LEAD = "dept_lead"
    MANAGER = "manager"
    EMPLOYEE = "employee"


class Mode(StrEnum):
    """What an award does when the pool is short."""

    ENFORCED = "enforced"
    LEGACY_FALLBACK = "legacy_fallback"


class Expiry(StrEnum):
    """For how long an allocation keeps, or what came into a wallet."""

    DAYS_90 = "90_days"
    DAYS_180 = "180_days"
    YEAR = "1_year"
    NEVER = "never"


def parsed_setting(text: str) -> Decimal:
    """Points as a setting holds them: the database would round what is finer, and say nothing."""
    amount = parsed_amount(text)
    exponent = amount.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -2:
        raise typer.BadParameter("must have at most two decimal places")
    return amount


def parsed_refill(text: str) -> Any:
    """Points, or none."""
    return NONE if text.lower() == "none" else parsed_setting(text)


Tenant = Annotated[
    str, typer.Argument(metavar="TENANT", help="An id or a name.", show_default=False)
]
Points = Annotated[
    Decimal | None,
    typer.Option(parser=parsed_amount, metavar="POINTS", show_default=False),
]
Threshold = Annotated[
    Decimal | None,
    typer.Option(parser=parsed_setting, metavar="POINTS", show_default=False),
]
Refill = Annotated[
    Decimal | None,
    typer.Option(parser=parsed_refill, metavar="POINTS|none", show_default=False),
]


def tenant_id(operator: Operator, tenant: str) -> UUID:
    """The company that is meant. A name must be one company's alone."""
    found = operator.rows(
        "select t.id from public.tenants as t where t.id::text = lower(%s)"
        " union select t.id from public.tenants as t where t.name = %s",
        (tenant, tenant),
    )
    if len(found) > 1:
        raise Refusal("invalid_body", 400, f"tenant: {len(found)} are called {tenant}: give an id")
    if not found:
        raise Refusal("tenant_not_found", 404, "Tenant not found")
    found_id: UUID = found[0]["id"]
    return found_id


@app.command("list")
def list_tenants(database: DatabaseUrl = None, json: Json = False) -> None:
    """Show the companies and what their pools hold."""
    with reading(database, json=json) as operator:
        tenants = operator.rows(
            "select t.id, t.name, t.points_allocation_balance, t.currency, t.is_active,"
            " (select count(*) from public.tenant_members as m"
            "   where m.tenant_id = t.id and m.is_active) as members"
            " from public.tenants as t order by t.name, t.id"
        )
    if json:
        print_json({"tenants": tenants})
        return
    show(
        tenants,
        {
            "id": "id",
            "name": "name",
            "points_allocation_balance": "pool",
            "currency": "currency",
            "members": "members",
            "is_active": "active",
        },
    )


@app.command("show")
def show_tenant(tenant: Tenant, database: DatabaseUrl = None, json: Json = False) -> None:
    """Show a company: how it is set up, who belongs to it, what came last, what was noticed."""
    with reading(database, json=json) as operator:
        key = tenant_id(operator, tenant)
        (settings,) = operator.rows("select t.* from public.tenants as t where t.id = %s", (key,))
        found: dict[str, Any] = {
            "tenant": settings,
            "members": operator.rows(
                "select m.user_id, m.role, m.display_name, d.name as department,"
                " m.lead_distribution_balance as budget, m.is_active"
                " from public.tenant_members as m"
                " left join public.departments as d"
                "   on d.tenant_id = m.tenant_id and d.id = m.department_id"
                " where m.tenant_id = %s order by m.role, m.user_id",
                (key,),
            ),
            "departments": operator.rows(
                "select d.id, d.name, d.monthly_cap, d.budget_balance as budget"
                " from public.departments as d where d.tenant_id = %s order by d.name",
                (key,),
            ),
            "rewards": operator.rows(
                "select r.id, r.name, r.points_cost, r.stock, r.is_active"
                " from public.rewards as r where r.tenant_id = %s order by r.name, r.id",
                (key,),
            ),
            "allocations": operator.rows(
                "select l.id, l.created_at, l.amount, l.status, l.reversed_amount, l.expires_at,"
                " l.reference_note from public.allocation_logs as l where l.tenant_id = %s"
                " order by l.created_at desc, l.id desc limit %s",
                (key, LAST),
            ),
            "billing": operator.rows(
                "select b.created_at, b.transaction_type, b.amount, b.balance_after, b.actor,"
                " b.reference_note from public.platform_billing_logs as b where b.tenant_id = %s"
                " order by b.created_at desc, b.id desc limit %s",
                (key, LAST),
            ),
            "alerts": operator.rows(
                "select a.created_at, a.kind, a.threshold, a.balance from public.tenant_alerts as a"
                " where a.tenant_id = %s order by a.created_at desc, a.id desc limit %s",
                (key, LAST),
            ),
        }
    if json:
        print_json(found)
        return
    print_fields(settings)
    for name in ("members", "departments", "rewards", "allocations", "billing", "alerts"):
        print_line(f"\n{name.capitalize()}")
        show(found[name])


@app.command()
def add(
    name: Annotated[str, typer.Argument(show_default=False)],
    currency: Annotated[str, typer.Option()] = "INR",
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Set a company up, with an empty pool: `tallybook tenant add "Acme"`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        tenant = operator.change(
            "insert into public.tenants as t (name, currency) values (%s, %s)"
            " returning t.id, t.name, t.currency",
            (name, currency),
            reason,
        )
    told(tenant, f"{name} is tenant {tenant['id']}", json=json, dry_run=dry_run)


@app.command("set")
def set_tenant(
    tenant: Tenant,
    reason: Reason,
    name: Annotated[str | None, typer.Option(show_default=False)] = None,
    mode: Annotated[Mode | None, typer.Option(show_default=False)] = None,
    expiry: Annotated[Expiry | None, typer.Option(show_default=False)] = None,
    wallet_expiry: Annotated[
        Expiry | None,
        typer.Option(help="What is in wallets already goes by it too.", show_default=False),
    ] = None,
    wallets_permanent: Annotated[
        bool | None,
        typer.Option(
            "--wallets-permanent/--no-wallets-permanent",
            help="Whether only the platform revokes what brought points.",
            show_default=False,
        ),
    ] = None,
    low_balance: Threshold = None,
    refill_amount: Refill = None,
    refill_threshold: Annotated[
        float | None, typer.Option(min=0, max=100, metavar="PERCENT", show_default=False)
    ] = None,
    peer_to_peer: Annotated[
        bool | None, typer.Option("--peer-to-peer/--no-peer-to-peer", show_default=False)
    ] = None,
    redemptions_paused: Annotated[
        bool | None, typer.Option("--pause-redemptions/--resume-redemptions", show_default=False)
    ] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", show_default=False)] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change a company's settings: `tallybook tenant set Acme --expiry 1_year --reason …`."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = change_row(
            operator,
            "tenants",
            ("id", tenant_id(operator, tenant)),
            {
                "name": name,
                "allocation_mode": mode,
                "expiry_policy": expiry,
                "wallet_expiry_policy": wallet_expiry,
                "wallets_permanent": wallets_permanent,
                "low_balance_threshold": low_balance,
                "auto_refill_amount": refill_amount,
                "auto_refill_threshold": refill_threshold,
                "peer_to_peer_enabled": peer_to_peer,
                "redemptions_paused": redemptions_paused,
                "is_active": active,
            },
            reason,
            missing=("tenant_not_found", "Tenant not found"),
        )
    told(answer, f"{tenant}: {changes(answer)}", json=json, dry_run=dry_run)


@app.command()
def member(
    tenant: Tenant,
    account: Account,
    role: Annotated[Role | None, typer.Option(help="Else employee.", show_default=False)] = None,
    department: Annotated[
        str | None, typer.Option(help="Its name; it is made if need be.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(show_default=False)] = None,
    remove: Annotated[bool, typer.Option("--remove", help="They belong to it no more.")] = False,
    reason: OptionalReason = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take somebody into a company, change what they are there, or let them go."""
    if remove and (role or department or name):
        fail("Who leaves is given nothing more.", UNUSABLE)
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        key = tenant_id(operator, tenant)
        (user,) = operator.rows("select internal.user_of_account(%s) as id", (account,))
        user_id: UUID = user["id"]
        if remove:
            found = operator.change(
                "update public.tenant_members as m set is_active = false,"
                " updated_at = internal.clock() where m.tenant_id = %s and m.user_id = %s"
                " and m.is_active returning m.tenant_id, m.user_id, m.role, m.is_active",
                (key, user_id),
                reason,
                missing=("member_not_found", f"account: {account} is no member"),
            )
        else:
            found = operator.change(
                "with made as (insert into public.departments as d (tenant_id, name)"
                " select %(tenant)s, %(department)s where %(department)s::text is not null"
                " on conflict (tenant_id, name) do update set name = excluded.name"
                " returning d.id)"
                " insert into public.tenant_members as m"
                " (tenant_id, user_id, role, department_id, display_name)"
                " values (%(tenant)s, %(user)s, coalesce(%(role)s, 'employee'),"
                " (select d.id from made as d), %(name)s)"
                " on conflict (tenant_id, user_id) do update set role = coalesce(%(role)s, m.role),"
                " department_id = coalesce(excluded.department_id, m.department_id),"
                " display_name = coalesce(excluded.display_name, m.display_name),"
                " is_active = true, updated_at = internal.clock()"
                " returning m.tenant_id, m.user_id, m.role, m.department_id, m.is_active",
                {
                    "tenant": key,
                    "user": user_id,
                    "role": role,
                    "department": department,
                    "name": name,
                },
                reason,
            )
    words = f"belongs to {tenant} no more" if remove else f"is {found['role']} of {tenant}"
    told(found, f"{account} {words}", json=json, dry_run=dry_run)
