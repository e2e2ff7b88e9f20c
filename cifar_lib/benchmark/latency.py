"""Latency: one image after another, each engine and run in a fresh process, with the number of threads that suits it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cifar_lib import InputError, data, model, timer
from cifar_lib.benchmark import process
from cifar_lib.benchmark.process import Job
from cifar_lib.benchmark.rounds import Outcome, prepare_engine, run_rounds
from cifar_lib.benchmark.tuning import combinations, try_all
from cifar_lib.engines import ENGINES
from cifar_lib.engines.base import Setup
from cifar_lib.engines.cpp import CppEngine
from cifar_lib.records import ONE_IMAGE

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
BLOCKS = 20  # stretches of a run, whose medians tell whether it was steady


@dataclass(frozen=True)
class LatencyJob(Job):
    """The time of every image of a run."""

    images: int = 1000
    warmup: int = 100
    variant: str = ""  # records.AA_TEST, records.ONE_IMAGE, or the usual measurement

    @property
    def name(self) -> str:
        return f"{super().name}-{self.variant}" if self.variant else super().name

    @property
    def size(self) -> str:
        return f", {self.images:,} images"

    def measure(self, setup: Setup) -> dict[str, np.ndarray]:
        """Load an engine, warm it up and time it on the first test images, in this process.

        Returns what `timer.time_engine` does, and `load_ns`.
        """
        test = data.load("test").first(self.images)
        started = time.perf_counter_ns()
        engine = ENGINES[self.engine](setup)
        load_ns = time.perf_counter_ns() - started
        if isinstance(engine, CppEngine):
            return engine.measure(test, self.warmup)
        images = timer.separate_images(test)
        if self.variant == ONE_IMAGE:
            images = images[:1] * self.images
        return {**timer.time_engine(engine, images, self.warmup), "load_ns": load_ns}


def measure(
    jobs: Sequence[LatencyJob], runs: int, exported: Path, minutes: float = 0, repeats: int = 0, seed: int = 0,
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Time every job in `runs` fresh processes, or in fewer once `minutes` have passed (at least three).

    What others disturbed is timed again, up to `repeats` times.

    `exported` is the folder of 2_export's files. A job gets the settings, and where it has 0 threads on a CPU the number, that
    its engine is fastest with. Returns a row for each job (what the record keeps) and the raw series:
    `<engine>-<precision>` (ns, int64 runs×images) and the same name with `-classes`. A job that cannot run here is a row with
    its `reason`; InputError where none can, or where an export was replaced meanwhile.
    """
    test = data.load("test")
    first_images = test.first(timer.IMAGES_WITH_LOGITS)
    reference_logits, sha256 = {}, {}
    for folder in {job.folder(exported) for job in jobs}:
        sha256[folder] = model.sha256(folder / "model.pt")
        reference_logits[folder] = model.predict(model.load_exported(folder / "model.pt"), first_images).numpy()
    prepare = partial(_prepare, repeats=repeats, tried={})
    outcomes = run_rounds(jobs, runs, exported, prepare, minutes, repeats, seed)
    for folder, before in sha256.items():
        if model.sha256(folder / "model.pt") != before:
            raise InputError(f"{folder / 'model.pt'} was replaced while it was timed: measure again.")
    if all(outcome.reason for outcome in outcomes):
        raise InputError(f"none of the engines runs here; of {jobs[0].name}: {outcomes[0].reason}")
    series = {}
    for outcome in outcomes:
        if not outcome.reason:
            name = outcome.job.name
            series[name] = np.stack([result["ns"] for result in outcome.results])
            series[f"{name}-classes"] = np.stack([result["classes"] for result in outcome.results])
    labels = test.labels.numpy()
    return [row_of(outcome, labels, reference_logits[outcome.job.folder(exported)]) for outcome in outcomes], series


def row_of(outcome: Outcome, labels: np.ndarray, reference_logits: np.ndarray) -> dict:
    """What the record says of a job: `labels` are the images', `reference_logits` (N×10) PyTorch's of the first images."""
    if outcome.reason:
        return outcome.row()
    job, results, expected = outcome.job, outcome.results, labels[: outcome.job.images]
    if job.variant == ONE_IMAGE:
        expected = np.repeat(labels[:1], job.images)
        reference_logits = np.repeat(reference_logits[:1], len(reference_logits), axis=0)
    return outcome.row(
        version=outcome.version,
        file_bytes=outcome.file_bytes,
        series=job.name,
        accuracy=100 * float(np.mean([result["classes"] == expected for result in results])),  # of the timed predictions
        largest_logit_error=max(float(np.abs(result["logits"] - reference_logits[: job.images]).max()) for result in results),
        runs=[_run(result) for result in results],
    )


def _run(result: Mapping[str, np.ndarray]) -> dict:
    """What the record says of a run: of one round there are several where others disturbed the first."""
    ns = result["ns"]
    blocks = np.array_split(ns, min(BLOCKS, len(ns)))
    return {
        "round": result["round"],
        "disturbed": result["disturbed"],
        "mean_ns": float(ns.mean()),
        **{f"{name}_ns": float(value) for name, value in zip(QUANTILES, np.quantile(ns, list(QUANTILES.values())))},
        "max_ns": int(ns.max()),
        "block_p50_ns": [float(np.median(block)) for block in blocks],
        "first_image_ns": int([*result["warmup_ns"], *ns][0]),  # the very first one pays for what is set up lazily
        "load_ns": int(result["load_ns"]),
        "involuntary_switches": int(result["involuntary_switches"]),
        "others_share": None if np.isnan(result["others_share"]) else float(result["others_share"]),
        "mhz": result["mhz"],
    }


def _prepare(outcome: Outcome, exported: Path, prepared: Path, repeats: int, tried: dict[tuple, list[dict]]) -> None:
    """Choose the job's settings and threads and prepare its engine; `tried` remembers what an engine took."""
    job = outcome.job
    engine = ENGINES[job.engine]
    engine.version()  # raises where its library is missing
    engine.check(job.setup(exported, prepared))
    trial = replace(job, engine=engine.tuned_as or job.engine)
    (settings, threads), *others = combinations(trial)
    if others:
        key = exported, trial.engine, job.precision
        if key not in tried:
            tried[key] = try_all(trial, exported, prepared, repeats)
        outcome.tried = tried[key]
        settings, threads, _ = min(outcome.tried, key=lambda one: one["ns"]).values()
    outcome.job = replace(job, settings=settings, threads=threads)
    prepare_engine(outcome, exported, prepared)


if __name__ == "__main__":
    process.main(LatencyJob)
