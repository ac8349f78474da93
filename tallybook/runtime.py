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
from tallybook.balance_cache import BalanceCache, balance_cache_of
from tallybook.caller import Verifier
from tallybook.coupon_code import CouponKeys
from tallybook.database import Database, connect
from tallybook.http import Scope
from tallybook.openrouter import OpenRouter
from tallybook.provider_keys import ProviderKeys
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

    async def close(self) -> None:
        """Answer what is under way, then let go of the database, of Google and of the others."""
        await self.database.close()
        await self.examiner.close()
        # What was never asked for is not made to be closed.
        if "balance_cache" in self.__dict__:
            await self.balance_cache.close()
        if "openrouter" in self.__dict__:
            await self.openrouter.aclose()

    @cached_property
    def coupon_keys(self) -> CouponKeys:
        """Raises ConfigurationError when COUPON_SECRET is not set."""
        return CouponKeys.from_settings(self.settings)

    @cached_property
    def provider_keys(self) -> ProviderKeys:
        """Raises ConfigurationError when ENCRYPTION_KEY is not set."""
        return ProviderKeys.from_settings(self.settings)

    @cached_property
    def openrouter(self) -> OpenRouter:
        """OpenRouter, where the settings say that it is."""
        return OpenRouter(self.settings.openrouter_api_base_url)

    @cached_property
    def balance_cache(self) -> BalanceCache:
        """Balances for who looks at them; nothing is spent by it."""
        return balance_cache_of(self.settings)


def runtime_of(scope: Scope) -> Runtime:
    """The runtime that the server put there, or the process's own."""
    return scope.get(SCOPE_KEY) or _from_environment()


@cache
def _from_environment() -> Runtime:
    settings = Settings.from_environment()
    logs.configure(level=settings.log_level)
    return Runtime.from_settings(settings)
