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
from cifar_bench.timing.machine import is_contended, measurement_lock, wait_until_idle
from cifar_bench.timing.process import Job, run_in_fresh_process
from cifar_lib import InputError

MIN_ROUNDS = 3  # whatever the time limit: an interval over two runs says nothing


@dataclass
class Outcome:
    """The outcome of a job: its results, one per run, or the reason why there are none."""

    job: Job
    results: list[dict[str, np.ndarray]] = field(default_factory=list)  # each with its `round` and whether it was `contended`
    reason: str = ""
    failures: list[str] = field(default_factory=list)  # the reasons of runs that failed
    version: str = ""  # of the engine's library
    file_bytes: int = 0  # of the file that the engine loads
    trials: list[dict] | None = None  # the result of autotuning

    def contended_rounds(self) -> list[int]:
        """The rounds that have no uncontended run."""
        uncontended = {result["round"] for result in self.results if not result["contended"]}
        return sorted({result["round"] for result in self.results} - uncontended)

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
    and is the reason where so few rounds are left that those of two jobs might have fewer than MIN_ROUNDS in common. Contended
    runs are repeated after the rounds, up to `repeats` times, and stay among the results.
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
            again = [(outcome, number) for outcome in outcomes if not outcome.reason for number in outcome.contended_rounds()]
            if not again:
                break
            progress.set_postfix_str(f"{len(again)} runs were contended: waiting until the machine is idle")
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
    try:
        result = run_in_fresh_process(outcome.job, outcome.job.setup(exported, cache))
    except InputError as error:
        outcome.failures.append(str(error))
        if not outcome.results:
            outcome.reason = str(error)
    else:
        seconds = result["seconds"] if "seconds" in result else result["ns"].sum() / 1e9
        contended = is_contended(result["background_load"], seconds)
        outcome.results.append({**result, "round": number, "contended": contended})
