"""The transport for functions that hold no database password: PostgREST with a secret key."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import httpx
import msgspec
from postgrest import APIError, AsyncPostgrestClient

from tallybook.gather import Answer, Arguments
from tallybook.refusal import Refusal, invalid_body, unavailable
from tallybook.settings import Settings

CALL_SECONDS_MAX: Final = 5.0


class PostgrestDatabase:
    """Calls procedures at `SUPABASE_URL/rest/v1/rpc/…`, one request each."""

    def __init__(self, settings: Settings) -> None:
        key = settings.service_role_key or settings.secret_keys[0]
        url = f"{settings.supabase_url}/rest/v1"
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        self._client = AsyncPostgrestClient(
            url,
            headers=headers,
            http_client=httpx.AsyncClient(base_url=url, timeout=CALL_SECONDS_MAX),
        )

    async def call(self, procedure: str, arguments: Arguments) -> Answer:
        parameters = {f"p_{name}": value for name, value in arguments.items()}
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX):
                # The client encodes with the standard library, which knows no UUID and no time.
                builder = self._client.rpc(procedure, msgspec.to_builtins(parameters))
                answer: Any = (await builder.execute()).data
        except APIError as error:
            raise _refusal_of(error) from error
        except (TimeoutError, httpx.TransportError, json.JSONDecodeError) as error:
            raise unavailable("The database does not answer in time.") from error
        return answer if isinstance(answer, dict) else {"answer": answer}

    async def close(self) -> None:
        await self._client.aclose()


def _refusal_of(error: APIError) -> Exception:
    """PostgREST hands on the SQLSTATE as `code` and the procedure's code as `message`."""
    state = str(error.code or "")
    refusal = Refusal.from_sqlstate(state, error.message or "", error.details, error.hint)
    if refusal is not None:
        return refusal
    # PGRST0xx: no connection, no schema cache. What PostgREST did not say came from before it.
    if state.startswith(("08", "40", "53", "55", "57", "58", "PGRST0")) or not state.strip("5"):
        return unavailable("The database cannot answer right now.")
    if state.startswith("22"):
        return invalid_body("The database does not take one of the values.")
    return error
