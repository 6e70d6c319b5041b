"""A fleet of worker processes: what dies is started again, and nothing is lost by it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from schemas.errors import ConfigError, StackError
from tests.acceptance.system import System, wait_for
from tests.faults.test_process_faults import SLOW, jobs, rows_are_unique
from workers import fleet as fleet_module
from workers.fleet import Fleet, Place, places

STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(os.environ["PRECEPTOR_READY_FILE"]).touch()
time.sleep(600)
"""


def start_fleet(system: System, *arguments: str) -> subprocess.Popen:
    config = ("--config", str(system.config_path), "--model", "small")
    return system.start("fleet", *config, *arguments)


def members_of(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def log_of(system: System, process: subprocess.Popen) -> str:
    return system.log_of(system.processes.index(process)).read_text()


def live_workers(system: System) -> int:
    with system.database.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM worker")).scalar_one()


def place_of(script: str) -> Place:
    return Place("the worker", (sys.executable, "-c", script), {})


def run_beside(fleet: Fleet) -> threading.Thread:
    thread = threading.Thread(target=fleet.run)
    thread.start()
    return thread


def test_killed_worker_is_started_again_and_sigterm_ends_all_in_good_order(open_system):
    system = open_system(SLOW)
    system.start("dispatcher")
    fleet = start_fleet(system, "--workers", "2")
    first, second = members_of(fleet)
    system.submit(jobs(40))
    wait_for(lambda: system.progress().running > 0, "work is in flight")
    first.kill()
    wait_for(lambda: len(members_of(fleet)) == 2, "a new one is started")
    assert second in members_of(fleet), "its neighbour goes on"
    assert {r.state for r in system.finish().values()} == {"done"}
    assert rows_are_unique(system)
    system.submit(jobs(400), run="again", name="again.jsonl")
    wait_for(lambda: system.progress("again").running > 0, "work is in flight")
    members = members_of(fleet)
    assert system.drain(fleet) == 0
    assert "is killed" not in log_of(system, fleet)
    assert not any(member.is_running() for member in members)
    with system.database.connect() as connection:
        states = connection.execute(text("SELECT DISTINCT state FROM step")).scalars().all()
    assert "running" not in states


def test_hanging_engine_ends_its_worker_and_no_other_job_notices(open_system):
    system = open_system(PRECEPTOR_WATCHDOG_S="2", PRECEPTOR_MAX_ATTEMPTS="2")
    system.start("dispatcher")
    fleet = start_fleet(system, "--workers", "1")
    hanging = {**jobs(1)[0], "id": "hanging"}
    hanging["response"] += " [[fault:hang]]"
    system.submit([*jobs(12), hanging])
    results = system.finish()
    assert results["hanging"].error_code == "attempts_exhausted"
    assert {r.state for name, r in results.items() if name != "hanging"} == {"done"}
    assert rows_are_unique(system)
    assert log_of(system, fleet).count("ended with status 70") >= 2
    system.submit(jobs(3), run="after", name="after.jsonl")
    assert {r.state for r in system.finish("after").values()} == {"done"}
    assert system.drain(fleet) == 0
    wait_for(lambda: not members_of(fleet), "no process is left")


def test_workers_drain_when_their_fleet_is_killed(open_system):
    system = open_system()
    fleet = start_fleet(system, "--workers", "2")
    wait_for(lambda: live_workers(system) == 2, "both have signed on")
    members = members_of(fleet)
    system.kill(fleet)
    wait_for(lambda: live_workers(system) == 0, "both have signed off")
    wait_for(lambda: not any(member.is_running() for member in members), "both have ended")


def test_wrong_configuration_ends_the_fleet_with_its_message(open_system):
    unknown = {"small": {"engine": "scripted", "model": "m", "options": {"speeed": 1}}}
    system = open_system({"models": unknown})
    words = ("--config", str(system.config_path), "--workers", "2")
    done = system.command("fleet", *words, code=2)
    assert "speeed" in done.stderr
    assert "ended with status 2 before it was ready" in done.stderr
    both = system.command("fleet", *words, "--gpus", "0", code=2)
    assert "exclude each other" in both.stderr


def test_worker_whose_gpu_is_missing_does_not_serve_from_the_cpu(open_system, tmp_path: Path):
    local = {"small": {"engine": "transformers", "model": str(tmp_path)}}
    system = open_system({"models": local})
    (tmp_path / "config.json").write_text("{}")
    words = ("--config", str(system.config_path))
    assert "device 'cuda'" in system.command("worker", *words, "--gpu", "99", code=2).stderr


def test_workers_that_never_come_up_end_the_fleet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fleet_module, "HOPELESS_DEATHS", 2)
    with pytest.raises(StackError, match="status 7"):
        Fleet([place_of("raise SystemExit(7)")] * 2, grace_s=5).run()
    with pytest.raises(ConfigError, match="status 2"):
        Fleet([place_of("raise SystemExit(2)")], grace_s=5).run()


def test_worker_that_fails_beside_a_healthy_one_does_not_end_it(tmp_path: Path):
    log = tmp_path / "starts"
    failing = place_of(f"open({str(log)!r}, 'a').write('x'); raise SystemExit(2)")
    fleet = Fleet([place_of(STUBBORN)], grace_s=0)
    thread = run_beside(fleet)
    healthy = fleet._members[0]
    wait_for(lambda: healthy.is_ready, "the healthy one is ready")
    fleet._members.append(fleet_module.Member(failing, tmp_path / "ready"))
    wait_for(lambda: log.exists() and len(log.read_text()) >= 2, "the other one is tried again")
    assert thread.is_alive()
    fleet.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert healthy.process is not None
    assert healthy.process.returncode == -signal.SIGKILL, "the grace is over at once"


def test_each_gpu_has_its_worker_its_variable_and_its_metrics_port():
    crew = places(["preceptor", "worker"], gpus=(0, 3), workers=1, metrics_port=9100)
    assert [place.argv[-2:] for place in crew] == [("--gpu", "0"), ("--gpu", "3")]
    assert [place.env["CUDA_VISIBLE_DEVICES"] for place in crew] == ["0", "3"]
    assert [place.env["PRECEPTOR_METRICS_PORT"] for place in crew] == ["9100", "9101"]
    on_cpu = places(["preceptor", "worker"], gpus=(), workers=2, metrics_port=0)
    assert [place.argv for place in on_cpu] == [("preceptor", "worker")] * 2
    assert all("CUDA_VISIBLE_DEVICES" not in place.env for place in on_cpu)
    assert {place.env["PRECEPTOR_METRICS_PORT"] for place in on_cpu} == {"0"}


def test_lone_member_ends_with_its_fleet(tmp_path: Path):
    pid_file = tmp_path / "pid"
    script = (
        f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    fleet = Fleet([place_of(script)], grace_s=10)
    thread = run_beside(fleet)
    wait_for(lambda: pid_file.exists() and pid_file.read_text(), "it runs")
    fleet.stop()
    thread.join(30)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
