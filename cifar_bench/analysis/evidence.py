"""The records that verdicts rest on: a run's own, and those that the project ships."""

import re
from dataclasses import dataclass

from cifar_bench import records
from cifar_lib import ROOT, InputError

THIS_RUN, RECORDED_EARLIER = "measured in this run", "recorded earlier"
STEPS = ("export", "latency", "half_precision", "faster")  # the steps with one record per run


@dataclass(frozen=True)
class Evidence:
    """A record and its path, relative to results/."""

    path: str
    when: str  # THIS_RUN or RECORDED_EARLIER
    record: dict

    @property
    def measured(self) -> dict:
        return self.record["measurements"]

    @property
    def is_real(self) -> bool:
        return self.record["data"]["dataset"] == "CIFAR-10"


ByStep = dict[str, list[Evidence]]  # keys: "train", STEPS, and "networks": training runs of the networks that "faster" names


def gather(run: str, when: str = THIS_RUN) -> ByStep:
    """The records of `run`, and those of others that it is judged with.

    These are the training runs of the networks that its `5_faster` names and, unless its data are synthetic, the project's
    reference training runs, and the shipped export where `run` has no weights of its own. Raises InputError where `run` has no
    records.
    """
    own = _records_of(run, when)
    if not any(own.values()):
        raise InputError(f"results/{run} holds no records: run the notebooks with run={run} first.")
    named = [name for item in own["faster"] for name in item.measured["networks"] if name]
    networks = [item for name in named for item in _records_of(name, RECORDED_EARLIER)["train"]]
    if _is_real(own):
        for reference in (other for other in records.REFERENCE_TRAINING_RUNS if other != run):
            own["train"] += _records_of(reference, RECORDED_EARLIER)["train"]
        if not own["export"] and not records.has_own_weights(run):
            own["export"] = _records_of(records.SHIPPED, RECORDED_EARLIER)["export"]
    return {**own, "networks": networks}


def gpu_reference_runs(by_step: ByStep) -> list[ByStep]:
    """The records of the other reference runs on GPUs, for claims that need a GPU; none for a run on synthetic data."""
    if not _is_real(by_step):
        return []
    own = {item.path for item in by_step["latency"]}
    references = [gather(run, RECORDED_EARLIER) for run in records.REFERENCE_GPUS
                  if any((ROOT / "results" / run).glob("**/record.json"))]
    return [reference for reference in references if own.isdisjoint(item.path for item in reference["latency"])]


def _is_real(by_step: ByStep) -> bool:
    return all(evidence.is_real for step in ("train", *STEPS) for evidence in by_step[step])


def _records_of(run: str, when: str) -> ByStep:
    folder = ROOT / "results" / run
    folders = {"train": sorted(folder.glob("train/seed*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0)),
               **{step: [folder / step] for step in STEPS}}
    return {
        step: [Evidence(f"{run}/{path.relative_to(folder)}/record.json", when, records.read(path))
               for path in paths if (path / "record.json").is_file()]
        for step, paths in folders.items()
    }
