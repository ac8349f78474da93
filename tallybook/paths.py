"""Addresses: the method and path at which a route answers, and which of them a request means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

METHODS: Final = ("GET", "POST", "DELETE")

PARAMETERS_KEY: Final = "tallybook.parameters"
"""Where in a request's scope the server puts what it read from the path, having found a route by
the method too. A function that is served by itself finds nothing there and answers to POST alone.
"""

_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~-]+|\{[a-z][a-z0-9_]*\}")

ThingT = TypeVar("ThingT")


@dataclass(frozen=True, slots=True)
class Address:
    """A method and a template: `GET`, `/transactions/{transaction_id}`.

    A parameter stands for one whole segment, which is never empty and has no slash in it.
    """

    method: str
    template: str
    parameters: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """From `"GET /balance"`, or from a path alone, which means POST. Raises ValueError."""
        method, _, template = text.rpartition(" ")
        segments = template[1:].split("/")
        if (method or "POST") not in METHODS:
            raise ValueError(f"{text}: the methods are {', '.join(METHODS)}")
        if not template.startswith("/") or not all(map(_SEGMENT.fullmatch, segments)):
            raise ValueError(f"{text}: this is no path")
        parameters = tuple(part[1:-1] for part in segments if part.startswith("{"))
        if len(set(parameters)) < len(parameters):
            raise ValueError(f"{text}: a parameter stands in it twice")
        return cls(method or "POST", template, parameters)

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


@dataclass(frozen=True, slots=True)
class Place(Generic[ThingT]):
    """All that is served at one template, by method."""

    template: str
    pattern: re.Pattern[str]
    by_method: dict[str, ThingT] = field(default_factory=dict)

    @property
    def allowed(self) -> tuple[str, ...]:
        """For the header Allow."""
        return (*(method for method in METHODS if method in self.by_method), "OPTIONS")


class Paths(Generic[ThingT]):
    """Every address there is. A path that is written out wins over a template."""

    def __init__(self) -> None:
        self._literal: dict[str, Place[ThingT]] = {}
        self._templates: list[Place[ThingT]] = []

    def add(self, address: Address, thing: ThingT) -> None:
        """Raises ValueError where something is served already."""
        place = self._place(address)
        if address.method in place.by_method:
            raise ValueError(f"{address} is served twice")
        place.by_method[address.method] = thing

    def find(self, path: str) -> tuple[Place[ThingT], Mapping[str, str]] | None:
        """What is served at a decoded path, and what the path says for the template's names."""
        place = self._literal.get(path)
        if place is not None:
            return place, {}
        for place in self._templates:
            match = place.pattern.fullmatch(path)
            if match is not None:
                return place, match.groupdict()
        return None

    def _place(self, address: Address) -> Place[ThingT]:
        pattern = re.compile(
            re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(address.template))
        )
        if not address.parameters:
            return self._literal.setdefault(address.template, Place(address.template, pattern))
        for place in self._templates:
            if _shape(place.template) == _shape(address.template):
                if place.template != address.template:
                    raise ValueError(f"{address}: {place.template} has other names for the same")
                return place
        place = Place(address.template, pattern)
        self._templates.append(place)
        # Of two templates that both match, the one that is written out for longer.
        self._templates.sort(key=lambda each: _shape(each.template).replace("{", "\x7f"))
        return place


def _shape(template: str) -> str:
    return re.sub(r"\{\w+\}", "{}", template)
