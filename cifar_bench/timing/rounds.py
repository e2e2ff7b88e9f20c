"""Many jobs, each measured in several fresh processes, in rounds that shuffle their order."""

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

MIN_ROUNDS = 3  # however little time there is: of two, an interval says nothing


@dataclass
class Outcome:
    """What came of a job: a result for each round, or the reason why there are none."""

    job: Job
    results: list[dict[str, np.ndarray]] = field(default_factory=list)  # each with its `round` and whether it was `contended`
    reason: str = ""
    version: str = ""  # of the engine's library
    file_bytes: int = 0  # of what was loaded
    trials: list[dict] | None = None  # options and threads, and what an image took with them

    def contended_rounds(self) -> list[int]:
        """The rounds of which no run was left uncontended."""
        well = {result["round"] for result in self.results if not result["contended"]}
        return sorted({result["round"] for result in self.results} - well)

    def row(self, **measured: object) -> dict:
        """What a record says of the job, and `measured` unless it did not run."""
        return {**asdict(self.job), **({"reason": self.reason} if self.reason else
                                       {"trials": self.trials, **measured})}


Compile = Callable[[Outcome, Path, Path], None]  # outcome, exported, cache: settle what the job leaves open, and compile


def run_rounds(
    jobs: Sequence[Job], rounds: int, exported: Path, compile: Compile, minutes: float = 0, repeats: int = 0, seed: int = 0,
    description: str = "timing",
) -> list[Outcome]:
    """An outcome for each job, in their order, of `rounds` rounds.

    Where `minutes` are given, no round begins after so many minutes of measuring, except the first three. `compile` is called
    once for each job before the rounds; an InputError of it, or of a process, is the outcome's reason. Runs that others
    contended are measured again afterwards, up to `repeats` times, and stay among the results.
    """
    outcomes = [Outcome(job) for job in jobs]
    shuffle = random.Random(seed)
    with (
        measurement_lock(),
        tqdm(total=len(jobs) * rounds, unit="process", desc=description) as progress,
    ):
        folders = {folder: (folder, cache_folder(folder)) for folder in {job.folder(exported) for job in jobs}}
        for outcome in outcomes:
            progress.set_postfix_str(f"preparing {outcome.job.name}")
            try:
                compile(outcome, *folders[outcome.job.folder(exported)])
            except InputError as error:
                outcome.reason = str(error)
        progress.unpause()  # or the time left would count the preparing
        started = time.monotonic()
        for number in range(rounds):
            if minutes and number >= MIN_ROUNDS and time.monotonic() - started > 60 * minutes:
                progress.update(len(jobs) * (rounds - number))
                break
            for outcome in shuffle.sample(outcomes, len(outcomes)):
                progress.set_postfix_str(f"{outcome.job.name}, run {number + 1} of {rounds}{outcome.job.size}")
                if not outcome.reason:
                    _measure_once(outcome, number, *folders[outcome.job.folder(exported)])
                progress.update()
        for _ in range(repeats):
            again = [(outcome, number) for outcome in outcomes if not outcome.reason for number in outcome.contended_rounds()]
            if not again:
                break
            progress.set_postfix_str(f"waiting for others to be done: they contended {len(again)} runs")
            wait_until_idle()
            progress.total += len(again)
            for outcome, number in shuffle.sample(again, len(again)):
                progress.set_postfix_str(f"{outcome.job.name}, run {number + 1} again: others contended it")
                _measure_once(outcome, number, *folders[outcome.job.folder(exported)])
                progress.update()
    return outcomes


def compile_engine(outcome: Outcome, exported: Path, cache: Path) -> None:
    """Compile what the job's engine compiles, and note its library's version and its file's size. Raises InputError."""
    engine, setup = ENGINES[outcome.job.engine], outcome.job.setup(exported, cache)
    outcome.version = engine.version()
    engine.check(setup)
    engine.compile(setup)
    outcome.file_bytes = engine.model_file(setup).stat().st_size


def _measure_once(outcome: Outcome, number: int, exported: Path, cache: Path) -> None:
    try:
        result = run_in_fresh_process(outcome.job, outcome.job.setup(exported, cache))
    except InputError as error:
        outcome.reason = str(error)
    else:
        seconds = result["seconds"] if "seconds" in result else result["ns"].sum() / 1e9
        contended = "background_load" in result and is_contended(result["background_load"], seconds)
        outcome.results.append({**result, "round": number, "contended": contended})
