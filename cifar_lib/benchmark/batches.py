"""Several images at once: the time of a batch, from host memory to class numbers in host memory, for each batch size."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cifar_lib import data, timer
from cifar_lib.benchmark import process
from cifar_lib.benchmark.process import Job
from cifar_lib.benchmark.rounds import prepare_engine, run_rounds
from cifar_lib.benchmark.tuning import combinations
from cifar_lib.engines import ENGINES
from cifar_lib.engines.base import PythonEngine, Setup

SECONDS = 0.1  # of measuring each batch size
TRIES, WARMUP = 3, 2  # of each number of threads: batches timed, after some that set up what is set up lazily


@dataclass(frozen=True)
class BatchJob(Job):
    """The median time of a batch of each size, with the settings and threads, where none are chosen, that suit it best."""

    largest: int = 1

    @property
    def size(self) -> str:
        return f", batches up to {self.largest:,}"

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time each of `batch_sizes(largest)`, an engine for each, in this process.

        Returns `batch_ns`, the median time of each size, the `batch_threads` and `batch_settings` it was timed with, and of all
        the time that it took `seconds` and `others_share`.
        """
        images = data.normalise(data.load("test").first(self.largest).images)
        measured = {"batch_ns": [], "batch_threads": [], "batch_settings": []}
        others, started = timer.Others(), time.monotonic()
        for size in batch_sizes(self.largest):
            batch, tried = images[:size].clone(), {}
            for settings, threads in combinations(self):
                candidate = replace(setup, batch=size, settings=settings, threads=threads)
                ENGINES[self.engine].prepare(candidate)
                times = _time_batches(ENGINES[self.engine](candidate), batch, WARMUP + TRIES)
                tried[candidate] = np.median(times[WARMUP:])
            fastest = min(tried, key=tried.get)
            engine = ENGINES[self.engine](fastest)
            _time_batches(engine, batch, WARMUP)
            repeats = min(max(int(SECONDS * 1e9 / tried[fastest]), 3), 100)
            measured["batch_ns"].append(np.median(_time_batches(engine, batch, repeats)))
            measured["batch_threads"].append(fastest.threads)
            measured["batch_settings"].append(fastest.settings)
        return {**{name: np.array(values) for name, values in measured.items()}, "seconds": time.monotonic() - started,
                "others_share": others.share()}


def batch_sizes(largest: int) -> list[int]:
    """1, 2, 4, … up to `largest`."""
    return [2**power for power in range(largest.bit_length())]


def measure(
    jobs: Sequence[BatchJob], runs: int, exported: Path, minutes: float = 0, repeats: int = 0, seed: int = 0
) -> list[dict]:
    """Time batches of 1, 2, 4, … images in `runs` fresh processes, and again what others disturb, as `latency.measure` does.

    Returns a row for each job with `batches` (images at once), `batch_ns` (a list for each run of the median time of each
    batch), `batch_threads` and `batch_settings` (of each), and each run's `round` and whether it was `disturbed`; or with its
    `reason`.
    """
    outcomes = run_rounds(jobs, runs, exported, prepare_engine, minutes, repeats, seed, description="batches")
    return [outcome.row(batches=batch_sizes(outcome.job.largest),
                        **{name: [result[name].tolist() for result in outcome.results]
                           for name in ("batch_ns", "batch_threads", "batch_settings")},
                        **{name: [result[name] for result in outcome.results] for name in ("round", "disturbed")})
            for outcome in outcomes]


def _time_batches(engine: PythonEngine, batch: torch.Tensor, repeats: int) -> list[int]:
    """How long (ns) it takes each time from a batch in host memory to its classes there."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        engine.classes(batch)
        times.append(time.perf_counter_ns() - start)
    return times


if __name__ == "__main__":
    process.main(BatchJob)
