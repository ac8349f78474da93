"""What libraries say through Python's own logging, written as lines of ours."""

from __future__ import annotations

import logging
from typing import Final

from tallybook import logs

_LEVELS: Final[tuple[tuple[int, logs.Level], ...]] = (
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
    (0, "debug"),
)


def adopt(logger: str) -> None:
    """From now on this logger and those below it are heard here, and in plain text nowhere."""
    theirs = logging.getLogger(logger)
    if not any(isinstance(handler, _Adopted) for handler in theirs.handlers):
        theirs.addHandler(_Adopted())
        theirs.propagate = False


class _Adopted(logging.Handler):
    """Hands a record on as a line whose event is the logger's name."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            # Whoever logged it gave arguments that do not fit its words.
            text = str(record.msg)
        level = next(name for least, name in _LEVELS if record.levelno >= least)
        logs.log(record.name, level, message=text)
