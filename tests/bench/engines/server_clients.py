"""The same prompts to one OpenAI server: by our engine, and by distilabel in its environment.

``python server_clients.py ours|distilabel --url URL --prompts FILE`` prints one JSON object. For
distilabel it is run as a file, since that environment has nothing of ours.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

MODEL = "small"


def ours(url: str, prompts: list[dict[str, Any]]) -> dict[str, Any]:
    """Our openai engine, as a worker with many steps in flight calls it."""
    from workers.engines import GenerateRequest, Message
    from workers.engines.openai_engine import OpenAIEngine, OpenAIOptions

    engine = OpenAIEngine(MODEL, OpenAIOptions(base_url=url, max_batch_rows=64))
    requests = [
        GenerateRequest(
            tuple(Message(m["role"], m["content"]) for m in prompt["messages"]),
            max_tokens=prompt["max_tokens"],
        )
        for prompt in prompts
    ]
    began_s = time.monotonic()
    answers = engine.generate(requests)
    seconds = time.monotonic() - began_s
    engine.close()
    written = sum(answer.usage.output_tokens for answer in answers)
    return {"seconds": seconds, "prompts": len(answers), "output_tokens": written}


def distilabel(url: str, prompts: list[dict[str, Any]]) -> dict[str, Any]:
    """A pipeline of one task with distilabel's defaults."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import ChatGeneration

    limit = prompts[0]["max_tokens"]
    with Pipeline("bench") as pipeline:
        load = LoadDataFromDicts(data=[{"messages": p["messages"]} for p in prompts])
        chat = ChatGeneration(
            llm=OpenAILLM(
                model=MODEL,
                base_url=url,
                api_key="none",
                generation_kwargs={"max_new_tokens": limit, "temperature": 0.0},
            )
        )
        load >> chat
    began_s = time.monotonic()
    made = pipeline.run(use_cache=False)
    seconds = time.monotonic() - began_s
    rows = made["default"]["train"]
    missing = sum(text is None for text in rows["generation"])
    if missing or len(rows) != len(prompts):
        raise SystemExit(f"distilabel answered {len(rows) - missing} of {len(prompts)} prompts")
    written = sum(
        row["statistics_chat_generation_0"]["output_tokens"] for row in rows["distilabel_metadata"]
    )
    return {"seconds": seconds, "prompts": len(rows), "output_tokens": written}


def main() -> None:
    """Measure one client."""
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=["ours", "distilabel"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    options = parser.parse_args()
    prompts = [json.loads(line) for line in options.prompts.read_text().splitlines()]
    measure = ours if options.client == "ours" else distilabel
    sys.stdout.write(json.dumps(measure(options.url, prompts)) + "\n")


if __name__ == "__main__":
    main()
