"""Many jobs, each measured in several fresh processes, in rounds of shuffled order."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cifar_bench.engines import ENGINES
from cifar_bench.engines.base import cache_folder
from cifar_bench.records.environment import cores
from cifar_bench.records.state import differ
from cifar_bench.timing.machine import is_contended, measurement_lock, probe, wait_until_idle
from cifar_bench.timing.process import Job, run_in_fresh_process
from cifar_lib import InputError

MIN_ROUNDS = 3  # whatever the time limit: an interval over two runs says nothing
RUN_FACTS = ("round", "contended", "state_changed", "probes")  # what a record says of each run besides what its job measured
MAX_GPU_LOAD = 5  # %, of other processes


@dataclass
class Outcome:
    """The outcome of a job: its results, one per run, or the reason why there are none."""

    job: Job
    results: list[dict[str, np.ndarray]] = field(default_factory=list)  # each with what `_measure_once` adds
    reason: str = ""
    failures: list[str] = field(default_factory=list)  # the reasons of runs that failed
    version: str = ""  # of the engine's library
    file_bytes: int = 0  # of the file that the engine loads
    trials: list[dict] | None = None  # the result of autotuning

    def rounds_to_repeat(self) -> list[int]:
        """The rounds without a run that was uncontended and in one state of the machine."""
        clean = {result["round"] for result in self.results if not (result["contended"] or result["state_changed"])}
        return sorted({result["round"] for result in self.results} - clean)

    def row(self, **measured: object) -> dict:
        """The job's row in a record: with `measured`, or with the reason why the job did not run."""
        return {**asdict(self.job), **({"reason": self.reason} if self.reason else
                                       {"trials": self.trials, "failures": self.failures, **measured})}


Compile = Callable[[Outcome, Path, Path], None]  # outcome, exported, cache: choose what the job leaves open, and compile


def run_rounds(
    jobs: Sequence[Job], rounds: int, exported: Path, compile: Compile, minutes: float = 0, repeats: int = 0
) -> list[Outcome]:
    """The outcome of each job, in their order, of `rounds` rounds in which every job runs once.

    With a limit of `minutes`, no round after the third begins later than that. `compile` is called once for each job before
    the rounds; an InputError of it, or of the first run, is the outcome's reason. A later run that fails is among the failures,
    and is the reason where so few rounds are left that those of two jobs might have fewer than MIN_ROUNDS in common. Runs that
    were contended, or in which the machine's state changed, are repeated after the rounds, up to `repeats` times, and stay
    among the results.
    """
    outcomes, shuffle = [Outcome(job) for job in jobs], random.Random(0)
    with measurement_lock(), tqdm(total=len(jobs) * rounds, unit="process", desc="timing") as progress:
        folders = {folder: (folder, cache_folder(folder)) for folder in {job.folder(exported) for job in jobs}}

        def measure(runs: Sequence[tuple[Outcome, int]]) -> None:
            for outcome, number in shuffle.sample(runs, len(runs)):
                progress.set_postfix_str(f"{outcome.job.name}, run {number + 1} of {rounds}")
                if not outcome.reason:
                    _measure_once(outcome, number, *folders[outcome.job.folder(exported)])
                progress.update()

        for outcome in outcomes:
            progress.set_postfix_str(f"compiling {outcome.job.name}")
            try:
                compile(outcome, *folders[outcome.job.folder(exported)])
            except InputError as error:
                outcome.reason = str(error)
        progress.unpause()  # or the estimate of the time left would include compiling
        started = time.monotonic()
        for number in range(rounds):
            if minutes and number >= MIN_ROUNDS and time.monotonic() - started > 60 * minutes:
                progress.update(len(jobs) * (rounds - number))
                rounds = number
                break
            measure([(outcome, number) for outcome in outcomes])
        for _ in range(repeats):
            again = [(outcome, number) for outcome in outcomes if not outcome.reason for number in outcome.rounds_to_repeat()]
            if not again:
                break
            progress.set_postfix_str(f"{len(again)} runs were disturbed: waiting until the machine is idle")
            wait_until_idle()
            progress.total += len(again)
            measure(again)
    for outcome in outcomes:
        left = len({result["round"] for result in outcome.results})
        if outcome.failures and 2 * left < rounds + MIN_ROUNDS:
            outcome.reason = outcome.failures[-1]
    return outcomes


def compile_engine(outcome: Outcome, exported: Path, cache: Path) -> None:
    """Compile the job's engine, and note its library's version and the size of its file. Raises InputError."""
    engine, setup = ENGINES[outcome.job.engine], outcome.job.setup(exported, cache)
    engine.check(setup)
    outcome.version = engine.version()
    engine.compile(setup)
    outcome.file_bytes = engine.model_file(setup).stat().st_size


def _measure_once(outcome: Outcome, number: int, exported: Path, cache: Path) -> None:
    """Run the job once, and note RUN_FACTS with its result; `probes` are readings before and after."""
    job = outcome.job
    threads = min(job.threads or cores(), cores()) if job.device == "cpu" else 1
    before = probe(threads)
    try:
        result = run_in_fresh_process(job, job.setup(exported, cache))
    except InputError as error:
        outcome.failures.append(str(error))
        if not outcome.results:
            outcome.reason = str(error)
    else:
        after = probe(threads)
        seconds = result["seconds"] if "seconds" in result else result["ns"].sum() / 1e9
        stopped = result.get("stopped_cores", 0.0) if job.device == "cpu" else 0.0  # waiting for a GPU is no stop
        contended = (is_contended(result["background_cores"], seconds) or is_contended(stopped, seconds)
                     or result.get("gpu_load", 0) > MAX_GPU_LOAD)
        outcome.results.append({**result, "round": number, "contended": contended, "state_changed": differ(before, after),
                                "probes": {name: [before[name], after[name]] for name in before}})
