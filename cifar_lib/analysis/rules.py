"""The rules that judge: each takes a claim and the records by step, and returns a verdict with its reason."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cifar_lib.analysis import latency, precision, statistics
from cifar_lib.analysis.evidence import ByStep, Evidence

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN = "reproduced", "not reproduced", "inconclusive", "not run"
TRAINING_IMAGES = 50_000
TEST_IMAGES = 10_000
LEAST_RUNS = 3  # runs or seeds; with two, a 95% interval of their mean is so wide that it says nothing


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason, our number in words, and the records it rests on."""

    verdict: str
    reason: str
    ours: str = "–"
    used: list[Evidence] = field(default_factory=list)


def network_size(claim: dict, by_step: ByStep) -> Judgement:
    if not by_step["export"]:
        return _not_run("no exported model")
    evidence = by_step["export"][0]
    ours, theirs = evidence.measured["parameters"], evidence.measured["cifar10_fast_parameters"]
    same = ours == claim["parameters"] and ours < theirs
    reason = f"counted here, against {theirs:,} of cifar10-fast's ResNet-9 ({ours / theirs:.0%})"
    return Judgement(REPRODUCED if same else NOT_REPRODUCED, reason, f"{ours:,} parameters", [evidence])


def trained_longer(claim: dict, by_step: ByStep) -> Judgement:
    trainings = full_trainings(claim, by_step)
    if not trainings:
        short = _no_full_training(claim, by_step)
        return replace(short, ours=f"{_epochs(short.used[0])} epochs") if short.used else short
    longest = max(trainings, key=_epochs)
    reason = f"{_epochs(longest)} epochs, cifar10-fast makes {claim['cifar10_fast_epochs']}"
    return Judgement(REPRODUCED, reason, f"{_epochs(longest)} epochs", [longest])


def accuracy_above(claim: dict, by_step: ByStep) -> Judgement:
    trainings = full_trainings(claim, by_step)
    if not trainings:
        return _no_full_training(claim, by_step)
    accuracies = [evidence.measured["accuracy"] for evidence in trainings]
    what = f"mean of {len(trainings)} seeds" if len(trainings) > 1 else "one seed"
    if len(trainings) >= LEAST_RUNS:
        interval = statistics.mean_interval(accuracies)
    else:  # the seeds' spread is unknown: what so many photos can tell of one model
        interval = statistics.share_interval(round(np.mean(accuracies) * TEST_IMAGES / 100), TEST_IMAGES)
    verdict = _against(claim["threshold"], interval, REPRODUCED, NOT_REPRODUCED)
    return Judgement(verdict, f"{what}, {_recipe(trainings[0])} recipe, last epoch, against {claim['threshold']}%",
                     _with_interval(np.mean(accuracies), interval, "%"), trainings)


def accuracy_range(claim: dict, by_step: ByStep) -> Judgement:
    """The interval of our mean inside the original's range, outside of it, or across its ends."""
    trainings = full_trainings(claim, by_step)
    if not trainings:
        return _no_full_training(claim, by_step)
    if len(trainings) < claim["runs"]:
        return _not_run("too short a profile", trainings[0], f"{len(trainings)} of {claim['runs']} trainings")
    accuracies = [evidence.measured["accuracy"] for evidence in trainings]
    (low, high), (least, most) = statistics.mean_interval(accuracies), claim["range"]
    verdict = REPRODUCED if least <= low and high <= most else NOT_REPRODUCED if high < least or low > most else INCONCLUSIVE
    reason = f"mean {_with_interval(np.mean(accuracies), (low, high), '%')} against the original's range"
    return Judgement(verdict, reason, f"{min(accuracies):.2f}–{max(accuracies):.2f}% ({len(accuracies)} runs)", trainings)


