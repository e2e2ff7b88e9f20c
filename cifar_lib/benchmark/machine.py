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
from cifar_lib.timer import used_and_passed

# Not a name that Python could import: programs are run from that folder, too.
LOCK = Path(tempfile.gettempdir()) / "cifar-latency-report" / "timer.lock"


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


def busy_share(seconds: float = 3) -> float:
    """The share of the machine's processor time that is used, watched while this process sleeps: what others use."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    used, passed = used_and_passed(before, psutil.cpu_times())
    return used / passed if passed > 0 else 0.0


def clock() -> dict:
    """The clock of `time_images`: its name, smallest step (ns) and what reading it costs (ns, median)."""
    readings = np.array([time.perf_counter_ns() for _ in range(100_000)])
    steps = np.diff(readings)
    return {"name": time.get_clock_info("perf_counter").implementation, "step_ns": int(steps[steps > 0].min()),
            "cost_ns": float(np.median(steps))}
