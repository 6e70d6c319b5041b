"""Reading a run configuration from YAML, with file, line and key in every error."""

from __future__ import annotations

from pathlib import Path

from schemas.config import RunConfig
from schemas.errors import ConfigError, ContractError
from schemas.yaml_file import read_yaml_file


def load_config(path: Path) -> RunConfig:
    """The run configuration in ``path``; constitution files in it are relative to it.

    Raises:
        ConfigError: Names the file, the line, the key and the reason.
    """
    try:
        config = read_yaml_file(path, RunConfig)
    except ContractError as error:
        raise ConfigError(str(error)) from error
    if not config.constitution.files:
        return config
    found = tuple((path.parent / file).resolve() for file in config.constitution.files)
    chosen = config.constitution.model_copy(update={"files": found})
    return config.model_copy(update={"constitution": chosen})
