"""A refusal: the one exception that becomes an answer, as RFC 9457 problem+json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from tallybook.rate_limit import RateLimit, retry_after

MEDIA_TYPE: Final = "application/problem+json"

_RETRYABLE_STATUSES: Final = frozenset({408, 425, 429, 502, 503, 504})

# A status that HTTP ties to a header always carries it, whoever refused: Python or the database.
_STATUS_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


class Refusal(Exception):
    """Why a request is not served: a stable `code`, an HTTP `status` and words for a person.

    `code` is snake_case and listed in the refusal catalogue; clients decide by it, never by text.
    `title` says the same for every occurrence (made from the code when not given), `detail` speaks
    of this one, `hint` says what to do, `path` points into the body (`$.event_time`).
    `headers` are added to the answer and win over those that the status brings along.
    """

    def __init__(
        self,
        code: str,
        status: int,
        detail: str | None = None,
        *,
        title: str | None = None,
        hint: str | None = None,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, status, detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.title = title or code.replace("_", " ").capitalize()
        self.hint = hint
        self.path = path
        self.headers: Mapping[str, str] = MappingProxyType(
            {**_STATUS_HEADERS.get(status, {}), **_limit_headers(status, detail), **(headers or {})}
        )

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.detail or self.title}"

    @property
    def retryable(self) -> bool:
        """True when the same request may succeed later without being changed."""
        return self.status in _RETRYABLE_STATUSES

    def problem(self, instance: str, request_id: str) -> dict[str, Any]:
        """The body of the answer; `instance` is the request's path.

        `error` and `message` repeat the detail because Supabase's clients show those members.
        """
        words = self.detail or self.title
        return {
            "type": f"urn:tallybook:refusal:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "error": words,
            "code": self.code,
            "message": words,
            "details": {"path": self.path} if self.path else None,
            "hint": self.hint,
            "request_id": request_id,
            "retryable": self.retryable,
        }

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Self:
        """The refusal that the database returned as data: `{code, status, detail, hint}`."""
        return cls(entry["code"], entry["status"], entry["detail"], hint=entry["hint"])

    @classmethod
    def from_sqlstate(
        cls,
        sqlstate: str | None,
        message: str,
        detail: str | None = None,
        hint: str | None = None,
    ) -> Refusal | None:
        """The refusal that the database raised with SQLSTATE `PTxyz`; None for any other error.

        `xyz` is the HTTP status (400 to 599) and `message` the code, as PostgREST reads them too.
        """
        if not sqlstate or len(sqlstate) != 5 or not sqlstate.startswith("PT"):
            return None
        digits = sqlstate[2:]
        # str.isdecimal() alone would let other scripts' digits through.
        if not (digits.isascii() and digits.isdecimal()) or digits[0] not in "45":
            return None
        return cls(message, int(digits), detail or None, hint=hint or None)


def _limit_headers(status: int, detail: str | None) -> dict[str, str]:
    """When to come back, from the words of a 429: whoever raised it, over whichever transport."""
    seconds = retry_after(detail) if status == 429 else None
    if seconds is None:
        return {}
    # What is not counted in whole requests has no RateLimit headers.
    limit = RateLimit.of_refusal(detail)
    return {"Retry-After": str(seconds), **(limit.headers if limit else {})}


def invalid_body(detail: str | None = None, path: str | None = None) -> Refusal:
    """The body is not JSON of the expected shape; `path` is where, as a JSON path (`$.nonce`)."""
    return Refusal("invalid_body", 400, detail, title="The request body is not valid", path=path)


def unauthorized(detail: str | None = None) -> Refusal:
    """No credentials, or credentials that do not verify."""
    return Refusal("unauthorized", 401, detail, title="Valid credentials are required")


def forbidden(detail: str | None = None) -> Refusal:
    """The caller is known and may not do this."""
    return Refusal("forbidden", 403, detail, title="The caller may not do this")


def not_found(detail: str | None = None) -> Refusal:
    """Nothing is served at this path."""
    return Refusal("not_found", 404, detail, title="There is nothing here")


def method_not_allowed(allowed: Iterable[str] = ()) -> Refusal:
    """The path exists, the method does not; `allowed` becomes the header Allow."""
    allow = ", ".join(allowed)
    return Refusal(
        "method_not_allowed",
        405,
        f"Use {allow}." if allow else None,
        title="The method is not allowed here",
        headers={"Allow": allow},
    )


def body_too_large(bytes_max: int | None = None) -> Refusal:
    """The body exceeds the limit, which is told in bytes."""
    detail = None if bytes_max is None else f"The limit is {bytes_max} bytes."
    return Refusal("body_too_large", 413, detail, title="The request body is too large", path="$")


def internal_error() -> Refusal:
    """An unknown failure: it carries nothing of its cause, which only the log has."""
    return Refusal("internal_error", 500, title="The request failed for an unknown reason")


def unavailable(detail: str | None = None, *, retry_after_seconds: int | None = None) -> Refusal:
    """Overload, a feature switched off, or something we depend on is away."""
    headers = None if retry_after_seconds is None else {"Retry-After": str(retry_after_seconds)}
    return Refusal("unavailable", 503, detail, title="The service is unavailable", headers=headers)


def provider_key_rejected(detail: str | None = None) -> Refusal:
    """A provider such as OpenRouter does not accept the user's key."""
    title = "The provider does not accept this key"
    return Refusal("provider_key_rejected", 400, detail, title=title)


# Code -> status of the refusals that Python raises itself; the database's catalogue lists them too.
CORRIDOR_REFUSALS: Final[Mapping[str, int]] = MappingProxyType(
    {
        refusal.code: refusal.status
        for refusal in (
            invalid_body(),
            unauthorized(),
            forbidden(),
            not_found(),
            method_not_allowed(),
            body_too_large(),
            internal_error(),
            unavailable(),
            provider_key_rejected(),
        )
    }
)
