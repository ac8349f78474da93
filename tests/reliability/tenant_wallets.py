"""What comes into wallets and is spent there, under load: recognitions, awards and rewards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from random import Random
from typing import Any, ClassVar, Final
from uuid import UUID

from tests.reliability.firms import LEADS, MANAGERS, OFFICES, Books, Row
from tests.reliability.model import ZERO, Life, Operation, Seat
from tests.reliability.tenants import AMOUNTS, POOL_KINDS, TenantKind

SPLIT: Final = ("1", "10", "0.05")  # what three cannot share without a rest


class Recognize(TenantKind):
    """Some colleagues are given points: of the pool, of a lead's budget, or of one's own."""

    name = "recognize"
    slug = "recognitions/give"
    weight = 35
    at_once = True
    refusals = frozenset({"insufficient_pool", "insufficient_wallet"})
    knows_wallets = False  # one that others are just opening counts as empty
    table = "recognitions"
    told: ClassVar[Mapping[str, str]] = {
        "recognition_id": "id", "points": "points", "funded_by": "funded_by",
        "tenant_remaining_pool": "pool_after",
    }  # fmt: skip

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        named = random.sample(seat.colleagues, min(len(seat.colleagues), random.choice((1, 1, 3))))
        split = random.choice(("flat", "equal"))
        points = random.choice(SPLIT if split == "equal" else AMOUNTS)
        body = {"to_user_ids": [str(user) for user in named], "points": points, "split": split}
        return {**body, "message": "Thank you"} if named else None

    def shares(self, operation: Operation) -> list[Decimal]:
        """What does not divide goes to the first of them, a hundredth each."""
        points, heads = Decimal(operation.body["points"]), len(operation.body["to_user_ids"])
        if operation.body["split"] == "flat":
            return [points] * heads
        each, rest = divmod(int(points * 100), heads)
        return [Decimal(each + (place < rest)) / 100 for place in range(heads)]

    def required(self, operation: Operation, life: Life) -> Decimal:
        return sum(self.shares(operation), ZERO)

    def asked(self, operation: Operation, life: Life, row: Row) -> Row:
        return {"points": sum(self.shares(operation)), "from_user_id": life.user}

    def booked(self, operation: Operation, life: Life, books: Books) -> Iterator[str]:
        yield from super().booked(operation, life, books)
        assert life.seat is not None
        role = life.seat.role
        sources = {**dict.fromkeys(MANAGERS, ("pool",)), **dict.fromkeys(LEADS, ("lead", "pool"))}
        asked = list(zip(self.to(operation), self.shares(operation), strict=True))
        for row in self.found(operation, books):
            if row["funded_by"] not in sources.get(role, ("wallet",)):
                yield f"a {role}'s was paid by the {row['funded_by']}"
            given = [(str(r["user_id"]), r["points"]) for r in books.given.get(row["id"], ())]
            if given != asked:
                yield f"{asked} was asked for, the book has {given}"

    def to(self, operation: Operation) -> list[str]:
        """Whom it names."""
        named: list[str] = operation.body["to_user_ids"]
        return named

    def answered(self, row: Row, books: Books) -> dict[str, Any]:
        told = [
            {
                "user_id": r["user_id"], "points": r["points"], "ledger_entry_id": r["entry_id"],
                "new_wallet_balance": r["entry"].get("balance_after"),
            }
            for r in books.given.get(row["id"], ())
        ]  # fmt: skip
        return {**super().answered(row, books), "recipients": told}


class Award(Recognize):
    """Points for one, by those who give their company's."""

    name = "award"
    slug = "allocations/award"
    weight = 60
    roles = OFFICES
    refusals = frozenset({"insufficient_pool"})
    told: ClassVar[Mapping[str, str]] = {
        "recognition_id": "id", "amount_awarded": "points", "funded_by": "funded_by",
        "tenant_remaining_pool": "pool_after",
    }  # fmt: skip

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        if not seat.colleagues:
            return None
        body = {"to_user_id": str(random.choice(seat.colleagues)), "amount": random.choice(AMOUNTS)}
        return {**body, "recognition_message": "Great work!"}

    def shares(self, operation: Operation) -> list[Decimal]:
        return [Decimal(operation.body["amount"])]

    def to(self, operation: Operation) -> list[str]:
        return [operation.body["to_user_id"]]

    def answered(self, row: Row, books: Books) -> dict[str, Any]:
        told = super().answered(row, books)
        for recipient in told.pop("recipients"):
            told["recipient_new_wallet_balance"] = recipient["new_wallet_balance"]
            told["ledger_entry_id"] = recipient["ledger_entry_id"]
        return told


class Spend(TenantKind):
    """Somebody buys a reward."""

    name = "redeem a reward"
    slug = "rewards/redeem"
    weight = 25
    at_once = True
    refusals = frozenset({"insufficient_wallet", "reward_out_of_stock"})
    table = "redemptions"
    told: ClassVar[Mapping[str, str]] = {
        "tenant_id": "tenant_id", "redemption_id": "id", "reward_id": "reward_id",
        "points_spent": "points", "ledger_entry_id": "entry_id",
    }  # fmt: skip

    def ask(self, random: Random, seat: Seat) -> dict[str, Any] | None:
        return {"reward_id": random.choice(sorted(seat.rewards))}

    def required(self, operation: Operation, life: Life) -> Decimal:
        assert life.seat is not None
        return life.seat.rewards[operation.body["reward_id"]]

    def asked(self, operation: Operation, life: Life, row: Row) -> Row:
        reward = UUID(operation.body["reward_id"])
        return {
            "user_id": life.user, "reward_id": reward, "points": self.required(operation, life),
        }  # fmt: skip


class GiveBack(TenantKind):
    """The administrator gives the points of a reward back, which happens once without a key."""

    name = "refund a reward"
    slug = "rewards/refund"
    weight = 10
    by_administrator = at_once = True
    told: ClassVar[Mapping[str, str]] = {
        "redemption_id": "id", "user_id": "user_id", "reward_id": "reward_id",
        "points_refunded": "points", "ledger_entry_id": "id",
    }  # fmt: skip

    def body(self, life: Life, key: str) -> dict[str, Any] | None:
        touched = {o.body.get("redemption_id") for o in life.operations}
        ids = [o.answer["redemption_id"] for o in life.done(Spend)]
        ids = [id for id in ids if id not in touched]
        if life.seat is None or not ids:
            return None
        tenant = str(life.seat.tenant)
        return {"redemption_id": life.random.choice(ids), "reason": "Broken", "tenant_id": tenant}

    def found(self, operation: Operation, books: Books) -> list[Row]:
        id = operation.body["redemption_id"]
        return [row for row in books.refunded() if str(row["id"]) == id]

    def asked(self, operation: Operation, life: Life, row: Row) -> Row:
        return {"user_id": life.user}

    def answered(self, row: Row, books: Books) -> dict[str, Any]:
        after = [entry["balance_after"] for entry in books.entries if entry["id"] == row["id"]]
        return {**super().answered(row, books), "new_wallet_balance": after[0] if after else None}


TENANT_KINDS: Final = (*POOL_KINDS, Recognize(), Award(), Spend(), GiveBack())