def exported_accuracy(claim: dict, by_step: ByStep) -> Judgement:
    """Equivalence within a margin: where the interval of the difference lies. Takes weights trained to the end."""
    if not by_step["export"]:
        return _not_run("no exported model")
    evidence = by_step["export"][0]
    ours, images = evidence.measured["accuracy"], evidence.measured["test_images"]
    if not evidence.is_real:
        return _not_run("stand-in data", evidence)
    if images < TEST_IMAGES:
        return _not_run("too short a profile", evidence, f"{ours:.2f}% of {images:,} images")
    in_words = _with_interval(ours, statistics.share_interval(evidence.measured["correct"], images), "%")
    weights = evidence.measured["weights_sha256"]
    training = next((item for item in by_step["train"] if item.measured["weights_sha256"] == weights), None)
    if not training:
        return _not_run("no record of the training behind the exported weights", evidence, in_words)
    if missing := _missing(claim["protocols"], training):
        return Judgement(NOT_RUN, f"the exported weights come from {missing}", in_words, [evidence, training])
    low, high = statistics.share_difference_interval(ours, claim["accuracy"], images)
    margin = claim["margin"]
    within, apart = -margin <= low and high <= margin, high < -margin or low > margin
    verdict = REPRODUCED if within else NOT_REPRODUCED if apart else INCONCLUSIVE
    reason = (f"{_recipe(training)} recipe; {low:+.2f} to {high:+.2f} points from {claim['accuracy']}%, where anything within "
              f"±{margin} counts as about")
    return Judgement(verdict, reason, in_words, [evidence, training])


def latency_at_most(claim: dict, by_step: ByStep) -> Judgement:
    evidence, row = _engine_row(by_step, claim["engines"])
    if not row:
        return _not_run((evidence and "the engine did not run") or "no latency measured", evidence)
    (mean, interval), runs = latency.quantile(row, "mean"), len(row["runs"])
    if runs < LEAST_RUNS:
        return _not_run(_too_few(row["runs"]), evidence, f"{mean:,.1f} µs with {row['engine']}")
    ours = _with_interval(mean, interval, " µs", digits=1) + f" with {row['engine']}"
    if not _fits(claim["hardware"], evidence.record["environment"]):
        wanted = {"P100": "a P100", "newer GPU": "an NVIDIA GPU newer than the P100"}[claim["hardware"]]
        return _not_run(f"other hardware: it takes {wanted}", evidence, ours)
    limit = claim["limit_us"] * (1 + claim["margin"])
    verdict = _against(limit, interval, NOT_REPRODUCED, REPRODUCED)
    return Judgement(verdict, f"mean of {runs} runs, against {limit:,.0f} µs", ours, [evidence])


def run_spread(claim: dict, by_step: ByStep) -> Judgement:
    """Fewer or shorter runs can still refute: where the spread is beyond the limit by more than noise makes of it."""
    evidence, row = _engine_row(by_step, claim["engines"])
    if not row:
        return _not_run((evidence and "the engine did not run") or "no latency measured", evidence)
    means = np.array([run["mean_ns"] for run in row["runs"]])
    noise = statistics.range_noise([latency.mean_standard_error_ns(run) for run in row["runs"]]) / means.mean()
    spread = np.ptp(means) / means.mean()
    ours = f"{np.ptp(means) / 1e3:,.1f} µs apart, mean {means.mean() / 1e3:,.1f} µs ({spread:.2%})"
    runs, images = len(means), row["images"]
    if spread - noise > claim["share"]:
        reason = (f"{runs} runs of {images:,} images with {row['engine']} are further apart than {claim['share']:.2%}, by "
                  f"more than their own noise explains")
        return Judgement(NOT_REPRODUCED, reason, ours, [evidence])
    reason = f"{runs} runs of {images:,} images with {row['engine']}, against {claim['share']:.2%}"
    if runs < claim["runs"] or images < claim["images"]:
        wanted = f"{claim['runs']} of {claim['images']:,}"
        return _not_run(f"too short a profile to tell: {runs} runs of {images:,} images instead of {wanted}", evidence, ours)
    return Judgement(REPRODUCED if spread <= claim["share"] else INCONCLUSIVE, reason, ours, [evidence])


def half_no_gain(claim: dict, by_step: ByStep) -> Judgement:
    """No gain: the interval of the ratio to float32 lies above 1 − margin."""
    if not by_step["half_precision"]:
        return _not_run("no half precision measured")
    evidence = by_step["half_precision"][0]
    wanted = claim["engine"], claim["precision"]
    row = next((row for row in precision.ran(evidence.record) if (row["engine"], row["precision"]) == wanted), None)
    if not row or "ratio" not in row:
        return _not_run(f"{claim['precision']} did not run here", evidence)
    if len(row["runs"]) < LEAST_RUNS:
        return _not_run(_too_few(row["runs"]), evidence, f"{row['ratio']:.2f} × float32's time")
    ours = _with_interval(row["ratio"], row["ratio_interval"], "") + " × float32's time"
    if row["support"] != "native":
        return _not_run(f"other hardware: this one has no arithmetic in {row['precision']} and emulates it", evidence, ours)
    verdict = _against(1 - claim["margin"], row["ratio_interval"], REPRODUCED, NOT_REPRODUCED)
    reason = f"{row['engine']} over {len(row['runs'])} runs; a gain under {claim['margin']:.0%} counts as none"
    return Judgement(verdict, reason, ours, [evidence])


