"""The OpenAPI description as one HTML page, without scripts and without anything from elsewhere.

Renders what the description says; it knows no operation by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

Node = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2563eb; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; } details > div { padding: 0 .75rem .75rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1rem .3rem; } pre { padding: .6rem; overflow-x: auto; }
[id] { scroll-margin-top: 3.5rem; }
.verb { display: inline-block; min-width: 4.8rem; font-weight: 600; color: var(--accent); }
.about { color: #888; margin-left: .5rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td { border-top: 1px solid var(--line); padding: .3rem .5rem .3rem 0; vertical-align: top; }
td:first-child { white-space: nowrap; width: 1%; padding-right: 1rem; }
a { color: var(--accent); }
"""


def docs_page(description: Node) -> str:
    """The page of a description."""
    info = description["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    body = "".join(
        [
            f"<h1>{title}</h1><p>{_prose(info.get('description'))}</p>",
            '<p><a href="openapi.json">openapi.json</a> describes the same for programs.</p>',
            _security(description),
            *_operations(description),
            "<h2>Schemas</h2>",
            *map(_schema, sorted(description["components"]["schemas"].items())),
        ]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )


def _security(description: Node) -> str:
    schemes = description["components"].get("securitySchemes", {})
    return "".join(
        f"<p><b>{escape(name)}</b>: <code>Authorization: {escape(one['scheme'].title())}</code>. "
        f"{_prose(one.get('description'))}</p>"
        for name, one in schemes.items()
    )


def _operations(description: Node) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, verbs in description["paths"].items():
        for verb, operation in verbs.items():
            tag = operation.get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(path, verb, operation))
    for tag, parts in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        yield from parts


def _operation(path: str, verb: str, operation: Node) -> str:
    about, _, rest = operation.get("description", "").partition("\n\n")
    return (
        f"<details><summary>"
        f'<span class="verb">{verb.upper()}</span><code>{escape(path)}</code>'
        f'<span class="about">{_prose(about)}</span></summary>'
        f'<div id="{escape(operation["operationId"])}">'
        f"<p>{_prose(rest)}</p>{_parameters(operation)}{_body(operation)}{_responses(operation)}"
        "</div></details>"
    )


def _parameters(operation: Node) -> str:
    rows = [
        (
            f"<code>{escape(one['name'])}</code>",
            f"{one['in']}{', required' if one.get('required') else ''}. "
            f"{_prose(one.get('description'))} {_type(one['schema'])}",
        )
        for one in operation.get("parameters", [])
    ]
    return _table("Parameters", rows)


def _body(operation: Node) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    parts = []
    for media, one in content.items():
        schema = one["schema"]
        parts.append(f"<h4>Body: <code>{escape(media)}</code> {_type(schema)}</h4>")
        parts.append(f"<p>{_prose(schema.get('description'))}</p>")
        for example in one.get("examples", {}).values():
            value = example["value"]
            text = value if isinstance(value, str) else json.dumps(value, indent=2)
            parts.append(f"<pre>{escape(text)}</pre>")
    return "".join(parts)


def _responses(operation: Node) -> str:
    rows = []
    for status, one in operation["responses"].items():
        shown = " or ".join(
            f"<code>{escape(media)}</code> {_type(content.get('schema', {}))}"
            for media, content in one.get("content", {}).items()
        )
        rows.append((f"<b>{status}</b>", f"{_prose(one['description'])} {shown}"))
    return _table("Answers", rows)


def _schema(item: tuple[str, Node]) -> str:
    name, schema = item
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    return (
        f"<details><summary><code>{escape(name)}</code></summary>"
        # Inside, so that a link to it opens it.
        f'<div id="{escape(name)}"><pre>{escape(text)}</pre></div></details>'
    )


def _type(schema: Node) -> str:
    """A schema in a few words: the names it refers to, as links, or its type."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(_type(one) for one in choices)
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    return f"<i>{escape(str(schema.get('type', '')))}</i>"


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{first}</td><td>{second}</td></tr>" for first, second in rows)
    return f"<h4>{title}</h4><table>{cells}</table>" if rows else ""


def _prose(text: str | None) -> str:
    """Plain text; what stands between backticks is code."""
    parts = escape(text or "").split("`")
    marked = [f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts)]
    return "".join(marked).replace("\n\n", "<br>")
