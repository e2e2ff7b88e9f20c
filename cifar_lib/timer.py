"""Times one image after another, each engine and run in a fresh process of its own.

Timed is what an engine's `classify` does: from a normalised float32 image in host memory to the class number there.
Reading and normalising stay outside; the next image starts when the last is done. `measure` runs a whole comparison,
`python -m cifar_lib.timer --help` one process of it.
"""

import argparse
import ctypes
import fcntl
import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cifar_lib import InputError, data, loadgen, model, records
from cifar_lib.engines import ENGINES, PRECISIONS, CppEngine, PythonEngine, Setup, load_torchscript

IMAGES_WITH_LOGITS = 200  # the first ones, which is enough to see how far an engine's logits are off
AGAIN = "again"  # the same engine as if it were another one: what is found between the two is noise
ONE_IMAGE = "one-image"  # the first image over and over: shows whether caching flatters (as MLPerf's TEST04 does)
LOADGEN = "loadgen"  # in turns with MLPerf's LoadGen
BATCHES = "batches"  # several images at once
THREADS_IMAGES = 100  # timed to choose a number of threads
THREADS_CLOSE = 1.5  # numbers of threads within this factor of the fastest are tried again: a disturbance may have decided
THREADS_TRIES = 3  # at most
BATCH_SECONDS = 0.3  # of measuring each batch size
MOST_ROUNDS = 300  # of the two in turns: some minutes
ROUND_IMAGES = 100  # ours and LoadGen's take turns so often that a machine's drift is the same for both
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal to be sent when the parent ends
LOCK = Path(tempfile.gettempdir()) / "cifar_lib_timer.lock"


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    engine: str
    precision: str
    device: str
    threads: int  # of the CPU; 0 leaves the choice to `measure`
    images: int
    warmup: int
    variant: str = ""  # AGAIN, ONE_IMAGE, LOADGEN, BATCHES, or the usual measurement

    @property
    def series(self) -> str:
        return "-".join(part for part in (self.engine, self.precision, self.variant) if part)

    def setup(self, exported: Path, prepared: Path) -> Setup:
        return Setup(exported, prepared, self.precision, self.device, self.threads)


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


def run(job: Job, setup: Setup) -> dict[str, np.ndarray]:
    """Load the engine, warm it up and time it, in this process. All times in ns, logits those of the first images."""
    test = data.load("test").first(job.images)
    started = time.perf_counter_ns()
    engine = ENGINES[job.engine](setup)
    load_ns = time.perf_counter_ns() - started
    if isinstance(engine, CppEngine):
        return engine.measure(test, job.warmup)
    images = _one_by_one(test)
    if job.variant == ONE_IMAGE:
        images = images[:1] * job.images
    warmup_ns = _warm_up(engine, images, job.warmup)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    ns, classes = time_images(engine.classify, images)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - switches
    logits = [torch.as_tensor(engine.logits(image)).to("cpu", torch.float32, copy=True)
              for image in images[:IMAGES_WITH_LOGITS]]
    return {"ns": ns, "classes": classes, "logits": torch.cat(logits).numpy(), "warmup_ns": warmup_ns, "load_ns": load_ns,
            "involuntary_switches": switches}


def _one_by_one(test: data.Split) -> list[torch.Tensor]:
    """Normalised images 1×3×32×32, each in memory of its own."""
    return [image.clone() for image in data.normalise(test.images).split(1)]


