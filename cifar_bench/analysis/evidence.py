"""The records that verdicts rest on: a run's own, and those that the project ships."""

import re
from dataclasses import dataclass

from cifar_bench import records
from cifar_lib import ROOT, InputError

THIS_RUN, EARLIER = "measured in this run", "recorded earlier"


@dataclass(frozen=True)
class Evidence:
    """A record and where it lies, relative to results/."""

    path: str
    when: str  # THIS_RUN or EARLIER
    record: dict

    @property
    def measured(self) -> dict:
        return self.record["measurements"]

    @property
    def is_real(self) -> bool:
        return self.record["data"]["dataset"] == "CIFAR-10"


STEPS = ("export", "latency", "half_precision", "faster")  # those that a run makes once
ByStep = dict[str, list[Evidence]]  # by step: "train" and those of STEPS


def gather(run: str, when: str = THIS_RUN) -> ByStep:
    """The records of `run`, with the trainings that come with the project, and the shipped export where it has none of its own.

    A run on synthetic data borrows nothing: its page judges no accuracy.
    """
    own = _records_of(run, when)
    if not any(own.values()):
        raise InputError(f"results/{run} holds no records: run the notebooks with run={run} first.")
    if _is_real(own):
        for reference in (other for other in records.REFERENCE_TRAINING_RUNS if other != run):
            own["train"] += _records_of(reference, EARLIER)["train"]
        own["export"] = own["export"] or _records_of(records.SHIPPED, EARLIER)["export"]
    return own


def elsewhere(by_step: ByStep) -> list[ByStep]:
    """The records of the other reference runs on GPUs, for claims that need one; none for a run on synthetic data."""
    there = [run for run in records.REFERENCE_GPUS if (ROOT / "results" / run).is_dir()]
    own = {item.path for item in by_step["latency"]}
    others = [gather(run, EARLIER) for run in there] if _is_real(by_step) else []
    return [other for other in others if own.isdisjoint(item.path for item in other["latency"])]


def _is_real(by_step: ByStep) -> bool:
    return all(evidence.is_real for step in by_step.values() for evidence in step)


def _records_of(run: str, when: str) -> ByStep:
    folder = ROOT / "results" / run
    where = {"train": sorted(folder.glob("train/seed*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0)),
             **{step: [folder / step] for step in STEPS}}
    return {
        step: [Evidence(f"{run}/{path.relative_to(folder)}/record.json", when, records.read(path))
               for path in paths if (path / "record.json").is_file()]
        for step, paths in where.items()
    }
