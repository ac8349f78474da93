"""Sends a file's events to the book, a thousand a call, and accounts for every line."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import psycopg

from tallybook.history.events import Event, Rounding, interpreter, user_namespace
from tallybook.history.occurrences import Occurrences
from tallybook.history.records import (
    INVALID_LINE,
    Columns,
    Fault,
    HistoryError,
    Record,
    opened,
    read,
)

CHUNK_LINES: Final = 1000
TRIES_MAX: Final = 5
# Conflicts with others' work, and a server that stops or starts: sent again, a chunk does no harm.
_PASSING: Final = ("40001", "40P01", "55P03", "57P01", "57P02", "57P03")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a file is to be read. `source` is the namespace of its users and of its events: the same
    line of two sources is two events."""

    source: str
    columns: Columns = field(default_factory=Columns)
    event_type: str = "history_import"
    rounding: Rounding = Rounding.FLOOR
    dry_run: bool = False

    @classmethod
    def source_of(cls, path: Path) -> str:
        """A file's source when none is given: its name, whether it is gzipped or not."""
        return path.name.removesuffix(".gz")


@dataclass(slots=True)
class Report:
    """What became of the lines: lines = imported + known + bad. `points` is the imported sum."""

    source: str
    user_namespace: str
    dry_run: bool
    lines: int = 0
    imported: int = 0
    known: int = 0
    bad: int = 0
    points: int = 0
    seconds: float = 0.0

    @property
    def lines_per_second(self) -> int:
        return round(self.lines / self.seconds) if self.seconds else 0


def import_file(
    url: str,
    path: Path,
    plan: Plan,
    *,
    on_fault: Callable[[Fault], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Import `path` into the database at `url`; every chunk is a transaction of its own.

    `on_fault` hears of every line left out, in the order of the lines; `on_progress` how many bytes
    of the file are done. A dry run is one transaction that is rolled back: until it ends it holds
    the accounts of the users it met. Raises HistoryError when the file cannot be read as asked,
    psycopg.Error when the database cannot be worked with, OSError when the file cannot be opened;
    what was reported as progress stays imported then.
    """
    began = time.monotonic()
    report = Report(plan.source, str(user_namespace(plan.source)), plan.dry_run)
    with (
        opened(path) as (raw, file),
        closing(_Book(url, plan)) as book,
        ThreadPoolExecutor(1) as sender,
    ):
        chunks = _chunks(raw, read(path, file, plan.columns), plan)
        damage: HistoryError | None = None
        # While the database works on one chunk, the next is read: never more than two in memory.
        under_way: tuple[Future[Any], _Chunk] | None = None
        while True:
            try:
                chunk = next(chunks, None)
            except HistoryError as error:
                chunk, damage = None, error
            if under_way is not None:
                answer, sent = under_way[0].result(), under_way[1]
                _account(report, sent, answer, on_fault)
                on_progress(sent.bytes_done)
            if chunk is None:
                break
            under_way = sender.submit(book.send, chunk.events), chunk
    if report.lines != report.imported + report.known + report.bad:
        raise RuntimeError(f"the lines do not add up: {report}")
    if damage is not None:
        raise HistoryError(f"{damage} (of {report.lines} lines before it none is lost)")
    report.seconds = time.monotonic() - began
    return report


@dataclass(slots=True)
class _Chunk:
    events: list[Event] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lines: int = 0
    bytes_done: int = 0


def _chunks(raw: BinaryIO, records: Iterable[Record | Fault], plan: Plan) -> Iterator[_Chunk]:
    interpret = interpreter(plan.source, plan.columns, plan.event_type, plan.rounding)
    with closing(Occurrences()) as occurrences:
        for batch in _batched(records):
            chunk = _Chunk(lines=len(batch))
            for record in batch:
                if isinstance(record, Fault):
                    chunk.faults.append(record)
                    continue
                try:
                    chunk.events.append(interpret(record))
                except ValueError as error:
                    chunk.faults.append(Fault(record.line, INVALID_LINE, str(error)))
            occurrences.number(chunk.events)
            chunk.bytes_done = raw.tell()
            yield chunk


def _batched(records: Iterable[Record | Fault]) -> Iterator[list[Record | Fault]]:
    """What was read before the file turned out to be damaged counts, and comes first."""
    batch: list[Record | Fault] = []
    try:
        for record in records:
            batch.append(record)
            if len(batch) == CHUNK_LINES:
                yield batch
                batch = []
    except HistoryError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _account(
    report: Report, sent: _Chunk, answer: dict[str, Any], on_fault: Callable[[Fault], None]
) -> None:
    refused = [Fault(**one) for one in answer["refused"]]
    report.lines += sent.lines
    report.imported += answer["imported"]
    report.known += answer["known"]
    report.points += answer["points"]
    report.bad += len(refused) + len(sent.faults)
    for fault in sorted(refused + sent.faults):
        on_fault(fault)


class _Book:
    """The database's side: one connection, opened again when it is lost."""

    def __init__(self, url: str, plan: Plan) -> None:
        self._url = url
        self._plan = plan
        self._connection = self._connect()

    def send(self, events: list[Event]) -> dict[str, Any]:
        """One call. What passes by itself is waited for, except in a dry run: its transaction
        holds all that went before."""
        payload = msgspec.json.encode(events).decode()
        for tries in range(1, TRIES_MAX + 1):
            try:
                if self._connection.closed:
                    self._connection = self._connect()
                cursor = self._connection.execute(
                    "select public.import_points_events(%s, %s::jsonb)",
                    (self._plan.source, payload),
                )
                [(answer,)] = cursor.fetchall()
                return dict(answer)
            except psycopg.OperationalError as error:
                passing = error.sqlstate is None or error.sqlstate in _PASSING
                if self._plan.dry_run or tries == TRIES_MAX or not passing:
                    raise
            time.sleep(random.uniform(0.5, 1.5) * 0.05 * 3**tries)  # noqa: S311
        raise AssertionError

    def close(self) -> None:
        # What is open then is a dry run's transaction, or one that failed.
        self._connection.close()

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            self._url,
            autocommit=not self._plan.dry_run,
            prepare_threshold=None,
            application_name="tallybook import",
        )
