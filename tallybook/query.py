"""What a request says in its address, decoded strictly: the query string, and a path's segments."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from tallybook.http import Scope
from tallybook.refusal import invalid_body

ADDRESS_BYTES_MAX: Final = 4 * 1024
"""Of the path and of the query string, each."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def query_of(scope: Scope) -> dict[str, str]:
    """The parameters of the query string; a name alone has the empty text.

    Raises Refusal invalid_body: too long, not decodable, or a name given twice.
    """
    raw: bytes = scope.get("query_string", b"")
    if len(raw) > ADDRESS_BYTES_MAX:
        raise invalid_body(f"The query is longer than {ADDRESS_BYTES_MAX} bytes.", "$")
    parameters: dict[str, str] = {}
    for part in raw.split(b"&"):
        if not part:
            continue
        # Forms and browsers write a space as a plus.
        encoded_name, _, encoded = part.replace(b"+", b" ").partition(b"=")
        name = _decoded(encoded_name, "$")
        if name in parameters:
            raise invalid_body(f"The query has `{name}` twice.", f"$.{name}")
        parameters[name] = _decoded(encoded, f"$.{name}")
    return parameters


def check_path(scope: Scope) -> None:
    """Raises Refusal invalid_body when the path, as it was sent, is too long or not decodable.

    A server decodes it before anybody asks, and puts something else for what cannot be.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode(errors="surrogatepass")
    if len(raw) > ADDRESS_BYTES_MAX:
        raise invalid_body(f"The path is longer than {ADDRESS_BYTES_MAX} bytes.", "$")
    # Without a raw path there are no escapes left in it, and a sign of per cent is one.
    _decoded(raw if scope.get("raw_path") else raw.replace(b"%", b"%25"), "$")


def _decoded(encoded: bytes, path: str) -> str:
    if _BAD_ESCAPE.search(encoded):
        raise invalid_body("A percent sign begins no escape here.", path)
    try:
        text = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise invalid_body("A text must be valid UTF-8.", path) from None
    if "\0" in text:
        raise invalid_body("A text must not contain the character U+0000.", path)
    return text
