"""Kill, stop and flush what we like: nothing is lost, nothing is there twice."""

import signal

from redis import Redis
from sqlalchemy import text

from tests.acceptance.system import System, wait_for

SLOW = {
    "models": {
        "small": {
            "engine": "scripted",
            "model": "scripted",
            "max_batch_rows": 4,
            "options": {"prefill_tokens_per_s": 60_000, "decode_tokens_per_s": 400},
        }
    }
}


def jobs(n: int) -> list[dict]:
    return [
        {
            "kind": "improve",
            "id": f"j{i}",
            "prompt": f"p{i}",
            "response": f"[[severity:0.9]] answer {i}",
        }
        for i in range(n)
    ]


def contents(system: System, run: str) -> dict[str, dict]:
    """What a run found, without what may differ: ids, times, counts of attempts."""
    left_out = {"run", "job_id", "ended_at", "engine_s", "cached_tokens", "steps", "config_digest"}
    return {name: r.model_dump(exclude=left_out) for name, r in system.finish(run).items()}


def rows_are_unique(system: System) -> bool:
    """Each effect is there once: one judgement per step, principle and order."""
    with system.database.connect() as connection:
        twice = connection.execute(
            text(
                'SELECT step_id FROM judgement GROUP BY step_id, principle, "order"'
                " HAVING count(*) > 1"
            )
        ).all()
        leases = connection.execute(
            text("SELECT count(*) FROM step WHERE state IN ('queued', 'running')")
        ).scalar_one()
    return not twice and not leases


def test_kill_flush_and_duplicates_change_no_result(open_system):
    calm = open_system()
    calm.start_all()
    calm.submit(jobs(40), run="calm")
    expected = contents(calm, "calm")
    calm.close()

    rough = open_system(SLOW)
    workers = rough.start_all(workers=3)
    rough.submit(reversed(jobs(40)), run="rough", name="reversed.jsonl")
    wait_for(lambda: rough.progress("rough").steps_done > 20, "some steps are done")
    rough.kill(workers[0])
    with Redis.from_url(rough.settings.redis_url) as redis:
        redis.flushdb()
    rough.kill(rough.processes[0])
    rough.start("dispatcher")
    with rough.database.begin() as connection:
        # Published twice: the dispatcher finds every queued step unpublished again.
        connection.execute(text("UPDATE step SET published_at = NULL WHERE state = 'queued'"))
    assert contents(rough, "rough") == expected
    assert rows_are_unique(rough)


def test_sigterm_gives_everything_back_at_once(open_system):
    system = open_system(SLOW)
    (worker,) = system.start_all()
    system.submit(jobs(12))
    wait_for(lambda: system.progress().running > 0, "work is in flight")
    assert system.drain(worker) == 0
    with system.database.connect() as connection:
        running = connection.execute(
            text("SELECT count(*) FROM step WHERE state = 'running'")
        ).scalar_one()
        live = connection.execute(text("SELECT count(*) FROM worker")).scalar_one()
    assert (running, live) == (0, 0)
    system.start_worker()
    assert {r.state for r in system.finish().values()} == {"done"}
    with system.database.connect() as connection:
        assert connection.execute(text("SELECT max(attempt) FROM step")).scalar_one() == 1


def test_worker_that_slept_past_its_lease_records_nothing(open_system):
    system = open_system(SLOW)
    sleeper, _ = system.start_all(workers=2)
    system.submit(jobs(16))
    wait_for(lambda: system.progress().steps_done > 0, "work is in flight")
    sleeper.send_signal(signal.SIGSTOP)
    try:
        results = system.finish()
    finally:
        sleeper.send_signal(signal.SIGCONT)
    assert {r.state for r in results.values()} == {"done"}
    assert system.drain(sleeper) == 0
    assert rows_are_unique(system)


def test_job_that_kills_its_worker_is_bounded(open_system):
    system = open_system(PRECEPTOR_MAX_ATTEMPTS="2")
    system.start_all()
    poison = {**jobs(1)[0], "id": "poison"}
    poison["response"] += " [[fault:exit]]"
    system.submit([poison])
    for _ in range(2):
        doomed = system.processes[-1]
        wait_for(lambda doomed=doomed: doomed.poll() is not None, "the poison kills its worker")
        assert doomed.returncode == 70
        system.start_worker()
    result = system.finish()["poison"]
    assert (result.state, result.error_code) == ("failed", "attempts_exhausted")


def test_cancel_ends_a_run_and_withdraws_what_the_engine_works_on(open_system):
    model = SLOW["models"]["small"] | {"options": {"prefill_tokens_per_s": 0.1}}
    system = open_system({"models": {"small": model}}, PRECEPTOR_LEASE_S="600")
    system.start_all()
    system.submit(jobs(60))
    wait_for(lambda: system.progress().running > 0, "work is in flight for hours")
    system.command("cancel", "run")
    results = system.finish()
    assert {(r.state, r.stop_reason) for r in results.values()} == {("cancelled", "cancelled")}
    assert {r.final_response for r in results.values()} == {j["response"] for j in jobs(60)}
    assert rows_are_unique(system)
