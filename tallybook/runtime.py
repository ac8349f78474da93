"""What a process has once and every request uses: settings, keys, the database.

A deployed function makes it from the environment at its first request; a server that knows better
puts its own into the request's scope.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Final

from tallybook import logs
from tallybook.attestation.configured import examiner_of
from tallybook.attestation.examiner import Examiner
from tallybook.caller import Verifier
from tallybook.coupon_code import CouponKeys
from tallybook.database import Database, connect
from tallybook.http import Scope
from tallybook.settings import Settings

SCOPE_KEY: Final = "tallybook.runtime"


@dataclass(frozen=True)
class Runtime:
    """One process's verifier, database and keys. Nothing is opened before it is used."""

    settings: Settings
    verifier: Verifier
    database: Database
    examiner: Examiner = field(default_factory=Examiner)

    @classmethod
    def from_settings(cls, settings: Settings) -> Runtime:
        """Raises ConfigurationError when something it cannot do without is not set."""
        return cls(settings, Verifier(settings), connect(settings), examiner_of(settings))

    @cached_property
    def coupon_keys(self) -> CouponKeys:
        """Raises ConfigurationError when COUPON_SECRET is not set."""
        return CouponKeys.from_settings(self.settings)


def runtime_of(scope: Scope) -> Runtime:
    """The runtime that the server put there, or the process's own."""
    return scope.get(SCOPE_KEY) or _from_environment()


@cache
def _from_environment() -> Runtime:
    settings = Settings.from_environment()
    logs.configure(level=settings.log_level)
    return Runtime.from_settings(settings)
