"""A file of history, line by line: the named columns of every record, or what is wrong with it.

CSV with a header (comma, semicolon, tab or bar, whichever the header uses) or one JSON object a
line, either of them gzipped. Memory stays the same however long the file is, and however bad.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import deque
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

import msgspec

LINE_BYTES_MAX: Final = 64 * 1024
RECORD_LINES_MAX: Final = 100
DELIMITERS: Final = ",;\t|"
JSON_SUFFIXES: Final = (".ndjson", ".jsonl")
INVALID_LINE: Final = "invalid_line"


class HistoryError(Exception):
    """The file cannot be imported as it was asked; the text says what is wrong with which."""


class Fault(NamedTuple):
    """A line that is left out, and why. `line` counts from 1, as an editor does."""

    line: int
    code: str
    detail: str


class Record(NamedTuple):
    """A record's values, in the order of the columns asked for; `line` is where it begins."""

    line: int
    values: Sequence[str]


class _Line(NamedTuple):
    number: int
    text: str
    problem: str | None


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The file as it lies there, whose position tells how far reading came, and what is in it."""
    with path.open("rb") as raw:
        if path.suffix == ".gz":
            with gzip.open(raw) as plain:
                yield raw, cast(BinaryIO, plain)
        else:
            yield raw, raw


def read(
    path: Path,
    file: BinaryIO,
    wanted: Sequence[str],
    absent: Set[str] = frozenset(),
    structured: Set[str] = frozenset(),
) -> Iterator[Record | Fault]:
    """The `wanted` columns of every record of `file` in order; `path` tells its form. Blank lines
    are passed over.

    A JSON line may leave out what may be `absent`, or have null for it: it is the empty text, as
    in a CSV. In the `structured` columns it may have any value: it is read as its JSON text.
    Raises HistoryError when it has no usable header, or stops being a gzip file midway.
    """
    lines = _lines(file)
    if path.with_suffix("").suffix in JSON_SUFFIXES or path.suffix in JSON_SUFFIXES:
        return _json_records(lines, wanted, absent, structured)
    return _csv_records(lines, wanted)


def _lines(file: BinaryIO) -> Iterator[_Line]:
    number = 0
    while True:
        try:
            line = file.readline(LINE_BYTES_MAX + 1)
            too_long = len(line) > LINE_BYTES_MAX
            rest = line
            while rest and not rest.endswith(b"\n") and len(rest) > LINE_BYTES_MAX:
                rest = file.readline(LINE_BYTES_MAX + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise HistoryError(f"after line {number} the gzip file is damaged: {error}") from None
        if not line:
            return
        number += 1
        if too_long:
            yield _Line(number, "?", f"the line is longer than {LINE_BYTES_MAX} bytes")
            continue
        problem = "there is a NUL byte in it" if b"\0" in line else None
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            text = line.decode(errors="replace")
            problem = f"byte {error.start + 1} is not UTF-8"
        if number == 1:
            text = text.removeprefix("\ufeff")
        if problem or not text.isspace():
            yield _Line(number, text, problem)


def _csv_records(lines: Iterator[_Line], wanted: Sequence[str]) -> Iterator[Record | Fault]:
    header = next(lines, None)
    if header is None:
        raise HistoryError("the file is empty: it needs a header that names its columns")
    if header.problem:
        raise HistoryError(f"line {header.number}, the header: {header.problem}")
    delimiter = max(DELIMITERS, key=lambda one: len(set(wanted) & set(_names(header, one))))
    names = _names(header, delimiter)
    for column in wanted:
        if names.count(column) != 1:
            problem = "is there twice" if column in names else "is not there"
            raise HistoryError(f"the column {column!r} {problem}; the header is {', '.join(names)}")
    places = [names.index(column) for column in wanted]

    for number, fields in _rows(lines, delimiter):
        if isinstance(fields, str):
            yield Fault(number, INVALID_LINE, fields)
        elif len(fields) != len(names):
            detail = f"there are {len(fields)} fields, and the header has {len(names)}"
            yield Fault(number, INVALID_LINE, detail)
        else:
            yield Record(number, [fields[place] for place in places])


def _names(header: _Line, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([header.text], delimiter=delimiter))]
    except csv.Error as error:
        raise HistoryError(f"line {header.number}, the header: {error}") from None


def _rows(lines: Iterator[_Line], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Each row's first line and its fields, or what is wrong with it.

    A quoted field may go on over several lines. When a quote is never closed, only the line where
    it opens is bad: the lines after it are taken back and read by themselves.
    """
    waiting: deque[_Line] = deque()

    def follow() -> _Line | None:
        return waiting.popleft() if waiting else next(lines, None)

    while (line := follow()) is not None:
        if '"' not in line.text:
            yield line.number, line.problem or line.text.rstrip("\r\n").split(delimiter)
            continue
        taken = [line]

        def texts(taken: list[_Line] = taken) -> Iterator[str]:
            yield taken[0].text
            while len(taken) < RECORD_LINES_MAX and (more := follow()) is not None:
                taken.append(more)
                yield more.text

        try:
            fields = next(csv.reader(texts(), delimiter=delimiter, strict=True))
        except csv.Error as error:
            waiting.extendleft(reversed(taken[1:]))
            yield line.number, line.problem or f"the quotes do not match: {error}"
        else:
            yield line.number, next((one.problem for one in taken if one.problem), fields)


def _json_records(
    lines: Iterator[_Line], wanted: Sequence[str], absent: Set[str], structured: Set[str]
) -> Iterator[Record | Fault]:
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    for number, text, problem in lines:
        try:
            if problem:
                raise ValueError(problem)
            found = decoder.decode(text)
            yield Record(number, [_text(found, column, absent, structured) for column in wanted])
        except ValueError as error:
            yield Fault(number, INVALID_LINE, str(error))


def _text(
    found: dict[str, msgspec.Raw], column: str, absent: Set[str], structured: Set[str]
) -> str:
    """A string's content, or a number as it is written: a float would not keep its digits."""
    raw = bytes(found[column]) if column in found else b"null"
    if raw == b"null" and column in absent:
        return ""
    if column not in found:
        raise ValueError(f"there is no {column!r}")
    if raw.startswith(b'"'):
        return msgspec.json.decode(raw, type=str)
    if raw[:1] in b"-0123456789" or column in structured:
        return raw.decode()
    raise ValueError(f"{column!r} is neither a string nor a number")
