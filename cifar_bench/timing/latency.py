"""Latency: one image after another, each engine and run in a fresh process, with its fastest options and threads."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cifar_bench import records
from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import LOGGED_IMAGES, PythonEngine, Setup
from cifar_bench.engines.cpp import CppEngine
from cifar_bench.engines.models import load_exported
from cifar_bench.records import REPEATED_IMAGE
from cifar_bench.timing.machine import BackgroundLoad
from cifar_bench.timing.process import Job
from cifar_bench.timing.rounds import RUN_FACTS, Outcome, compile_engine, run_rounds
from cifar_bench.timing.tuning import autotune, combinations
from cifar_lib import InputError, data, model, timer

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
BLOCKS = 20  # consecutive parts of a run, whose medians show whether it was stable


@dataclass(frozen=True)
class LatencyJob(Job):
    """The latency of every image of a run."""

    images: int = 1000
    warmup: int = 100
    variant: str = ""  # records.AA_TEST, records.REPEATED_IMAGE, or "" for the usual measurement

    @property
    def name(self) -> str:
        return f"{super().name}-{self.variant}" if self.variant else super().name

    @property
    def starts_a_process(self) -> bool:
        return issubclass(ENGINES[self.engine], CppEngine) and self.device == "cpu"  # a GPU's load is read in Python

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Load an engine, warm it up and time it on the first test images: the result of `time_engine`, and `load_ns`."""
        test = data.load("test").first(self.images)
        started = time.perf_counter_ns()
        engine = ENGINES[self.engine](setup)
        load_ns = time.perf_counter_ns() - started
        if isinstance(engine, CppEngine):
            return engine.measure(test, self.warmup)
        images = timer.separate_images(test)
        if self.variant == REPEATED_IMAGE:
            images = images[:1] * self.images
        return {**time_engine(engine, images, self.warmup), "load_ns": load_ns}


def time_engine(engine: PythonEngine, images: Sequence[torch.Tensor], warmup: int) -> dict[str, np.ndarray | int]:
    """Warm an engine up and time it on `images` (normalized, float32 1×3×32×32 each), in this process.

    Returns `warmup_ns` and `ns` (int64, one entry per image), `classes` (uint8), `logits` (float32 N×10, of the first
    LOGGED_IMAGES), `background_cores` and `stopped_cores` (see `BackgroundLoad.read`).
    """
    warmup_ns = timer.warm_up(engine.classify, images, warmup)
    background = BackgroundLoad()
    ns, classes = timer.time_images(engine.classify, images)
    interference = background.read()
    logits = [torch.as_tensor(engine.logits(image)).to("cpu", torch.float32, copy=True) for image in images[:LOGGED_IMAGES]]
    return {"ns": ns, "classes": classes, "logits": torch.cat(logits).numpy(), "warmup_ns": warmup_ns,
            **interference}


def measure(
    jobs: Sequence[LatencyJob], runs: int, exported: Path, minutes: float = 0, repeats: int = 0,
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Time every job in `runs` fresh processes, as `run_rounds` does.

    `exported` is the folder of 2_export's files. Options and threads that a job leaves open are autotuned. Returns a row for
    each job and the raw series: `<engine>-<precision>` (ns, int64 runs×images) and the same name with `-predicted`. A job that
    cannot run here has a `reason` in its row. Raises InputError where none can run, or where an export was replaced meanwhile.
    """
    test = data.load("test")
    first_images = test.first(LOGGED_IMAGES)
    reference_logits, sha256 = {}, {}
    for folder in {job.folder(exported) for job in jobs}:
        sha256[folder] = records.sha256(folder / "model.pt")
        reference_logits[folder] = model.predict(load_exported(folder / "model.pt"), first_images).numpy()
    compile = partial(_tune_and_compile, repeats=repeats, trials={})
    outcomes = run_rounds(jobs, runs, exported, compile, minutes, repeats)
    for folder, before in sha256.items():
        if records.sha256(folder / "model.pt") != before:
            raise InputError(f"{folder / 'model.pt'} was replaced while it was timed: measure again.")
    if all(outcome.reason for outcome in outcomes):
        raise InputError(f"none of the engines runs here; of {jobs[0].name}: {outcomes[0].reason}")
    series = {}
    for outcome in outcomes:
        if not outcome.reason:
            name = outcome.job.name
            series[name] = np.stack([result["ns"] for result in outcome.results])
            series[f"{name}-predicted"] = np.stack([result["classes"] for result in outcome.results])
    labels = test.labels.numpy()
    return [row_of(outcome, labels, reference_logits[outcome.job.folder(exported)]) for outcome in outcomes], series


def row_of(outcome: Outcome, labels: np.ndarray, reference_logits: np.ndarray) -> dict:
    """The record's row of a job: `labels` are the images', `reference_logits` (N×10) are PyTorch's of the first images."""
    if outcome.reason:
        return outcome.row()
    job, results, expected = outcome.job, outcome.results, labels[: outcome.job.images]
    if job.variant == REPEATED_IMAGE:
        expected = np.repeat(labels[:1], job.images)
        reference_logits = np.repeat(reference_logits[:1], len(reference_logits), axis=0)
    return outcome.row(
        version=outcome.version,
        file_bytes=outcome.file_bytes,
        series=job.name,
        accuracy=100 * float(np.mean([result["classes"] == expected for result in results])),  # of the timed predictions
        max_logit_error=max(float(np.abs(result["logits"] - reference_logits[: job.images]).max()) for result in results),
        runs=[_run(result) for result in results],
    )


def _run(result: Mapping[str, np.ndarray]) -> dict:
    """The record's entry for a run; a round has several where the first was contended or its state changed."""
    ns = result["ns"]
    blocks = np.array_split(ns, min(BLOCKS, len(ns)))
    return {
        **{name: result[name] for name in RUN_FACTS},
        "mean_ns": float(ns.mean()),
        **{f"{name}_ns": float(value) for name, value in zip(QUANTILES, np.quantile(ns, list(QUANTILES.values())))},
        "max_ns": int(ns.max()),
        "block_p50_ns": [float(np.median(block)) for block in blocks],
        "first_image_ns": int([*result["warmup_ns"], *ns][0]),  # it includes lazy initialization
        "load_ns": int(result["load_ns"]),
        **{name: None if np.isnan(result[name]) else float(result[name]) for name in ("background_cores", "stopped_cores")},
        **({"gpu_mhz": int(result["gpu_mhz"])} if "gpu_mhz" in result else {}),
    }


def _tune_and_compile(outcome: Outcome, exported: Path, cache: Path, repeats: int, trials: dict[tuple, list[dict]]) -> None:
    """Choose the job's options and threads and compile its engine; `trials` has those of the engines tuned so far."""
    job = outcome.job
    engine = ENGINES[job.engine]
    engine.check(job.setup(exported, cache))
    engine.version()  # raises InputError where its library is missing
    tuned = replace(job, engine=engine.tuned_as or job.engine)
    (options, threads), *others = combinations(tuned)
    if others:
        key = exported, tuned.engine, job.precision
        if key not in trials:
            trials[key] = autotune(tuned, exported, cache, repeats)
        outcome.trials = trials[key]
        options, threads, _ = min(outcome.trials, key=lambda trial: trial["ns"]).values()
    outcome.job = replace(job, options=options, threads=threads)
    compile_engine(outcome, exported, cache)
