"""The files and examples of docs/enqueue.md, as a reader would copy them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "enqueue.md"
_BLOCK = re.compile(
    r"<!-- (?P<what>file|example): (?P<name>\S+) -->\n```\w+\n(?P<text>.*?)^```$", re.M | re.S
)


def blocks(what: str) -> dict[str, str]:
    """Texts by name; ``what`` is ``file`` or ``example``."""
    found = _BLOCK.finditer(PAGE.read_text())
    return {one["name"]: one["text"] for one in found if one["what"] == what}
