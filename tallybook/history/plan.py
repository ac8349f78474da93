"""What a kind of history tells the importer: how a line is read, who takes it, what is counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from tallybook.history.columns import ColumnNames
from tallybook.history.records import Record


class Entry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One element of what the database's procedure takes: an event of one user."""

    line: int
    user_id: str
    key: str | None = None
    occurrence: int = 1

    @property
    def content(self) -> str:
        """What makes it another event than the others of its user, where there is no key."""
        raise NotImplementedError


@dataclass(slots=True)
class Tally:
    """What became of the lines: lines = imported + known + bad."""

    source: str
    user_namespace: str
    dry_run: bool
    lines: int = 0
    imported: int = 0
    known: int = 0
    bad: int = 0
    seconds: float = 0.0

    @property
    def lines_per_second(self) -> int:
        return round(self.lines / self.seconds) if self.seconds else 0

    @property
    def sums(self) -> str:
        """What came in, in words."""
        raise NotImplementedError

    def add(self, answer: Mapping[str, Any]) -> None:
        """Count what the procedure says of one call, faults apart."""
        self.imported += answer["imported"]
        self.known += answer["known"]


T = TypeVar("T", bound=Tally)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import(ABC, Generic[T]):
    """How a file is to be read. `source` is the namespace of its users and of its events: the same
    line of two sources is two events.

    With several `connections` each has its own users, so that none waits for another.
    """

    PROCEDURE: ClassVar[str]
    """Takes the source and a JSON array of entries."""
    CALLS_DEPEND: ClassVar[bool] = True
    """Whether one call sees what those before it did also in a dry run, as spending needs earning.
    Otherwise each is rolled back by itself, and what they lock does not add up over the file."""

    source: str
    dry_run: bool = False
    connections: int = 1

    @staticmethod
    def source_of(path: Path) -> str:
        """A file's source when none is given: its name, whether it is gzipped or not."""
        return path.name.removesuffix(".gz")

    @property
    @abstractmethod
    def names(self) -> ColumnNames:
        """The columns to read."""

    @abstractmethod
    def interpreter(self) -> Callable[[Record], Entry]:
        """A function that turns a record into its entry, or raises ValueError: what is wrong."""

    @abstractmethod
    def report(self) -> T:
        """Nothing counted yet."""
