"""The model of allocations: into pools, out of them again, and between them and leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from math import ceil
from typing import Any, Final
from uuid import UUID

from tests.machine.model import Actor, Refused, Said
from tests.machine.model_pool import end_of, must_be_points, text
from tests.machine.model_purse import ZERO
from tests.machine.model_tenants import LEADS, MANAGERS, Companies, Tenant

PER_HOUR_MAX: Final = 4
LARGE_ABOVE: Final = Decimal(600)
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Order:
    """One allocation as it is asked for."""

    tenant_id: str
    amount: Decimal
    note: str | None
    key: str | None


Ids = dict[str, Any]


class Allocations(Companies):
    """What the platform and managers decide. The server's ids come from its answers."""

    def allocate(self, by: Actor, order: Order, told: Ids) -> Said:
        if not by.administers:
            raise Refused("forbidden")
        said, _ = self._allocated(by, order, told, counts=True)
        return said

    def bulk(self, by: Actor, orders: Sequence[Order], told: list[Ids]) -> Said:
        """Each is done or refused by itself; together they are one request."""
        if not by.administers:
            raise Refused("forbidden")
        counts, results = True, []
        for place, order in enumerate(orders, 1):
            result: dict[str, Any] = {"position": place, "tenant_id": order.tenant_id}
            try:
                said, new = self._allocated(
                    by, order, told[place - 1] if told else {}, counts=counts
                )
                counts = counts and not new
                result |= said.body
                if said.replayed:
                    result["replayed"] = True
            except Refused as refused:
                if refused.code == "rate_limited":
                    raise
                result |= {"success": False, "code": refused.code}
            results.append(result)
        done = sum(result["success"] for result in results)
        return Said(
            {"success_count": done, "failed_count": len(results) - done, "results": results}
        )

    def _allocated(self, by: Actor, order: Order, told: Ids, *, counts: bool) -> tuple[Said, bool]:
        """And whether it is new."""
        tenant = self.named(order.tenant_id)
        request = ("allocate", order.amount, order.note)
        known = tenant.before(("bill", order.key), request)
        if known is not None:
            return known, False
        if not tenant.active:
            raise Refused("tenant_not_found")
        must_be_points(order.amount)
        if counts and by.user is not None:
            self._count(by.user)
        body = self._come(tenant, "CREDIT_INJECTION", order.amount, told)
        return tenant.say(("bill", order.key), request, body), True

    def _count(self, user: UUID) -> None:
        now, times = self.shared.now, self.allocated_at[user]
        lately = [at for at in times if at > now - HOUR]
        if len(lately) >= PER_HOUR_MAX:
            again = ceil((lately[-PER_HOUR_MAX] + HOUR - now).total_seconds())
            raise Refused("rate_limited", "allocations_per_hour", max(1, again))
        times.append(now)

    def _come(self, tenant: Tenant, kind: str, points: Decimal, told: Ids) -> dict[str, Any]:
        ends = end_of(self.shared.now, tenant.settings["expiry_policy"])
        tenant.pool.come(told.get("allocation_log_id", ""), points, ends, True)
        tenant.bill(kind, points)
        tenant.alerts["large_allocation"] += points > LARGE_ABOVE
        return {
            "success": True, "tenant_id": tenant.id, "amount_allocated": text(points),
            "new_allocation_balance": text(tenant.pool.balance),
            "currency": tenant.settings["currency"],
            "allocation_log_id": told.get("allocation_log_id"),
            "platform_log_id": told.get("platform_log_id"),
        }  # fmt: skip

    def _decided(self, by: Actor, reason: str) -> None:
        if not by.administers:
            raise Refused("forbidden")
        if not reason.strip():
            raise Refused("reason_required")

    def claw_back(
        self, by: Actor, id: str, amount: Decimal | None, reason: str, key: str | None, told: Ids
    ) -> Said:
        self._decided(by, reason)
        if amount is not None:
            must_be_points(amount)
        tenant = self.named(id)
        request = ("clawback", amount, reason)
        known = tenant.before(("bill", key), request)
        if known is not None:
            return known
        there = tenant.pool.balance
        if not there or (amount or ZERO) > there:
            raise Refused("insufficient_pool")
        with tenant.watched() as pool:
            pool.go(amount or there)
        tenant.bill("CLAWBACK", -(amount or there))
        body = {
            "success": True, "tenant_id": id, "amount_clawed_back": text(amount or there),
            "new_balance": text(pool.balance), "platform_log_id": told.get("platform_log_id"),
            "reason": reason,
        }  # fmt: skip
        return tenant.say(("bill", key), request, body)

    def reverse(
        self,
        by: Actor,
        id: str,
        allocation: str,
        amount: Decimal | None,
        reason: str,
        key: str | None,
        told: Ids,
    ) -> Said:
        self._decided(by, reason)
        if amount is not None:
            must_be_points(amount)
        tenant = self.named(id)
        request = ("reverse", allocation, amount, reason)
        known = tenant.before(("bill", key), request)
        if known is not None:
            return known
        lot = next((x for x in tenant.pool.lots if x.is_allocation and x.id == allocation), None)
        if lot is None:
            raise Refused("allocation_not_found")
        most = min(lot.kept, tenant.pool.balance)
        if not most or (amount or ZERO) > most:
            raise Refused("not_reversible")
        with tenant.watched() as pool:
            pool.reverse(lot, amount or most)
        tenant.bill("REVERSAL", -(amount or most))
        body = {
            "success": True, "tenant_id": id, "allocation_log_id": allocation,
            "amount_reversed": text(amount or most), "reversed_in_all": text(lot.reversed),
            "status": lot.status, "new_balance": text(pool.balance),
            "platform_log_id": told.get("platform_log_id"), "reason": reason,
        }  # fmt: skip
        return tenant.say(("bill", key), request, body)

    def adjust(
        self, by: Actor, id: str, balance: Decimal, reason: str, key: str | None, told: Ids
    ) -> Said:
        self._decided(by, reason)
        if balance:
            must_be_points(balance)
        tenant = self.named(id)
        request = ("adjust", balance, reason)
        known = tenant.before(("bill", key), request)
        if known is not None:
            return known
        delta = self.set_to(tenant, balance, told.get("platform_log_id"))
        if not delta and key:
            # It was that balance already; under a key that is remembered.
            tenant.bill("ADJUSTMENT", delta)
        body = {
            "success": True, "tenant_id": id, "adjusted_by": text(delta),
            "new_allocation_balance": text(balance),
            "platform_log_id": told.get("platform_log_id") if delta or key else None,
            "reason": reason,
        }  # fmt: skip
        return tenant.say(("bill", key), request, body)

    def set_to(self, tenant: Tenant, balance: Decimal, id: str | None) -> Decimal:
        """By an adjustment; how much it was."""
        delta = balance - tenant.pool.balance
        with tenant.watched() as pool:
            if delta > 0:
                pool.come(id or "", delta, None, False)
            else:
                pool.go(-delta)
        if delta:
            tenant.bill("ADJUSTMENT", delta)
        return delta

    def delegate(
        self,
        by: Actor,
        named: str | None,
        lead: UUID,
        amount: Decimal | None,
        key: str | None,
        told: Ids,
        *,
        recall: bool,
    ) -> Said:
        """From the pool to a lead, or back: all that the lead has, where it is not said."""
        tenant = self.membership(by.user, named)
        if tenant.members[by.user].role not in MANAGERS:  # type: ignore[index]
            raise Refused("forbidden")
        if not (recall and amount is None):
            must_be_points(amount)
        request = ("delegate", lead, amount, recall)
        known = tenant.before(("delegation", by.user, key), request)
        if known is not None:
            return known
        member = tenant.members.get(lead)
        if member is None or not (recall or (member.active and member.role in LEADS)):
            raise Refused("recipient_not_found")
        if recall:
            points = member.budget if amount is None else amount
            if not points or points > member.budget:
                raise Refused("insufficient_budget")
            member.budget -= points
            tenant.pool.come_back(points)
        else:
            assert amount is not None
            points = amount
            if points > tenant.pool.balance:
                raise Refused("insufficient_pool")
            with tenant.watched() as pool:
                pool.go(points)
            member.budget += points
        body = {
            "success": True, "tenant_id": tenant.id, "lead_user_id": str(lead),
            "amount": text(points), "lead_new_balance": text(member.budget),
            "tenant_remaining_balance": text(tenant.pool.balance), "reference_note": None,
            "delegation_id": told.get("delegation_id"),
        }  # fmt: skip
        return tenant.say(("delegation", by.user, key), request, body)

    # What upkeep does

    def expire_pools(self) -> dict[str, Any]:
        lots: list[Decimal] = []
        for tenant in self.tenants.values():
            stood = tenant.pool.balance
            with tenant.watched() as pool:
                lost = pool.expire(self.shared.now)
            for points in lost:
                stood -= points
                tenant.bill("EXPIRY", -points, stood)
            lots += lost
        return {"lots": len(lots), "points": text(sum(lots, ZERO))}

    def expire_wallets(self) -> dict[str, Any]:
        ended = [
            tenant.expire_wallet(user, self.shared.now)
            for tenant in self.tenants.values()
            for user in list(tenant.wallets)
        ]
        return {"points": text(sum(ended, ZERO))}

    def refill(self, ids: dict[str, str]) -> dict[str, Any]:
        """Those that fell below a part of what they get get it again; by tenant, its log's id."""
        total, number = ZERO, 0
        for tenant in self.tenants.values():
            amount = tenant.settings["auto_refill_amount"]
            if amount is None or not tenant.active or tenant.pool.balance >= amount / 5:
                continue
            self._come(tenant, "REFILL", amount, {"allocation_log_id": ids.get(tenant.id, "")})
            tenant.alerts["refilled"] += 1
            total, number = total + amount, number + 1
        return {"refilled": number, "points": text(total)}
