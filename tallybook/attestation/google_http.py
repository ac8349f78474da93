"""One request to Google: limited in time and size, following no redirect, and never logged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from tallybook.attestation.evidence import Unavailable

if TYPE_CHECKING:
    import httpx

TRY_SECONDS_MAX: Final = 2.0
ANSWER_BYTES_MAX: Final = 64 * 1024

T = TypeVar("T")


class Fleeting(Unavailable):
    """What another try may mend: a timeout, a lost connection, a server's own error."""


class Answer(NamedTuple):
    """A status other than 429 and 5xx, and the body."""

    status: int
    body: bytes

    def read(self, kind: type[T]) -> T:
        """The body of a 200 as `kind`. Raises Unavailable `google_answer` for anything else."""
        try:
            if self.status == 200:
                return msgspec.json.decode(self.body, type=kind)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        raise Unavailable("google_answer")


def new_client(transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """A client over this transport, or over the network when None."""
    # Imported here: httpx is slow to import, and a process without Play Integrity never needs it.
    import httpx

    return httpx.AsyncClient(
        transport=transport, timeout=TRY_SECONDS_MAX, follow_redirects=False, max_redirects=0
    )


async def post(
    client: httpx.AsyncClient,
    url: str,
    content: bytes,
    headers: dict[str, str],
    share: float = 1.0,
) -> Answer:
    """Google's answer, within this share of TRY_SECONDS_MAX.

    Raises Fleeting `google_timeout`, `google_unreachable` or `google_error` (5xx), and Unavailable
    `google_rate_limited` (429) or `google_answer` (too large, or not HTTP).
    """
    import httpx

    asked = {**headers, "Accept": "application/json", "Accept-Encoding": "identity"}
    body = bytearray()
    # Nothing is chained: what httpx raises holds the request, and the request holds secrets.
    try:
        async with (
            asyncio.timeout(TRY_SECONDS_MAX * share),
            client.stream("POST", url, content=content, headers=asked) as response,
        ):
            _check(response)
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    raise Unavailable("google_answer")
            return Answer(response.status_code, bytes(body))
    except (TimeoutError, httpx.TimeoutException):
        raise Fleeting("google_timeout") from None
    except (httpx.NetworkError, httpx.ProxyError, httpx.RemoteProtocolError, OSError):
        raise Fleeting("google_unreachable") from None
    except httpx.HTTPError:
        raise Unavailable("google_answer") from None


def _check(response: httpx.Response) -> None:
    if response.status_code == 429:
        raise Unavailable("google_rate_limited")
    if response.status_code >= 500:
        raise Fleeting("google_error")
    # A small compressed answer could be a large one, and none was asked for.
    if "content-encoding" in response.headers:
        raise Unavailable("google_answer")
