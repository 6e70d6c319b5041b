"""Drills on Postgres, and on the dispatcher, whose one lock lies there."""

from __future__ import annotations

import signal
import time

from sqlalchemy import text

from tests.acceptance.system import wait_for
from tests.chaos.drill import Drill
from tests.chaos.scene import Scene
from tests.chaos.stage import Cast, Player
from workers.dispatcher import DISPATCHER_LOCK

LEADERLESS_S = 3.0
#: A leader that freezes must have lost its lock by then.
TAKE_OVER_S = 40.0

_LEADERS = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND classid = 0 AND objid = :key"
)


def kill_postgres(scene: Scene) -> None:
    scene.start()

    def crash() -> None:
        scene.stage.postgres.kill()
        scene.stage.postgres.restart()

    scene.notes["kills"] = str(scene.in_a_row(crash))
    scene.finish()
    scene.expect_nobody_ended()


def outage(scene: Scene) -> None:
    scene.start()
    with scene.fault():
        scene.stage.postgres.kill()
        time.sleep(scene.stage.pace.outage_s)
        scene.stage.postgres.restart()
    scene.finish()
    scene.expect_nobody_ended()
    scene.notes["outage"] = f"{scene.stage.pace.outage_s:.0f} s"


def kill_dispatcher(scene: Scene) -> None:
    scene.start()
    with scene.fault():
        scene.kill(scene.stage.dispatchers[0])
        time.sleep(LEADERLESS_S)
        (player,) = scene.stage.revive()
        scene.stage.system.await_ready(player.process)
    scene.finish()
    scene.most_attempts = 1


def two_dispatchers(scene: Scene) -> None:
    scene.start()
    assert _leaders(scene) == 1, "one leads, the other stands by"
    leader, standby = _by_role(scene)
    with scene.fault():
        scene.kill(leader)
        wait_for(lambda: _leads(scene, standby), "the other takes over")
    scene.finish()
    scene.most_attempts = 1
    assert _leaders(scene) == 1


def freeze_dispatcher(scene: Scene) -> None:
    scene.start()
    leader, standby = _by_role(scene)
    scene.send(leader, signal.SIGSTOP)
    try:
        with scene.fault():
            wait_for(lambda: _leads(scene, standby), "the other takes over", TAKE_OVER_S)
    finally:
        scene.send(leader, signal.SIGCONT)
    scene.finish()
    scene.most_attempts = 1
    assert leader.alive, "it stands by once it has noticed"


def _leaders(scene: Scene) -> int:
    with scene.stage.system.database.connect() as connection:
        return int(connection.execute(_LEADERS, {"key": DISPATCHER_LOCK}).scalar_one())


def _by_role(scene: Scene) -> tuple[Player, Player]:
    """The leading dispatcher and the one that stands by."""
    leader, standby = sorted(scene.stage.dispatchers, key=lambda player: not _leads(scene, player))
    assert _leads(scene, leader)
    return leader, standby


def _leads(scene: Scene, player: Player) -> bool:
    return "dispatching" in scene.stage.log_of(player)


def _pair(_jobs: int) -> Cast:
    return Cast(dispatchers=("", ""))


DRILLS = (
    Drill("postgres-kill", "SIGKILL Postgres under load, again and again", kill_postgres),
    Drill("postgres-outage", "Postgres is gone for a long while", outage),
    Drill("dispatcher-kill", "SIGKILL the only dispatcher", kill_dispatcher),
    Drill("two-dispatchers", "SIGKILL the leader of two", two_dispatchers, cast=_pair),
    Drill("dispatcher-sleep", "SIGSTOP the leader of two", freeze_dispatcher, cast=_pair),
)
