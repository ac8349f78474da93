"""Uses of models from before: a line is a user, a time, how many tokens and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any, ClassVar, Final

import msgspec

from tallybook.history import values
from tallybook.history.columns import ColumnNames
from tallybook.history.plan import Entry, Import, Tally
from tallybook.history.records import Record

TOKENS_MAX: Final = 10**15
COST_MAX: Final = 10**11
METADATA_BYTES_MAX: Final = 16 * 1024
_MILLIONTH: Final = Decimal("0.000001")
_YES: Final = frozenset({"true", "t", "yes", "y", "1", "success", ""})
_NO: Final = frozenset({"false", "f", "no", "n", "0", "failure"})


@dataclass(frozen=True, slots=True)
class UsageColumns(ColumnNames):
    """`key` is the file's own id of an event. What is named by default must be there, the others
    may be absent, and empty in any line."""

    CALLED: ClassVar[Mapping[str, str]] = {"event_type": "type"}

    user: str = "user_id"
    time: str = "created_at"
    tokens: str = "tokens_used"
    cost: str = "cost"
    model: str | None = None
    provider: str | None = None
    power_level: str | None = None
    service: str | None = None
    event_type: str | None = None
    success: str | None = None
    key: str | None = None
    metadata: str | None = None

    @property
    def absent(self) -> frozenset[str]:
        return frozenset(self.wanted.values()) - {self.user, self.time, self.tokens, self.cost}

    @property
    def structured(self) -> frozenset[str]:
        return frozenset(filter(None, (self.success, self.metadata)))


class Use(Entry, kw_only=True):
    """One element of what public.import_usage_events takes. `cost` is in credits, as text."""

    event_time: str
    tokens_used: int
    cost: str
    provider: str | None = None
    model: str | None = None
    power_level: str | None = None
    service: str | None = None
    event_type: str | None = None
    success: bool = True
    metadata: msgspec.Raw | None = None

    @property
    def content(self) -> str:
        return (
            f"{self.event_time} {self.tokens_used} {self.cost} {self.success} {self.event_type}"
            f"\0{self.provider}\0{self.model}\0{self.power_level}\0{self.service}"
        )


@dataclass(slots=True)
class UsageReport(Tally):
    """`tokens` and `cost`, in credits, are the imported sums."""

    tokens: int = 0
    cost: Decimal = Decimal(0)

    @property
    def sums(self) -> str:
        return f"{self.tokens:,} tokens for {self.cost:,f} credits"

    def add(self, answer: Mapping[str, Any]) -> None:
        Tally.add(self, answer)
        self.tokens += answer["tokens"]
        self.cost += answer["cost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePlan(Import[UsageReport]):
    """How a file of usage is to be read."""

    PROCEDURE: ClassVar[str] = "import_usage_events"
    # A user's lock is held to the transaction's end, and the server has room for some thousands.
    CALLS_DEPEND: ClassVar[bool] = False

    columns: UsageColumns = field(default_factory=UsageColumns)

    @property
    def names(self) -> ColumnNames:
        return self.columns

    def report(self) -> UsageReport:
        return UsageReport(self.source, str(values.user_namespace(self.source)), self.dry_run)

    def interpreter(self) -> Callable[[Record], Use]:
        columns = self.columns
        user_id = values.user_ids(self.source, columns.user)
        wanted = columns.wanted
        # Of what may be absent: where it stands in a record, and what its column is called.
        others = [
            (name, place, wanted[name], _OTHERS[name])
            for place, name in enumerate(wanted)
            if name in _OTHERS
        ]

        def interpret(record: Record) -> Use:
            said = record.values
            use = Use(
                line=record.line,
                user_id=user_id(said[0]),
                event_time=values.time(said[1], columns.time),
                tokens_used=_tokens(said[2], columns.tokens),
                cost=_cost(said[3], columns.cost),
            )
            for name, place, column, read in others:
                setattr(use, name, read(said[place], column))
            return use

        return interpret


def _tokens(value: str, column: str) -> int:
    tokens = values.number(value, column)
    if tokens != tokens.to_integral_value() or not 0 <= tokens <= TOKENS_MAX:
        raise ValueError(f"{column}: {values.shown(value.strip())} is no number of tokens")
    return int(tokens)


def _cost(value: str, column: str) -> str:
    """Rounded to millionths of a credit, as the book keeps it."""
    cost = values.number(value, column)
    if not 0 <= cost <= COST_MAX:
        raise ValueError(f"{column}: {values.shown(value.strip())} is no cost")
    return str(cost.quantize(_MILLIONTH, ROUND_HALF_UP))


@lru_cache(values.REMEMBERED)
def _label(value: str, column: str) -> str | None:
    return values.text(value, column) if value.strip() else None


def _success(value: str, column: str) -> bool:
    said = value.strip().lower()
    if said in _YES or said in _NO:
        return said in _YES
    raise ValueError(f"{column}: {values.shown(value.strip())} is neither true nor false")


def _metadata(value: str, column: str) -> msgspec.Raw | None:
    said = value.strip().encode()
    if not said or said == b"null":
        return None
    try:
        msgspec.json.decode(said, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError):
        raise ValueError(f"{column}: is no JSON object") from None
    if len(said) > METADATA_BYTES_MAX:
        raise ValueError(f"{column}: has more than {METADATA_BYTES_MAX} bytes")
    return msgspec.Raw(said)


_OTHERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "model": _label,
    "provider": _label,
    "power_level": _label,
    "service": _label,
    "event_type": _label,
    "success": _success,
    "key": _label,
    "metadata": _metadata,
}
