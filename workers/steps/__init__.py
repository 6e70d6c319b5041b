"""The four steps: render a prompt, ask the engine, read the answer.

A step turns a claimed row into an outcome. It holds no database connection and publishes
nothing. What cannot be read becomes ``invalid``, never a default value.
"""

from __future__ import annotations

from collections.abc import Callable

from workers.engines import Engine
from workers.step_records import ClaimedStep, StepOutcome
from workers.steps.asking import Asking
from workers.steps.critique import critique
from workers.steps.label import label
from workers.steps.respond import respond
from workers.steps.revise import revise

STEPS: dict[str, Callable[[ClaimedStep, Asking], StepOutcome]] = {
    "respond": respond,
    "critique": critique,
    "revise": revise,
    "label": label,
}


def run_step(step: ClaimedStep, engine: Engine) -> StepOutcome:
    """Run one step to its outcome.

    Raises:
        EngineError: The engine did not answer; nothing is known and nothing may be recorded.
    """
    return STEPS[step.kind](step, Asking(engine, step))


__all__ = ["Asking", "run_step"]
