"""What happens to credits, in sentences: the verbs of the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from tests.world import Connection, World

Number = int | float | str | Decimal


@dataclass(frozen=True, slots=True)
class Bank:
    """Verbs for what users, services and administrators do with credits in one clone."""

    world: World

    def customer(self, credits: Number = 0, **lot: Any) -> UUID:
        """A new user, who was given these credits."""
        user = uuid4()
        if Decimal(credits):
            self.give(user, credits, **lot)
        return user

    def give(self, user: UUID, amount: Number, type: str = "bonus", **lot: Any) -> UUID:
        """One movement by hand, as a test's background; returns its transaction's id."""
        (row,) = self.move({"user_id": user, "amount": amount, "transaction_type": type, **lot})
        assert row["outcome"] == "posted", row
        moved: UUID = row["id"]
        return moved

    def move(self, *moves: dict[str, Any]) -> list[dict[str, Any]]:
        """Movements through the one function that makes them; what became of each."""
        users = [move["user_id"] for move in moves]
        calls = []
        values: list[Any] = []
        for move in moves:
            calls.append(
                "internal.credit_move("
                + ", ".join(f"p_{name} => %s{'::numeric' * (name == 'amount')}" for name in move)
                + ")"
            )
            values += [Jsonb(v) if isinstance(v, dict) else v for v in move.values()]
        connection = self.world.admin
        with connection.transaction():
            connection.execute("select internal.lock_credits(%s)", (users,))
            return connection.execute(
                f"select * from internal.move_credits(array[{', '.join(calls)}]) order by position",
                values,
            ).fetchall()

    def balance(self, user: UUID) -> Decimal:
        """What the ledger says a user has, reserved or not."""
        rows = self.world.rows(
            "select balance / 1000000.0 as credits from ledger.accounts"
            " where book_id = %s and account = 'credits'",
            (user,),
        )
        return Decimal(rows[0]["credits"]).quantize(Decimal("0.000001")) if rows else Decimal(0)

    def available(self, user: UUID) -> Decimal:
        """What a user can spend: what is reserved is not in it."""
        rows = self.world.rows(
            "select (balance - held) / 1000000.0 as credits from ledger.accounts"
            " where book_id = %s and account = 'credits'",
            (user,),
        )
        return Decimal(rows[0]["credits"]).quantize(Decimal("0.000001")) if rows else Decimal(0)

    def lots(self, user: UUID) -> list[tuple[str, Decimal]]:
        """The source and the remaining credits of every open lot, in the order of spending."""
        return [
            (row["source"], row["remaining"].normalize())
            for row in self.world.rows(
                "select source, remaining from public.credit_grants"
                " where user_id = %s and is_open"
                " order by priority, expires_at, created_at, grant_id",
                (user,),
            )
        ]

    def statement(self, user: UUID) -> list[tuple[str, Decimal, Decimal]]:
        """Type, amount and balance of every transaction, oldest first."""
        return [
            (row["transaction_type"], row["amount"].normalize(), row["balance_after"].normalize())
            for row in self.world.rows(
                "select transaction_type, amount, balance_after from public.credit_transactions"
                " where user_id = %s order by created_at, id",
                (user,),
            )
        ]

    def call(self, procedure: str, through: Connection | None = None, **arguments: Any) -> Any:
        """A procedure's answer, by default as the functions call it."""
        return self.world.call(f"public.{procedure}", arguments, through or self.world.functions)

    def keep(self, credits: int, tier: str = "starter") -> None:
        """Let so many unused monthly credits of a tier keep for another month, from now on."""
        self.call(
            "publish_prices",
            self.world.operator,
            user_id=None,
            changes={"tiers": {tier: {"rollover_max": credits}}},
            note="Some keep",
        )

    def set_aside(self, user: UUID, credits: Number) -> str:
        """Reserve exactly so many credits for a day, which upkeep alone ends."""
        answer = self.call(
            "reserve_credits",
            user_id=user,
            model="gpt-4o",
            max_tokens=10**12,
            max_cost=Decimal(credits),
            expires_in_seconds=86_400,
        )
        assert answer["reserved"] == Decimal(credits), answer
        reservation: str = answer["reservation_id"]
        return reservation
