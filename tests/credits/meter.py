"""What was used, in sentences: the verbs of the tests about usage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.credits.bank import Bank, Number
from tests.world import Connection, World

SOURCE = "gateway.csv"


@dataclass(frozen=True, slots=True)
class Meter:
    """Verbs for usage: recorded, imported, folded, asked for."""

    bank: Bank

    @property
    def world(self) -> World:
        return self.bank.world

    def use(self, user: UUID, cost: Number = 0, **event: Any) -> None:
        """One use that nothing was charged for, as a test's background."""
        connection = self.world.admin
        named = "".join(f", p_{name} => %s" for name in event)
        with connection.transaction():
            connection.execute("select internal.lock_credits(array[%s::uuid])", (user,))
            connection.execute(
                "select internal.record_usage(array[internal.usage_event(%s, %s::numeric"
                f"{named})])",  # type: ignore[arg-type]
                (user, Decimal(cost), *event.values()),
            )

    def bring(
        self, *lines: dict[str, Any], source: str = SOURCE, through: Connection | None = None
    ) -> Any:
        """Import lines, as an operator does."""
        return self.world.value(
            "select public.import_usage_events(%s, %s::jsonb)",
            (source, json.dumps(lines)),
            through or self.world.operator,
        )

    def fold(self, limit: int = 10_000, through: Connection | None = None) -> int:
        """Fold as the worker does; how many changes there were."""
        answer = self.world.call(
            "public.fold_usage", {"limit": limit}, through or self.world.worker
        )
        folded: int = answer["folded"]
        return folded

    def statistics(self, user: UUID, group_by: str | None = None, **when: datetime) -> Any:
        """A user's statistics, as the functions ask for them."""
        return self.bank.call("usage_statistics", user_id=user, group_by=group_by, **when)

    def faults(self) -> list[str]:
        """The subjects of what does not agree about usage."""
        rows = self.world.rows("select subject from internal.usage_discrepancies order by 1")
        return [row["subject"] for row in rows]


def line(number: int, user: UUID, cost: Number, at: datetime, **fields: Any) -> dict[str, Any]:
    """One line of an import, of 1,000 tokens."""
    return {
        "line": number,
        "user_id": str(user),
        "event_time": at.isoformat(),
        "tokens_used": 1000,
        "cost": str(cost),
        **fields,
    }
