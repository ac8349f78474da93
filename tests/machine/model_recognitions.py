"""The model of recognitions: who gives what to whom, which one source pays, and what goes back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.machine.model import Actor, Refused, Said
from tests.machine.model_allocations import Allocations, Ids
from tests.machine.model_pool import HUNDREDTH, POINTS_MAX, text
from tests.machine.model_purse import ZERO
from tests.machine.model_tenants import LEADS, MANAGERS, Member, Recognition, Tenant


@dataclass(frozen=True, slots=True)
class Gift:
    """What somebody asks to give. `award` means by those alone who give their company's points."""

    named: str | None
    recipients: tuple[UUID, ...]
    points: Decimal | None
    message: str = "Thank you"
    kind: str = "standard"
    tier: str | None = None
    split: str = "flat"
    visibility: str = "public"
    award: bool = False

    @property
    def asked(self) -> tuple[Any, ...]:
        """What is the same when it is asked again."""
        return (
            self.recipients, self.points, self.message, self.kind, self.tier, self.split,
            self.visibility, self.award,
        )  # fmt: skip


class Recognitions(Allocations):
    """Recognitions and awards."""

    def give(self, by: Actor, gift: Gift, key: str | None, told: Ids) -> Said:
        tenant = self._place(by, gift)
        if tenant is None:
            raise Refused("tenant_not_found")
        giver = self._giver(tenant, by, gift)
        said_to = ("gift", by.user if giver else None, key)
        wrong: Refused | None = None
        try:
            shares = self._shares(tenant, by, giver, gift)
        except Refused as refused:
            wrong, shares = refused, []
        points = sum(shares, ZERO)
        sources = self._sources(tenant, giver)
        if wrong is None and points and "wallet" in sources:
            # What was not spent in time is nobody's to give, whatever becomes of the request.
            assert by.user is not None
            tenant.expire_wallet(by.user, self.shared.now)
        known = tenant.before(said_to, gift.asked)
        if known is not None:
            return known
        if wrong is not None:
            raise wrong
        source = self._payer(tenant, by, giver, sources, points) if points else "nothing"
        body = self._given(tenant, by, giver, gift, shares, source, told)
        return tenant.say(said_to, gift.asked, body)

    def give_at_once(self, asked: Sequence[tuple[Actor, Gift, str, Ids]]) -> list[Said | Refused]:
        """In order of arrival; only what was not spent in time ends before all of them."""
        for by, gift, _, _ in asked:
            with suppress(Refused):
                tenant = self._place(by, gift)
                assert tenant is not None
                assert by.user is not None
                giver = tenant.members[by.user]
                shares = self._shares(tenant, by, giver, gift)
                if sum(shares) and "wallet" in self._sources(tenant, giver):
                    tenant.expire_wallet(by.user, self.shared.now)
        outcomes: list[Said | Refused] = []
        for by, gift, key, told in asked:
            try:
                outcomes.append(self.give(by, gift, key, told))
            except Refused as refused:
                outcomes.append(refused)
        return outcomes

    def award(self, by: Actor, gift: Gift, key: str | None, told: Ids) -> Said:
        """One recipient, by those who give their company's points; told in other words."""
        to = {"user_id": str(gift.recipients[0]), "ledger_entry_id": told.get("ledger_entry_id")}
        said = self.give(by, gift, key, {**told, "recipients": [to]})
        body, [one] = said.body, said.body["recipients"]
        return Said(
            {
                "success": True, "amount_awarded": body["points"],
                "recipient_new_wallet_balance": one["new_wallet_balance"],
                "tenant_remaining_pool": body["tenant_remaining_pool"],
                "ledger_entry_id": one["ledger_entry_id"],
                "recognition_id": body["recognition_id"], "funded_by": body["funded_by"],
            },
            said.replayed,
        )  # fmt: skip

    def _place(self, by: Actor, gift: Gift) -> Tenant | None:
        """Where it is given: where somebody belongs, or what the platform names."""
        belongs = self.of(by.user, gift.named)
        found = [t for t in belongs if t.active and self._giver(t, by, gift)]
        if len(found) > 1:
            raise Refused("invalid_body")
        if found:
            return found[0]
        if not (gift.award and by.administers):
            raise Refused("forbidden")
        if gift.named is None:
            raise Refused("invalid_body")
        return self.tenants.get(gift.named)

    def _giver(self, tenant: Tenant, by: Actor, gift: Gift) -> Member | None:
        """As whom it is given. An administrator who works there awards as administrator."""
        giver = tenant.members.get(by.user) if by.user else None
        if giver is None or not giver.active:
            return None
        steps_aside = gift.award and by.is_admin and gift.named and giver.role == "employee"
        return None if steps_aside else giver

    def _shares(self, tenant: Tenant, by: Actor, giver: Member | None, gift: Gift) -> list[Decimal]:
        """How much each gets, or why nobody does."""
        heads = len(gift.recipients)
        tiers: dict[str, int] = tenant.settings["award_tiers"]
        if not tenant.active:
            raise Refused("tenant_not_found")
        if not gift.message.strip() or len(set(gift.recipients)) < heads:
            raise Refused("invalid_body")
        if gift.tier is not None and gift.tier not in tiers:
            raise Refused("invalid_body")
        said = Decimal(tiers[gift.tier]) if gift.tier else None
        points = next((p for p in (gift.points, said) if p is not None), ZERO)
        if not 0 <= points <= POINTS_MAX or points % HUNDREDTH:
            raise Refused("invalid_amount")
        if (said is not None and points != said) or (gift.award and not points):
            raise Refused("invalid_amount")
        if gift.split == "equal" and 0 < points < heads * HUNDREDTH:
            raise Refused("invalid_amount")
        if gift.award and giver and giver.role == "employee":
            raise Refused("forbidden")
        if by.user in gift.recipients:
            raise Refused("self_recognition")
        for user in gift.recipients:
            if user not in tenant.members or not tenant.members[user].active:
                raise Refused("recipient_not_found")
        own = giver is not None and giver.role == "employee"
        if own and points and not tenant.settings["peer_to_peer_enabled"]:
            raise Refused("peer_to_peer_off")
        if gift.split == "flat":
            return [points] * heads
        each, over = divmod(int(points / HUNDREDTH), heads)
        return [(each + (place < over)) * HUNDREDTH for place in range(heads)]

    def _sources(self, tenant: Tenant, giver: Member | None) -> list[str]:
        """Who may pay, in this order."""
        if giver is None:
            return ["pool"]
        if giver.role == "employee":
            return ["wallet"]
        found = ["lead", "pool"] if giver.role in LEADS else ["pool"]
        assert giver.role in (*LEADS, *MANAGERS)
        if tenant.settings["allocation_mode"] == "legacy_fallback":
            found += ["budget", "wallet"] if giver.department else ["wallet"]
        return found

    def _payer(
        self, tenant: Tenant, by: Actor, giver: Member | None, sources: Sequence[str], all: Decimal
    ) -> str:
        """The first that holds all of it."""
        department = tenant.departments.get(giver.department or "") if giver else None
        if department is not None and department.cap is not None:
            this_month = f"{self.shared.now:%Y-%m}"
            given = sum(
                r.points
                for r in tenant.recognitions.values()
                if r.department == department.id and not r.ended and f"{r.at:%Y-%m}" == this_month
            )
            if given + all > department.cap:
                raise Refused("department_cap_reached")
        rooms = {
            "pool": tenant.pool.balance,
            "lead": giver.budget if giver else ZERO,
            "budget": department.budget if department else ZERO,
            "wallet": tenant.wallets[by.user].balance if by.user else ZERO,
        }
        for source in sources:
            if rooms[source] >= all:
                return source
        raise Refused("insufficient_pool" if "pool" in sources else "insufficient_wallet")

    def _given(
        self,
        tenant: Tenant,
        by: Actor,
        giver: Member | None,
        gift: Gift,
        shares: list[Decimal],
        source: str,
        told: Ids,
    ) -> dict[str, Any]:
        now, points, told_of = self.shared.now, sum(shares, ZERO), told.get("recipients") or []
        recipients: list[dict[str, Any]] = []
        with tenant.watched() as pool:
            if source == "pool":
                pool.go(points)
        for place, (user, share) in enumerate(zip(gift.recipients, shares, strict=True)):
            one: dict[str, Any] = {
                "user_id": str(user), "points": text(share), "new_wallet_balance": None,
                "ledger_entry_id": None,
            }  # fmt: skip
            if share:
                self._move(tenant, source, giver, by.user, -share)
                one["new_wallet_balance"] = text(
                    tenant.wallets[user].credit("recognition", share, now)
                )
                one["ledger_entry_id"] = told_of[place]["ledger_entry_id"] if told_of else None
            recipients.append(one)
        id = told.get("recognition_id", "")
        tenant.recognitions[id] = Recognition(
            id, by.user if giver else None, points,
            list(zip(gift.recipients, shares, strict=True)), source,
            giver.department if giver else None, gift.visibility, now,
        )  # fmt: skip
        return {
            "recognition_id": id, "points": text(points), "recipients": recipients,
            "funded_by": source, "tenant_remaining_pool": text(tenant.pool.balance),
            "status": "active",
        }  # fmt: skip

    def _move(
        self,
        tenant: Tenant,
        source: str,
        giver: Member | None,
        user: UUID | None,
        points: Decimal,
        department: str | None = None,
    ) -> None:
        """From a source that is no pool, or back to it."""
        if source == "lead":
            assert giver is not None
            giver.budget += points
        elif source == "budget":
            where = department or (giver.department if giver else None)
            tenant.departments[where or ""].budget += points
        elif source == "wallet":
            assert user is not None
            if points < 0:
                tenant.wallets[user].debit("recognition", -points, self.shared.now)
            else:
                tenant.wallets[user].credit("reversal", points, self.shared.now)

    def revoke(self, by: Actor, named: str | None, id: str, reason: str) -> Said:
        """Back to where it came from, all of it or nothing."""
        if not reason.strip():
            raise Refused("reason_required")
        administers = by.user is None or (by.is_admin and named is not None)
        if administers:
            if named is None:
                raise Refused("invalid_body")
            tenant = self.tenants.get(named)
        else:
            tenant = self.membership(by.user, named)
            if tenant.members[by.user].role != "tenant_manager":  # type: ignore[index]
                raise Refused("forbidden")
        if tenant is None or id not in tenant.recognitions:
            raise Refused("recognition_not_found")
        it = tenant.recognitions[id]
        if it.ended is not None:
            return Said(it.ended, True)
        if it.points and not administers and tenant.settings["wallets_permanent"]:
            raise Refused("not_reversible")
        if any(tenant.wallets[user].balance < share for user, share in it.shares):
            raise Refused("not_reversible")
        for user, share in it.shares:
            if share:
                tenant.wallets[user].debit("reversal", share, self.shared.now)
                giver = tenant.members.get(it.giver) if it.giver else None
                self._move(tenant, it.funded_by, giver, it.giver, share, it.department)
        if it.funded_by == "pool":
            tenant.pool.come_back(it.points)
        it.ended = {
            "recognition_id": id, "status": "revoked", "points": text(it.points),
            "returned_to": it.funded_by, "reason": reason.strip(), "revoked_at": self.shared.now,
        }  # fmt: skip
        return Said(it.ended)

    def seen(self, by: Actor, named: str | None) -> list[str]:
        """The recognitions that somebody may see."""
        tenant = self.membership(by.user, named)
        assert by.user is not None
        member = tenant.members[by.user]
        return [
            r.id
            for r in tenant.recognitions.values()
            if member.role in MANAGERS
            or r.giver == by.user
            or any(user == by.user for user, _ in r.shares)
            or (
                not r.ended
                and (
                    r.visibility == "public"
                    or (
                        r.visibility == "department"
                        and r.department is not None
                        and r.department == member.department
                    )
                )
            )
        ]
