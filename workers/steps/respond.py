"""Respond: the policy model writes the response that the loop begins with."""

from __future__ import annotations

from workers.engines import Generation
from workers.ledger import ClaimedStep, StepOutcome
from workers.parsing import response_digest
from workers.policy import RevisionRecord
from workers.prompts import render_respond
from workers.steps.asking import Asking, warmer


def respond(step: ClaimedStep, asking: Asking) -> StepOutcome:
    """Write a first response; an empty or cut-off one is tried again with a new seed."""
    prompt = render_respond(step.job.turns)
    sampling = step.config.sampling.respond
    outcome, answer, seed = "empty", None, 0
    for attempt in range(step.config.policy.output_tries):
        seed = asking.seed("respond", attempt)
        (answer,) = asking.generate([prompt], sampling, [seed])
        outcome = response_outcome(answer)
        if outcome == "ok":
            break
        sampling = warmer(sampling, step.config.sampling.retry_temperature)
    assert answer is not None
    return _outcome(step, asking, answer, outcome, seed)


def response_outcome(answer: Generation) -> str:
    """``ok``, or why the text is no response: ``empty`` or ``cut_off``."""
    if not answer.text.strip():
        return "empty"
    return "cut_off" if answer.finish_reason == "length" else "ok"


def _outcome(
    step: ClaimedStep, asking: Asking, answer: Generation, outcome: str, seed: int
) -> StepOutcome:
    text = answer.text.strip() if outcome == "ok" else None
    digest = None if text is None else response_digest(text)
    record = RevisionRecord(step.round, step.revision_try, outcome, text, digest)
    return StepOutcome(
        revision={
            "outcome": outcome,
            "text": text,
            "digest": digest,
            "raw_text": answer.text,
            "finish_reason": answer.finish_reason,
            "seed": seed,
        },
        accepted=True if outcome == "ok" else None,
        history=step.history.add(revision=record),
        measures=asking.measures(),
    )
