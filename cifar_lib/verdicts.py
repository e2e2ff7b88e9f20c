"""Judges the claims of claims.yaml from records alone, and checks a run's verdicts.json against them.

    python -m cifar_lib.verdicts RUN     # exit code 0: the verdicts hold, 1: one differs, 2: they cannot be computed
"""

import argparse
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

from cifar_lib import ROOT, InputError, latency, records, stats

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"
THIS_RUN, EARLIER = "measured in this run", "recorded earlier"
TRAINING_IMAGES = 50_000
TEST_IMAGES = 10_000
LEAST_RUNS = 3  # runs or seeds; with two, a 95% interval of their mean is so wide that it says nothing


@dataclass(frozen=True)
class Found:
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


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason, our number in words, and the records it rests on."""

    verdict: str
    reason: str
    ours: str = "–"
    used: list[Found] = field(default_factory=list)


Evidence = dict[str, list[Found]]  # by step: "train", "export", "latency", "half_precision"


def gather(run: str) -> Evidence:
    """The records of `run`, with the shipped trainings, and the shipped export where it has none of its own.

    A run on stand-in data borrows nothing: its page judges no accuracy.
    """
    own, shipped = _records_of(run, THIS_RUN), _records_of(records.SHIPPED, EARLIER)
    if not any(own.values()):
        raise InputError(f"results/{run} holds no records: run the notebooks with run={run} first.")
    if run != records.SHIPPED and all(found.is_real for step in own.values() for found in step):
        own["train"] += shipped["train"]
        own["export"] = own["export"] or shipped["export"]
    return own


def judge(evidence: Evidence, claims: list[dict]) -> list[dict]:
    """A verdict for each claim, as kept in verdicts.json. Depends on the records and the claims only."""
    verdicts = []
    for claim in claims:
        judgement = RULES[claim["rule"]](claim, evidence)
        verdict = asdict(judgement)
        verdict["evidence"] = [
            {"record": found.path, "when": found.when, "made": found.record["made"],
             "hardware": found.record["environment"]["hardware"]} for found in judgement.used
        ]
        del verdict["used"]
        verdicts.append({"id": claim["id"], **verdict})
    return verdicts


def load_claims(path: Path = ROOT / "claims.yaml") -> list[dict]:
    return yaml.safe_load(path.read_text())


def load_claim(name: str) -> dict:
    return next(claim for claim in load_claims() if claim["id"] == name)


def write(run: str) -> list[dict]:
    """Judge `run` and keep the verdicts in its verdicts.json."""
    verdicts = judge(gather(run), load_claims())
    with records.replacing(ROOT / "results" / run / "verdicts.json") as path:
        path.write_text(json.dumps({"run": run, "verdicts": verdicts}, indent=1, ensure_ascii=False) + "\n")
    return verdicts


# The rules. Each takes a claim and the evidence and returns a Judgement.


def network_size(claim: dict, evidence: Evidence) -> Judgement:
    if not evidence["export"]:
        return _not_run("no exported model")
    found = evidence["export"][0]
    ours, theirs = found.measured["parameters"], found.measured["cifar10_fast_parameters"]
    same = ours == claim["parameters"] and ours < theirs
    reason = f"counted here, against {theirs:,} of cifar10-fast's ResNet-9 ({ours / theirs:.0%})"
    return Judgement(REPRODUCED if same else NOT_REPRODUCED, reason, f"{ours:,} parameters", [found])


def trained_longer(claim: dict, evidence: Evidence) -> Judgement:
    trainings = full_trainings(claim, evidence)
    if not trainings:
        short = _no_full_training(claim, evidence)
        return replace(short, ours=f"{_epochs(short.used[0])} epochs") if short.used else short
    longest = max(trainings, key=_epochs)
    reason = f"{_epochs(longest)} epochs, cifar10-fast makes {claim['cifar10_fast_epochs']}"
    return Judgement(REPRODUCED, reason, f"{_epochs(longest)} epochs", [longest])


def accuracy_above(claim: dict, evidence: Evidence) -> Judgement:
    trainings = full_trainings(claim, evidence)
    if not trainings:
        return _no_full_training(claim, evidence)
    accuracies = [found.measured["accuracy"] for found in trainings]
    what = f"mean of {len(trainings)} seeds" if len(trainings) > 1 else "one seed"
    if len(trainings) >= LEAST_RUNS:
        interval = stats.mean_interval(accuracies)
    else:  # the seeds' spread is unknown: what so many photos can tell of one model
        interval = stats.share_interval(round(np.mean(accuracies) * TEST_IMAGES / 100), TEST_IMAGES)
    verdict = _against(claim["threshold"], interval, REPRODUCED, NOT_REPRODUCED)
    return Judgement(verdict, f"{what}, {_recipe(trainings[0])} recipe, last epoch, against {claim['threshold']}%",
                     _with_interval(np.mean(accuracies), interval, "%"), trainings)


def accuracy_range(claim: dict, evidence: Evidence) -> Judgement:
    """The interval of our mean inside the original's range, outside of it, or across its ends."""
    trainings = full_trainings(claim, evidence)
    if not trainings:
        return _no_full_training(claim, evidence)
    if len(trainings) < claim["runs"]:
        return _not_run("too short a profile", trainings[0], f"{len(trainings)} of {claim['runs']} trainings")
    accuracies = [found.measured["accuracy"] for found in trainings]
    (low, high), (least, most) = stats.mean_interval(accuracies), claim["range"]
    verdict = REPRODUCED if least <= low and high <= most else NOT_REPRODUCED if high < least or low > most else INCONCLUSIVE
    reason = f"mean {_with_interval(np.mean(accuracies), (low, high), '%')} against the original's range"
    return Judgement(verdict, reason, f"{min(accuracies):.2f}–{max(accuracies):.2f}% ({len(accuracies)} runs)", trainings)


