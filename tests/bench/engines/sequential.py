"""The baseline: a straightforward script, one ``generate()`` at a time.

For each prompt a critique text by each principle, a revision that reads two of them, and one
order of the label. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from tests.bench.engines import workload
from workers.engines.model_files import resolve_model
from workers.engines.transformers_engine import resolve_device, resolve_dtype
from workers.prompts import (
    DEFAULT_CRITERIA,
    CritiqueNote,
    Rendered,
    render_critique,
    render_preference,
    render_revision,
)


class Script:
    """Model and tokenizer as any user of transformers loads them, in the fastest type here."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = resolve_device("auto")
        dtype = resolve_dtype("auto", device)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.counts = {"prompts": 0, "input_tokens": 0, "output_tokens": 0}

    def _ids(self, prompt: Rendered) -> Any:
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        encoded = self.tokenizer(
            text + prompt.assistant_prefix, add_special_tokens=False, return_tensors="pt"
        )
        self.counts["prompts"] += 1
        self.counts["input_tokens"] += encoded["input_ids"].shape[1]
        return encoded["input_ids"].to(self.model.device)

    def write(self, prompt: Rendered, max_tokens: int, temperature: float) -> str:
        """One completion."""
        ids = self._ids(prompt)
        how = (
            {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        )
        output = self.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, **how
        )
        written = output[0, ids.shape[1] :]
        self.counts["output_tokens"] += len(written)
        return str(self.tokenizer.decode(written, skip_special_tokens=True)).strip()

    @torch.inference_mode()
    def weigh(self, prompt: Rendered) -> None:
        """The scores of both verdicts."""
        scores = self.model(input_ids=self._ids(prompt)).logits[0, -1].log_softmax(-1)
        [float(scores[self.tokenizer(word)["input_ids"][0]]) for word in (" A", " B")]


def improve(script: Script, row: dict[str, Any]) -> None:
    """One prompt from critiques to label."""
    turns, response = [("user", row["prompt"])], row["response"]
    notes = []
    for principle in workload.principles():
        text = script.write(
            render_critique(turns, response, principle), workload.CRITIQUE_TOKENS, 0.0
        )
        notes.append(CritiqueNote(principle.name, 0.5, text or "Nothing.", (), ""))
    revision = script.write(
        render_revision(turns, response, notes[: workload.CRITIQUES_READ]),
        workload.REVISE_TOKENS,
        workload.REVISE_TEMPERATURE,
    )
    script.weigh(render_preference(turns, response, revision or response, DEFAULT_CRITERIA))


def main() -> None:
    """Time the script on the first jobs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    script = Script(resolve_model(workload.MODEL, options.models))
    per_job = []
    for row in workload.rows(options.jobs):
        began_s = time.monotonic()
        improve(script, row)
        per_job.append(time.monotonic() - began_s)
    print(json.dumps({"seconds": sum(per_job), "jobs": options.jobs, **script.counts}))


if __name__ == "__main__":
    main()
