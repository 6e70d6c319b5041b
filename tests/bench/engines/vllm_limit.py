"""Recorded requests through our engine and through vLLM alone: what the engine costs.

Runs in vLLM's environment, each way in a process of its own. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from tests.bench.engines import workload
from workers.engines.model_files import resolve_model
from workers.engines.vllm_engine import VllmEngine, VllmOptions, vllm_arguments


def recorded(path: Path) -> list[dict[str, Any]]:
    """The requests, in the order in which they were made."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def offline(folder: Path, options: VllmOptions, requests: list[dict[str, Any]]) -> dict[str, Any]:
    """One call of vLLM's own batch interface."""
    from vllm import LLM, SamplingParams

    llm = LLM(**vllm_arguments(folder, options))
    params = [SamplingParams(**request["sampling"]) for request in requests]
    prompts = [{"prompt_token_ids": request["prompt"]} for request in requests]
    llm.generate(prompts[0], params[0], use_tqdm=False)
    began_s = time.monotonic()
    outputs = llm.generate(prompts, params, use_tqdm=False)
    return _figures(began_s, outputs)


def through_engine(
    folder: Path, options: VllmOptions, requests: list[dict[str, Any]]
) -> dict[str, Any]:
    """The same requests at once through the engine's own way to vLLM."""
    engine = VllmEngine(workload.MODEL, folder, options)

    async def everything(wanted: list[dict[str, Any]]) -> list[Any]:
        asked = (engine._complete(tuple(r["prompt"]), **r["sampling"]) for r in wanted)
        return await asyncio.gather(*asked)

    engine._requests.call(everything(requests[:1]))
    began_s = time.monotonic()
    outputs = engine._requests.call(everything(requests))
    figures = _figures(began_s, outputs)
    engine.close()
    return figures


def _figures(began_s: float, outputs: list[Any]) -> dict[str, Any]:
    return {
        "seconds": time.monotonic() - began_s,
        "requests": len(outputs),
        "input_tokens": sum(len(o.prompt_token_ids) for o in outputs),
        "cached_tokens": sum(o.num_cached_tokens or 0 for o in outputs),
        "output_tokens": sum(len(o.outputs[0].token_ids) for o in outputs),
    }


def main() -> None:
    """Measure one way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["offline", "engine"])
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    chosen = parser.parse_args()
    folder = resolve_model(workload.MODEL, chosen.models)
    options = VllmOptions(max_batch_rows=chosen.rows)
    measure = offline if chosen.way == "offline" else through_engine
    print(json.dumps(measure(folder, options, recorded(chosen.record))))


if __name__ == "__main__":
    main()
