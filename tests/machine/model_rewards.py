"""The model of what members spend, and of what companies are set to: people, rewards, caps."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.machine.model import Actor, Refused, Said
from tests.machine.model_allocations import Ids
from tests.machine.model_pool import must_be_points, text
from tests.machine.model_recognitions import Recognitions
from tests.machine.model_tenants import Member, Redemption


class Rewards(Recognitions):
    """Everything about companies."""

    def redeem(
        self, user: UUID, named: str | None, reward_id: str, key: str | None, told: Ids
    ) -> Said:
        tenant = self.membership(user, named)
        request = ("redeem", reward_id)
        known = tenant.before(("redemption", user, key), request)
        if known is not None:
            return known
        with self.whole(tenant):
            if tenant.settings["redemptions_paused"]:
                raise Refused("redemptions_paused")
            tenant.expire_wallet(user, self.shared.now)
            reward = tenant.rewards.get(reward_id)
            if reward is None or not reward.active:
                raise Refused("reward_not_found")
            if reward.stock == 0:
                raise Refused("reward_out_of_stock")
            if tenant.wallets[user].balance < reward.cost:
                raise Refused("insufficient_wallet")
        if reward.stock is not None:
            reward.stock -= 1
        balance = tenant.wallets[user].debit("redemption", reward.cost, self.shared.now)
        tenant.outside["redeemed"] += reward.cost
        id = told.get("redemption_id", "")
        tenant.redemptions[id] = Redemption(id, user, reward_id, reward.cost)
        body = {
            "redemption_id": id, "tenant_id": tenant.id, "reward_id": reward_id,
            "reward_name": reward.name, "points_spent": text(reward.cost),
            "new_wallet_balance": text(balance), "ledger_entry_id": told.get("ledger_entry_id"),
        }  # fmt: skip
        return tenant.say(("redemption", user, key), request, body)

    def refund(self, by: Actor, named: str | None, id: str, reason: str) -> Said:
        tenant = self.managing(by, named)
        if not reason.strip():
            raise Refused("reason_required")
        it = tenant.redemptions.get(id)
        if it is None:
            raise Refused("redemption_not_found")
        if it.user == by.user:
            raise Refused("own_event")
        if it.ended is not None:
            return Said(it.ended, True)
        balance = tenant.wallets[it.user].credit("reversal", it.points, self.shared.now)
        tenant.outside["redeemed"] -= it.points
        reward = tenant.rewards[it.reward]
        if reward.stock is not None:
            reward.stock += 1
        it.ended = {
            "redemption_id": id, "tenant_id": tenant.id, "user_id": str(it.user),
            "reward_id": it.reward, "points_refunded": text(it.points),
            "new_wallet_balance": text(balance), "ledger_entry_id": id,
        }  # fmt: skip
        return Said(it.ended)

    def credit(
        self, by: Actor, id: str, user: UUID, amount: Decimal, source: str, entry: str
    ) -> Said:
        """From outside the pool; the entry's id is the key."""
        if not by.administers:
            raise Refused("forbidden")
        must_be_points(amount)
        if user == by.user:
            raise Refused("own_event")
        tenant = self.named(id)
        if user not in tenant.members:
            raise Refused("recipient_not_found")
        request = ("credit", user, amount, source)
        known = tenant.before(("entry", entry), request)
        if known is not None:
            return known
        balance = tenant.wallets[user].credit(source, amount, self.shared.now)
        there = "adjusted" if source == "adjustment" else "legacy"
        tenant.outside[there] -= amount
        body = {
            "tenant_id": id, "user_id": str(user), "amount": text(amount),
            "new_wallet_balance": text(balance), "ledger_entry_id": entry,
        }  # fmt: skip
        return tenant.say(("entry", entry), request, body)

    # What companies are set to

    def set_member(
        self,
        by: Actor,
        named: str | None,
        user: UUID,
        role: str | None,
        department: str | None,
        active: bool | None,
    ) -> Said:
        """Takes somebody in, or changes what they are; without a department is none."""
        tenant = self.managing(by, named)
        if user == by.user:
            raise Refused("own_event")
        if department is not None and department not in tenant.departments:
            raise Refused("department_not_found")
        member = tenant.members.get(user)
        manages = not by.administers and tenant.members[by.user].role  # type: ignore[index]
        was = member.role if member else None
        if manages == "hr_admin" and "tenant_manager" in (role, was):
            raise Refused("forbidden")
        if member is None:
            member = tenant.members[user] = Member("employee")
        member.role = role or member.role
        member.department = department
        member.active = member.active if active is None else active
        return Said(
            {
                "tenant_id": tenant.id, "user_id": str(user), "role": member.role,
                "department_id": department, "display_name": None, "is_active": member.active,
            }
        )  # fmt: skip

    def set_cap(self, by: Actor, named: str | None, department: str, cap: Decimal | None) -> Said:
        tenant = self.managing(by, named)
        if cap is not None and cap:
            must_be_points(cap)
        it = tenant.departments.get(department)
        if it is None:
            raise Refused("department_not_found")
        it.cap = cap
        return Said(
            {
                "tenant_id": tenant.id, "department_id": it.id, "name": it.name,
                "monthly_cap": None if cap is None else text(cap),
            }
        )  # fmt: skip

    def set_reward(
        self,
        by: Actor,
        named: str | None,
        id: str,
        cost: Decimal,
        stock: int | None,
        active: bool,
    ) -> Said:
        """What it costs, how many there are now, and whether it is on offer."""
        tenant = self.managing(by, named)
        must_be_points(cost)
        it = tenant.rewards.get(id)
        if it is None:
            raise Refused("reward_not_found")
        it.cost, it.stock, it.active = cost, stock, active
        return Said({"tenant_id": tenant.id, **self.offer(it)})

    def offer(self, it: Any) -> dict[str, Any]:
        return {
            "reward_id": it.id, "name": it.name, "description": None,
            "points_cost": text(it.cost), "stock": it.stock, "is_active": it.active,
        }  # fmt: skip

    # What people see

    def wallet(self, user: UUID, named: str | None) -> dict[str, Any]:
        tenant = self.membership(user, named)
        it = tenant.wallets[user]
        return {
            "tenant_id": tenant.id, "user_id": str(user), "balance": text(it.balance),
            "lifetime_earned": text(it.earned), "lifetime_spent": text(it.spent),
        }  # fmt: skip

    def stats(self, by: Actor, named: str | None) -> dict[str, Any]:
        """What there is to give. An administrator who names a company is no member there."""
        member, wallet = None, None
        if by.user is None and named is None:
            raise Refused("invalid_body")
        if by.user is None or (by.is_admin and named is not None):
            tenant = self.named(named)
        else:
            tenant = self.membership(by.user, named)
            member, wallet = tenant.members[by.user], tenant.wallets[by.user]
        there, low = tenant.pool.balance, tenant.settings["low_balance_threshold"]
        return {
            "tenant_id": tenant.id, "tenant_name": tenant.name,
            "points_allocation_balance": text(there), "currency": tenant.settings["currency"],
            "status": "empty" if not there else "low" if there < low else "ready",
            "allocation_mode": tenant.settings["allocation_mode"],
            "redemptions_paused": tenant.settings["redemptions_paused"],
            "role": member and member.role,
            "lead_distribution_balance": member and text(member.budget),
            "wallet_balance": None if wallet is None else text(wallet.balance),
        }  # fmt: skip

    def catalogue(self, user: UUID, named: str | None) -> dict[str, Any]:
        tenant = self.membership(user, named)
        manages = tenant.members[user].role in ("tenant_manager", "hr_admin")
        shown = [r for r in tenant.rewards.values() if r.active or manages]
        return {
            "tenant_id": tenant.id, "redemptions_paused": tenant.settings["redemptions_paused"],
            "balance": text(tenant.wallets[user].balance),
            "rewards": [self.offer(r) for r in sorted(shown, key=lambda r: (r.cost, r.name))],
        }  # fmt: skip
