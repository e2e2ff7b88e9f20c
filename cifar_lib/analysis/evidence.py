"""The records that verdicts rest on: a run's own, and those that the project ships."""

import re
from dataclasses import dataclass

from cifar_lib import ROOT, InputError, records

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


def gather(run: str) -> ByStep:
    """The records of `run`, with the trainings that come with the project, and the shipped export where it has none of its own.

    A run on stand-in data borrows nothing: its page judges no accuracy.
    """
    own = _records_of(run, THIS_RUN)
    if not any(own.values()):
        raise InputError(f"results/{run} holds no records: run the notebooks with run={run} first.")
    if all(evidence.is_real for step in own.values() for evidence in step):
        for reference in (other for other in records.REFERENCE_TRAININGS if other != run):
            own["train"] += _records_of(reference, EARLIER)["train"]
        own["export"] = own["export"] or _records_of(records.SHIPPED, EARLIER)["export"]
    return own


def _records_of(run: str, when: str) -> ByStep:
    folder = ROOT / "results" / run
    where = {"train": sorted(folder.glob("train/seed*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0)),
             **{step: [folder / step] for step in STEPS}}
    return {
        step: [Evidence(f"{run}/{path.relative_to(folder)}/record.json", when, records.read(path))
               for path in paths if (path / "record.json").is_file()]
        for step, paths in where.items()
    }
