"""Which of several equal events an event is, counted over a whole file in little memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b

from tallybook.history.plan import Entry


class Occurrences:
    """Numbers equal events 1, 2, 3, so that two equal lines are two events and stay the same two
    when the file comes again. The counts lie in a temporary file once they are many."""

    def __init__(self) -> None:
        self._counts = sqlite3.connect("", isolation_level=None)
        self._counts.execute("pragma cache_size = -65536")
        self._counts.execute("pragma journal_mode = off")
        self._counts.execute("create table seen (event blob primary key, n int) without rowid")
        self._counts.execute("begin")

    def number(self, events: Iterable[Entry]) -> None:
        run = self._counts.execute
        for event in events:
            # The file's own key tells its events apart already.
            if event.key is not None:
                continue
            what = f"{event.user_id} {event.content}"
            digest = blake2b(what.encode(), digest_size=16).digest()
            if run("insert or ignore into seen values (?, 1)", (digest,)).rowcount == 0:
                run("update seen set n = n + 1 where event = ?", (digest,))
                [(event.occurrence,)] = run("select n from seen where event = ?", (digest,))

    def close(self) -> None:
        self._counts.close()
