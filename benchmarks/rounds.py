"""Contenders take turns, round after round; what is told is the median of the rounds' ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Of = Callable[["Sample"], float | None]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one contender did in one round: `count` things in `seconds`, `rate` of them a second.

    Latencies are milliseconds, None where the load tool does not tell them.
    """

    rate: float
    count: int
    seconds: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


Run = Callable[[float], Sample]
"""Runs a contender for about so many seconds."""


@dataclass(slots=True)
class Comparison:
    """The samples of every contender, round by round."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def ratio(self, what: str, against: str, of: Of = lambda sample: sample.rate) -> float | None:
        """The median of the rounds' ratios; None when a round has nothing to compare."""
        ratios = []
        for one, other in zip(self.samples[what], self.samples[against], strict=True):
            upper, lower = of(one), of(other)
            if upper is None or not lower:
                return None
            ratios.append(upper / lower)
        return statistics.median(ratios)

    def median(self, what: str, of: Of = lambda sample: sample.rate) -> float | None:
        """A contender's median over its rounds."""
        values = [value for value in map(of, self.samples[what]) if value is not None]
        return statistics.median(values) if values else None

    def raw(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that was measured, for JSON."""
        return {name: [asdict(sample) for sample in all_] for name, all_ in self.samples.items()}


def interleaved(contenders: Mapping[str, Run], rounds: int, seconds: float) -> Comparison:
    """Run all contenders in every round, each time beginning with another one.

    A short first round is not counted: it fills caches, pools and prepared statements.
    """
    names = list(contenders)
    for name in names:
        contenders[name](min(1.0, seconds / 2))
    comparison = Comparison({name: [] for name in names})
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            comparison.samples[name].append(contenders[name](seconds))
    return comparison
