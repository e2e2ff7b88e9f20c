"""The machine while something is timed: held for one measurement at a time, watched for what others do, its clock known."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
from filelock import FileLock, Timeout

from cifar_lib import InputError

# Not a name that Python could import: programs are run from that folder, too.
LOCK = Path(tempfile.gettempdir()) / "cifar-latency-report" / "timer.lock"

# A run is contended where others used more than this share of all cores' time while it was timed. The system counts that time
# in ticks, so that a short run is allowed a few ticks more. The limit looks at the cause, never at the latency.
MAX_BACKGROUND_LOAD, TICKS = 0.05, 0.03  # share; seconds
PATIENCE = 30  # seconds to wait for others to be done


@contextmanager
def measurement_lock() -> Iterator[None]:
    """Wait until no other measurement runs on this machine. The system frees the lock also when a process is killed."""
    lock = FileLock(LOCK, mode=0o666)  # for every user of the machine
    try:
        with suppress(FileExistsError):  # in a sticky folder, as /tmp is, filelock refuses the file of another user
            LOCK.parent.mkdir()
            LOCK.parent.chmod(0o777)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print("waiting for another measurement on this machine to end", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise InputError(f"{LOCK} cannot be opened ({error.strerror}): delete it, or set TMPDIR to another folder.") from error
    try:
        yield
    finally:
        lock.release()


def background_load(seconds: float = 3) -> float:
    """The share of the machine's processor time that is used, watched while this process sleeps: what others use."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    used, passed = used_and_passed(before, psutil.cpu_times())
    return used / passed if passed > 0 else 0.0


class BackgroundLoad:
    """What other programs use of the processors, from the moment at which this is made."""

    def __init__(self) -> None:
        self.before = psutil.cpu_times(), self._own_seconds()

    def share(self) -> float:
        """The share of all cores' time since then; NaN where the system counts none."""
        used, passed = used_and_passed(self.before[0], psutil.cpu_times())
        return (used - (self._own_seconds() - self.before[1])) / passed if passed else np.nan

    def _own_seconds(self) -> float:
        return sum(psutil.Process().cpu_times()[:4])  # of the user and the system, of this process and its finished children


def used_and_passed(before: tuple[float, ...], after: tuple[float, ...]) -> tuple[float, float]:
    """Seconds that all cores were busy and seconds that they had, between two readings of psutil.cpu_times.

    Waiting for input or output is idle time; what virtual machines' guests used is among the user's already.
    """
    change = {name: getattr(after, name) - getattr(before, name) for name in after._fields if not name.startswith("guest")}
    passed = sum(change.values())
    return passed - change["idle"] - change.get("iowait", 0), passed


def is_contended(background_load: float, seconds: float) -> bool:
    """Whether others used too much of the machine in so many seconds of timing; where that is not known (NaN), no."""
    return bool(background_load > MAX_BACKGROUND_LOAD + TICKS / seconds)


def wait_until_idle() -> None:
    """Wait until others are done, but not for long."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE and background_load(1) > MAX_BACKGROUND_LOAD:
        pass


def clock() -> dict:
    """The clock of `time_images`: its name, smallest step (ns) and what reading it costs (ns, median)."""
    readings = np.array([time.perf_counter_ns() for _ in range(100_000)])
    steps = np.diff(readings)
    return {"name": time.get_clock_info("perf_counter").implementation, "step_ns": int(steps[steps > 0].min()),
            "cost_ns": float(np.median(steps))}
