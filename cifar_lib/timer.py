"""Times one image after another, each engine and run in a fresh process of its own.

Timed is what an engine's `classify` does: from a normalised float32 image in host memory to the class number there.
Reading and normalising stay outside; the next image starts when the last is done. `measure` runs a whole comparison,
`python -m cifar_lib.timer --help` one process of it.
"""

import argparse
import fcntl
import gc
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cifar_lib import InputError, data, stats
from cifar_lib.engines import ENGINES, PRECISIONS

LOCK = Path(tempfile.gettempdir()) / "cifar_lib_timer.lock"


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    engine: str
    precision: str
    device: str
    threads: int  # of PyTorch; 0 leaves its default
    images: int
    warmup: int

    @property
    def series(self) -> str:
        return f"{self.engine}-{self.precision}"


def time_images(classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Classify one image after another; return nanoseconds (int64 N) and classes (uint8 N), nothing left out."""
    ns, classes = np.zeros(len(images), np.int64), np.zeros(len(images), np.uint8)
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        for number, image in enumerate(images):
            start = clock()
            found = classify(image)
            ns[number] = clock() - start
            classes[number] = found
    finally:
        gc.enable()
    return ns, classes


def run(job: Job, model_file: Path) -> dict[str, np.ndarray]:
    """Load the engine, warm it up and time it, in this process. All times in ns."""
    if job.threads:
        torch.set_num_threads(job.threads)
    test = data.load("test").first(job.images)
    images = [image.clone() for image in data.normalise(test.images).split(1)]
    started = time.perf_counter_ns()
    engine = ENGINES[job.engine](model_file, job.precision, job.device)
    load_ns = time.perf_counter_ns() - started
    warmup_ns, _ = time_images(engine.classify, (images * (job.warmup // len(images) + 1))[: job.warmup])
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    ns, classes = time_images(engine.classify, images)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches
    return {"ns": ns, "classes": classes, "warmup_ns": warmup_ns, "load_ns": load_ns, "involuntary_switches": switches}


def measure(jobs: Sequence[Job], runs: int, model_file: Path, seed: int = 0) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Run every job `runs` times, each in a fresh process, in rounds that shuffle the jobs' order.

    Returns a row for each job (what the record keeps) and the raw series: `<engine>-<precision>` (ns, int64 runs×images)
    and the same name with `-classes`. A job that cannot run here is a row with its `reason`.
    """
    results: dict[Job, list] = {job: [] for job in jobs}
    failed: dict[Job, str] = {}
    shuffle = random.Random(seed)
    labels = data.load("test").labels.numpy()
    with _alone_on_this_machine(), tqdm(total=len(jobs) * runs, unit="process") as progress:
        for _ in range(runs):
            for job in shuffle.sample(list(jobs), len(jobs)):
                progress.set_postfix_str(f"{job.series}, {job.images:,} images")
                if job not in failed:
                    try:
                        results[job].append(_in_fresh_process(job, model_file))
                    except InputError as error:
                        failed[job] = str(error)
                progress.update()
    rows = [{**asdict(job), "reason": failed[job]} if job in failed else _row(job, results[job], labels) for job in jobs]
    series = {}
    for job in jobs:
        if job not in failed:
            series[job.series] = np.stack([result["ns"] for result in results[job]])
            series[f"{job.series}-classes"] = np.stack([result["classes"] for result in results[job]])
    return rows, series


def _row(job: Job, results: list[dict], labels: np.ndarray) -> dict:
    right = [result["classes"] == labels[: job.images] for result in results]
    return {
        **asdict(job),
        "settings": ENGINES[job.engine].settings,
        "series": job.series,
        "accuracy": 100 * float(np.mean(right)),  # of the predictions made while timed
        "runs": [
            {
                **{f"{name}_ns": value for name, value in stats.summary(result["ns"]).items()},
                "mean_standard_error_ns": stats.standard_error(result["ns"]),
                "first_image_ns": int(result["warmup_ns"][0] if job.warmup else result["ns"][0]),
                "load_ns": int(result["load_ns"]),
                "involuntary_switches": int(result["involuntary_switches"]),
            }
            for result in results
        ],
    }


def _in_fresh_process(job: Job, model_file: Path) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "result.npz"
        process = subprocess.run(
            [sys.executable, "-m", "cifar_lib.timer", json.dumps(asdict(job)), str(model_file), str(output)],
            env={**os.environ, "CIFAR10_DIR": _data_for_child()}, capture_output=True, text=True,
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines()
            raise InputError(lines[-1] if lines else f"the process ended with status {process.returncode}.")
        with np.load(output) as result:
            return dict(result)


def _data_for_child() -> str:
    """What CIFAR10_DIR must be for a child process to find what this one found, without looking again."""
    folder = data.find()
    return data.STAND_IN if folder.name == data.STAND_IN else str(folder)


@contextmanager
def _alone_on_this_machine() -> Iterator[None]:
    """Wait until no other comparison runs on this machine. The kernel frees the lock also when a process is killed."""
    with suppress(OSError):  # it is there already, perhaps as another user's file: reading suffices for a lock
        LOCK.touch(mode=0o644, exist_ok=False)
    try:
        lock = LOCK.open()
    except OSError as error:
        raise InputError(f"{LOCK} cannot be opened ({error.strerror}): delete it, or set TMPDIR to another folder.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another measurement on this machine to end", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cifar_lib.timer", description=run.__doc__)
    parser.add_argument("job", help=f"JSON object with {', '.join(Job.__dataclass_fields__)}; "
                                    f"engines: {', '.join(ENGINES)}; precisions: {', '.join(PRECISIONS)}")
    parser.add_argument("model_file", type=Path)
    parser.add_argument("output", type=Path, help=".npz file for the times (ns) and the classes")
    arguments = parser.parse_args()
    try:
        np.savez(arguments.output, **run(Job(**json.loads(arguments.job)), arguments.model_file))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
