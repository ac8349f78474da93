"""What the routes about credits have in common: the cache of balances.

A route whose procedure changes a user's credits, tier or cap has `after=remember_account` and
`finish=take_account`: its answer carries the account as it is now, for the cache alone. The route
that shows a balance has `before=cached_balance` and `after=remember_balance` as well.

The cache is for looking. What may be spent is for the database to say, which never asks it: an
entry that is stale, missing or forged shows a wrong number, for CREDIT_CACHE_TTL seconds at most,
and allows nothing.
"""

from __future__ import annotations

from typing import Any

from tallybook.caller import Caller
from tallybook.gather import Answer, Arguments
from tallybook.runtime import Runtime


async def cached_balance(runtime: Runtime, arguments: Arguments) -> Answer | None:
    """The balance as the cache has it; None where the statement is asked for too."""
    if arguments.get("include_history"):
        return None
    return await runtime.balance_cache.get(arguments["user_id"])


async def remember_balance(runtime: Runtime, arguments: Arguments, answer: Answer) -> None:
    """Keep what was answered: beside the account it knows what has expired since."""
    account = answer.get("account")
    if account is not None:
        await runtime.balance_cache.put(arguments["user_id"], {**account, **answer})


async def remember_account(runtime: Runtime, arguments: Arguments, answer: Answer) -> None:
    """Keep the account, or `accounts`, that a change has left behind.

    An administrator's argument `user_id` is the administrator: there the account says whose it is.
    """
    for account in (answer.get("account"), *answer.get("accounts", ())):
        if account is not None:
            user_id = account.get("user_id") or arguments["user_id"]
            await runtime.balance_cache.put(user_id, account)


def take_account(runtime: Runtime, caller: Caller, body: Any, answer: Answer) -> Answer:
    """The answer without what was for the cache."""
    return {name: value for name, value in answer.items() if name not in ("account", "accounts")}
