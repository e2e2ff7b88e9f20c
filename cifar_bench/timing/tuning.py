"""Autotuning: which options and how many CPU threads an engine is fastest with, measured before anything is compared."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import Setup
from cifar_bench.engines.cpp import CppEngine
from cifar_bench.records.environment import cores
from cifar_bench.timing import machine
from cifar_bench.timing.machine import is_contended, wait_until_idle
from cifar_bench.timing.process import Job, run_in_fresh_process
from cifar_lib import data, timer

IMAGES, TRIAL_NS = 40, 500_000_000  # timed in each trial, or fewer, at least 5, where they would take longer
TRIALS = 3  # of each combination, interleaved: interference in one of them must not decide
PAUSE_S = 0.05  # between trials, in which the threads of the previous engine stop spinning


@dataclass(frozen=True)
class TuningJob(Job):
    """The median latency with each combination of options and threads."""

    trials: Sequence[tuple[str, int]] = ()

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time an engine with each combination, interleaved, in this process.

        Returns `ns`, the smallest median of each combination, and for the whole measurement `seconds` and `background_cores`.
        """
        test = data.load("test").first(IMAGES)
        images = timer.separate_images(test)
        engines, medians, background, started = {}, [[] for _ in self.trials], machine.BackgroundLoad(), time.monotonic()
        for _ in range(TRIALS):
            for number, (options, threads) in enumerate(self.trials):
                if threads:
                    torch.set_num_threads(threads)
                if number not in engines:
                    engines[number] = ENGINES[self.engine](replace(setup, options=options, threads=threads))
                engine = engines[number]
                if isinstance(engine, CppEngine):
                    ns = engine.measure(test, IMAGES // 4)["ns"]
                else:
                    time.sleep(PAUSE_S)
                    warmup_ns = timer.warm_up(engine.classify, images, IMAGES // 4)
                    ns, _ = timer.time_images(engine.classify, images[: max(5, int(TRIAL_NS / np.median(warmup_ns)))])
                medians[number].append(np.median(ns))
        return {"ns": np.array([min(values) for values in medians]), "seconds": time.monotonic() - started,
                "background_cores": background.read()["background_cores"]}


def thread_counts() -> list[int]:
    """The numbers of threads to try: 1, 2, 4, … and all cores that this process may use."""
    return sorted({2**power for power in range(cores().bit_length())} | {cores()})


def combinations(job: Job) -> list[tuple[str, int]]:
    """The options and threads to try for the job's engine, except what the job fixes."""
    options = [job.options] if job.options else ENGINES[job.engine].candidate_options(job.device)
    threads = thread_counts() if not job.threads and job.device == "cpu" else [job.threads]
    return list(itertools.product(options, threads))


def autotune(job: Job, exported: Path, cache: Path, repeats: int = 0) -> list[dict]:
    """The trials of the job's `combinations`: `options`, `threads` and the median latency `ns`.

    A contended measurement is repeated, up to `repeats` times. Raises InputError where the engine cannot run.
    """
    trials = combinations(job)
    for options, threads in trials:
        ENGINES[job.engine].compile(replace(job.setup(exported, cache), options=options, threads=threads))
    tuning = TuningJob(job.engine, job.precision, job.device, job.threads, trials)
    for left in reversed(range(repeats + 1)):
        result = run_in_fresh_process(tuning, tuning.setup(exported, cache))
        if not left or not is_contended(result["background_cores"], result["seconds"]):
            break
        wait_until_idle()
    return [{"options": options, "threads": threads, "ns": ns}
            for (options, threads), ns in zip(trials, result["ns"].tolist())]
