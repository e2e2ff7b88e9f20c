"""One measurement at a time runs on a machine, the background load is measured, and the clock is described."""

import os
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers import lock_is_held

from cifar_bench.timing import machine
from cifar_bench.timing.machine import measurement_lock
from cifar_lib import ROOT, InputError

Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")  # as psutil's on Linux
BEFORE = Times(100, 0, 50, 800, 50, 0, 0, 0, 0, 0)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(machine, "LOCK", str(tmp_path))
    return machine.LOCK


# ---- the lock

HOLDS = "from cifar_bench.timing.machine import measurement_lock\nwith measurement_lock(): print('held', flush=True); input()"


@contextmanager
def held_elsewhere(lock: str, **variables: str) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock until it reads a line."""
    environ = {**os.environ, "CIFAR_BENCH_LOCK": lock, **variables}
    with subprocess.Popen([sys.executable, "-c", HOLDS], cwd=ROOT, env=environ, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.kill()


def test_a_measurement_waits_until_another_one_ends(lock: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()

    def measure() -> None:
        with measurement_lock():
            ended.set()

    waiting = threading.Thread(target=measure, daemon=True)
    with held_elsewhere(lock, TMPDIR=str(tmp_path), HOME=str(tmp_path)) as holder:
        waiting.start()
        said, deadline = "", time.monotonic() + 20
        while "waiting" not in said and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capsys.readouterr().err
        assert "waiting" in said and waiting.is_alive() and not ended.is_set()
        holder.communicate(b"end\n")
        waiting.join(20)
    assert not waiting.is_alive() and ended.is_set()


def test_the_lock_is_released_after_an_error_and_after_a_killed_process(lock: str) -> None:
    with pytest.raises(ZeroDivisionError), measurement_lock():
        raise ZeroDivisionError
    with held_elsewhere(lock) as holder:
        assert lock_is_held()
        holder.kill()
        holder.wait()
        assert not lock_is_held()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become another user")
def test_another_user_waits_for_the_same_lock(lock: str) -> None:
    with measurement_lock():
        child = os.fork()
        if child == 0:
            os.setuid(1002)
            os._exit(0 if lock_is_held() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- the background load


@pytest.mark.parametrize(
    ("after", "own", "cores", "stopped"),
    [
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 0, 0), 0, 0.8, 0.2),
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 40, 5), 0, 0.8, 0.2),  # a guest's time is counted as the user's already
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 0, 0), 50, 0.3, 0.2),
        (Times(150, 10, 60, 900, 70, 0, 0, 110, 0, 0), 120, 0.6, 0),
        (Times(100, 0, 50, 900, 150, 0, 0, 0, 0, 0), 0, 0, 1),
        (BEFORE, 0, float("nan"), 1),
    ],
    ids=["busy", "busy with a guest", "partly busy itself", "with two threads", "idle or waiting for a disk",
         "nothing counted"],
)
def test_the_background_load_is_in_cores_of_those_that_this_process_may_use(
    after: Times, own: float, cores: float, stopped: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 100 seconds; the third core is busy, too, but not one of them."""
    seconds, own_seconds = iter([7, 107]), iter([(7, 1), (7 + own, 1)])
    readings = iter([[BEFORE, BEFORE, BEFORE], [after, BEFORE, after]])
    monkeypatch.setattr(machine, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(readings))
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_times=lambda: next(own_seconds)))
    expected = {"background_cores": cores, "stopped_cores": stopped}
    assert machine.BackgroundLoad().read() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("cores", "seconds", "contended"), [
    (0.08, 1000, False), (0.12, 1000, True), (0.12, 1, False), (0.18, 1, True), (float("nan"), 1, False)])
def test_a_run_is_contended_by_background_load_except_for_a_few_ticks(cores: float, seconds: float, contended: bool) -> None:
    assert machine.is_contended(cores, seconds) is contended


@pytest.mark.measures
def test_a_busy_core_is_background_load() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert busy.stdout.readline() == b"\n"
        assert machine.background_cores(1) > 0.8
    finally:
        busy.kill()
        busy.communicate()


# ---- the state


@pytest.mark.usefixtures("needs_compiler")
def test_the_machine_is_probed_with_as_many_threads_as_a_run_uses() -> None:
    alone, threads = machine.probe(1), machine.probe(2)
    assert set(alone) == {"clock_ghz", "multiply_adds_per_ns"} and set(threads) == {*alone, "round_trip_ns"}
    assert all(0.1 < reading["clock_ghz"] < 10 and reading["multiply_adds_per_ns"] > 0 for reading in (alone, threads))
    assert 5 < threads["round_trip_ns"] < 1e6


def test_without_a_compiler_the_state_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Path:
        raise InputError("no C++ compiler was found")

    machine._probe_program.cache_clear()
    monkeypatch.setattr(machine.infer, "build", fails)
    assert machine.probe(2) == {}
    machine._probe_program.cache_clear()


# ---- the clock


def test_the_clock_is_described_by_its_step_and_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([number * 30 + (number % 4 == 0) * 10 for number in range(100_000)])
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter_ns=lambda: next(readings),
                                                         get_clock_info=time.get_clock_info))
    described = machine.clock()
    assert described == {"name": time.get_clock_info("perf_counter").implementation, "step_ns": 20, "cost_ns": 30}
