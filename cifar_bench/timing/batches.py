"""Several images at once: the time of a batch, from host memory to class numbers in host memory, for each batch size."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import PythonEngine, Setup
from cifar_bench.timing import machine, process
from cifar_bench.timing.process import Job
from cifar_bench.timing.rounds import compile_engine, run_rounds
from cifar_bench.timing.tuning import combinations
from cifar_lib import data

SECONDS = 0.1  # of measuring each batch size
TRIES, WARMUP = 3, 2  # of each number of threads: batches timed, after some that set up what is set up lazily


@dataclass(frozen=True)
class BatchJob(Job):
    """The median time of a batch of each size, with the options and threads, where none are chosen, that suit it best."""

    max_batch_size: int = 1

    @property
    def size(self) -> str:
        return f", batches up to {self.max_batch_size:,}"

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time each of `batch_sizes(largest)`, an engine for each, in this process.

        Returns `batch_ns`, the median time of each size, the `batch_threads` and `batch_options` it was timed with, and of all
        the time that it took `seconds` and `background_load`.
        """
        images = data.normalise(data.load("test").first(self.max_batch_size).images)
        measured = {"batch_ns": [], "batch_threads": [], "batch_options": []}
        background, started = machine.BackgroundLoad(), time.monotonic()
        for size in batch_sizes(self.max_batch_size):
            batch, tried = images[:size].clone(), {}
            for options, threads in combinations(self):
                candidate = replace(setup, batch=size, options=options, threads=threads)
                ENGINES[self.engine].compile(candidate)
                times = _time_batches(ENGINES[self.engine](candidate), batch, WARMUP + TRIES)
                tried[candidate] = np.median(times[WARMUP:])
            fastest = min(tried, key=tried.get)
            engine = ENGINES[self.engine](fastest)
            _time_batches(engine, batch, WARMUP)
            repeats = min(max(int(SECONDS * 1e9 / tried[fastest]), 3), 100)
            measured["batch_ns"].append(np.median(_time_batches(engine, batch, repeats)))
            measured["batch_threads"].append(fastest.threads)
            measured["batch_options"].append(fastest.options)
        return {**{name: np.array(values) for name, values in measured.items()}, "seconds": time.monotonic() - started,
                "background_load": background.share()}


def batch_sizes(max_batch_size: int) -> list[int]:
    """1, 2, 4, … up to `max_batch_size`."""
    return [2**power for power in range(max_batch_size.bit_length())]


def measure(
    jobs: Sequence[BatchJob], runs: int, exported: Path, minutes: float = 0, repeats: int = 0, seed: int = 0
) -> list[dict]:
    """Time batches of 1, 2, 4, … images in `runs` fresh processes, and again what others disturb, as `latency.measure` does.

    Returns a row for each job with `batch_sizes`, `batch_ns` (a list for each run of the median time of each
    batch), `batch_threads` and `batch_options` (of each), and each run's `round` and whether it was `contended`; or with its
    `reason`.
    """
    outcomes = run_rounds(jobs, runs, exported, compile_engine, minutes, repeats, seed, description="batches")
    return [outcome.row(batch_sizes=batch_sizes(outcome.job.max_batch_size),
                        **{name: [result[name].tolist() for result in outcome.results]
                           for name in ("batch_ns", "batch_threads", "batch_options")},
                        **{name: [result[name] for result in outcome.results] for name in ("round", "contended")})
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
