"""Rows of a CSV file as records, with the header checked first.

Follows RFC 4180: commas, double quotes, quoted line breaks. Every row is a record or the
reason why it is none; a header that cannot be used is one reason and the end.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from producer.lines import MAX_LINE_BYTES, LineTooLong, iter_lines, strict_json

#: Columns whose cells hold JSON.
_JSON_COLUMNS = ("metadata", "critiques")
#: A pair: an empty cell is an empty response where the other one is filled.
_PAIR = ("response_a", "response_b")


class _OpenQuote(ValueError):
    """A record that never ends."""

    def __init__(self) -> None:
        super().__init__(
            f"a row that begins here is over {MAX_LINE_BYTES // 2**20} MiB, as if a quote were "
            "never closed; the rest of the file is not read"
        )


class _Physical:
    """Physical lines for ``csv.reader``, with a bound on what one record may take."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = iter_lines(stream)
        self._record_bytes = 0
        self.number = 0

    def start_record(self) -> None:
        self._record_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if isinstance(line, LineTooLong):
            raise _OpenQuote
        self._record_bytes += len(line)
        if self._record_bytes > MAX_LINE_BYTES:
            raise _OpenQuote
        # What is not UTF-8 becomes surrogates, found again in the cells of its own row.
        return line.decode(errors="surrogateescape")


Record = tuple[int, dict[str, Any] | ValueError]


def iter_csv(stream: BinaryIO) -> Iterator[Record]:
    """The file's rows as (line number, record or reason)."""
    rows = _iter_rows(stream)
    first = next(rows, None)
    if first is None:
        return
    number, header = first
    columns = header if isinstance(header, ValueError) else _columns(header)
    if isinstance(columns, ValueError):
        yield number, ValueError(f"header: {columns}; the file is not read")
        return
    for number, row in rows:
        yield number, row if isinstance(row, ValueError) else _record(columns, row)


def _iter_rows(stream: BinaryIO) -> Iterator[tuple[int, list[str] | ValueError]]:
    # The module's own limit of 128 kB a cell is process-wide; it is only ever raised here.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    lines = _Physical(stream)
    reader = csv.reader(lines, strict=True)
    while True:
        lines.start_record()
        number = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, ValueError(f"is not CSV: {error}")
        except _OpenQuote as error:
            yield number, error
            return
        else:
            if row:
                yield number, row


def _columns(header: list[str]) -> list[str] | ValueError:
    names = [name.strip() for name in header]
    problem = None
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        problem = "one column; the columns must be parted by commas"
    elif any(_undecoded(name) for name in names):
        problem = "is not UTF-8; re-encode the file as UTF-8"
    elif "" in names:
        problem = f"column {names.index('') + 1} has no name"
    elif twice := [name for name, n in Counter(names).items() if n > 1]:
        problem = f"names the column '{twice[0]}' twice"
    elif "prompt" not in names:
        problem = f"no column is called 'prompt' (there are: {', '.join(names)})"
    return ValueError(problem) if problem else names


def _record(columns: list[str], row: list[str]) -> dict[str, Any] | ValueError:
    if len(row) != len(columns):
        return ValueError(f"has {len(row)} cells; the header has {len(columns)}")
    cells = dict(zip(columns, row, strict=True))
    try:
        return {name: _value(name, cell) for name, cell in cells.items() if _given(name, cells)}
    except ValueError as error:
        return error


def _given(name: str, cells: dict[str, str]) -> bool:
    # An empty cell means "not given", but an empty prompt must be refused as such.
    if name in _PAIR:
        return any(cells.get(other) for other in _PAIR)
    return bool(cells[name]) or name == "prompt"


def _value(name: str, cell: str) -> Any:
    if _undecoded(cell):
        raise ValueError(f"{name}: is not UTF-8; re-encode the file as UTF-8")
    if name not in _JSON_COLUMNS:
        return cell
    try:
        return strict_json(cell)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _undecoded(cell: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in cell)
