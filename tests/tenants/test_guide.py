"""docs/tenants.md says who may do what as the procedures do, and names what there is."""

from __future__ import annotations

import inspect
import re
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tallybook import settings
from tallybook.route import SERVICE, USERS, Route
from tallybook.schema import ROOT
from tallybook.server import find_functions
from tests.tenants.company import Company
from tests.world import code_of

GUIDE = (ROOT / "docs/tenants.md").read_text()
OURS = ("allocations", "tenants", "recognitions", "rewards", "points-ledger")
ROUTES: dict[str, Route] = {
    handler.route.slug: handler.route  # type: ignore[attr-defined]
    for handler in find_functions(ROOT)
    if handler.route.slug.startswith(OURS)  # type: ignore[attr-defined]
}
PLATFORM = {"administrator", "program"}
MANAGERS = {"tenant_manager", "hr_admin"}
LEADS = {"tenant_lead", "dept_lead", "manager"}
WHO = {
    "platform": PLATFORM,
    "managers": MANAGERS,
    "leads": LEADS,
    "members": MANAGERS | LEADS | {"employee"},
    "tenant_manager": {"tenant_manager"},
}


def table(*head: str) -> list[list[str]]:
    """The rows of the table with this head, without their backticks."""
    start = GUIDE.index(f"| {' | '.join(head)} |\n")
    lines = GUIDE[start:].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line[1:-1].split("|")] for line in lines]


def documented() -> dict[tuple[str, str], set[str]]:
    """Who may, by the method and the end of each address that the guide has."""
    found = {}
    for addresses, who, _ in table("address", "who", "what"):
        method = ""
        for written in addresses.split(", "):
            first, _, rest = written.rpartition(" ")
            method = first or method
            allowed = set().union(*(WHO[word] for word in who.split(", ")))
            found[method, rest.removeprefix("…")] = allowed
    return found


def allowed_by_the_guide(route: Route) -> set[str]:
    """What the guide says of a function, at all its addresses the same."""
    said = []
    for address in route.addresses:
        # The longest that fits: what comes first in a row is written out, the others end so.
        fits = [
            (len(end), who)
            for (method, end), who in documented().items()
            if method == address.method and address.template.endswith(end)
        ]
        if fits:
            said.append(max(fits, key=lambda fit: fit[0])[1])
    assert said and all(who == said[0] for who in said), route.slug
    return said[0]


def test_every_address_is_in_the_guide_and_nothing_else() -> None:
    served = {(a.method, a.template) for route in ROUTES.values() for a in route.addresses}
    served = {(method, path) for method, path in served if not path.startswith("/functions/")}
    ends = set(documented())
    for method, path in served:
        assert any(m == method and path.endswith(end) for m, end in ends), (method, path)
    for method, end in ends:
        assert any(m == method and path.endswith(end) for m, path in served), (method, end)


def test_every_slug_is_in_the_guide() -> None:
    told = GUIDE.partition("Every address is a function as well")[2].partition("\n\n")[0]
    for slug in ROUTES:
        room, _, name = slug.partition("/")
        assert room == "points-ledger" or re.search(rf"[`/]{re.escape(name)}`", told), slug


def test_every_variable_is_in_the_guide() -> None:
    names = set(
        re.findall(r'"(POINTS_ALLOCATION_\w+|TALLYBOOK_METRICS_\w+)"', inspect.getsource(settings))
    )
    assert len(names) == 3 and all(f"`{name}`" in GUIDE for name in names)


# Who may do what: everybody tries everything


def asked(company: Company, tenant: UUID) -> dict[str, dict[str, Any]]:
    """What each procedure is asked, so that nothing but who asks can make it `forbidden`."""
    lead, member = company.member(tenant, "tenant_lead"), company.member(tenant)
    amount: dict[str, Any] = {"amount": D(1)}
    named: dict[str, Any] = {"tenant_id": tenant}
    because: dict[str, Any] = {"reason": "x"}
    return {
        "allocate_to_tenant": named | amount,
        "bulk_allocate_to_tenants": {"tenant_ids": [tenant]} | amount,
        "clawback_allocation": named | amount | because,
        "reverse_allocation": named | {"allocation_id": uuid4()} | because,
        "adjust_tenant_pool_to": named | {"balance": D(1000)} | because,
        "credit_wallet": named | amount | because | {"to_user_id": member, "source": "adjustment"},
        "delegate_to_lead": named | amount | {"lead_user_id": lead},
        "recall_from_lead": named | amount | {"lead_user_id": lead},
        "award_to_user": named | amount | {"to_user_id": member, "recognition_message": "x"},
        "tenant_allocation_stats": named,
        "give_recognition": named | {"recipients": [member], "message": "x"},
        "list_recognitions": named,
        "revoke_recognition": named | because | {"recognition_id": uuid4()},
        "rewards_catalogue": named,
        "redeem_reward": named | {"reward_id": uuid4()},
        "refund_reward_redemption": named | because | {"redemption_id": uuid4()},
        "wallet": named,
        "create_tenant": {"name": "Another"},
        "list_members": named,
        "set_member": named | {"account": str(member), "role": "employee"},
        "set_department": named | {"name": "Sales"},
        "set_reward": named | {"name": "Mug", "points_cost": D(5)},
        "allocation_logs_page": named,
        "platform_billing_logs_page": named,
        "wallet_ledger_page": named,
        "points_ledger_stats": named,
    }


