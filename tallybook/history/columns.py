"""Which column of a file holds what, as it is said on a command line: `user=customer,time=date`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from tallybook.history.records import HistoryError


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The column of each thing that a line tells; None where the file has no such column.

    `CALLED` are the attributes that have another name on the command line.
    """

    CALLED: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `user=customer,time=date,points=dollars`. Raises HistoryError."""
        names = {cls.CALLED.get(each.name, each.name): each.name for each in fields(cls)}
        found: dict[str, str] = {}
        for pair in filter(None, text.split(",")):
            name, _, column = (part.strip() for part in pair.partition("="))
            if name not in names or not column:
                raise HistoryError(f"columns: {pair!r} is not one of {', '.join(names)} = a column")
            if names[name] in found:
                raise HistoryError(f"columns: {name} is there twice")
            found[names[name]] = column
        return cls(**found)

    @property
    def wanted(self) -> dict[str, str]:
        """Attribute -> column of those that are named, in the order of a record's values."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: column for name, column in named.items() if column is not None}

    @property
    def absent(self) -> frozenset[str]:
        """The columns that a JSON line may leave out or have null in; a CSV has them empty."""
        return frozenset()

    @property
    def structured(self) -> frozenset[str]:
        """The columns in which a JSON line may have any value, read as JSON text."""
        return frozenset()
