"""An SQL file as its statements: what the migration history keeps of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Everything in which a semicolon ends nothing, and the semicolon that does. An unterminated quote
# matches nothing; the server will say so.
_TOKEN: Final = re.compile(
    r"""
      --[^\n]*
    | /\*.*?\*/
    | (?<!\w)[eE]'(?:\\.|''|[^'\\])*'
    | '(?:''|[^'])*'
    | "(?:""|[^"])*"
    | (?<![\w$])\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | (?P<end>;)
    """,
    re.DOTALL | re.VERBOSE,
)


def split(text: str) -> Iterator[str]:
    """Each statement with the comments before it, without its semicolon, as the Supabase CLI does.

    Nested comments and bodies between `begin atomic` and `end` are not understood.
    """
    start = 0
    for token in _TOKEN.finditer(text):
        if token["end"]:
            yield text[start : token.start()].strip()
            start = token.end()
    if rest := text[start:].strip():
        yield rest
