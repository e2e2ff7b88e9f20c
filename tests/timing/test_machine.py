"""One measurement at a time on a machine, others' work seen, and the clock described."""

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
from cifar_lib import ROOT

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
        assert said == "waiting for another measurement on this machine to end\n"
        assert waiting.is_alive() and not ended.is_set()
    waiting.join(20)
    assert not waiting.is_alive() and ended.is_set()


def test_a_measurement_that_need_not_wait_says_nothing(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with measurement_lock():
            pass
    assert capsys.readouterr() == ("", "")


def test_the_lock_is_free_after_an_error_and_after_a_killed_process(lock: Path) -> None:
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
def test_a_lock_file_that_others_own_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder as /tmp is: everyone may write there, and none may delete what others own."""
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


# ---- what others do


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 0, 0), 80 / 200),
        (Times(150, 10, 60, 900, 70, 0, 0, 10, 40, 5), 80 / 200),  # a guest's seconds are among the user's
        (Times(100, 0, 50, 900, 150, 0, 0, 0, 0, 0), 0),
        (BEFORE, 0),
    ],
    ids=["busy", "busy with a guest", "idle or waiting for a disk", "no counts"],
)
def test_the_busy_share_is_what_was_not_idle(after: Times, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    readings, slept = iter([BEFORE, after]), []
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))
    monkeypatch.setattr(machine, "time", SimpleNamespace(sleep=slept.append))
    assert machine.background_load(7) == pytest.approx(share)
    assert slept == [7]


@pytest.mark.parametrize(("share", "seconds", "contended"), [
    (0.04, 1000, False), (0.06, 1000, True), (0.06, 1, False), (0.09, 1, True), (0.3, 0.1, False), (float("nan"), 1, False)])
def test_a_run_is_disturbed_by_what_others_use_not_by_how_long_it_takes(share: float, seconds: float, contended: bool) -> None:
    """Of a short run the system's ticks make a share uncertain."""
    assert machine.is_contended(share, seconds) is contended


@pytest.mark.measures
def test_a_core_that_computes_is_seen() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert busy.stdout.readline() == b"\n"
        assert machine.background_load(1) > 0.8 / (psutil.cpu_count() or 1)
    finally:
        busy.kill()
        busy.communicate()


# ---- the clock


def test_the_clock_is_described_by_its_step_and_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([number * 30 + (number % 4 == 0) * 10 for number in range(100_000)])
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter_ns=lambda: next(readings),
                                                         get_clock_info=time.get_clock_info))
    described = machine.clock()
    assert described == {"name": time.get_clock_info("perf_counter").implementation, "step_ns": 20, "cost_ns": 30}
