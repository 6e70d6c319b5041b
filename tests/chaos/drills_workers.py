"""Drills on worker processes: killed, drained, asleep, dead at the worst moment, mistimed."""

from __future__ import annotations

import signal
import time

from tests.acceptance.system import wait_for
from tests.chaos.drill import Drill
from tests.chaos.scene import Scene
from tests.chaos.stage import LEASE_S, WORKERS, Cast, Player

#: Beyond the visibility timeout of Celery's transport, which each host reads off its own clock.
FAST_CLOCK_S = 25_200
SLOW_CLOCK_S = -3_600


def kill_workers(scene: Scene) -> None:
    scene.start()
    scene.notes["kills"] = str(scene.in_a_row(lambda: scene.kill(_busy(scene))))
    scene.finish()


def drain_workers(scene: Scene) -> None:
    scene.start()
    drains_s: list[float] = []

    def drain() -> None:
        leaver = _busy(scene)
        scene.given_back += scene.held_by(leaver)
        started = time.monotonic()
        status = scene.stage.system.drain(leaver.process)
        assert status == 0, f"exit status {status}: {scene.stage.log_of(leaver)[-2_000:]}"
        drains_s.append(time.monotonic() - started)
        assert not scene.held_by(leaver), "a worker that left in good order holds nothing"

    scene.in_a_row(drain)
    scene.notes["longest drain"] = f"{max(drains_s):.2f} s (target 2 s)"
    scene.most_attempts = 1
    scene.finish()


def stop_worker(scene: Scene) -> None:
    scene.start()
    sleeper = _busy(scene)
    with scene.fault():
        scene.send(sleeper, signal.SIGSTOP)
        held = scene.held_by(sleeper)
    try:
        wait_for(lambda: not scene.held_by(sleeper), "others take its steps over", 5 * LEASE_S)
    finally:
        scene.send(sleeper, signal.SIGCONT)
    scene.finish()
    assert sleeper.alive, "it only finds that its steps are not its own any more"
    scene.notes["taken over"] = f"{held} steps"


def die_before_publish(scene: Scene) -> None:
    scene.start()
    scene.finish()
    deaths = sum(len(player.ended) for player in scene.stage.players)
    assert deaths, "nobody died"
    scene.notes["deaths"] = str(deaths)


def skew_clocks(scene: Scene) -> None:
    scene.start()
    scene.finish()
    scene.most_attempts = 1
    scene.notes["clocks"] = f"one worker {FAST_CLOCK_S:+} s, dispatcher {SLOW_CLOCK_S:+} s"


def _busy(scene: Scene) -> Player:
    """A worker that has work in flight."""
    found: list[Player] = []

    def look() -> bool:
        found[:] = [player for player in scene.stage.workers if player.alive]
        found[:] = [player for player in found if scene.held_by(player)]
        return bool(found) or not scene.still_open()

    wait_for(look, "work is in flight")
    return scene.rng.choice(found or scene.stage.workers)


def _dying(jobs: int) -> Cast:
    oddity = f"die-before-publish:{40 + jobs // 10}"
    return Cast(workers=(oddity,) * WORKERS, dispatchers=(oddity,))


def _skewed(_jobs: int) -> Cast:
    return Cast(workers=("", "", f"clock:{FAST_CLOCK_S}"), dispatchers=(f"clock:{SLOW_CLOCK_S}",))


DRILLS = (
    Drill("worker-kill", "SIGKILL a worker every few seconds", kill_workers),
    Drill("worker-drain", "SIGTERM a worker with work in flight", drain_workers),
    Drill("worker-sleep", "SIGSTOP a worker past its leases, then SIGCONT", stop_worker),
    Drill(
        "unpublished",
        "kill workers and dispatcher between commit and publish",
        die_before_publish,
        cast=_dying,
    ),
    Drill("clock-skew", "clocks of hosts hours apart", skew_clocks, cast=_skewed),
)
