"""A worker that also writes down each request that it hands to vLLM.

Called like ``preceptor``; the file is named by ``BENCH_RECORD``. For the comparison with vLLM
alone on the very same requests.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.cli import main
from workers.engines.vllm_engine import VllmEngine


def record(path: Path) -> None:
    """Patch the one place through which every request goes."""
    complete = VllmEngine._complete

    async def recorded(self: VllmEngine, prompt: Sequence[int], **sampling: Any) -> Any:
        with path.open("a") as file:
            file.write(json.dumps({"prompt": list(prompt), "sampling": sampling}) + "\n")
        return await complete(self, prompt, **sampling)

    VllmEngine._complete = recorded  # type: ignore[method-assign]


if __name__ == "__main__":
    if path := os.environ.get("BENCH_RECORD"):
        record(Path(path))
    main(sys.argv[1:])