def exported_accuracy(claim: dict, evidence: Evidence) -> Judgement:
    """Equivalence within a margin: where the interval of the difference lies. Takes weights trained to the end."""
    if not evidence["export"]:
        return _not_run("no exported model")
    found = evidence["export"][0]
    ours, images = found.measured["accuracy"], found.measured["test_images"]
    if not found.is_real:
        return _not_run("stand-in data", found)
    if images < TEST_IMAGES:
        return _not_run("too short a profile", found, f"{ours:.2f}% of {images:,} images")
    in_words = _with_interval(ours, stats.share_interval(found.measured["correct"], images), "%")
    weights = found.measured["weights_sha256"]
    training = next((one for one in evidence["train"] if one.measured["weights_sha256"] == weights), None)
    if not training:
        return _not_run("no record of the training behind the exported weights", found, in_words)
    if missing := _missing(claim["protocols"], training):
        return Judgement(NOT_RUN, f"the exported weights come from {missing}", in_words, [found, training])
    low, high = stats.share_difference_interval(ours, claim["accuracy"], images)
    margin = claim["margin"]
    within, apart = -margin <= low and high <= margin, high < -margin or low > margin
    verdict = REPRODUCED if within else NOT_REPRODUCED if apart else INCONCLUSIVE
    reason = (f"{_recipe(training)} recipe; {low:+.2f} to {high:+.2f} points from {claim['accuracy']}%, where anything within "
              f"±{margin} counts as about")
    return Judgement(verdict, reason, in_words, [found, training])


def latency_at_most(claim: dict, evidence: Evidence) -> Judgement:
    found, row = _engine_row(evidence, claim["engines"])
    if not row:
        return _not_run((found and "the engine did not run") or "no latency measured", found)
    (mean, interval), runs = latency.quantile(row, "mean"), len(row["runs"])
    if runs < LEAST_RUNS:
        return _not_run(_too_few(row["runs"]), found, f"{mean:,.1f} µs with {row['engine']}")
    ours = _with_interval(mean, interval, " µs", digits=1) + f" with {row['engine']}"
    if not _fits(claim["hardware"], found.record["environment"]):
        wanted = {"P100": "a P100", "newer GPU": "an NVIDIA GPU newer than the P100"}[claim["hardware"]]
        return _not_run(f"other hardware: it takes {wanted}", found, ours)
    limit = claim["limit_us"] * (1 + claim["margin"])
    verdict = _against(limit, interval, NOT_REPRODUCED, REPRODUCED)
    return Judgement(verdict, f"mean of {runs} runs, against {limit:,.0f} µs", ours, [found])