def _warm_up(engine: PythonEngine, images: list[torch.Tensor], count: int) -> np.ndarray:
    """The times (ns) of `count` images, taken from the first on and around again."""
    return time_images(engine.classify, (images * (count // len(images) + 1))[:count])[0]


def in_turns(job: Job, setup: Setup) -> dict[str, np.ndarray]:
    """The 90% quantile (ns) of each round by our timer (`ours_ns`) and by LoadGen (`loadgen_ns`), in this process.

    `within_loadgen_ns` is what our clock sees within LoadGen's queries. A round is ROUND_IMAGES each; there are a tenth as
    many rounds as the job has images, but no more than MOST_ROUNDS.
    """
    engine = ENGINES[job.engine](setup)
    images = _one_by_one(data.load("test").first(ROUND_IMAGES))
    _warm_up(engine, images, job.warmup)
    found = {"ours_ns": [], "loadgen_ns": [], "within_loadgen_ns": []}
    for number in range(min(job.images // 10, MOST_ROUNDS)):
        for ours in (number % 2 == 0, number % 2 == 1):
            if ours:
                found["ours_ns"].append(loadgen.quantile(time_images(engine.classify, images)[0]))
            else:
                theirs, within = loadgen.single_stream(engine.classify, images)
                found["loadgen_ns"].append(theirs)
                found["within_loadgen_ns"].append(within)
    return {which: np.array(values) for which, values in found.items()}


def batch_sizes(largest: int) -> list[int]:
    """1, 2, 4, … up to `largest`."""
    return [2**power for power in range(largest.bit_length())]


def batches(job: Job, setup: Setup) -> dict[str, np.ndarray]:
    """The median time (`batch_ns`) of each of `batch_sizes(job.images)`, an engine for each, in this process.

    Without a number of threads for the job, each size gets the one it is fastest with (`batch_threads`).
    """
    images = data.normalise(data.load("test").first(job.images).images)
    found = {"batch_ns": [], "batch_threads": []}
    for size in batch_sizes(job.images):
        batch, tried = images[:size].clone(), {}
        for threads in [job.threads] if job.threads or job.device != "cpu" else thread_counts():
            one = replace(setup, batch=size, threads=threads)
            ENGINES[job.engine].prepare(one)
            tried[one] = min(_time_batches(ENGINES[job.engine](one), batch, 3))
        one = min(tried, key=tried.get)
        engine = ENGINES[job.engine](one)
        _time_batches(engine, batch, 1)  # sets up what is set up lazily
        often = min(max(int(BATCH_SECONDS * 1e9 / tried[one]), 3), 100)
        found["batch_ns"].append(np.median(_time_batches(engine, batch, often)))
        found["batch_threads"].append(one.threads)
    return {which: np.array(values) for which, values in found.items()}


def _time_batches(engine: PythonEngine, batch: torch.Tensor, often: int) -> list[int]:
    """How long (ns) it takes each time from a batch in host memory to its classes there."""
    found = []
    for _ in range(often):
        start = time.perf_counter_ns()
        engine.classes(batch)
        found.append(time.perf_counter_ns() - start)
    return found


def cross_check(job: Job, exported: Path) -> dict:
    """What `in_turns` finds in a fresh process; or the `reason` why not."""
    told = {"engine": job.engine, "images": ROUND_IMAGES, "quantile": loadgen.QUANTILE}
    with _alone_on_this_machine(), tempfile.TemporaryDirectory() as prepared:
        try:
            found = _in_fresh_process(job, job.setup(exported, Path(prepared)))
        except InputError as error:
            return {**told, "reason": str(error)}
    return {**told, **{which: values.tolist() for which, values in found.items() if which.endswith("_ns")}}


@dataclass
class Outcome:
    """What came of a job: a result for each run, or the reason why there are none."""

    job: Job
    results: list[dict[str, np.ndarray]]
    reason: str = ""
    version: str = ""  # of the engine's library
    file_bytes: int = 0  # of what was loaded
    threads_tried_ns: dict[int, float] | None = None

    def row(self, **found: object) -> dict:
        """What a record says of the job, and `found` unless it did not run."""
        return {**asdict(self.job), **({"reason": self.reason} if self.reason else
                                       {"threads_tried_ns": self.threads_tried_ns, **found})}


def measure(jobs: Sequence[Job], runs: int, exported: Path, seed: int = 0) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Time every job in `runs` fresh processes, in rounds that shuffle the jobs' order.

    `exported` is the folder of 2_export's files. A job with 0 threads on a CPU gets the number that its engine is fastest
    with. Returns a row for each job (what the record keeps) and the raw series: `<engine>-<precision>` (ns, int64
    runs×images) and the same name with `-classes`. A job that cannot run here is a row with its `reason`; InputError
    where none can.
    """
    test = data.load("test")
    network = model.network_from(load_torchscript(exported / "model.pt").state_dict())
    exact = model.predict(network, test.first(IMAGES_WITH_LOGITS)).numpy()
    outcomes = _run_all(jobs, runs, exported, seed)
    if all(outcome.reason for outcome in outcomes):
        raise InputError(f"none of the engines runs here; of {jobs[0].series}: {outcomes[0].reason}")
    series = {}
    for outcome in outcomes:
        if not outcome.reason:
            name = outcome.job.series
            series[name] = np.stack([result["ns"] for result in outcome.results])
            series[f"{name}-classes"] = np.stack([result["classes"] for result in outcome.results])
    return [_row(outcome, test.labels.numpy(), exact) for outcome in outcomes], series


def measure_batches(jobs: Sequence[Job], runs: int, exported: Path, seed: int = 0) -> list[dict]:
    """Time batches of 1, 2, 4, … up to each job's images in `runs` fresh processes, as `measure` does.

    Returns a row for each job with `batches` (images at once), `batch_ns` (a list for each run of the median time, from
    host memory to class numbers in host memory, of each batch) and `batch_threads` (the CPU threads of each), or with its
    `reason`. A job with 0 threads on a CPU gets for each batch the number that its engine is fastest with.
    """
    outcomes = _run_all([replace(job, variant=BATCHES) for job in jobs], runs, exported, seed)
    return [outcome.row(batches=batch_sizes(outcome.job.images),
                        **{which: [result[which].tolist() for result in outcome.results]
                           for which in ("batch_ns", "batch_threads")}) for outcome in outcomes]


def _run_all(jobs: Sequence[Job], runs: int, exported: Path, seed: int) -> list[Outcome]:
    """An outcome for each job, in their order."""
    outcomes: list[Outcome] = []
    tried: dict[tuple[str, str], dict[int, float]] = {}
    shuffle = random.Random(seed)
    what = "batches" if any(job.variant == BATCHES for job in jobs) else "timing"
    with (
        _alone_on_this_machine(), tempfile.TemporaryDirectory() as prepared,
        tqdm(total=len(jobs) * runs, unit="process", desc=what) as progress,
    ):
        for job in jobs:
            progress.set_postfix_str(f"preparing {job.series}")
            outcomes.append(Outcome(job, []))
            try:
                _get_ready(outcomes[-1], exported, Path(prepared), tried)
            except InputError as error:
                outcomes[-1].reason = str(error)
        progress.unpause()  # or the time left would count the preparing
        for number in range(runs):
            for outcome in shuffle.sample(outcomes, len(outcomes)):
                job = outcome.job
                progress.set_postfix_str(f"{job.series}, run {number + 1} of {runs}, {job.images:,} images")
                if not outcome.reason:
                    try:
                        outcome.results.append(_in_fresh_process(job, job.setup(exported, Path(prepared))))
                    except InputError as error:
                        outcome.reason = str(error)
                progress.update()
    return outcomes


def _get_ready(outcome: Outcome, exported: Path, prepared: Path, tried: dict[tuple[str, str], dict[int, float]]) -> None:
    """Settle the job's threads and prepare its engine; `tried` remembers what was found for an engine and precision."""
    job = outcome.job
    outcome.version = ENGINES[job.engine].version()
    ENGINES[job.engine].check(job.setup(exported, prepared))
    if not job.threads and job.device == "cpu" and job.variant != BATCHES:  # batches choose each for itself
        kind = job.engine, job.precision
        if kind not in tried:
            tried[kind] = _try_threads(job, exported, prepared)
        outcome.threads_tried_ns = tried[kind]
        outcome.job = job = replace(job, threads=min(tried[kind], key=tried[kind].get))
    engine, setup = ENGINES[job.engine], job.setup(exported, prepared)
    engine.prepare(setup)
    outcome.file_bytes = engine.model_file(setup).stat().st_size


def thread_counts() -> list[int]:
    """The numbers of threads that are tried: 1, 2, 4, … and all cores at hand."""
    cores = records.cores()
    return sorted({2**power for power in range(cores.bit_length())} | {cores})


def _try_threads(job: Job, exported: Path, prepared: Path) -> dict[int, float]:
    """The median (ns) of a short run with each number of threads, the least of several where they are close."""
    found, close = dict.fromkeys(thread_counts(), np.inf), thread_counts()
    for _ in range(THREADS_TRIES):
        for threads in close:
            one = replace(job, threads=threads, images=THREADS_IMAGES, variant="")
            setup = one.setup(exported, prepared)
            ENGINES[job.engine].prepare(setup)
            found[threads] = min(found[threads], float(np.median(_in_fresh_process(one, setup)["ns"])))
        close = [threads for threads, ns in found.items() if ns <= THREADS_CLOSE * min(found.values())]
        if len(close) == 1:
            break
    return found


def _row(outcome: Outcome, labels: np.ndarray, exact: np.ndarray) -> dict:
    """What the record keeps of a job; `exact` are the logits of the first images by PyTorch in float32."""
    from cifar_lib import stats  # here, since every timed process imports this module, and SciPy takes most of a second

    if outcome.reason:
        return outcome.row()
    job, results = outcome.job, outcome.results
    engine, taken = ENGINES[job.engine], labels[: job.images]
    if job.variant == ONE_IMAGE:
        taken, exact = np.repeat(labels[:1], job.images), np.repeat(exact[:1], len(exact), axis=0)
    right = [result["classes"] == taken for result in results]
    return outcome.row(
        version=outcome.version,
        settings=engine.settings,
        file_bytes=outcome.file_bytes,
        series=job.series,
        accuracy=100 * float(np.mean(right)),  # of the predictions made while timed
        largest_logit_error=max(float(np.abs(result["logits"] - exact[: job.images]).max()) for result in results),
        runs=[
            {
                **{f"{name}_ns": value for name, value in stats.summary(result["ns"]).items()},
                "p50_interval_ns": stats.quantile_interval(result["ns"], 0.5),
                "mean_standard_error_ns": stats.standard_error(result["ns"]),
                "first_image_ns": int([*result["warmup_ns"], *result["ns"]][0]),
                "load_ns": int(result["load_ns"]),
                # of all images from the very first one
                "warmup_images": stats.warmup(np.concatenate([result["warmup_ns"], result["ns"]])),
                "level_changes": stats.level_changes(result["ns"]),
                "outliers": stats.outliers(result["ns"]),
                "involuntary_switches": int(result["involuntary_switches"]),
                "steal_share": result["steal_share"],
                "mhz": result["mhz"],
            }
            for result in results
        ],
    )


def _in_fresh_process(job: Job, setup: Setup) -> dict[str, np.ndarray]:
    before = _jiffies()
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "result.npz"
        process = subprocess.run(
            [sys.executable, "-m", "cifar_lib.timer", json.dumps(asdict(job)), setup.exported, setup.prepared, output,
             "--parent", str(os.getpid())],
            env={**os.environ, "CIFAR10_DIR": _data_for_child()}, capture_output=True, text=True,
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines()
            raise InputError(lines[-1] if lines else f"the process ended with status {process.returncode}.")
        with np.load(output) as result:
            found = dict(result)
    passed = _jiffies() - before
    return {**found, "steal_share": float(passed[7] / max(1, passed.sum())), "mhz": records.clock_mhz()}


def busy_share(seconds: float = 3) -> float:
    """The share of the machine's processor time that is used, watched while this process sleeps: what others use."""
    before = _jiffies()
    time.sleep(seconds)
    passed = _jiffies() - before
    idle = passed[[3, 4]].sum()  # the second: waiting for input or output
    return float((passed.sum() - idle) / max(1, passed.sum()))


def _jiffies() -> np.ndarray:
    """How long the cores have been in each of eight states; the last is "stolen" for others by the host (proc(5), stat)."""
    try:
        return np.array(Path("/proc/stat").read_text().split()[1:9], np.int64)
    except (OSError, ValueError):
        return np.zeros(8, np.int64)


def clock() -> dict:
    """The clock of `time_images`: its name, smallest step (ns) and what reading it costs (ns, median)."""
    readings = np.array([time.perf_counter_ns() for _ in range(100_000)])
    steps = np.diff(readings)
    return {"name": time.get_clock_info("perf_counter").implementation, "step_ns": int(steps[steps > 0].min()),
            "cost_ns": float(np.median(steps))}


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


def _end_with(parent: int) -> None:
    """End when process `parent` does, though it be killed: what went on alone would disturb the next measurement.

    Linux only, and it is the parent's thread that counts. As SIGTERM becomes an exception here, a C++ program under way is
    ended, too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("the measurement was ended by SIGTERM."))
    if hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before
            sys.exit(f"process {parent}, which started this measurement, is gone.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cifar_lib.timer", description=run.__doc__)
    parser.add_argument("job", help=f"JSON object with {', '.join(Job.__dataclass_fields__)}; "
                                    f"engines: {', '.join(ENGINES)}; precisions: {', '.join(PRECISIONS)}")
    parser.add_argument("exported", type=Path, help="folder of 2_export's files")
    parser.add_argument("prepared", type=Path, help="folder of what the engine prepared from them")
    parser.add_argument("output", type=Path, help=".npz file for the times (ns) and the classes")
    parser.add_argument("--parent", type=int, help="id of the process that starts this one: they end together")
    arguments = parser.parse_args()
    if arguments.parent:
        _end_with(arguments.parent)
    job = Job(**json.loads(arguments.job))
    setup = job.setup(arguments.exported, arguments.prepared)
    try:
        ENGINES[job.engine].prepare(setup)  # done already, except where this is called by hand
        np.savez(arguments.output, **{LOADGEN: in_turns, BATCHES: batches}.get(job.variant, run)(job, setup))
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
