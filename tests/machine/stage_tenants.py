"""Two companies on the stage: who works there as what, and what they can spend points on.

Somebody belongs to both, an administrator of the platform is a member of one, and one of them
falls back to budgets of old.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

from tests.machine.model import Shared
from tests.machine.model_allocations import LARGE_ABOVE, PER_HOUR_MAX
from tests.machine.model_purse import ZERO
from tests.machine.model_rewards import Rewards
from tests.machine.model_tenants import Department, Member, Reward, Tenant
from tests.machine.stage import Stage

PEOPLE: Final = {
    "Acme": {
        "mia": ("tenant_manager", None),
        "hal": ("hr_admin", "Sales"),
        "leo": ("tenant_lead", "Sales"),
        "dora": ("dept_lead", "Works"),
        "max": ("manager", None),
        "eve": ("employee", "Sales"),
        "eli": ("employee", "Works"),
    },
    "Birch": {
        "bob": ("tenant_manager", "Sales"),
        "lea": ("tenant_lead", "Sales"),
        "eve": ("manager", "Works"),
        "ada": ("employee", None),
    },
}
SETTINGS: Final[dict[str, Any]] = {
    "currency": "INR",
    "allocation_mode": "enforced",
    "award_tiers": {"Gold": 90, "Silver": 20},
    "peer_to_peer_enabled": True,
    "redemptions_paused": False,
    "wallets_permanent": True,
    "expiry_policy": "never",
    "wallet_expiry_policy": "never",
    "low_balance_threshold": Decimal(40),
    "auto_refill_amount": None,
    "is_active": True,
}
OTHERWISE: Final[dict[str, dict[str, Any]]] = {
    "Acme": {"expiry_policy": "90_days"},
    "Birch": {
        "currency": "EUR",
        "allocation_mode": "legacy_fallback",
        "wallets_permanent": False,
        "wallet_expiry_policy": "90_days",
    },
}
REWARDS: Final = {"Mug": (Decimal("12.5"), None), "Bag": (Decimal(30), 1)}
CAPS: Final = {"Works": Decimal(60), "Sales": None}


def found(stage: Stage, shared: Shared) -> Rewards:
    """Open both companies, and say what they are."""
    stage.join(*sorted({n for people in PEOPLE.values() for n in people} - stage.actors.keys()))
    companies, operate = Rewards(shared), stage.world.operator.execute
    operate(
        "update allocation_limits set allocations_per_hour_max = %s, large_allocation_above = %s",
        (PER_HOUR_MAX, LARGE_ABOVE),
    )
    for name, people in PEOPLE.items():
        tenant = Tenant(str(uuid4()), name, {**SETTINGS, **OTHERWISE[name]})
        operate(
            "insert into tenants (id, name, currency) values (%s, %s, %s)",
            (tenant.id, name, tenant.settings["currency"]),
        )
        for setting, value in tenant.settings.items():
            change(stage, tenant, setting, value)
        of_name = {}
        for department, cap in CAPS.items():
            id = of_name[department] = str(uuid4())
            tenant.departments[id] = Department(id, department, cap)
            operate(
                "insert into departments (tenant_id, id, name, monthly_cap)"
                " values (%s, %s, %s, %s)",
                (tenant.id, id, department, cap),
            )
        for person, (role, place) in people.items():
            user = stage.actors[person].user
            assert user is not None
            member = tenant.members[user] = Member(role, of_name.get(place or ""))
            operate(
                "insert into tenant_members (tenant_id, user_id, role, department_id)"
                " values (%s, %s, %s, %s)",
                (tenant.id, user, role, member.department),
            )
        for reward, (cost, stock) in REWARDS.items():
            id = str(uuid4())
            tenant.rewards[id] = Reward(id, reward, cost, stock)
            operate(
                "insert into rewards (tenant_id, id, name, points_cost, stock)"
                " values (%s, %s, %s, %s, %s)",
                (tenant.id, id, reward, cost, stock),
            )
        companies.tenants[tenant.id] = tenant
    return companies


def change(stage: Stage, tenant: Tenant, setting: str, value: Any) -> None:
    """As an operator does it."""
    assert setting in SETTINGS
    shown = stage.world.operator.execute(
        f"update tenants set {setting} = %s::jsonb where id = %s"
        if isinstance(value, dict)
        else f"update tenants set {setting} = %s where id = %s",
        (json.dumps(value) if isinstance(value, dict) else value, tenant.id),
    )
    assert shown.rowcount == 1
    tenant.settings[setting] = value


def endow(stage: Stage, tenant: Tenant, department: str, points: Decimal) -> None:
    """A budget of old, as it was brought along when the company moved here."""
    stage.world.admin.execute(
        "select internal.move_tenant_points(array[internal.tenant_move(%s, 'tenant.legacy', %s,"
        " %s, 'endowment', 'test', internal.uuidv7())])",
        (UUID(tenant.id), f"tenant.budget:{department}", points),
    )
    tenant.departments[department].budget += points
    tenant.outside["legacy"] -= points
    assert points > ZERO
