"""The latency of a batch, from images in host memory to predicted classes in host memory, for each batch size."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import PythonEngine, Setup
from cifar_bench.timing import machine
from cifar_bench.timing.process import Job
from cifar_bench.timing.rounds import RUN_FACTS, compile_engine, run_rounds
from cifar_bench.timing.tuning import combinations
from cifar_lib import data

SECONDS = 0.1  # of timing each batch size
TRIALS, WARMUP = 3, 2  # batches timed with each combination of options and threads, and batches that warm it up


@dataclass(frozen=True)
class BatchJob(Job):
    """The median latency of a batch of each size, with the options and threads that are the fastest for that size."""

    max_batch_size: int = 1

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time each of `batch_sizes(max_batch_size)` with an engine of its own, in this process.

        Returns for each size the median latency `batch_ns`, `batch_threads` and `batch_options`, and for the whole measurement
        `seconds` and `background_cores`.
        """
        images = data.normalize(data.load("test").first(self.max_batch_size).images)
        measured = {"batch_ns": [], "batch_threads": [], "batch_options": []}
        background, started = machine.BackgroundLoad(), time.monotonic()
        for size in batch_sizes(self.max_batch_size):
            batch, trials = images[:size].clone(), {}
            for options, threads in combinations(self):
                candidate = replace(setup, batch_size=size, options=options, threads=threads)
                ENGINES[self.engine].compile(candidate)
                times = _time_batches(ENGINES[self.engine](candidate), batch, WARMUP + TRIALS)
                trials[candidate] = np.median(times[WARMUP:])
            fastest = min(trials, key=trials.get)
            engine = ENGINES[self.engine](fastest)
            _time_batches(engine, batch, WARMUP)
            repeats = min(max(int(SECONDS * 1e9 / trials[fastest]), 3), 100)
            measured["batch_ns"].append(np.median(_time_batches(engine, batch, repeats)))
            measured["batch_threads"].append(fastest.threads)
            measured["batch_options"].append(fastest.options)
        return {**{name: np.array(values) for name, values in measured.items()}, "seconds": time.monotonic() - started,
                "background_cores": background.read()["background_cores"]}


def batch_sizes(max_batch_size: int) -> list[int]:
    """1, 2, 4, … up to `max_batch_size`."""
    return [2**power for power in range(max_batch_size.bit_length())]


def measure(jobs: Sequence[BatchJob], runs: int, exported: Path, minutes: float = 0, repeats: int = 0) -> list[dict]:
    """Time batches of 1, 2, 4, … images in `runs` fresh processes per job, as `run_rounds` does.

    Returns a row for each job with `batch_sizes`; for each run `batch_ns`, `batch_threads` and `batch_options` (lists by
    batch size) and RUN_FACTS; or the `reason` why the job did not run.
    """
    outcomes = run_rounds(jobs, runs, exported, compile_engine, minutes, repeats)
    return [outcome.row(batch_sizes=batch_sizes(outcome.job.max_batch_size),
                        **{name: [result[name].tolist() for result in outcome.results]
                           for name in ("batch_ns", "batch_threads", "batch_options")},
                        **{name: [result[name] for result in outcome.results] for name in RUN_FACTS})
            for outcome in outcomes]


def _time_batches(engine: PythonEngine, batch: torch.Tensor, repeats: int) -> list[int]:
    """The latency (ns) of each of `repeats` batches."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        engine.classes(batch)
        times.append(time.perf_counter_ns() - start)
    return times
