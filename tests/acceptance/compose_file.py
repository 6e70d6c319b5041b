"""Reads docker-compose.yml as the engine does: anchors, then variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
SECRETS = ("REDIS_PASSWORD", "POSTGRES_PASSWORD", "FLOWER_PASSWORD")

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<rule>:[-?])(?P<word>[^}]*))?\}|(?P<other>))"
)


class UnsetVariable(Exception):
    """What the engine says before it refuses to start."""


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """``text`` with ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}`` and ``$$`` replaced."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        assert match["name"], f"a bare $ in {text!r}"
        found = environment.get(match["name"], "")
        if not found and match["rule"] == ":?":
            raise UnsetVariable(match["word"])
        assert found or match["rule"], f"{match['name']} has neither default nor message"
        return found or match["word"]

    return _VARIABLE.sub(value, text)


def _substituted(node: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return substitute(node, environment)
    if isinstance(node, list):
        return [_substituted(item, environment) for item in node]
    if isinstance(node, dict):
        return {key: _substituted(item, environment) for key, item in node.items()}
    return node


def services(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Every service of every profile, its variables taken from ``environment``."""
    content = yaml.safe_load(COMPOSE_FILE.read_text())
    resolved: dict[str, dict[str, Any]] = _substituted(content["services"], environment)
    return resolved


def starting_order(found: Mapping[str, dict[str, Any]]) -> list[str]:
    """Names of the services, each after those it depends on."""
    graph = {name: list(service.get("depends_on", {})) for name, service in found.items()}
    return list(TopologicalSorter(graph).static_order())


def is_ours(service: Mapping[str, Any]) -> bool:
    """Whether we build the service's image."""
    return "build" in service


def is_long_running(service: Mapping[str, Any]) -> bool:
    return bool(service["restart"] == "unless-stopped")
