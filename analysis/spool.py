"""Rows kept aside on disk while all of them are looked at once, before any is written.

A temporary file that nobody else sees and that goes with the process.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any


class Spool:
    """Rows in the order in which they were added; read as often as wanted."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self._file.write(line_of(row))

    def lines(self) -> Iterator[bytes]:
        """The rows as JSON lines."""
        self._file.seek(0)
        yield from self._file

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows."""
        return map(json.loads, self.lines())


def line_of(row: dict[str, Any]) -> bytes:
    """A row as one JSON line."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()
