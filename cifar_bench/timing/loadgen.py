"""The cross-check: MLPerf's LoadGen times an engine on the same images, interleaved with our own timer.

In its SingleStream scenario LoadGen (github.com/mlcommons/inference, folder loadgen) requests one image, waits for the class,
requests the next, and reports the 90% quantile. Machines drift within minutes: the ratio is taken within each round.
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
from cifar_bench.timing.machine import measurement_lock
from cifar_bench.timing.process import Job, run_in_fresh_process
from cifar_lib import InputError, data, timer

QUANTILE = 0.9  # the quantile that LoadGen reports in this scenario
ROUND_IMAGES = 100  # in a round of each timer: so few that a drift affects both alike


@dataclass(frozen=True)
class LoadGenJob(Job):
    """Interleaved rounds of our timer and of LoadGen."""

    rounds: int = 10
    warmup: int = 100

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Time an engine with our timer and with LoadGen, interleaved, in this process."""
        engine = ENGINES[self.engine](setup)
        images = timer.separate_images(data.load("test").first(ROUND_IMAGES))
        timer.warm_up(engine.classify, images, self.warmup)
        return interleave_with_loadgen(engine.classify, images, self.rounds)


def cross_check(job: LoadGenJob, exported: Path) -> dict:
    """The measurements of `interleave_with_loadgen` in a fresh process, as lists; or the `reason` why there are none."""
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

    `within_loadgen_ns` is the quantile by our clock within LoadGen's queries.
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
    """The 90% quantile as LoadGen defines it (its results.cc): the latency that a tenth of the images reaches or exceeds."""
    return float(np.sort(ns)[int(len(ns) * QUANTILE)])


def single_stream(classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor]) -> tuple[float, float]:
    """LoadGen's 90% quantile (ns) over as many queries as images, which it draws at random; and that of `classify` alone.

    The second is measured by our clock within the queries, so that it excludes LoadGen's own calls. Raises InputError.
    """
    try:
        import mlperf_loadgen as lg
    except ImportError as error:
        raise InputError(f"LoadGen cannot be imported ({error}): pip install mlcommons-loadgen.") from error
    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.SingleStream, lg.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = len(images)
    settings.min_duration_ms = 0
    answer = np.zeros(1, np.uint8)
    address, classify_ns = answer.ctypes.data, []

    def issue(queries: Sequence["lg.QuerySample"]) -> None:
        for query in queries:
            start = time.perf_counter_ns()
            answer[0] = classify(images[query.index])
            classify_ns.append(time.perf_counter_ns() - start)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(query.id, address, 1)])

    with tempfile.TemporaryDirectory() as folder:
        log = lg.LogSettings()
        log.log_output.outdir = folder
        log.log_output.copy_summary_to_stdout = False
        log.enable_trace = False
        system = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(len(images), len(images), lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(system, library, settings, log)
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        lines = (Path(folder) / "mlperf_log_detail.txt").read_text(encoding="utf-8").splitlines()
    logged = {entry["key"]: entry["value"] for entry in (json.loads(line.removeprefix(":::MLLOG ")) for line in lines)}
    return float(logged["result_90.00_percentile_latency_ns"]), quantile(classify_ns)