def run_spread(claim: dict, evidence: Evidence) -> Judgement:
    """Fewer or shorter runs can still refute: where the spread is beyond the limit by more than noise makes of it."""
    found, row = _engine_row(evidence, claim["engines"])
    if not row:
        return _not_run((found and "the engine did not run") or "no latency measured", found)
    means = np.array([run["mean_ns"] for run in row["runs"]])
    noise = stats.range_noise([run["mean_standard_error_ns"] for run in row["runs"]]) / means.mean()
    spread = np.ptp(means) / means.mean()
    ours = f"{np.ptp(means) / 1e3:,.1f} µs apart, mean {means.mean() / 1e3:,.1f} µs ({spread:.2%})"
    runs, images = len(means), row["images"]
    if spread - noise > claim["share"]:
        reason = (f"{runs} runs of {images:,} images with {row['engine']} are further apart than {claim['share']:.2%}, by "
                  f"more than their own noise explains")
        return Judgement(NOT_REPRODUCED, reason, ours, [found])
    reason = f"{runs} runs of {images:,} images with {row['engine']}, against {claim['share']:.2%}"
    if runs < claim["runs"] or images < claim["images"]:
        wanted = f"{claim['runs']} of {claim['images']:,}"
        return _not_run(f"too short a profile to tell: {runs} runs of {images:,} images instead of {wanted}", found, ours)
    return Judgement(REPRODUCED if spread <= claim["share"] else INCONCLUSIVE, reason, ours, [found])


def half_no_gain(claim: dict, evidence: Evidence) -> Judgement:
    """No gain: the interval of the ratio to float32 lies above 1 − margin."""
    if not evidence["half_precision"]:
        return _not_run("no half precision measured")
    found = evidence["half_precision"][0]
    wanted = claim["engine"], claim["precision"]
    row = next((row for row in found.measured["precisions"] if (row["engine"], row["precision"]) == wanted), None)
    if not row or "ratio" not in row:
        return _not_run(f"{claim['precision']} did not run here", found)
    if len(row["runs"]) < LEAST_RUNS:
        return _not_run(_too_few(row["runs"]), found, f"{row['ratio']:.2f} × float32's time")
    ours = _with_interval(row["ratio"], row["ratio_interval"], "") + " × float32's time"
    if row["support"] != "native":
        return _not_run(f"other hardware: this one has no arithmetic in {row['precision']} and emulates it", found, ours)
    verdict = _against(1 - claim["margin"], row["ratio_interval"], REPRODUCED, NOT_REPRODUCED)
    reason = f"{row['engine']} over {len(row['runs'])} runs; a gain under {claim['margin']:.0%} counts as none"
    return Judgement(verdict, reason, ours, [found])


RULES: dict[str, Callable[[dict, Evidence], Judgement]] = {
    rule.__name__: rule
    for rule in (network_size, trained_longer, accuracy_above, accuracy_range, exported_accuracy, latency_at_most,
                 run_spread, half_no_gain)
}


def _against(threshold: float, interval: stats.Interval, above: str, below: str) -> str:
    low, high = interval
    return above if low > threshold else below if high < threshold else INCONCLUSIVE


def _not_run(reason: str, found: Found | None = None, ours: str = "–") -> Judgement:
    return Judgement(NOT_RUN, reason, ours, [found] if found else [])


def _too_few(runs: Sequence) -> str:
    return f"too short a profile: {len(runs)} runs, {LEAST_RUNS} at least"


def _with_interval(value: float, interval: stats.Interval, unit: str, digits: int = 2) -> str:
    return f"{value:,.{digits}f}{unit} ({interval[0]:,.{digits}f} to {interval[1]:,.{digits}f})"


def _epochs(found: Found) -> int:
    return len(found.measured["epochs"])


def _recipe(training: Found) -> str:
    return training.record["parameters"]["recipe"]


def full_trainings(claim: dict, evidence: Evidence) -> list[Found]:
    """The trainings that follow the first of the claim's protocols that any follows: equally long, one for each seed."""
    for protocol in claim["protocols"]:
        following = [found for found in evidence["train"] if not _missing([protocol], found)]
        seeds: dict[int, Found] = {}  # the same seed again is no further evidence: the run's own comes first
        for found in following:
            if _epochs(found) == _epochs(following[0]):
                seeds.setdefault(found.record["parameters"]["seed"], found)
        if seeds:
            return list(seeds.values())
    return []


