"""The command ``bias``: what moves a judge besides what people value, and what undoes it.

Arguments and messages only; the numbers come from the other modules.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from analysis.judgement_commands import PAIRS, write_json

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--ai", multiple=True, required=True, type=_FILE, help="Verdicts in both orders.")
@click.option("--judge", help="Whose verdicts, where the files are of several judges.")
@PAIRS
@click.option("--json", "json_out", type=_FILE, help="Write the numbers here; - for stdout.")
def bias(ai: tuple[Path, ...], judge: str | None, pairs: Path, json_out: Path | None) -> None:
    """What moves a judge besides what people value: position, length and style.

    Where pairs have human labels, a bias is the judge's coefficient minus people's on the same
    pairs, Holm-corrected; without them it is the judge's own preference, and said to be one.
    """
    from analysis.bias import measure
    from analysis.bias_sources import judged_texts
    from analysis.bias_view import print_report

    texts = judged_texts(pairs, ai, judge)
    found = measure(texts.pairs, texts.leads)
    write_json(json_out, asdict(found))
    if str(json_out) != "-":
        print_report(found)


commands: list[click.Command] = [bias]
