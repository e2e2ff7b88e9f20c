"""A fresh process for each timing: what is measured there is a job, and what measures it is the job's own module.

`python -m cifar_bench.timing.latency --help` tells how to run one by hand.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from cifar_bench import error_summary
from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import PRECISIONS, Setup
from cifar_bench.records.environment import clock_mhz
from cifar_lib import InputError, cifar10

CLOCK_SECONDS = 1  # between two readings of the cores' clocks
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal to be sent when the parent ends


@dataclass(frozen=True)
class Job(ABC):
    """What one process measures of an engine."""

    engine: str
    precision: str
    device: str
    threads: int  # of the CPU; 0 leaves the choice to autotuning
    options: str = field(default="", kw_only=True)  # of the engine; "" likewise

    @property
    def name(self) -> str:
        return f"{self.engine}-{self.precision}"

    @property
    def size(self) -> str:
        """How much is measured, in words, for the progress bar."""
        return ""

    def folder(self, exported: Path) -> Path:
        """Where the exported files of its network lie: in `exported`, which is the measurement's own."""
        return exported

    def setup(self, exported: Path, cache: Path) -> Setup:
        return Setup(exported, cache, self.precision, self.device, self.threads, options=self.options)

    @abstractmethod
    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Measure in this process; the engine is compiled. Raises InputError."""


def run_in_fresh_process(job: Job, setup: Setup) -> dict[str, np.ndarray]:
    """What the job measures in a process of its own, and `mhz`, the cores' clocks while it did. Raises InputError."""
    mhz: list[int] = []
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "result.npz"
        process = subprocess.Popen(
            [sys.executable, "-m", type(job).__module__, json.dumps(asdict(job)), setup.exported, setup.cache, output,
             "--parent", str(os.getpid())],
            env={**os.environ, "CIFAR10_DIR": cifar10.location(), "PYTHONUTF8": "1"}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        )
        said = None
        try:
            while said is None:
                try:
                    _, said = process.communicate(timeout=CLOCK_SECONDS)
                except subprocess.TimeoutExpired:
                    mhz = clock_mhz()  # the last reading stays: images are timed at the end
        finally:
            process.kill()  # does nothing where it ended by itself
            process.wait()
        if process.returncode:
            ended = (f"the process was ended by {signal.Signals(-process.returncode).name}." if process.returncode < 0
                     else error_summary(said, last=True))
            raise InputError(ended or f"the process ended with status {process.returncode}.")
        with np.load(output) as result:
            measured = dict(result)
    return {**measured, "mhz": mhz}


def main(kind: type[Job]) -> None:
    """What `python -m` runs of a job's module: measure one job and keep what came of it."""
    module = kind.measure.__globals__["__spec__"].name
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=kind.measure.__doc__)
    parser.add_argument("job", help=f"JSON object with {', '.join(field.name for field in fields(kind))}; "
                                    f"engines: {', '.join(ENGINES)}; precisions: {', '.join(PRECISIONS)}")
    parser.add_argument("exported", type=Path, help="folder of 2_export's files")
    parser.add_argument("cache", type=Path, help="folder of what the engine compiles from them")
    parser.add_argument("output", type=Path, help=".npz file for what is measured")
    parser.add_argument("--parent", type=int, help="id of the process that starts this one: they end together")
    arguments = parser.parse_args()
    if arguments.parent:
        _end_with(arguments.parent)
    job = kind(**json.loads(arguments.job))
    setup = job.setup(arguments.exported, arguments.cache)
    try:
        ENGINES[job.engine].compile(setup)  # done already, except where this is called by hand
        np.savez(arguments.output, **job.measure(setup))
    except InputError as error:
        sys.exit(str(error))
    except Exception as error:  # whatever an engine's library raises, the last line is the reason
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}: {error_summary(str(error))}")


def _end_with(parent: int) -> None:
    """End when process `parent` does, though it be killed: what went on alone would disturb the next measurement.

    Linux only, and it is the parent's thread that counts. As SIGTERM becomes an exception here, a C++ program under way is
    ended, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("the measurement was ended by SIGTERM."))
    if hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before
            sys.exit(f"process {parent}, which started this measurement, is gone.")
