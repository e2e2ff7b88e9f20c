"""Which of its settings, and how many CPU threads, an engine is fastest with: all are tried before anything is compared."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cifar_lib import data, timer
from cifar_lib.benchmark import process
from cifar_lib.benchmark.machine import is_disturbed, wait_until_idle
from cifar_lib.benchmark.process import Job, run_in_fresh_process
from cifar_lib.engines import ENGINES
from cifar_lib.engines.base import Setup
from cifar_lib.engines.cpp import CppEngine
from cifar_lib.records.environment import cores

IMAGES = 40  # timed in each try
TRIES = 3  # of each combination, in turns: a disturbance must not decide
PAUSE = 0.05  # seconds between tries, in which the threads of the one before stop spinning


@dataclass(frozen=True)
class TuningJob(Job):
    """The median time of an image with each combination of settings and threads."""

    tried: Sequence[tuple[str, int]] = ()

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time an engine with each combination in turns, in this process.

        Returns `ns`, the best median of each, and of all the time that it took `seconds` and `others_share`.
        """
        test = data.load("test").first(IMAGES)
        images = timer.separate_images(test)
        engines, medians, others, started = {}, [[] for _ in self.tried], timer.Others(), time.monotonic()
        for _ in range(TRIES):
            for number, (settings, threads) in enumerate(self.tried):
                if threads:
                    torch.set_num_threads(threads)
                if number not in engines:
                    engines[number] = ENGINES[self.engine](replace(setup, settings=settings, threads=threads))
                engine = engines[number]
                if isinstance(engine, CppEngine):
                    ns = engine.measure(test, IMAGES // 4)["ns"]
                else:
                    time.sleep(PAUSE)
                    timer.warm_up(engine.classify, images, IMAGES // 4)
                    ns, _ = timer.time_images(engine.classify, images)
                medians[number].append(np.median(ns))
        return {"ns": np.array([min(values) for values in medians]), "seconds": time.monotonic() - started,
                "others_share": others.share()}


def thread_counts() -> list[int]:
    """The numbers of threads that are tried: 1, 2, 4, … and all cores at hand."""
    most = cores()
    return sorted({2**power for power in range(most.bit_length())} | {most})


def combinations(job: Job) -> list[tuple[str, int]]:
    """The settings and threads that may suit the job's engine, but for what the job has chosen already."""
    settings = [job.settings] if job.settings else ENGINES[job.engine].choices(job.device)
    threads = thread_counts() if not job.threads and job.device == "cpu" else [job.threads]
    return list(itertools.product(settings, threads))


def try_all(job: Job, exported: Path, prepared: Path, repeats: int = 0) -> list[dict]:
    """The `ns` that an image takes (median) with the `settings` and `threads` of each of the job's `combinations`.

    What others disturb is tried again, up to `repeats` times. Raises InputError where the engine cannot run.
    """
    tried = combinations(job)
    for settings, threads in tried:
        ENGINES[job.engine].prepare(replace(job.setup(exported, prepared), settings=settings, threads=threads))
    trial = TuningJob(job.engine, job.precision, job.device, job.threads, tried)
    for left in reversed(range(repeats + 1)):
        result = run_in_fresh_process(trial, trial.setup(exported, prepared))
        if not left or not is_disturbed(result["others_share"], result["seconds"]):
            break
        wait_until_idle()
    return [{"settings": settings, "threads": threads, "ns": ns}
            for (settings, threads), ns in zip(tried, result["ns"].tolist())]


if __name__ == "__main__":
    process.main(TuningJob)
