"""The machine while something is timed: one measurement at a time, the background load, and the clock."""

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

# A run is contended where the background load exceeds this share of all cores' time; the system counts it in ticks, so a short
# run is allowed a few ticks more. The limit looks at the cause, never at the latency.
MAX_BACKGROUND_LOAD, TICKS_S = 0.05, 0.03  # share; seconds
IDLE_TIMEOUT_S = 30  # of waiting until the machine is idle


@contextmanager
def measurement_lock() -> Iterator[None]:
    """Wait until no other measurement runs on this machine. The system releases the lock of a killed process, too."""
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


class BackgroundLoad:
    """The processor time that other processes use, from the moment at which this is made."""

    def __init__(self) -> None:
        self.before, self.own_before = psutil.cpu_times(), self._own_seconds()

    def share(self) -> float:
        """The share of all cores' time that other processes used; NaN where the system does not count it.

        Waiting for input or output is idle time; the time of virtual machines' guests is counted as the user's already.
        """
        after = psutil.cpu_times()
        change = {name: getattr(after, name) - getattr(self.before, name) for name in after._fields
                  if not name.startswith("guest")}
        total = sum(change.values())
        used = total - change["idle"] - change.get("iowait", 0)
        return (used - (self._own_seconds() - self.own_before)) / total if total else np.nan

    def _own_seconds(self) -> float:
        return sum(psutil.Process().cpu_times()[:4])  # user and system time, of this process and its finished children


def background_load(seconds: float = 3) -> float:
    """The background load while this process sleeps; 0 where the system does not count it."""
    background = BackgroundLoad()
    time.sleep(seconds)
    return float(np.nan_to_num(background.share()))


def is_contended(background_load: float, seconds: float) -> bool:
    """Whether the background load exceeded the limit in a run that timed for so many seconds; not where it is NaN."""
    return bool(background_load > MAX_BACKGROUND_LOAD + TICKS_S / seconds)


def wait_until_idle() -> None:
    """Wait until other processes are idle, or for IDLE_TIMEOUT_S."""
    started = time.monotonic()
    while time.monotonic() - started < IDLE_TIMEOUT_S and background_load(1) > MAX_BACKGROUND_LOAD:
        pass


def clock() -> dict:
    """The clock of `time_images`: its name, its smallest step (ns) and the cost of reading it (ns, median)."""
    readings = np.array([time.perf_counter_ns() for _ in range(100_000)])
    steps = np.diff(readings)
    return {"name": time.get_clock_info("perf_counter").implementation, "step_ns": int(steps[steps > 0].min()),
            "cost_ns": float(np.median(steps))}
