"""openrouter-accounts/*: a user's own account at OpenRouter. Its key comes in here, is shown to
OpenRouter and encrypted, and never goes out again."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, cast
from uuid import UUID

from msgspec import Meta

from tallybook.caller import Caller
from tallybook.credits import CUSTOMERS, ForCustomer, is_on
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.logs import OPENROUTER_CONNECTED, OPENROUTER_DISCONNECTED
from tallybook.refusal import Refusal, provider_key_rejected
from tallybook.route import Route, customer_of
from tallybook.runtime import Runtime
from tallybook.settings import Settings

ACCOUNT = "/api/v1/credits/openrouter/account"


class OpenRouterAccount(ForCustomer):
    """Whose account; a user says nothing."""


class ConnectOpenRouter(ForCustomer, kw_only=True):
    """The key that OpenRouter gave the user."""

    api_key: Annotated[str, Meta(min_length=1, max_length=500)]

    def __repr__(self) -> str:
        return "ConnectOpenRouter(api_key=…)"


async def show_key(runtime: Runtime, caller: Caller, body: ConnectOpenRouter) -> Mapping[str, Any]:
    """The key, encrypted, once OpenRouter has accepted it, and what it says of the account."""
    try:
        shown = await runtime.openrouter.account(body.api_key)
    except Refusal as refused:
        if refused.code == "provider_key_rejected":
            refused.path = "$.api_key"
        raise
    encrypted, key_id = runtime.provider_keys.encrypt(_user(caller, body), body.api_key)
    return {
        "openrouter_api_key_encrypted": encrypted,
        "key_id": key_id,
        "openrouter_account_id": shown.account_id,
        "free_credits": shown.free_credits,
    }


async def ask_again(runtime: Runtime, caller: Caller, body: OpenRouterAccount) -> Mapping[str, Any]:
    """What OpenRouter says now, and the key encrypted anew where ENCRYPTION_KEY is another."""
    user_id, keys = _user(caller, body), runtime.provider_keys
    stored = await runtime.database.call(
        "openrouter_account", {"user_id": user_id, "with_key": True}
    )
    seen = stored["openrouter_api_key_encrypted"]
    try:
        api_key = keys.decrypt(user_id, seen)
    except ValueError:
        api_key = None
    if api_key is None:
        raise provider_key_rejected("The stored key does not open any more. Connect it again.")
    shown = await runtime.openrouter.account(api_key)
    noted = {
        "seen": seen,
        "openrouter_account_id": shown.account_id,
        "free_credits": shown.free_credits,
    }
    if keys.needs_rotation(stored["key_id"]):
        noted["reencrypted"], noted["key_id"] = keys.encrypt(user_id, api_key)
    return noted


def is_configured(settings: Settings) -> bool:
    """Whether users' keys can be kept here; to look at an account or to forget it takes none."""
    return is_on(settings) and settings.encryption_key is not None


def _user(caller: Caller, body: ForCustomer) -> UUID:
    # The corridor lets in nobody without a customer.
    return cast(UUID, customer_of(caller, body))


def _logged(event: str) -> Any:
    def lines(caller: Caller, body: Any, answer: Answer) -> Iterable[tuple[str, Mapping[str, Any]]]:
        yield event, {"user_id": _user(caller, body)}

    return lines


account = endpoint(
    Route(
        slug="openrouter-accounts/account",
        paths=(f"GET {ACCOUNT}",),
        procedure="openrouter_account",
        body=OpenRouterAccount,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_on,
    )
)

connect = endpoint(
    Route(
        slug="openrouter-accounts/connect",
        paths=(ACCOUNT,),
        procedure="store_openrouter_account",
        body=ConnectOpenRouter,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_configured,
        consumed=frozenset({"api_key"}),
        prepare=show_key,
        log=_logged(OPENROUTER_CONNECTED),
    )
)

disconnect = endpoint(
    Route(
        slug="openrouter-accounts/disconnect",
        paths=(f"DELETE {ACCOUNT}",),
        procedure="delete_openrouter_account",
        body=OpenRouterAccount,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_on,
        log=_logged(OPENROUTER_DISCONNECTED),
    )
)

sync = endpoint(
    Route(
        slug="openrouter-accounts/sync",
        paths=("/api/v1/credits/openrouter/sync",),
        procedure="note_openrouter_sync",
        body=OpenRouterAccount,
        callers=CUSTOMERS,
        on_behalf=True,
        enabled=is_configured,
        prepare=ask_again,
    )
)
