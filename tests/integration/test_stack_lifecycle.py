"""One stack, whatever happens to its parts: started once, mended, stopped without remains.

The supervisor and the servers are the real ones; small Python programs stand in for the workers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from schemas.errors import StackError
from schemas.settings import load_settings
from tests.acceptance.system import wait_for
from workers.stack.assembly import Addresses, embedded_servers, outside_addresses
from workers.stack.layout import Layout, choices_for_start
from workers.stack.lifecycle import (
    is_running_plan,
    mend_stack,
    running_state,
    start_stack,
    stop_stack,
    wipe,
)
from workers.stack.plan import SERVERS, TABLES, Part, Plan, Ready
from workers.stack.processes import Identity, wait_gone, wait_until
from workers.stack.state import StackState, read_state, write_state

PYTHON = (sys.executable, "-c")
TOUCH = "import os, pathlib; pathlib.Path(os.environ['PRECEPTOR_READY_FILE']).touch()\n"
WAIT = "import signal; signal.pause()\n"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def stand_in(name: str, program: str = TOUCH + WAIT, **changes: object) -> Part:
    part = Part(name=name, argv=(*PYTHON, program), ready=Ready(kind="file"))
    return part.model_copy(update=changes)


def plan_of(*parts: Part) -> Plan:
    return Plan(parts=parts, database_url="postgresql://", redis_url="redis://", cwd=Path.cwd())


@pytest.fixture
def layout(server_folder: Path) -> Iterator[Layout]:
    layout = Layout(server_folder / "home")
    layout.create()
    yield layout
    stop_stack(layout, lambda _: None)
    wipe(layout)


@pytest.fixture
def said() -> list[str]:
    return []


def full_plan(layout: Layout) -> Plan:
    servers = embedded_servers(layout, choices_for_start(layout), Addresses(None, None))
    assert servers.cluster is not None
    # No test pulls the plug, and syncing a new cluster costs seconds on a busy disk.
    servers = replace(servers, cluster=replace(servers.cluster, durable=False))
    servers.prepare()
    assert servers.cluster is not None
    assert servers.store is not None
    migrate = Part(
        name="migrate",
        argv=(*PYTHON, f"import psycopg; psycopg.connect({_plain(servers.cluster.url)!r}).close()"),
        ready=Ready(kind="exit"),
        stage=TABLES,
    )
    return Plan(
        parts=(*servers.parts(), migrate, stand_in("dispatcher"), stand_in("worker-small")),
        database_url=servers.cluster.url,
        redis_url=servers.store.url,
        servers_folder=servers.folder,
        cwd=Path.cwd(),
    )


def processes(state: StackState) -> dict[str, Identity]:
    return {part.name: part.process for part in state.parts if part.process}


def test_a_stack_is_known_to_others_while_it_runs(
    layout: Layout, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECEPTOR_HOME", str(layout.home))
    plan = full_plan(layout)
    state = start_stack(layout, plan, said.append)
    assert all(part.is_up for part in state.parts)
    assert load_settings().database_url == plan.database_url
    assert load_settings().redis_url == plan.redis_url
    assert layout.stack_file.stat().st_mode & 0o777 == 0o600
    assert layout.plan_file.stat().st_mode & 0o777 == 0o600

    assert stop_stack(layout, said.append)
    assert load_settings().database_url is None
    assert wait_gone([state.supervisor, *processes(state).values()], 0)


def test_up_again_changes_nothing(layout: Layout, said: list[str]) -> None:
    plan = full_plan(layout)
    first = start_stack(layout, plan, said.append)
    elsewhere = plan.model_copy(update={"cwd": Path("/")})
    assert is_running_plan(layout, elsewhere)
    second = mend_stack(layout, elsewhere, said.append)
    assert processes(second) == processes(first)
    assert second.supervisor == first.supervisor


@pytest.mark.parametrize("name", ["postgres", "valkey", "dispatcher", "worker-small"])
def test_a_killed_part_is_started_again_alone(layout: Layout, said: list[str], name: str) -> None:
    plan = full_plan(layout)
    before = processes(start_stack(layout, plan, said.append))
    before[name].send(signal.SIGKILL)
    assert wait_gone([before[name]], 10)

    state = mend_stack(layout, plan, said.append)
    after = processes(state)
    assert all(part.is_up for part in state.parts)
    assert after.pop(name) != before.pop(name)
    assert after == before
    assert next(part.restarts for part in state.parts if part.name == name) >= 1


def test_rows_outlive_a_stopped_stack_on_the_same_port(layout: Layout, said: list[str]) -> None:
    plan = full_plan(layout)
    start_stack(layout, plan, said.append)
    with psycopg.connect(_plain(plan.database_url)) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    stop_stack(layout, said.append)

    again = full_plan(layout)
    assert again.starts_the_same_as(plan)
    start_stack(layout, again, said.append)
    with psycopg.connect(_plain(plan.database_url)) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_down_works_without_the_supervisor(layout: Layout, said: list[str]) -> None:
    state = start_stack(layout, full_plan(layout), said.append)
    state.supervisor.send(signal.SIGKILL)
    assert wait_gone([state.supervisor], 10)
    assert all(process.is_alive() for process in processes(state).values())

    assert stop_stack(layout, said.append)
    assert wait_gone(processes(state).values(), 0)
    assert not layout.stack_file.exists()
    stopped = [line.removeprefix("stopping ") for line in said if line.startswith("stopping ")]
    assert set(stopped[-2:]) == {"postgres", "valkey"}


def test_up_after_a_killed_supervisor_leaves_one_stack(layout: Layout, said: list[str]) -> None:
    first = start_stack(layout, full_plan(layout), said.append)
    first.supervisor.send(signal.SIGKILL)
    assert wait_gone([first.supervisor], 10)
    assert running_state(layout) is None

    stop_stack(layout, said.append)
    second = start_stack(layout, full_plan(layout), said.append)
    assert all(part.is_up for part in second.parts)
    assert wait_gone(processes(first).values(), 0)


def test_down_finds_processes_nobody_wrote_down(layout: Layout, said: list[str]) -> None:
    state = start_stack(layout, full_plan(layout), said.append)
    state.supervisor.send(signal.SIGKILL)
    layout.stack_file.unlink()
    assert stop_stack(layout, said.append)
    assert wait_gone(processes(state).values(), 0)


def test_down_never_stops_a_process_that_took_over_a_pid(layout: Layout, said: list[str]) -> None:
    state = start_stack(layout, plan_of(stand_in("dispatcher")), said.append)
    bystander = subprocess.Popen([*PYTHON, WAIT])
    try:
        state.supervisor.send(signal.SIGKILL)
        assert wait_gone([state.supervisor], 10)
        recycled = state.parts[0].model_copy(update={"process": Identity(bystander.pid, 1.0)})
        write_state(layout, state.model_copy(update={"parts": (recycled,)}))
        stop_stack(layout, said.append)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_down_twice_is_down_once(layout: Layout, said: list[str]) -> None:
    start_stack(layout, plan_of(stand_in("dispatcher")), said.append)
    assert stop_stack(layout, said.append)
    assert not stop_stack(layout, said.append)


def test_a_part_that_will_not_end_is_killed(layout: Layout, said: list[str]) -> None:
    stubborn = stand_in("dispatcher", STUBBORN + TOUCH + WAIT, stop_s=0.2)
    state = start_stack(layout, plan_of(stubborn), said.append)
    stop_stack(layout, said.append)
    assert wait_gone(processes(state).values(), 0)
    assert "is killed" in layout.log("supervisor").read_text()


def test_a_part_that_keeps_dying_is_named_with_its_log(layout: Layout, said: list[str]) -> None:
    broken = stand_in("worker-small", "raise SystemExit('the model is not there')")
    with pytest.raises(StackError) as raised:
        start_stack(layout, plan_of(stand_in("dispatcher"), broken), said.append)
    message = str(raised.value)
    assert "worker-small did not start" in message
    assert str(layout.log("worker-small")) in message
    assert "the model is not there" in message
    assert read_state(layout) is None


def test_a_part_with_a_wrong_configuration_is_not_tried_again(
    layout: Layout, said: list[str]
) -> None:
    broken = stand_in("worker-small", "print('no such model'); raise SystemExit(2)")
    with pytest.raises(StackError, match=r"(?s)configuration is wrong.*no such model"):
        start_stack(layout, plan_of(broken), said.append)
    assert layout.log("supervisor").read_text().count("ended with status 2") == 1


def test_a_part_that_never_reports_ready_is_given_up(layout: Layout, said: list[str]) -> None:
    silent = stand_in("dispatcher", "print('still loading', flush=True)\n" + WAIT, start_s=1.0)
    with pytest.raises(StackError, match=r"(?s)not ready in 1 s.*still loading"):
        start_stack(layout, plan_of(silent), said.append)


def test_a_program_that_does_not_exist_is_named(layout: Layout, said: list[str]) -> None:
    missing = Part(name="dispatcher", argv=("/nowhere/program",), ready=Ready(kind="file"))
    with pytest.raises(StackError, match="dispatcher did not start"):
        start_stack(layout, plan_of(missing), said.append)
    assert "No such file" in layout.log("supervisor").read_text()


def test_programs_wait_for_the_tables(layout: Layout, said: list[str]) -> None:
    failing = Part(
        name="migrate",
        argv=(*PYTHON, "raise SystemExit(1)"),
        ready=Ready(kind="exit"),
        stage=TABLES,
    )
    with pytest.raises(StackError, match="migrate did not start"):
        start_stack(layout, plan_of(failing, stand_in("dispatcher")), said.append)
    assert not layout.log("dispatcher").exists()


def test_a_dead_part_waits_for_the_servers_it_needs(layout: Layout, said: list[str]) -> None:
    """A worker that dies with its server must not burn its starts while the server recovers."""
    server = stand_in("valkey", stage=SERVERS)
    plan = plan_of(server, stand_in("worker-small"))
    before = processes(start_stack(layout, plan, said.append))
    for process in before.values():
        process.send(signal.SIGKILL)
    # A signal takes its time, and what still looks alive needs no mending.
    wait_for(lambda: not any(process.is_alive() for process in before.values()), "all dead", 10)
    state = mend_stack(layout, plan, said.append)
    after = processes(state)
    assert all(part.is_up for part in state.parts)
    assert after["worker-small"].created_at >= after["valkey"].created_at


def test_a_stack_outlives_the_process_that_started_it(layout: Layout, said: list[str]) -> None:
    state = start_stack(layout, plan_of(stand_in("dispatcher")), said.append)
    assert os.getsid(state.supervisor.pid) != os.getsid(0)
    assert wait_until(lambda: _parent(state.supervisor.pid) != os.getpid(), 10)


def test_ports_taken_meanwhile_are_chosen_anew(layout: Layout) -> None:
    import socket

    first = choices_for_start(layout)
    with socket.create_server(("127.0.0.1", first.valkey_port)):
        second = choices_for_start(layout)
    assert second.valkey_port != first.valkey_port
    assert second.model_copy(update={"valkey_port": first.valkey_port}) == first
    assert choices_for_start(layout) == second


def test_a_server_named_by_the_environment_is_not_started(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@ledger.example:5432/preceptor")
    outside = outside_addresses()
    servers = embedded_servers(layout, choices_for_start(layout), outside)
    assert outside.database_url == (
        "postgresql+psycopg://user:secret@ledger.example:5432/preceptor"
    )
    assert [part.name for part in servers.parts()] == ["valkey"]


def test_a_running_stack_is_not_taken_for_an_outside_server(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECEPTOR_HOME", str(layout.home))
    layout.stack_file.write_text(json.dumps({"database_url": "postgresql://x", "redis_url": "y"}))
    assert outside_addresses() == Addresses(None, None)
    layout.stack_file.unlink()


def _plain(url: str) -> str:
    return url.replace("+psycopg", "", 1)


def _parent(pid: int) -> int:
    import psutil

    return psutil.Process(pid).ppid()
