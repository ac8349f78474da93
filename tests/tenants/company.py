"""What happens in companies, in sentences: the verbs of the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from tests.world import Connection, World

Number = int | float | str | Decimal


@dataclass(frozen=True, slots=True)
class Company:
    """Verbs for what administrators, managers and members of tenants do in one clone."""

    world: World

    # Who is there

    def tenant(self, points: Number = 0, **columns: Any) -> UUID:
        """A new tenant, whose pool holds so many points; its other columns by their names."""
        columns = {"name": "Acme", **columns}
        tenant: UUID = self.world.value(
            f"insert into tenants ({', '.join(columns)})"
            f" values ({', '.join(['%s'] * len(columns))}) returning id",
            tuple(columns.values()),
            through=self.world.operator,
        )
        if Decimal(points):
            self.fund(tenant, points)
        return tenant

    def member(self, tenant: UUID, role: str = "employee", **columns: Any) -> UUID:
        """A new member of a tenant."""
        columns = {"tenant_id": tenant, "user_id": uuid4(), "role": role, **columns}
        self.world.operator.execute(
            f"insert into tenant_members ({', '.join(columns)})"  # type: ignore[arg-type]
            f" values ({', '.join(['%s'] * len(columns))})",
            tuple(columns.values()),
        )
        user: UUID = columns["user_id"]
        return user

    def department(self, tenant: UUID, name: str = "Sales", **columns: Any) -> UUID:
        """A new department of a tenant."""
        columns = {"tenant_id": tenant, "name": name, **columns}
        department: UUID = self.world.value(
            f"insert into departments ({', '.join(columns)})"
            f" values ({', '.join(['%s'] * len(columns))}) returning id",
            tuple(columns.values()),
            through=self.world.operator,
        )
        return department

    def admin(self) -> UUID:
        """A new administrator of the platform."""
        admin = uuid4()
        self.world.operator.execute(
            "insert into system_admins (id, email) values (%s, %s)",
            (admin, f"{admin}@example.org"),
        )
        return admin

    # What administrators and managers do

    def allocate(self, tenant: UUID, amount: Number, **more: Any) -> dict[str, Any]:
        """Points of the platform for a tenant, as a program allocates them."""
        asked = {"user_id": None, "tenant_id": tenant, "amount": Decimal(amount), **more}
        answer: dict[str, Any] = self.call("allocate_to_tenant", **asked)
        return answer

    def delegate(self, manager: UUID, lead: UUID, amount: Number, **more: Any) -> dict[str, Any]:
        """Points of the pool for a lead, as a manager delegates them."""
        asked = {"user_id": manager, "lead_user_id": lead, "amount": Decimal(amount), **more}
        answer: dict[str, Any] = self.call("delegate_to_lead", **asked)
        return answer

    # What was there before a test begins

    def fund(self, tenant: UUID, points: Number) -> None:
        """Points of the platform for the pool, without a log of them."""
        self.move(tenant, "tenant.platform", "tenant.pool", points)

    def lend(self, tenant: UUID, lead: UUID, points: Number) -> None:
        """Points of the pool for a lead's budget."""
        self.move(tenant, "tenant.pool", f"tenant.lead:{lead}", points)

    def endow(self, tenant: UUID, department: UUID, points: Number) -> None:
        """Points of old for a department's budget."""
        self.move(tenant, "tenant.legacy", f"tenant.budget:{department}", points)

    def enrich(self, tenant: UUID, user: UUID, points: Number) -> None:
        """Points of old for a member's wallet."""
        self.move(tenant, "tenant.legacy", f"tenant.wallet:{user}", points, "adjustment")

    def move(
        self,
        tenant: UUID,
        source: str,
        target: str,
        points: Number,
        wallet_source: str | None = None,
    ) -> None:
        """One movement through the one function that makes them."""
        (row,) = self.world.rows(
            "select * from internal.move_tenant_points(array[internal.tenant_move("
            "%s, %s, %s, %s::numeric, 'test', 'test', internal.uuidv7(), p_wallet_source => %s)])",
            (tenant, source, target, points, wallet_source),
        )
        assert row["outcome"] == "posted", row

    # What there is to see

    def account(self, tenant: UUID, account: str) -> str:
        """What an account of the tenant holds by the ledger, as the addresses write it."""
        rows = self.world.rows(
            "select internal.points_text(balance / 100.0) as points from ledger.accounts"
            " where book_id = %s and account = %s",
            (tenant, account),
        )
        return str(rows[0]["points"]) if rows else "0"

    def pool(self, tenant: UUID) -> str:
        """What the pool holds."""
        return self.account(tenant, "tenant.pool")

    def lead_budget(self, tenant: UUID, lead: UUID) -> str:
        """What a lead can award."""
        return self.account(tenant, f"tenant.lead:{lead}")

    def budget(self, tenant: UUID, department: UUID) -> str:
        """What a department's budget of old holds."""
        return self.account(tenant, f"tenant.budget:{department}")

    def wallet(self, tenant: UUID, user: UUID) -> str:
        """What a member can spend."""
        return self.account(tenant, f"tenant.wallet:{user}")

    def statement(self, tenant: UUID, user: UUID) -> list[tuple[str, str, str]]:
        """Source, signed points and balance of every entry of a wallet, oldest first."""
        return [
            (row["source"], row["points"], row["balance_after"])
            for row in self.world.rows(
                "select source, internal.points_text(balance_after) as balance_after,"
                " internal.points_text(case transaction_type when 'credit' then points"
                " else -points end) as points from wallet_ledger"
                " where tenant_id = %s and user_id = %s order by created_at, id",
                (tenant, user),
            )
        ]

    def billing(self, tenant: UUID) -> list[tuple[str, str]]:
        """Type and signed amount of every row of the platform's trail, oldest first."""
        return [
            (row["transaction_type"], row["amount"])
            for row in self.world.rows(
                "select transaction_type, internal.points_text(amount) as amount"
                " from platform_billing_logs where tenant_id = %s order by created_at, id",
                (tenant,),
            )
        ]

    def alerts(self, tenant: UUID) -> list[str]:
        """The kinds of a tenant's alerts, oldest first."""
        return [
            row["kind"]
            for row in self.world.rows(
                "select kind from tenant_alerts where tenant_id = %s order by created_at, id",
                (tenant,),
            )
        ]

    # How to ask

    def call(self, procedure: str, through: Connection | None = None, **arguments: Any) -> Any:
        """A procedure's answer, by default as the functions call it."""
        return self.world.call(f"public.{procedure}", arguments, through or self.world.functions)
