"""One measurement at a time runs on a machine, the background load is measured, and the clock is described."""

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import Refused

from cifar_bench.timing import machine
from cifar_bench.timing.machine import measurement_lock
from cifar_lib import ROOT, InputError

Times = namedtuple("Times", "user nice system idle iowait irq softirq steal guest guest_nice")  # as psutil's on Linux
BEFORE = Times(100, 0, 50, 800, 50, 0, 0, 0, 0, 0)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "LOCK", tmp_path / "locks" / "timer.lock")
    return machine.LOCK


# ---- the lock


def test_a_measurement_waits_until_another_one_ends(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = threading.Event()

    def measure() -> None:
        with measurement_lock():
            ended.set()

    waiting = threading.Thread(target=measure, daemon=True)
    lock.parent.mkdir()
    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting.start()
        said, deadline = "", time.monotonic() + 20
        while "waiting" not in said and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capsys.readouterr().err
        assert "waiting" in said and waiting.is_alive() and not ended.is_set()
    waiting.join(20)
    assert not waiting.is_alive() and ended.is_set()


def test_the_lock_is_released_after_an_error_and_after_a_killed_process(lock: Path) -> None:
    with pytest.raises(ZeroDivisionError), measurement_lock():
        raise ZeroDivisionError
    holds = (f"from pathlib import Path; from cifar_bench.timing import machine; machine.LOCK = Path({str(lock)!r})\n"
             "with machine.measurement_lock(): print('held', flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", holds], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(machine.Timeout):
            machine.FileLock(lock).acquire(timeout=0)
        holder.kill()
    machine.FileLock(lock).acquire(timeout=0).lock.release()


def test_every_user_of_the_machine_may_take_the_lock(lock: Path) -> None:
    before = os.umask(0o077)
    try:
        with measurement_lock():
            assert stat.S_IMODE(lock.stat().st_mode) == 0o666
            assert stat.S_IMODE(lock.parent.stat().st_mode) == 0o777  # not sticky as /tmp, where others' files are refused
    finally:
        os.umask(before)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become another user")
def test_another_users_lock_file_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder as /tmp is: everyone may write there, and nobody may delete another user's files."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(machine, "LOCK", Path(folder) / "locks" / "timer.lock")
        os.chmod(folder, 0o1777)
        with measurement_lock():
            pass
        os.chown(machine.LOCK.parent, 1001, 1001)
        os.chown(machine.LOCK, 1003, 1003)
        child = os.fork()
        if child == 0:
            taken = False
            try:
                os.setgid(1002)
                os.setuid(1002)
                with measurement_lock():
                    taken = True
            finally:
                os._exit(0 if taken else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lock_that_cannot_be_opened_is_named(lock: Path, refused: Refused) -> None:
    lock.parent.write_text("a file where a folder should be")
    with refused(str(lock), "TMPDIR"), measurement_lock():
        pass


# ---- the background load


@pytest.mark.parametrize(
    ("after", "own", "cores"),
    [
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 0, 0), 0, 0.8),
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 40, 5), 0, 0.8),  # a guest's time is counted as the user's already
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 0, 0), 50, 0.3),
        (Times(100, 0, 50, 900, 150, 0, 0, 0, 0, 0), 0, 0),
        (BEFORE, 0, float("nan")),
    ],
    ids=["busy", "busy with a guest", "partly busy itself", "idle or waiting for a disk", "nothing counted"],
)
def test_the_background_load_is_in_cores_of_those_that_this_process_may_use(
    after: Times, own: float, cores: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 100 seconds; the third core is busy, too, but not one of them."""
    seconds, own_seconds = iter([7, 107]), iter([(7, 1), (7 + own, 1)])
    readings = iter([[BEFORE, BEFORE, BEFORE], [after, BEFORE, after]])
    monkeypatch.setattr(machine, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(readings))
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_times=lambda: next(own_seconds)))
    assert machine.BackgroundLoad().cores() == pytest.approx(cores, nan_ok=True)


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
