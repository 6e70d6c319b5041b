"""How runs share real workers, and how early a long run shows its first results."""

import pytest
from sqlalchemy import Row, text

from schemas.routing import run_id_of
from tests.acceptance.system import System, wait_for

#: About half a second a step, so that two workers' slots, and not the test machine, are scarce.
SIMULATED = {
    "models": {
        "small": {
            "engine": "scripted",
            "model": "scripted",
            "max_batch_rows": 8,
            "options": {"prefill_tokens_per_s": 4_000, "decode_tokens_per_s": 200},
        }
    },
    "policy": {"method": "sampled", "max_rounds": 3},
}


def improve(count: int) -> list[dict]:
    return [
        {
            "kind": "improve",
            "id": f"j{i}",
            "prompt": f"prompt {i}",
            "response": f"[[severity:0.9]] a harmful answer {i}",
        }
        for i in range(count)
    ]


def submit(system: System, run: str, count: int, weight: float) -> None:
    path = system.config_path
    shared = path.read_text()
    path.write_text(f"{shared}scheduling: {{weight: {weight}}}\n")
    system.submit(improve(count), run, f"{run}.jsonl")
    path.write_text(shared)


def steps_done(system: System, *runs: str) -> tuple[int, ...]:
    return tuple(system.progress(run).steps_done for run in runs)


@pytest.mark.timeout(600)
def test_runs_of_weight_1_and_3_get_1_to_3_of_the_work(open_system):
    system = open_system(SIMULATED)
    submit(system, "light", 300, weight=1)
    submit(system, "heavy", 300, weight=3)
    system.start_all(workers=2)
    wait_for(lambda: sum(steps_done(system, "light", "heavy")) > 400, "both are under way", 120)
    before = steps_done(system, "light", "heavy")
    wait_for(
        lambda: sum(steps_done(system, "light", "heavy")) > sum(before) + 1_600, "1,600 steps", 260
    )
    after = steps_done(system, "light", "heavy")
    assert all(system.progress(run).queued > 0 for run in ("light", "heavy")), "both have work"
    light, heavy = (after[i] - before[i] for i in (0, 1))
    assert heavy / light == pytest.approx(3, rel=0.1)


@pytest.mark.timeout(600)
def test_the_first_result_comes_before_2_percent_of_a_long_run(open_system):
    """Whole jobs finish early, instead of all jobs finishing late."""
    system = open_system({"policy": {"method": "sampled", "max_rounds": 2}})
    system.start_all()
    # A first small run, so that what a fresh worker spends on its first steps is no part of it.
    system.submit(improve(8), "warm", "warm.jsonl")
    system.finish("warm")
    system.submit(improve(1_000))
    wait_for(lambda: since_first(system).ended, "a first result", 120)
    # A run that still goes on after 50 times that time takes longer than that.
    wait_for(lambda: since_first(system).ratio > 50, "50 times as long", 500)
    assert system.progress().open > 0


def since_first(system: System) -> Row:
    """Jobs that ended, and the run's age in multiples of the time to its first result."""
    statement = text(
        "SELECT count(ended_at) AS ended, extract(epoch FROM now() - min(accepted_at))"
        " / extract(epoch FROM min(ended_at) - min(accepted_at)) AS ratio"
        " FROM job WHERE run_id = :run"
    )
    with system.database.connect() as connection:
        return connection.execute(statement, {"run": run_id_of("run")}).one()
