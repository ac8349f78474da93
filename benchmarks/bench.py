"""One run of the benchmark: what it has to work with, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.rounds import Comparison, Run, interleaved
from benchmarks.stand import Database, Stand


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `seconds` is the length of one contender's turn."""

    rounds: int
    seconds: float
    users: int
    connections: tuple[int, ...] = (100, 16, 1)
    usage_events: int = 1_000_000
    usage_users: int = 10_000
    tenants: int = 1_000
    wallet_rows: int = 1_000_000


FULL = Plan(rounds=5, seconds=3, users=5_000)
QUICK = Plan(
    rounds=2,
    seconds=1,
    users=1_000,
    connections=(100, 1),
    usage_events=20_000,
    usage_users=200,
    tenants=20,
    wallet_rows=20_000,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: one thing, its yardstick, the ratio and what it ought to be.

    `lower` says that a ratio below the goal is the good one, as for memory and waiting.
    """

    name: str
    what: str
    against: str
    ratio: float | None
    goal: float | None = None
    lower: bool = False
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio <= self.goal if self.lower else self.ratio >= self.goal


@dataclass(slots=True)
class Bench:
    """Collects what the measures find."""

    stand: Stand
    plan: Plan
    rows: list[Row] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def compare(
        self,
        name: str,
        contenders: Mapping[str, Run],
        *,
        rounds: int | None = None,
        seconds: float | None = None,
    ) -> Comparison:
        """Measure contenders in turns, and keep every number."""
        comparison = interleaved(
            contenders, rounds or self.plan.rounds, seconds or self.plan.seconds
        )
        self.raw[name] = comparison.raw()
        return comparison

    def row(self, name: str, what: str, against: str, ratio: float | None, **more: Any) -> None:
        """Add a line to the table."""
        self.rows.append(Row(name, what, against, ratio, **more))

    def check(self, claim: str, true: bool) -> None:
        """What must hold for the figures to mean anything; a fault fails the whole run."""
        if not true:
            self.faults.append(claim)

    def check_books(self, name: str, database: Database) -> None:
        """The book must agree with itself after the load as before it."""
        found = database.number("select count(*) from ledger.discrepancies")
        self.check(f"{name}: {found} rows in ledger.discrepancies", found == 0)

    def results(self) -> dict[str, Any]:
        """The table and every raw number, for JSON."""
        return {
            "rows": [{**asdict(row), "ok": row.ok} for row in self.rows],
            "raw": self.raw,
            "skipped": self.skipped,
            "faults": self.faults,
            "plan": asdict(self.plan),
        }
