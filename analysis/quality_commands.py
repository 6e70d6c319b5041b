"""The command that verifies a run's quality: ``quality``.

Arguments and messages only; the numbers come from the other modules.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from analysis.records import RunRecords

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("run", required=False)
@click.option("--results", type=_FILE,
              help="Read a file that 'preceptor results' wrote instead of the ledger.")  # fmt: skip
@click.option("--config", "config_path", type=_FILE,
              help="Run configuration of --results: it holds the thresholds.")  # fmt: skip
@click.option("--pairs", type=_FILE, help="Pairs with people's labels, joined by id.")
@click.option("--sample", type=_FILE,
              help="A sample of 'preceptor verify plan' that people filled in.")  # fmt: skip
@click.option("--certificate", type=_FILE,
              help="What 'preceptor certify --json' wrote of the judge.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with status 1 where a section failed.")
@click.option("--json", "json_out", type=_FILE, help="Write the report here; - for stdout.")
@click.pass_context
def quality(
    context: click.Context,
    run: str | None,
    results: Path | None,
    config_path: Path | None,
    pairs: Path | None,
    sample: Path | None,
    certificate: Path | None,
    strict: bool,
    json_out: Path | None,
) -> None:
    """Verify RUN: its judge, agreement with people, bias, labels, loops; and what to do.

    Thresholds are the run's configuration's (quality.agreement_threshold, bias_dimensions,
    verification_rate), or values that an interval must exclude; each is named. What nobody
    measured is said to be missing, with the command that would measure it.
    """
    from analysis import quality_view
    from analysis.quality_gathering import Given, assess, gather
    from analysis.run_constitution import shipped_of

    records = _records(run, results, config_path)
    asked = records.frames.critiques["principle"].unique().to_list()
    constitution = records.constitution or shipped_of(records.constitution_digest, asked)
    report = assess(gather(records, Given(results, pairs, sample, certificate), constitution))
    _write_json(json_out, quality_view.as_json(report))
    if str(json_out) != "-":
        quality_view.print_quality(report)
    if strict and report.failed:
        context.exit(1)


def _records(run: str | None, results: Path | None, config_path: Path | None) -> RunRecords:
    """A run's records out of the ledger or of a file.

    Raises:
        ConfigError: Both are named, or neither; or a configuration beside the ledger's own.
    """
    from analysis.cost_commands import with_config
    from analysis.records import load_results, load_run

    if (run is None) == (results is None):
        raise ConfigError("name either a RUN of the ledger or a file with --results")
    if results is not None:
        return with_config(load_results(results), config_path)
    if config_path is not None:
        raise ConfigError("--config goes with --results: a run of the ledger has its own")
    from analysis.ledger import reading

    with reading(run or "") as (connection, opened):
        return load_run(connection, opened.name)


def _write_json(out: Path | None, content: Any) -> None:
    from analysis.output_file import output_file

    if out:
        with output_file(out) as writer:
            writer.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


commands: list[click.Command] = [quality]
