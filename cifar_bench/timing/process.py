"""A fresh process for each measurement, which a job describes."""

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from cifar_bench import error_summary
from cifar_bench.engines.base import Setup
from cifar_bench.records import environment
from cifar_lib import InputError, cifar10

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

    def folder(self, exported: Path) -> Path:
        """The folder of its network's exported files: `exported`, the measurement's own."""
        return exported

    def setup(self, exported: Path, cache: Path) -> Setup:
        return Setup(exported, cache, self.precision, self.device, self.threads, options=self.options)

    @property
    def starts_a_process(self) -> bool:
        """Whether `measure` runs the engine in a process of its own."""
        return False

    @abstractmethod
    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Measure in this process; the engine is compiled. Raises InputError."""


def run_in_fresh_process(job: Job, setup: Setup) -> dict[str, np.ndarray]:
    """The job's measurements, made in a process of its own. Raises InputError."""
    if job.starts_a_process:
        return job.measure(setup)
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "result.npz"
        process = subprocess.run(
            [sys.executable, "-m", "cifar_bench.timing", type(job).__module__, type(job).__name__, json.dumps(asdict(job)),
             setup.exported, setup.cache, output, str(os.getpid())],
            env={**os.environ, "CIFAR10_DIR": cifar10.location(), "PYTHONUTF8": "1"}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        )
        if process.returncode:
            reason = (f"the process was ended by {signal.Signals(-process.returncode).name}." if process.returncode < 0
                      else error_summary(process.stderr, last=True))
            raise InputError(reason or f"the process ended with status {process.returncode}.")
        with np.load(output) as result:
            return dict(result)


def main() -> None:
    """Measure the job of the command line, and write the result where `run_in_fresh_process` reads it."""
    module, name, description, exported, cache, output, parent = sys.argv[1:]
    _end_with(int(parent))
    job: Job = getattr(importlib.import_module(module), name)(**json.loads(description))
    try:
        setup = job.setup(Path(exported), Path(cache))
        before = _gpu_readings(job.device, gpu_load="utilization.gpu")  # of other processes: this one has not used it yet
        measured = job.measure(setup)
        np.savez(output, **measured, **before, **_gpu_readings(job.device, gpu_mhz="clocks.sm"))
    except InputError as error:
        sys.exit(str(error))
    except Exception as error:  # of any type that an engine's library raises; the last line is the reason
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}: {error_summary(str(error))}")


def _gpu_readings(device: str, **queries: str) -> dict[str, int]:
    """What nvidia-smi says now, by name; without what it does not know, and empty on the CPU."""
    readings = {name: environment.nvidia_smi(query) for name, query in queries.items() if device == "cuda"}
    return {name: int(reading) for name, reading in readings.items() if reading.isdigit()}


def _end_with(parent: int) -> None:
    """End when the process `parent` ends, even if it is killed: an orphan would contend with the next measurement.

    Linux only; the parent's thread counts. SIGTERM becomes an exception here, so that a running C++ program is ended, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("the measurement was ended by SIGTERM."))
    if hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before
            sys.exit(f"process {parent}, which started this measurement, has ended.")
