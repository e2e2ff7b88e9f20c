"""The cross-check: MLPerf's LoadGen times an engine on the same images, in turns with our own timer.

LoadGen (github.com/mlcommons/inference, folder loadgen) is MLPerf's own load generator; in its SingleStream scenario it
asks for one image, waits for the class and asks for the next, and reports the 90% quantile. Machines drift within
minutes, so the two take turns in one process, and what counts is the ratio within each round.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from cifar_lib import InputError

QUANTILE = 0.9  # what LoadGen reports of this scenario


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
    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.SingleStream, lg.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = len(images)
    settings.min_duration_ms = 0
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
            lg.StartTestWithLogSettings(system, library, settings, log)
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        return _told(Path(folder) / "mlperf_log_detail.txt", "result_90.00_percentile_latency_ns"), quantile(alone)


def _told(log: Path, key: str) -> float:
    """A value of LoadGen's log of details, of lines `:::MLLOG {...}`."""
    entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in log.read_text().splitlines()]
    values = [entry["value"] for entry in entries if entry["key"] == key]
    if not values:
        raise InputError(f"LoadGen's log names no {key}: is its version one that was tried?")
    return float(values[-1])
