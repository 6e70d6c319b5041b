"""Finds ``preceptor`` command lines in texts and holds them against the commands that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from schemas.cli import main

_SPAN = re.compile(r"`([^`]+)`", re.DOTALL)


def command_lines(page: str) -> Iterator[str]:
    """Command lines of a Markdown page: in code spans, and in indented blocks."""
    blocks = [line for line in page.splitlines() if line.startswith("    ")]
    prose = "\n".join(line for line in page.splitlines() if not line.startswith("    "))
    for text in (*blocks, *_SPAN.findall(prose)):
        line = " ".join(text.split())
        if line.startswith("preceptor "):
            yield line


def fault(line: str) -> str | None:
    """What of a command line does not exist; None where all of it does."""
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return f"{line!r}: there is no command {words[0]!r}"
        command, words = found, words[1:]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    options = (word.partition("=")[0] for word in words if word.startswith("-") and word != "-")
    unknown = sorted(set(options) - known - {"--help"})
    return f"{line!r}: there is no option {unknown[0]}" if unknown else None
