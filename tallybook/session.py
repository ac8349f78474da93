"""The session cookie, in which a browser brings its user's token along."""

from __future__ import annotations

from typing import Final

from tallybook.http import Scope
from tallybook.refusal import unauthorized

COOKIE: Final = "session_token"


def session_token(scope: Scope) -> str | None:
    """The cookie's value; None when there is none.

    Raises Refusal unauthorized when there are two that differ: a neighbouring domain may have set
    the other, and which of them comes first says nothing.
    """
    # HTTP/2 may send each cookie in a header of its own.
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"cookie"]
    found = set()
    for pair in ";".join(lines).split(";"):
        name, equals, value = pair.strip(" \t").partition("=")
        if equals and name == COOKIE:
            if len(value) >= 2 and value[0] == value[-1] == '"':
                value = value[1:-1]
            found.add(value)
    if len(found) > 1:
        raise unauthorized(f"There are two cookies {COOKIE}.")
    return found.pop() if found else None
