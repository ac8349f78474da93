"""The transport for functions that hold no database password: PostgREST with a secret key."""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar
from typing import Any

import httpx
import msgspec
from postgrest import APIError, AsyncPostgrestClient

from tallybook import exact
from tallybook.gather import CALL_SECONDS_MAX, Answer, Arguments
from tallybook.refusal import unavailable
from tallybook.settings import Settings
from tallybook.sqlstate import refusal_of

# The client makes floats of the numbers it reads; this is what it read.
_content: ContextVar[bytes] = ContextVar("content", default=b"")


class PostgrestDatabase:
    """Calls procedures at `SUPABASE_URL/rest/v1/rpc/…`, one request each."""

    def __init__(self, settings: Settings) -> None:
        key = settings.service_role_key or settings.secret_keys[0]
        url = f"{settings.supabase_url}/rest/v1"
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        self._client = AsyncPostgrestClient(
            url,
            headers=headers,
            http_client=httpx.AsyncClient(
                base_url=url, timeout=CALL_SECONDS_MAX, event_hooks={"response": [_keep]}
            ),
        )

    async def call(self, procedure: str, arguments: Arguments) -> Answer:
        parameters = {f"p_{name}": value for name, value in arguments.items()}
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX):
                # The client encodes with the standard library, which knows no UUID and no time.
                builder = self._client.rpc(procedure, msgspec.to_builtins(parameters))
                await builder.execute()
                content = _content.get()
                answer: Any = exact.decode(content) if content else None
        except APIError as error:
            raise _refusal_of(error) from error
        except (
            TimeoutError,
            httpx.TransportError,
            json.JSONDecodeError,
            msgspec.DecodeError,
        ) as error:
            raise unavailable("The database does not answer in time.") from error
        return answer if isinstance(answer, dict) else {"answer": answer}

    async def close(self) -> None:
        await self._client.aclose()


async def _keep(response: httpx.Response) -> None:
    _content.set(await response.aread())


def _refusal_of(error: APIError) -> Exception:
    """PostgREST hands on the SQLSTATE as `code` and the procedure's code as `message`."""
    state = str(error.code or "")
    # PGRST0xx: no connection, no schema cache. What PostgREST did not say came from before it.
    if state.startswith("PGRST0") or not state.strip("5"):
        return unavailable("The database cannot answer right now.")
    return refusal_of(state, error.message or "", error.details, error.hint) or error
