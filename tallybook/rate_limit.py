"""A limit on how often, as HTTP tells it: Retry-After, and the RateLimit headers of the IETF draft.

The database says it in words when it refuses, in one form over every transport, and as an object
when it accepts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

_REFUSED: Final = re.compile(
    r"(?P<policy>[a-z][a-z0-9_]*): (?P<quota>\d+) in (?P<window>\d+) s; again in (?P<again>\d+) s",
    re.ASCII,
)

_CAPPED: Final = re.compile(
    r"[a-z][a-z0-9_]*: \d+(?:\.\d+)? credits a month; again in (?P<again>\d+) s", re.ASCII
)


def retry_after(detail: str | None) -> int | None:
    """The seconds after which a 429's words say that it may be tried again."""
    said = _REFUSED.fullmatch(detail or "") or _CAPPED.fullmatch(detail or "")
    return int(said["again"]) if said else None


class RateLimit(NamedTuple):
    """How many requests of a policy remain, and in how many seconds there are more."""

    policy: str
    quota: int
    window_seconds: int
    remaining: int
    reset_seconds: int

    @classmethod
    def of_refusal(cls, detail: str | None) -> Self | None:
        """From the words of a refusal; None when they speak of something else."""
        said = _REFUSED.fullmatch(detail or "")
        if said is None:
            return None
        return cls(said["policy"], int(said["quota"]), int(said["window"]), 0, int(said["again"]))

    @classmethod
    def of_answer(cls, limit: Mapping[str, Any]) -> Self:
        """From the member `rate_limit` of an answer."""
        return cls(*(limit[name] for name in cls._fields))

    @property
    def headers(self) -> dict[str, str]:
        """What every answer under this policy carries."""
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.quota};w={self.window_seconds}',
            "RateLimit": f'"{self.policy}";r={self.remaining};t={self.reset_seconds}',
        }
