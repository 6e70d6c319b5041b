"""Adding up what a run used, one upsert per ended step, so that nobody sums millions of steps.

Writes the ``tally`` table and nothing else, inside the caller's transaction. Readers add the
shards: ``schemas.progress`` for the status, ``workers.backlog`` for budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

#: Rows a run's sums of one kind are spread over: commits of different steps rarely meet.
SHARDS = 16
#: Measures of a step that are added up; others, such as the model's name, are not.
SUMMED = ("input_tokens", "output_tokens", "cached_tokens", "engine_s", "cost_usd")

_SUMS = ("steps_done", "steps_failed", *SUMMED)

#: For the driver itself: every step sends it, and any layer between costs more than to run it.
_ADD = (
    f"INSERT INTO tally (run_id, shard, kind, {', '.join(_SUMS)})"
    f" VALUES (%(run_id)s, %(shard)s, %(kind)s, {', '.join(f'%({name})s' for name in _SUMS)})"
    " ON CONFLICT (run_id, shard, kind) DO UPDATE SET "
    + ", ".join(f"{name} = tally.{name} + excluded.{name}" for name in _SUMS)
)


def shard_of(step_id: UUID) -> int:
    """Shard in [0, 16) that a step's use is added to: always the same for the same step."""
    return step_id.int % SHARDS


def add_to_tally(
    send: Callable[[str, dict[str, Any]], object],
    step_id: UUID,
    run_id: UUID,
    kind: str,
    *,
    failed: bool,
    measures: Mapping[str, Any],
) -> None:
    """Count one ended step and what it used.

    Call it last in the transaction that ends the step: the shard's row stays locked until the
    commit, and other steps of the run wait for it.

    Args:
        send: Sends a driver's statement in the transaction that ends the step: ``Pipeline.send``
            or a connection's ``exec_driver_sql``.
        step_id: The ended step; decides the shard.
        run_id: Its run.
        kind: Its kind: respond, critique, revise or label.
        failed: Whether it failed for good; a step that goes back to its queue is not counted.
        measures: What it used: tokens, ``engine_s``, ``cost_usd``; a missing one adds nothing,
            other keys are ignored.
    """
    used = {name: measures.get(name, 0) for name in SUMMED}
    counted = {"steps_done": int(not failed), "steps_failed": int(failed)}
    row = {"run_id": run_id, "shard": shard_of(step_id), "kind": kind}
    send(_ADD, {**row, **counted, **used})
