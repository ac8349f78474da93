"""The public keys that users' tokens are signed with: given inline, fetched from a URL, or both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from tallybook import logs
from tallybook.refusal import unavailable

ALGORITHMS: Final = frozenset({"ES256", "RS256"})

REFETCH_SECONDS_MIN: Final = 30.0  # between fetches that unknown key ids ask for
RETRY_SECONDS_MIN: Final = 1.0  # between fetches while there is no key at all
REFRESH_SECONDS: Final = 600.0  # a withdrawn key is noticed after this long
FETCH_SECONDS_MAX: Final = 3.0
DOCUMENT_BYTES_MAX: Final = 64 * 1024
KEYS_MAX: Final = 100
RSA_BITS_MIN: Final = 2048


class KeySet:
    """Keys by (algorithm, key id). `version` grows with every change of the keys.

    Each key serves one algorithm only, so that no header can have it used in another way.
    Fetched keys stay in use while their URL is away; a fetch is shared by all who wait for it.
    """

    def __init__(
        self,
        inline: Iterable[Mapping[str, Any]] | None,
        url: str | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.version = 0
        self._url = url or ""
        self._monotonic = monotonic
        self._inline = _usable(inline or ())
        self._keys = dict(self._inline)
        self._known = inline is not None
        self._attempted_at = -float("inf")
        self._refresh_at = -float("inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, algorithm: str, key_id: str | None) -> PyJWK | None:
        """The key, fetched again when unknown; None when there is no such key.

        Without a key id only a key set with a single key of that algorithm can answer.
        Raises Refusal `unavailable` when no key has ever been had.
        """
        key = self._lookup(algorithm, key_id)
        if key is None and self._url:
            if self._in_flight() or self._may_fetch():
                await self._fetch()
                key = self._lookup(algorithm, key_id)
            if key is None and not self._known:
                raise unavailable("The keys that tokens are checked with are out of reach.")
        return key

    async def load(self) -> bool:
        """Fetch the keys if that is still to be done; True when there are keys to check with."""
        if self._url and not self._known and (self._in_flight() or self._may_fetch()):
            await self._fetch()
        return self._known

    def refresh_when_old(self) -> None:
        """Start a fetch in the background when the keys are old; costs one clock reading."""
        old = self._url and self._known and self._monotonic() >= self._refresh_at
        if old and not self._in_flight():
            self._start()

    def _lookup(self, algorithm: str, key_id: str | None) -> PyJWK | None:
        if key_id is not None:
            return self._keys.get((algorithm, key_id))
        fitting = [key for (name, _), key in self._keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _may_fetch(self) -> bool:
        pause = REFETCH_SECONDS_MIN if self._known else RETRY_SECONDS_MIN
        return self._monotonic() - self._attempted_at >= pause

    def _in_flight(self) -> asyncio.Task[None] | None:
        task = self._fetching
        # A task of a loop that is gone will never end; tests have a loop each.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            return None
        return task

    def _start(self) -> asyncio.Task[None]:
        now = self._monotonic()
        self._attempted_at = now
        self._refresh_at = now + REFETCH_SECONDS_MIN
        self._fetching = asyncio.create_task(self._fetch_and_take())
        return self._fetching

    async def _fetch(self) -> None:
        # Shielded: one impatient client must not end the fetch that others wait for.
        await asyncio.shield(self._in_flight() or self._start())

    async def _fetch_and_take(self) -> None:
        try:
            fetched = _usable(_listed(await _download(self._url)))
        except Exception as error:
            # Whatever went wrong out there, the keys at hand are still the keys.
            logs.log(logs.KEY_SET_UNREACHABLE, "warning", url=self._url, error=type(error).__name__)
            return
        self._known = True
        self._refresh_at = self._monotonic() + REFRESH_SECONDS
        keys = {**fetched, **self._inline}
        if _material(keys) != _material(self._keys):
            self._keys = keys
            self.version += 1


async def _download(url: str) -> bytes:
    """The document's bytes; no redirects, limited in time and size."""
    # Imported here: httpx is slow to import, and a process with inline keys never needs it.
    import httpx

    document = bytearray()
    async with (
        asyncio.timeout(FETCH_SECONDS_MAX),
        httpx.AsyncClient(timeout=FETCH_SECONDS_MAX, follow_redirects=False) as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}")
        async for piece in response.aiter_bytes():
            document += piece
            if len(document) > DOCUMENT_BYTES_MAX:
                raise ValueError("the key set is too large")
    return bytes(document)


def _listed(document: bytes) -> list[dict[str, Any]]:
    return msgspec.json.decode(document, type=_Document).keys


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


def _usable(keys: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str | None], PyJWK]:
    """The keys that can check a signature, each pinned to its one algorithm; others are left out.

    Symmetric keys never enter: a shared secret does not come by way of a public document.
    """
    usable: dict[tuple[str, str | None], PyJWK] = {}
    for key in list(keys)[:KEYS_MAX]:
        algorithm, key_id = _algorithm_of(key), key.get("kid")
        if algorithm is None or not isinstance(key_id, str | None):
            continue
        public = {name: key[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in key}
        try:
            parsed = PyJWK(public, algorithm=algorithm)
        except (PyJWTError, ValueError, TypeError):
            continue
        if isinstance(parsed.key, RSAPublicKey) and parsed.key.key_size < RSA_BITS_MIN:
            continue
        usable.setdefault((algorithm, key_id), parsed)
    return usable


def _algorithm_of(key: Mapping[str, Any]) -> str | None:
    """The one algorithm that a key may be used with, None for a key of another kind or purpose."""
    if key.get("kty") == "EC" and key.get("crv") == "P-256":
        algorithm = "ES256"
    elif key.get("kty") == "RSA":
        algorithm = "RS256"
    else:
        return None
    operations = key.get("key_ops", ["verify"])
    fits = (
        key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )
    return algorithm if fits else None


def _material(keys: Mapping[tuple[str, str | None], PyJWK]) -> dict[tuple[str, str | None], Any]:
    return {name: key.key.public_numbers() for name, key in keys.items()}
