"""Cross-origin requests: an allow-list of origins, and the headers that Supabase's clients send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

ALLOW_HEADERS: Final = (
    "authorization, x-client-info, apikey, content-type, x-region, x-retry-count, traceparent, "
    "tracestate, baggage, idempotency-key, x-request-id, x-attestation-challenge, "
    "x-attestation-key, x-attestation-token, x-attestation-unsupported"
)
EXPOSE_HEADERS: Final = (
    "idempotent-replayed, x-request-id, x-next-cursor, content-disposition, retry-after, "
    "ratelimit, ratelimit-policy"
)
"""Of those, what a page of another origin may read: a file's name, and that there is more of it."""
MAX_AGE_SECONDS: Final = 86_400


def headers(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """The headers for a request from `origin`; none when it is not on the list.

    Credentials travel in headers. The session cookie is for pages of the same origin alone, so it
    is never allowed by name.
    """
    if origin is None or not ("*" in allowed or origin in allowed):
        return {}
    return {
        "access-control-allow-origin": "*" if "*" in allowed else origin,
        "access-control-allow-headers": ALLOW_HEADERS,
        "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
        "access-control-expose-headers": EXPOSE_HEADERS,
        "access-control-max-age": str(MAX_AGE_SECONDS),
        "vary": "Origin",
    }