def is_let(company: Company, route: Route, user: UUID | None, arguments: dict[str, Any]) -> bool:
    """Whether somebody is let do it: another refusal than `forbidden` is about something else."""
    if not route.callers & (SERVICE if user is None else USERS):
        return False
    if user is None and route.on_behalf:
        return False  # It is asked as a member, whom the program names.
    try:
        answer = company.call(route.procedure, user_id=user, **arguments)
    except psycopg.Error as error:
        assert (error.sqlstate or "").startswith("PT"), error
        return code_of(error) != "forbidden"
    refusal = answer.get("refusal")
    return refusal is None or refusal["code"] != "forbidden"


@pytest.mark.parametrize("slug", sorted(ROUTES))
def test_who_may_is_what_the_guide_says(company: Company, admin: UUID, slug: str) -> None:
    tenant, route = company.tenant(1000), ROUTES[slug]
    members = {role: company.member(tenant, role) for role in WHO["members"]}
    everybody: dict[str, UUID | None] = {**members, "administrator": admin, "program": None}
    arguments = asked(company, tenant)[route.procedure]
    let = {who for who, user in everybody.items() if is_let(company, route, user, arguments)}
    assert let == allowed_by_the_guide(route)


# Who pays: somebody gives ten points after another, until nothing holds as many

PAYS = {
    "pool": "pool",
    "the pool": "pool",
    "their budget": "lead",
    "their department's budget": "budget",
    "the department's budget": "budget",
    "their wallet": "wallet",
    "their own wallet": "wallet",
}


def payers() -> dict[tuple[str, str], list[str]]:
    """Which accounts pay, in their order, by role and mode."""
    found = {}
    modes = ("enforced", "legacy_fallback")
    for givers, *columns in table("giver", *(f"`{mode}`" for mode in modes)):
        for role in givers.split(", "):
            for mode, column in zip(modes, columns, strict=True):
                words = (word.removeprefix("then ") for word in column.split(", "))
                found[role, mode] = [PAYS[word] for word in words]
    return found


def paid_by(company: Company, mode: str, giver: str, user: UUID | None, has_budget: bool) -> Any:
    """What paid for each of somebody's awards, until nothing did."""
    tenant = company.tenant(20, allocation_mode=mode, peer_to_peer_enabled=True)
    department, member = company.department(tenant), company.member(tenant)
    if giver not in PLATFORM:
        user = company.member(tenant, giver, department_id=department)
        company.enrich(tenant, user, 10)
    company.endow(tenant, department, 10)
    lead = user if has_budget and user else company.member(tenant, "tenant_lead")
    company.lend(tenant, lead, 10)
    if giver in PLATFORM:
        procedure, named = "award_to_user", {"to_user_id": member, "tenant_id": tenant}
        said: dict[str, Any] = named | {"amount": D(10), "recognition_message": "x"}
    else:
        procedure = "give_recognition"
        said = {"recipients": [member], "points": D(10), "message": "x"}
    found = []
    while True:
        try:
            found.append(company.call(procedure, user_id=user, **said)["funded_by"])
        except psycopg.Error as error:
            assert code_of(error) in {"insufficient_pool", "insufficient_wallet"}
            return found


@pytest.mark.parametrize("mode", ["enforced", "legacy_fallback"])
@pytest.mark.parametrize("giver", sorted(WHO["members"] | PLATFORM))
def test_who_pays_is_what_the_guide_says(
    company: Company, admin: UUID, giver: str, mode: str
) -> None:
    by_guide = payers()[giver, mode]
    user = admin if giver == "administrator" else None
    assert paid_by(company, mode, giver, user, giver in LEADS | {"employee"}) == by_guide
    if giver in MANAGERS:
        assert paid_by(company, mode, giver, user, True) == ["lead", *by_guide]


# What is printed there runs


def blocks(language: str) -> list[str]:
    """What stands in the guide's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_sql_runs_as_an_operator(company: Company) -> None:
    tenant = company.tenant(10, name="Acme")
    user = company.member(tenant)
    adjusting, setting = blocks("sql")
    company.world.operator.execute(adjusting)
    assert company.billing(tenant) == [("ADJUSTMENT", "48990")]
    filled = setting.replace("…tenant", str(tenant)).replace("…user", str(user))
    company.world.operator.execute(filled.replace("…", str(tenant)))
    assert company.wallet(tenant, user) == "250"
    assert company.world.value("select award_tiers ->> 'Gold' from tenants") == "8000"
    names = [company.world.value(f"select name from {what}") for what in ("departments", "rewards")]
    assert names == ["Marketing", "Coffee"]


def test_the_python_runs_as_the_functions(company: Company, admin: UUID) -> None:
    tenant = company.tenant()
    user = company.member(tenant)
    names = {
        "db": company.world.session("tallybook_functions", autocommit=False),
        "tenant_id": tenant,
        "admin_id": admin,
        "manager_id": company.member(tenant, "tenant_manager"),
        "lead_id": company.member(tenant, "tenant_lead"),
        "user_id": user,
    }
    (snippet,) = blocks("python")
    exec(snippet, names)  # noqa: S102 - it is our own guide
    assert company.pool(tenant) == "44000"
    assert company.wallet(tenant, user) == "1000"


def test_strangers_may_nothing(company: Company) -> None:
    """Who manages another company is none of the guide's roles here."""
    tenant = company.tenant(1000)
    stranger = company.member(company.tenant(1000), "tenant_manager")
    arguments = asked(company, tenant)
    for route in ROUTES.values():
        assert not is_let(company, route, stranger, arguments[route.procedure]), route.slug
