"""What wallets are spent on, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.tenants.company import Company, Number
from tests.world import Connection


@dataclass(frozen=True, slots=True)
class Shop:
    """One tenant's rewards, and the members who redeem them."""

    company: Company
    tenant: UUID
    manager: UUID

    @classmethod
    def open(cls, company: Company, **columns: Any) -> Shop:
        """A new tenant with a manager."""
        tenant = company.tenant(**columns)
        return cls(company, tenant, company.member(tenant, "tenant_manager"))

    def member(self, points: Number = 0, role: str = "employee") -> UUID:
        """A new member, who has so many points."""
        user = self.company.member(self.tenant, role)
        if points:
            self.company.enrich(self.tenant, user, points)
        return user

    def reward(self, cost: Number = 100, stock: int | None = None, name: str = "Mug") -> UUID:
        """A new reward on offer."""
        answer = self.company.call(
            "set_reward",
            user_id=self.manager,
            name=name,
            points_cost=Decimal(str(cost)),
            stock=stock,
        )
        return UUID(answer["reward_id"])

    def redeem(
        self, user: UUID, reward: UUID, key: str | None = None, through: Connection | None = None
    ) -> Any:
        """Redeem a reward as the functions do."""
        return self.company.call(
            "redeem_reward", through, user_id=user, reward_id=reward, idempotency_key=key
        )

    def refund(self, redemption: str | UUID, by: UUID | None = None, reason: str = "Broken") -> Any:
        """Give a redemption's points back, by default by the manager's hand."""
        return self.company.call(
            "refund_reward_redemption",
            user_id=by or self.manager,
            redemption_id=redemption,
            reason=reason,
        )

    def wallet(self, user: UUID) -> str:
        """What a member can spend, by the ledger."""
        return self.company.wallet(self.tenant, user)

    def stock(self, reward: UUID) -> int | None:
        """How many of a reward are left."""
        left: int | None = self.company.world.value(
            "select stock from rewards where tenant_id = %s and id = %s", (self.tenant, reward)
        )
        return left
