"""Drills on what jobs and engines can do to a worker: die of it, hang, raise, answer nonsense."""

from __future__ import annotations

from schemas.policy import StopReason
from tests.chaos.drill import Drill
from tests.chaos.jobs import marked_jobs
from tests.chaos.scene import Scene
from tests.chaos.stage import MOST_ATTEMPTS, WORKERS, Cast

FEW = 3
#: Exit status of a worker that a poison job or the watchdog ends.
EXIT_STATUS = 70
#: One request in so many meets an engine error.
STUMBLE_EVERY = 50


def poison(scene: Scene) -> None:
    jobs = marked_jobs("poison", "[[fault:exit@critique]]", FEW)
    scene.expect(jobs, StopReason.CRITIC_FAILED, "attempts_exhausted")
    scene.start(jobs)
    scene.finish()
    # The company of a poison job must not be spoilt with it: one more try has to be left.
    scene.most_attempts = MOST_ATTEMPTS - 1
    scene.notes["workers killed"] = str(_exits(scene))


def hang(scene: Scene) -> None:
    scene.start()
    scene.finish()
    exits = _exits(scene)
    assert exits, "the watchdog ends a worker whose engine hangs"
    scene.notes["watchdog exits"] = str(exits)


def stumble(scene: Scene) -> None:
    jobs = marked_jobs("broken", "[[fault:error@revision]]", FEW)
    scene.expect(jobs, StopReason.POLICY_FAILED, "engine_error")
    scene.start(jobs)
    scene.finish()
    scene.notes["engine errors"] = f"1 of {STUMBLE_EVERY} requests"


def garble(scene: Scene) -> None:
    critic = marked_jobs("unreadable", "[[fault:garbage@severity]]", FEW)
    judge = marked_jobs("undecided", "[[fault:garbage@preference]]", FEW)
    scene.expect(critic, StopReason.CRITIC_FAILED, "output_error")
    scene.expect(judge, StopReason.JUDGE_FAILED, "output_error")
    scene.start([*critic, *judge])
    scene.finish()


def _exits(scene: Scene) -> int:
    endings = [ending for player in scene.stage.workers for ending in player.ended]
    return sum(ending.status == EXIT_STATUS for ending in endings)


def _hanging(jobs: int) -> Cast:
    return Cast(workers=(f"hang:{max(60, 3 * jobs // 2)}",) * WORKERS)


def _stumbling(_jobs: int) -> Cast:
    return Cast(workers=(f"stumble:{STUMBLE_EVERY}",) * WORKERS)


DRILLS = (
    Drill("poison", "jobs that end every process that runs them", poison),
    Drill("engine-hang", "engines that stop answering", hang, cast=_hanging),
    Drill("engine-error", "engines that raise now and then, and jobs that always", stumble,
          cast=_stumbling),
    Drill("engine-garbage", "answers that cannot be read", garble),
)  # fmt: skip