RULES: dict[str, Callable[[dict, ByStep], Judgement]] = {
    rule.__name__: rule
    for rule in (network_size, trained_longer, accuracy_above, accuracy_range, exported_accuracy, latency_at_most,
                 run_spread, half_no_gain)
}


def _against(threshold: float, interval: statistics.Interval, above: str, below: str) -> str:
    low, high = interval
    return above if low > threshold else below if high < threshold else INCONCLUSIVE


def _not_run(reason: str, evidence: Evidence | None = None, ours: str = "–") -> Judgement:
    return Judgement(NOT_RUN, reason, ours, [evidence] if evidence else [])


def _too_few(runs: Sequence) -> str:
    return f"too short a profile: {len(runs)} runs, {LEAST_RUNS} at least"


def _with_interval(value: float, interval: statistics.Interval, unit: str, digits: int = 2) -> str:
    return f"{value:,.{digits}f}{unit} ({interval[0]:,.{digits}f} to {interval[1]:,.{digits}f})"


def _epochs(evidence: Evidence) -> int:
    return len(evidence.measured["epochs"])


def _recipe(training: Evidence) -> str:
    return training.record["parameters"]["recipe"]


def full_trainings(claim: dict, by_step: ByStep) -> list[Evidence]:
    """The trainings that follow the first of the claim's protocols that any follows: equally long, one for each seed."""
    for protocol in claim["protocols"]:
        following = [evidence for evidence in by_step["train"] if not _missing([protocol], evidence)]
        seeds: dict[int, Evidence] = {}  # the same seed again is no further by_step: the run's own comes first
        for evidence in following:
            if _epochs(evidence) == _epochs(following[0]):
                seeds.setdefault(evidence.record["parameters"]["seed"], evidence)
        if seeds:
            return list(seeds.values())
    return []


def _no_full_training(claim: dict, by_step: ByStep) -> Judgement:
    if not by_step["train"]:
        return _not_run("no training on record")
    longest = max(by_step["train"], key=lambda evidence: evidence.measured["pflop"])
    alike = [evidence for evidence in by_step["train"] if evidence.measured["pflop"] == longest.measured["pflop"]]
    accuracies = ", ".join(f"{evidence.measured['accuracy']:.2f}%" for evidence in alike)
    return Judgement(NOT_RUN, _missing(claim["protocols"], longest), f"{accuracies} after epoch {_epochs(longest)}", alike)


def _missing(protocols: Sequence[dict], training: Evidence) -> str:
    """What keeps a training from following one of the protocols, in words; nothing where it does."""
    parameters, measured = training.record["parameters"], training.measured
    if not training.is_real:
        return "stand-in data"
    protocol = next((candidate for candidate in protocols if candidate["recipe"] == parameters["recipe"]), None)
    if not protocol:
        named = " or ".join(f"{wanted['epochs']} epochs by the {wanted['recipe']} recipe"
                            for wanted in protocols)
        return f"another recipe, {parameters['recipe']}; the claim takes {named}"
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


def _engine_row(by_step: ByStep, engines: Sequence[str]) -> tuple[Evidence | None, dict | None]:
    """The latency record, and in it the row of the first of `engines` that ran."""
    if not by_step["latency"]:
        return None, None
    evidence = by_step["latency"][0]
    ran = [row for engine in engines for row in latency.compared(evidence.record) if row["engine"] == engine]
    return evidence, ran[0] if ran else None


def _fits(hardware: str, environment: dict) -> bool:
    gpu = environment["gpu"]
    if hardware == "any":
        return True
    if hardware == "P100":
        return bool(gpu) and bool(re.search(r"\bP100\b", gpu["name"]))  # not a P1000
    return bool(gpu) and gpu["compute_capability"] >= [7, 0]