def _no_full_training(claim: dict, evidence: Evidence) -> Judgement:
    if not evidence["train"]:
        return _not_run("no training on record")
    longest = max(evidence["train"], key=lambda found: found.measured["pflop"])
    alike = [found for found in evidence["train"] if found.measured["pflop"] == longest.measured["pflop"]]
    accuracies = ", ".join(f"{found.measured['accuracy']:.2f}%" for found in alike)
    return Judgement(NOT_RUN, _missing(claim["protocols"], longest), f"{accuracies} after epoch {_epochs(longest)}", alike)


def _missing(protocols: Sequence[dict], training: Found) -> str:
    """What keeps a training from following one of the protocols, in words; nothing where it does."""
    parameters, measured = training.record["parameters"], training.measured
    if not training.is_real:
        return "stand-in data"
    protocol = next((one for one in protocols if one["recipe"] == parameters["recipe"]), None)
    if not protocol:
        kinds = {"seed": "seed, the original's"}
        named = " or ".join(f"{one['epochs']} epochs by the recipe {kinds.get(one['recipe'], one['recipe'])}"
                            for one in protocols)
        return f"another recipe, {parameters['recipe']}; it takes {named}"
    if without := parameters.get("without"):  # records made before a part could be left out do not have it
        return f"another training: the {protocol['recipe']} recipe without {', '.join(without)}"
    for name in ("width", "batch_size"):
        if parameters[name] != protocol[name]:
            return f"another training: {name} {parameters[name]} instead of {protocol[name]}"
    if measured.get("scored_on", "test images") != "test images":
        return f"scored on {measured['scored_on']}"
    if measured["test_images"] < TEST_IMAGES:
        return f"too short a profile: {measured['test_images']:,} of {TEST_IMAGES:,} test images"
    if _epochs(training) < protocol["epochs"] or measured["train_images"] < TRAINING_IMAGES:
        return (f"too short a profile: {_epochs(training)} of {protocol['epochs']} epochs on "
                f"{measured['train_images']:,} of {TRAINING_IMAGES:,} images")
    return ""


def _engine_row(evidence: Evidence, engines: Sequence[str]) -> tuple[Found | None, dict | None]:
    """The latency record, and in it the row of the first of `engines` that ran."""
    if not evidence["latency"]:
        return None, None
    found = evidence["latency"][0]
    ran = [row for engine in engines for row in latency.compared(found.record) if row["engine"] == engine]
    return found, ran[0] if ran else None


def _fits(hardware: str, environment: dict) -> bool:
    gpu = environment["gpu"]
    if hardware == "any":
        return True
    if hardware == "P100":
        return bool(gpu) and bool(re.search(r"\bP100\b", gpu["name"]))  # not a P1000
    return bool(gpu) and gpu["compute_capability"] >= [7, 0]


def _records_of(run: str, when: str) -> Evidence:
    folder = ROOT / "results" / run
    where = {"train": sorted(folder.glob("train/seed*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0)),
             **{step: [folder / step] for step in ("export", "latency", "half_precision")}}
    return {
        step: [Found(f"{run}/{path.relative_to(folder)}/record.json", when, records.read(path))
               for path in paths if (path / "record.json").is_file()]
        for step, paths in where.items()
    }


def _told(head: str, text: str) -> str:
    """`text` beside `head`, in lines as wide as the terminal, but not too wide to be read well."""
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    return textwrap.fill(text, width, initial_indent=f"{head:<17}", subsequent_indent=" " * 17, break_on_hyphens=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cifar_lib.verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="the run, a folder under results/")
    run = parser.parse_args().run
    try:
        rows = json.loads((ROOT / "results" / run / "verdicts.json").read_text())["verdicts"]
        kept = {row["id"]: row for row in rows}
        claims = load_claims()
        computed = judge(gather(run), claims)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"results/{run}/verdicts.json cannot be read ({error}): make the report first.", file=sys.stderr)
        return 2
    differing = len(rows) - len(kept)  # a claim judged twice
    for claim, row in zip(claims, computed):
        same = kept.pop(row["id"], None) == row
        differing += not same
        print(_told(f"{'  ' if same else '≠ '}{row['verdict']:<15}", claim["claim"]))
        where = EARLIER if {one["when"] for one in row["evidence"]} == {EARLIER} else "here"
        print(_told("", f"{row['ours']} {where}, {claim['original']} in 2018; {row['reason']}"))
    if differing or kept:
        print(f"{differing + len(kept)} verdicts differ from results/{run}/verdicts.json.", file=sys.stderr)
    return int(bool(differing or kept))


if __name__ == "__main__":
    sys.exit(main())
