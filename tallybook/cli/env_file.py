"""A .env file: reading its variables, and setting some without touching another line."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_LINE: Final = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>.*?)\s*")
_COMMENT: Final = re.compile(r"\s#.*")
_ESCAPED: Final = re.compile(r'\\(["\\$`])')
_PLAIN: Final = re.compile(r"[\w./:,@%+=-]*", re.ASCII)


def read(path: Path) -> dict[str, str]:
    """The variables by name; of one that is set twice the last counts. Raises OSError."""
    found = {}
    for line in path.read_text().splitlines():
        if match := _LINE.fullmatch(line):
            found[match["name"]] = _unquoted(match["value"])
    return found


def write(path: Path, values: Mapping[str, str]) -> None:
    """Set these variables; an empty value removes one. Only the owner can read the file after.

    The new file takes the old one's place at once: nobody reads half of it. Raises OSError.
    """
    real = path.resolve()
    text = _with(real.read_text(), values)
    # mkstemp makes what only its owner can read.
    descriptor, draft = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Whoever runs the service has to read it still, when root has written it.
        was = real.stat()
        with suppress(PermissionError):
            os.chown(draft, was.st_uid, was.st_gid)
        Path(draft).replace(real)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def line(name: str, value: str) -> str:
    """A variable as a line of such a file, and of a shell."""
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    if "'" not in value:
        return f"{name}='{value}'"
    return f'{name}="{_quoted(value)}"'


def _with(text: str, values: Mapping[str, str]) -> str:
    """Each variable where it stood last, or at the end; it stands there once."""
    lines = text.splitlines()
    for name, value in values.items():
        places = [
            number
            for number, old in enumerate(lines)
            if (match := _LINE.fullmatch(old)) and match["name"] == name
        ]
        new = [line(name, value)] if value else []
        if places:
            lines[places[-1] : places[-1] + 1] = new
        else:
            lines += new
        for number in reversed(places[:-1]):
            del lines[number]
    return "\n".join(lines) + "\n"


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return _ESCAPED.sub(r"\1", value[1:-1])
    return _COMMENT.sub("", value)


def _quoted(value: str) -> str:
    return re.sub(r'(["\\$`])', r"\\\1", value)
