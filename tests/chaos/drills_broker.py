"""Drills on Valkey: killed, emptied, cut off, held up, full, and every message there twice."""

from __future__ import annotations

import time

from tests.chaos.drill import Drill
from tests.chaos.scene import Scene
from tests.chaos.stage import WORKERS, Cast

DOWN_S = 1.5
PAUSE_S = 5.0
FULL_S = 4.0
#: No process dies in these drills, so no step may be begun twice.
ONCE = 1


def kill_valkey(scene: Scene) -> None:
    scene.start()

    def crash() -> None:
        scene.stage.valkey.kill()
        time.sleep(DOWN_S)
        scene.stage.valkey.restart()

    scene.notes["kills"] = str(scene.in_a_row(crash))
    _end_undisturbed(scene)


def flush_all(scene: Scene) -> None:
    scene.start()
    with scene.fault(), scene.stage.redis() as redis:
        scene.notes["keys flushed"] = str(redis.dbsize())
        redis.flushall()
    _end_undisturbed(scene)


def kill_clients(scene: Scene) -> None:
    scene.start()

    def cut_off() -> None:
        with scene.stage.redis() as redis:
            for kind in ("normal", "pubsub"):
                redis.client_kill_filter(_type=kind, skipme=True)

    scene.in_a_row(cut_off)
    _end_undisturbed(scene)


def pause_clients(scene: Scene) -> None:
    scene.start()
    with scene.fault():
        with scene.stage.redis() as redis:
            redis.client_pause(int(PAUSE_S * 1000), all=True)
        time.sleep(PAUSE_S)
    _end_undisturbed(scene)


def fill_valkey(scene: Scene) -> None:
    scene.start()
    with scene.fault(), scene.stage.redis() as redis:
        redis.config_set("maxmemory", 1)
        time.sleep(FULL_S)
        redis.config_set("maxmemory", 0)
    _end_undisturbed(scene)


def publish_twice(scene: Scene) -> None:
    scene.start()
    _end_undisturbed(scene)


def _end_undisturbed(scene: Scene) -> None:
    scene.finish()
    scene.most_attempts = ONCE
    scene.expect_nobody_ended()


def _doubling(_jobs: int) -> Cast:
    return Cast(workers=("publish-twice",) * WORKERS, dispatchers=("publish-twice",))


DRILLS = (
    Drill("valkey-kill", "SIGKILL Valkey again and again; it keeps a log (AOF)", kill_valkey),
    Drill(
        "valkey-kill-no-aof",
        "SIGKILL Valkey again and again; it keeps nothing",
        kill_valkey,
        append_only=False,
    ),
    Drill("flushall", "FLUSHALL while messages wait and run", flush_all),
    Drill("client-kill", "CLIENT KILL of every connection, again and again", kill_clients),
    Drill("client-pause", "CLIENT PAUSE for some seconds", pause_clients),
    Drill("valkey-full", "Valkey at its maxmemory refuses every write", fill_valkey),
    Drill("publish-twice", "every message is there twice", publish_twice, cast=_doubling),
)
