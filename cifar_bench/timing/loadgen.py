"""The cross-check: MLPerf's LoadGen times an engine on the same images, in turns with our own timer.

LoadGen (github.com/mlcommons/inference, folder loadgen) is MLPerf's own load generator; in its SingleStream scenario it
asks for one image, waits for the class and asks for the next, and reports the 90% quantile. Machines drift within
minutes, so the two take turns in one process, and what counts is the ratio within each round.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import Setup, cache_folder
from cifar_bench.timing import process
from cifar_bench.timing.machine import measurement_lock
from cifar_bench.timing.process import Job, run_in_fresh_process
from cifar_lib import InputError, data, timer

QUANTILE = 0.9  # what LoadGen reports of this scenario
ROUND_IMAGES = 100  # ours and LoadGen's take turns so often that a machine's drift is the same for both


@dataclass(frozen=True)
class LoadGenJob(Job):
    """Rounds in which our timer and LoadGen take turns."""

    rounds: int = 10
    warmup: int = 100

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time an engine by our timer and by LoadGen in turns, in this process."""
        engine = ENGINES[self.engine](setup)
        images = timer.separate_images(data.load("test").first(ROUND_IMAGES))
        timer.warm_up(engine.classify, images, self.warmup)
        return interleave_with_loadgen(engine.classify, images, self.rounds)


def cross_check(job: LoadGenJob, exported: Path) -> dict:
    """What `interleave_with_loadgen` measures in a fresh process, as lists; or the `reason` why not."""
    measured = {"engine": job.engine, "images": ROUND_IMAGES, "quantile": QUANTILE}
    with measurement_lock():
        try:
            result = run_in_fresh_process(job, job.setup(exported, cache_folder(exported)))
        except InputError as error:
            return {**measured, "reason": str(error)}
    return {**measured, **{name: values.tolist() for name, values in result.items() if name.endswith("_ns")}}


def interleave_with_loadgen(
    classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor], rounds: int
) -> dict[str, np.ndarray]:
    """The 90% quantile (ns) of each round by our timer (`ours_ns`) and by LoadGen (`loadgen_ns`), on the same images.

    `within_loadgen_ns` is what our clock sees within LoadGen's queries.
    """
    measured = {"ours_ns": [], "loadgen_ns": [], "within_loadgen_ns": []}
    for number in range(rounds):
        for ours in (number % 2 == 0, number % 2 == 1):
            if ours:
                measured["ours_ns"].append(quantile(timer.time_images(classify, images)[0]))
            else:
                theirs, within = single_stream(classify, images)
                measured["loadgen_ns"].append(theirs)
                measured["within_loadgen_ns"].append(within)
    return {name: np.array(values) for name, values in measured.items()}


def quantile(ns: Sequence[int]) -> float:
    """The 90% quantile as LoadGen defines it (its results.cc): the time that a tenth of the images reaches or exceeds."""
    return float(np.sort(ns)[int(len(ns) * QUANTILE)])


def single_stream(classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor]) -> tuple[float, float]:
    """LoadGen's 90% quantile (ns) over as many queries as images, drawn at random by it; and that of `classify` alone.

    The second is by our clock, read within the queries: LoadGen's own calls are missing in it. Raises InputError.
    """
    try:
        import mlperf_loadgen as lg
    except ImportError as error:
        raise InputError(f"LoadGen cannot be imported ({error}): pip install mlcommons-loadgen.") from error
    options = lg.TestSettings()
    options.scenario, options.mode = lg.TestScenario.SingleStream, lg.TestMode.PerformanceOnly
    options.min_query_count = options.max_query_count = len(images)
    options.min_duration_ms = 0
    answer = np.zeros(1, np.uint8)
    address, alone = answer.ctypes.data, []

    def issue(queries: Sequence["lg.QuerySample"]) -> None:
        for query in queries:
            start = time.perf_counter_ns()
            answer[0] = classify(images[query.index])
            alone.append(time.perf_counter_ns() - start)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, address, 1)])

    with tempfile.TemporaryDirectory() as folder:
        log = lg.LogSettings()
        log.log_output.outdir = folder
        log.log_output.copy_summary_to_stdout = False
        log.enable_trace = False
        system = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(len(images), len(images), lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(system, library, options, log)
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        return _logged(Path(folder) / "mlperf_log_detail.txt", "result_90.00_percentile_latency_ns"), quantile(alone)


def _logged(log: Path, key: str) -> float:
    """A value of LoadGen's log of details, of lines `:::MLLOG {...}`."""
    entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in log.read_text(encoding="utf-8").splitlines()]
    values = [entry["value"] for entry in entries if entry["key"] == key]
    if not values:
        raise InputError(f"LoadGen's log names no {key}: is its version one that was tried?")
    return float(values[-1])


if __name__ == "__main__":
    process.main(LoadGenJob)
