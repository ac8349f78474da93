"""Sends a file's events to the book, a thousand a call, and accounts for every line."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from zlib import crc32

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from tallybook.history.occurrences import Occurrences
from tallybook.history.plan import Entry, Import, Tally
from tallybook.history.records import INVALID_LINE, Fault, HistoryError, Record, opened, read

CHUNK_LINES: Final = 1000
TRIES_MAX: Final = 5
# Conflicts with others' work, and a server that stops or starts: sent again, a chunk does no harm.
_PASSING: Final = ("40001", "40P01", "55P03", "57P01", "57P02", "57P03")

T = TypeVar("T", bound=Tally)


def import_file(
    url: str,
    path: Path,
    plan: Import[T],
    *,
    on_fault: Callable[[Fault], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> T:
    """Import `path` into the database at `url`; every call is a transaction of its own.

    `on_fault` hears of every line left out, in the order of the lines; `on_progress` how many bytes
    of the file are done. A dry run is rolled back. Where calls depend on one another it is one
    transaction a connection, which holds the accounts of the users it met until it ends; otherwise
    a key that comes twice, in calls apart, is counted twice. Raises HistoryError when the file
    cannot be read as asked, psycopg.Error when the database cannot be worked with, OSError when the
    file cannot be opened; what was reported as progress stays imported then.
    """
    began = time.monotonic()
    report = plan.report()
    names = plan.names
    wanted = list(names.wanted.values())
    with opened(path) as (raw, file), ExitStack() as stack:
        books = [stack.enter_context(closing(_Book(url, plan))) for _ in range(plan.connections)]
        sender = stack.enter_context(ThreadPoolExecutor(len(books)))
        records = read(path, file, wanted, names.absent, names.structured)
        chunks = _chunks(raw, records, plan)
        damage: HistoryError | None = None
        # While the database works on one chunk, the next is read: never more than two in memory.
        under_way: tuple[list[Future[list[dict[str, Any]]]], _Chunk] | None = None
        while True:
            try:
                chunk = next(chunks, None)
            except HistoryError as error:
                chunk, damage = None, error
            if under_way is not None:
                futures, sent = under_way
                answers = [answer for future in futures for answer in future.result()]
                _account(report, sent, answers, on_fault)
                on_progress(sent.bytes_done)
            if chunk is None:
                break
            parts = zip(books, chunk.entries, strict=True)
            under_way = [sender.submit(book.send, entries) for book, entries in parts], chunk
    if report.lines != report.imported + report.known + report.bad:
        raise RuntimeError(f"the lines do not add up: {report}")
    if damage is not None:
        raise HistoryError(f"{damage} (of {report.lines} lines before it none is lost)")
    report.seconds = time.monotonic() - began
    return report


@dataclass(slots=True)
class _Chunk:
    """`entries` holds a list for each connection: a user's events all go through one, in order."""

    entries: list[list[Entry]]
    faults: list[Fault] = field(default_factory=list)
    lines: int = 0
    bytes_done: int = 0


def _chunks(
    raw: BinaryIO, records: Iterable[Record | Fault], plan: Import[Any]
) -> Iterator[_Chunk]:
    interpret = plan.interpreter()
    connections = plan.connections
    with closing(Occurrences()) as occurrences:
        for batch in _batched(records, CHUNK_LINES * connections):
            chunk = _Chunk([[] for _ in range(connections)], lines=len(batch))
            for record in batch:
                if isinstance(record, Fault):
                    chunk.faults.append(record)
                    continue
                try:
                    entry = interpret(record)
                except ValueError as error:
                    chunk.faults.append(Fault(record.line, INVALID_LINE, str(error)))
                else:
                    chunk.entries[crc32(entry.user_id.encode()) % connections].append(entry)
            for entries in chunk.entries:
                occurrences.number(entries)
            chunk.bytes_done = raw.tell()
            yield chunk


def _batched(records: Iterable[Record | Fault], size: int) -> Iterator[list[Record | Fault]]:
    """What was read before the file turned out to be damaged counts, and comes first."""
    batch: list[Record | Fault] = []
    try:
        for record in records:
            batch.append(record)
            if len(batch) == size:
                yield batch
                batch = []
    except HistoryError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _account(
    report: Tally, sent: _Chunk, answers: list[dict[str, Any]], on_fault: Callable[[Fault], None]
) -> None:
    refused = [Fault(**one) for answer in answers for one in answer["refused"]]
    report.lines += sent.lines
    report.bad += len(refused) + len(sent.faults)
    for answer in answers:
        report.add(answer)
    for fault in sorted(refused + sent.faults):
        on_fault(fault)


class _Book:
    """The database's side: one connection, opened again when it is lost."""

    def __init__(self, url: str, plan: Import[Any]) -> None:
        self._url = url
        self._plan = plan
        self._call = sql.SQL("select {}(%s, %s::jsonb)").format(
            sql.Identifier("public", plan.PROCEDURE)
        )
        self._connection = self._connect()

    def send(self, entries: list[Entry]) -> list[dict[str, Any]]:
        """As few calls as it takes, of about one size."""
        calls = -(-len(entries) // CHUNK_LINES)
        size = -(-len(entries) // max(calls, 1))
        return [self._send(entries[size * n : size * (n + 1)]) for n in range(calls)]

    def close(self) -> None:
        # What is open then is a dry run's transaction, or one that failed.
        self._connection.close()

    def _send(self, entries: list[Entry]) -> dict[str, Any]:
        """One call. What passes by itself is waited for, except in a dry run: its transaction
        holds all that went before."""
        payload = msgspec.json.encode(entries).decode()
        for tries in range(1, TRIES_MAX + 1):
            try:
                if self._connection.closed:
                    self._connection = self._connect()
                cursor = self._connection.execute(self._call, (self._plan.source, payload))
                [(answer,)] = cursor.fetchall()
                if self._plan.dry_run and not self._plan.CALLS_DEPEND:
                    self._connection.rollback()
                return dict(answer)
            except psycopg.OperationalError as error:
                passing = error.sqlstate is None or error.sqlstate in _PASSING
                if self._plan.dry_run or tries == TRIES_MAX or not passing:
                    raise
            time.sleep(random.uniform(0.5, 1.5) * 0.05 * 3**tries)  # noqa: S311
        raise AssertionError

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(
            self._url,
            autocommit=not self._plan.dry_run,
            prepare_threshold=None,
            application_name="tallybook import",
        )
        # Sums of credits keep their digits.
        set_json_loads(partial(json.loads, parse_float=Decimal), connection)
        return connection
