"""Commands that run the system: ``worker``, ``dispatcher``, ``migrate`` and ``local``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import sqlalchemy  # noqa: F401 - without the worker extra these commands do not exist

from schemas.config import ModelConfig
from schemas.config_file import load_config
from schemas.errors import ConfigError
from schemas.settings import load_settings
from workers.stack.commands import local

#: Threads of an intake worker: each job batch is one short transaction.
INTAKE_SLOTS = 4


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Run configuration with models.")
@click.option("--model", help="Name of the model to serve; may be left out if there is one.")
@click.option("--slots", type=click.IntRange(1), help="Steps in flight at once.")
@click.option("--gpu", type=click.IntRange(0), help="Serve on this GPU only.")
@click.option("--intake", is_flag=True, help="Take jobs from Redis instead of serving a model.")
def worker(
    config: Path | None, model: str | None, slots: int | None, gpu: int | None, intake: bool
) -> None:
    """Serve one model, or take jobs in (--intake), until SIGTERM.

    Start one process per GPU; the steps in flight default to the model's max_batch_rows.
    """
    from workers.process import pin_gpu, serve_intake, serve_model
    from workers.telemetry import configure_logging

    settings = load_settings()
    settings.require_redis_url()
    if gpu is not None:
        pin_gpu(gpu, [sys.executable, "-m", "schemas.cli", *sys.argv[1:]])
    configure_logging()
    if intake:
        sys.exit(serve_intake(settings, slots or INTAKE_SLOTS))
    name, chosen = choose_model(config, model)
    sys.exit(serve_model(settings, name, chosen, slots or chosen.max_batch_rows))


def choose_model(config: Path | None, model: str | None) -> tuple[str, ModelConfig]:
    """The model to serve.

    Raises:
        ConfigError: No configuration, no such model, or several and none named.
    """
    if config is None:
        raise ConfigError("--config FILE is needed: the run configuration whose model to serve")
    models = load_config(config).models
    if model is None and len(models) == 1:
        model = next(iter(models))
    if model not in models:
        asked = f"no model '{model}' in {config}" if model else f"{config} has several models"
        raise ConfigError(f"{asked}: pass --model with one of {', '.join(sorted(models))}")
    return model, models[model]


@click.command()
def dispatcher() -> None:
    """Wake workers for what is ready, mend what got stuck. Several may run; one is active."""
    from workers.process import serve_dispatcher
    from workers.telemetry import configure_logging

    settings = load_settings()
    settings.require_redis_url()
    configure_logging()
    serve_dispatcher(settings)


@click.command()
def migrate() -> None:
    """Bring the ledger's tables to the version this installation needs."""
    from schemas.migrations import newest_revision, upgrade

    upgrade(load_settings().require_database_url())
    click.echo(f"ledger at revision {newest_revision()}")


commands: list[click.Command] = [worker, dispatcher, migrate, local]
