"""An engine's options from the plain settings of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


def read_options(
    kind: str, model_name: str, options: type[Options], settings: Mapping[str, Any]
) -> Options:
    """The options of one engine.

    Raises:
        ConfigError: A setting is not known there; names the model, the setting and the known ones.
    """
    try:
        return options(**settings)
    except TypeError as error:
        known = ", ".join(field.name for field in fields(options))
        raise ConfigError(
            f"model {model_name!r}: {error}; the {kind} engine knows {known}"
        ) from error
