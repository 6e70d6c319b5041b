"""Watching which statements our code sends, and how Postgres would run them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event

from workers.pipeline import Pipeline

PLANNED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")


@dataclass
class Watched:
    """Statements in the order they were sent, each once, with its values."""

    statements: dict[str, Any] = field(default_factory=dict)

    def add(self, statement: str, values: Any) -> None:
        if statement.lstrip("( ").upper().startswith(PLANNED):
            self.statements.setdefault(statement, values)


@contextmanager
def watch(engine: Engine, monkeypatch) -> Iterator[Watched]:
    """Collect what is sent through SQLAlchemy and through a pipeline while the block runs."""
    watched = Watched()
    send = Pipeline.send

    def on_execute(_connection, _cursor, statement, values, _context, many) -> None:
        watched.add(statement, values[0] if many else values)

    def on_send(self, statement: str, values: Mapping[str, Any]):
        watched.add(statement, values)
        return send(self, statement, values)

    event.listen(engine, "before_cursor_execute", on_execute)
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "send", on_send)
        try:
            yield watched
        finally:
            event.remove(engine, "before_cursor_execute", on_execute)


def explain(engine: Engine, statement: str, values: Any) -> dict[str, Any]:
    """The plan of a statement, which is not run."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        (answer,) = driver.execute(f"EXPLAIN (FORMAT JSON) {statement}", values).fetchone()
        connection.rollback()
    found = json.loads(answer) if isinstance(answer, str) else answer
    return found[0]["Plan"]


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan's nodes, the outermost first."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def read_whole(plan: Mapping[str, Any]) -> set[str]:
    """Tables that a plan reads from end to end."""
    return {n["Relation Name"] for n in nodes(plan) if n["Node Type"] == "Seq Scan"}


def indexes(plan: Mapping[str, Any]) -> set[str]:
    """Indexes that a plan uses."""
    return {n["Index Name"] for n in nodes(plan) if "Index Name" in n}
