"""How many CPU threads an engine is fastest with: every number is tried before anything is compared."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cifar_lib import data, timer
from cifar_lib.benchmark import process
from cifar_lib.benchmark.process import Job, run_in_fresh_process
from cifar_lib.engines import ENGINES
from cifar_lib.engines.base import Setup
from cifar_lib.engines.cpp import CppEngine
from cifar_lib.records.environment import cores

IMAGES = 40  # timed in each try
TRIES = 3  # of each number, in turns: a disturbance must not decide
PAUSE = 0.05  # seconds between tries, in which the threads of the one before stop spinning


@dataclass(frozen=True)
class ThreadsJob(Job):
    """The median time of an image with each number of threads."""

    counts: Sequence[int] = ()

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time an engine with each number of threads in turns, in this process; `ns` is the best median of each number."""
        test = data.load("test").first(IMAGES)
        images = timer.separate_images(test)
        engines, medians = {}, {count: [] for count in self.counts}
        for _ in range(TRIES):
            for count in self.counts:
                torch.set_num_threads(count)
                if count not in engines:
                    engines[count] = ENGINES[self.engine](replace(setup, threads=count))
                engine = engines[count]
                if isinstance(engine, CppEngine):
                    ns = engine.measure(test, IMAGES // 4)["ns"]
                else:
                    time.sleep(PAUSE)
                    timer.warm_up(engine.classify, images, IMAGES // 4)
                    ns, _ = timer.time_images(engine.classify, images)
                medians[count].append(np.median(ns))
        return {"ns": np.array([min(medians[count]) for count in self.counts])}


def thread_counts() -> list[int]:
    """The numbers of threads that are tried: 1, 2, 4, … and all cores at hand."""
    most = cores()
    return sorted({2**power for power in range(most.bit_length())} | {most})


def fastest_threads(job: Job, exported: Path, prepared: Path) -> dict[int, float]:
    """The median time (ns) of an image with each of `thread_counts`. Raises InputError where the engine cannot run."""
    counts = thread_counts()
    trial = ThreadsJob(job.engine, job.precision, job.device, 0, counts)
    setup = trial.setup(exported, prepared)
    for count in counts:
        ENGINES[job.engine].prepare(replace(setup, threads=count))
    return dict(zip(counts, run_in_fresh_process(trial, setup)["ns"].tolist()))


if __name__ == "__main__":
    process.main(ThreadsJob)
