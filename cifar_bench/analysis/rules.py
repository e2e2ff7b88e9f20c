"""The rules that judge: each takes a claim and the records by step, and returns a verdict with its reason.

Each docstring names the one quantity that the rule estimates and says what "reproduced" means. How often the rules err, where a
claim is true and where it is false, is simulated in tests/analysis/test_error_rates.py.
"""

import re
from collections.abc import Callable

import numpy as np

from cifar_bench.analysis import admissible, frontier, latency, precision, states, statistics
from cifar_bench.analysis.evidence import ByStep, Evidence
from cifar_bench.analysis.judgement import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    Judgement,
    downgrade_if_disturbed,
    equivalence_verdict,
    format_accuracies,
    format_interval,
    insufficient_sample,
    not_run,
    threshold_verdict,
)

NO_AA_TEST = "the A/A noise is unknown: time torchscript, too"
TOO_NOISY = "A/A noise of up to {:.1%} (torchscript) exceeds the difference of {:.1%} from the limit"


def network_size(claim: dict, by_step: ByStep) -> Judgement:
    """The number of parameters, a count: reproduced where it is the original's and below cifar10-fast's."""
    if not by_step["export"]:
        return not_run("no exported model")
    evidence = by_step["export"][0]
    ours, theirs = evidence.measured["parameters"], evidence.measured["cifar10_fast_parameters"]
    same = ours == claim["parameters"] and ours < theirs
    reason = f"counted in the exported network; cifar10-fast's ResNet-9 has {theirs:,} ({ours / theirs:.0%})"
    return Judgement(REPRODUCED if same else NOT_REPRODUCED, reason, f"{ours:,} parameters", [evidence])


def trained_longer(claim: dict, by_step: ByStep) -> Judgement:
    """The number of epochs, a count: reproduced where it is above cifar10-fast's."""
    runs = admissible.full_length_runs(claim, by_step)
    if not runs:
        return _no_full_length_run(claim, by_step)
    epochs, theirs = admissible.epochs(runs[0]), claim["cifar10_fast_epochs"]
    reason = f"the {_recipe(runs[0])} recipe; cifar10-fast trains for {theirs}"
    return Judgement(REPRODUCED if epochs > theirs else NOT_REPRODUCED, reason, f"{epochs} epochs", runs)


def accuracy_above(claim: dict, by_step: ByStep) -> Judgement:
    """The recipe's mean test accuracy over seeds: reproduced where its interval is above the threshold."""
    runs, accuracies, not_judged = _seeds(claim, by_step)
    if not_judged:
        return not_judged
    interval = statistics.mean_interval(accuracies)
    verdict = threshold_verdict(claim["threshold"], interval, REPRODUCED, NOT_REPRODUCED)
    reason = f"mean over {len(runs)} seeds of the {_recipe(runs[0])} recipe, last epoch, against {claim['threshold']}%"
    return Judgement(verdict, reason, format_interval(np.mean(accuracies), interval, "%"), runs)


def accuracy_range(claim: dict, by_step: ByStep) -> Judgement:
    """The difference of the recipe's mean accuracy from the original's, for which the range of five runs is known.

    An equivalence test of two samples (two one-sided tests at 5%): reproduced where the 90% interval of the difference is
    within the margin, not reproduced where it is outside.
    """
    runs, accuracies, not_judged = _seeds(claim, by_step)
    if not_judged:
        return not_judged
    low, high = statistics.difference_from_range(accuracies, *claim["range"])
    reason = (f"{len(runs)} seeds; their mean differs from the original's by {low:+.2f} to {high:+.2f} points (90% interval); "
              f"a difference within ±{claim['margin']} counts as none")
    return Judgement(equivalence_verdict(claim["margin"], (low, high)), reason, format_accuracies(accuracies), runs)


def exported_accuracy(claim: dict, by_step: ByStep) -> Judgement:
    """The difference of the exported file's accuracy from the original's, with the sampling error of the shared test images.

    Paired, as in McNemar's test: only images that one of the two classifies correctly add uncertainty. The original's
    predictions are not known, but the `disagreement` of two training runs of this network is. Reproduced where the interval is
    within the margin. Needs weights of a full-length run.
    """
    if not by_step["export"]:
        return not_run("no exported model")
    evidence = by_step["export"][0]
    ours, images = evidence.measured["accuracy"], evidence.measured["test_images"]
    if not evidence.is_real:
        return not_run("synthetic data", evidence)
    if images < admissible.TEST_IMAGES:
        return not_run("too short a profile", evidence, f"{ours:.2f}% of {images:,} images")
    run = admissible.training_run_of(evidence, by_step)
    if not run:
        return not_run("no record of the training run that made the exported weights", evidence, f"{ours:.2f}%")
    if mismatch := admissible.protocol_mismatch(claim["protocols"], run):
        return Judgement(NOT_RUN, f"the exported weights: {mismatch}", f"{ours:.2f}%", [evidence, run])
    low, high = statistics.paired_difference_interval(ours - claim["accuracy"], claim["disagreement"], images)
    reason = (f"{_recipe(run)} recipe; {low:+.2f} to {high:+.2f} points from {claim['accuracy']}%; "
              f"a difference within ±{claim['margin']} counts as none")
    return Judgement(equivalence_verdict(claim["margin"], (low, high)), reason, f"{ours:.2f}%", [evidence, run])


def latency_at_most(claim: dict, by_step: ByStep) -> Judgement:
    """The mean latency over processes: reproduced where its interval is below the limit."""
    evidence, row = admissible.engine_row(by_step, claim["engines"])
    if not row:
        return not_run((evidence and "the engine did not run") or "no latency measured", evidence)
    runs = latency.judged_runs(row)
    if reason := insufficient_sample(runs, "runs"):
        return not_run(reason, evidence, f"{np.mean([run['mean_ns'] for run in runs]) / 1e3:,.0f} µs with {row['engine']}")
    mean, interval = latency.mean(row)
    ours = format_interval(mean, interval, " µs", digits=0) + f" with {row['engine']}"
    environment = evidence.record["environment"]
    if not _hardware_matches(claim["hardware"], environment):
        needed = {"P100": "a P100", "newer GPU": "an NVIDIA GPU newer than the P100"}[claim["hardware"]]
        return not_run(f"needs {needed}", evidence, ours)
    if mismatch := admissible.export_mismatch(claim, row, evidence, by_step):
        return not_run(mismatch, evidence, ours)
    limit = claim["limit_us"] * (1 + claim["margin"])
    noise, distance = latency.aa_noise(evidence.record, "mean"), abs(mean / limit - 1)
    reason = (f"mean of {len(runs)} runs ({environment['hardware']}, PyTorch {environment['versions']['torch']}), against "
              f"{limit:,.0f} µs with the PyTorch of 2018: no comparison of hardware alone")
    verdict = threshold_verdict(limit, interval, NOT_REPRODUCED, REPRODUCED)
    if noise is None or distance < noise:
        verdict, reason = INCONCLUSIVE, NO_AA_TEST if noise is None else TOO_NOISY.format(noise, distance)
    return downgrade_if_disturbed(Judgement(verdict, reason, ours, [evidence]), zip(runs))


def run_spread(claim: dict, by_step: ByStep) -> Judgement:
    """The expected spread (max − min) of ten runs, as a share of their mean.

    From the standard deviation of the runs, with its 90% interval for normal runs. Reproduced where the upper end is at most
    twice the original's spread, below which two samples of ten are indistinguishable; not reproduced where the lower end is
    above that. A noisy machine is no excuse here: that its runs differ is the answer.
    """
    evidence, row = admissible.engine_row(by_step, claim["engines"])
    if not row:
        return not_run((evidence and "the engine did not run") or "no latency measured", evidence)
    runs = latency.judged_runs(row)
    means = np.array([run["mean_ns"] for run in runs])
    ours = f"{100 * np.ptp(means) / means.mean():.3g}% ({np.ptp(means) / 1e3:,.0f} µs of {means.mean() / 1e3:,.0f} µs)"
    if reason := insufficient_sample(means, "runs"):
        return not_run(reason, evidence, ours)
    if mismatch := admissible.export_mismatch(claim, row, evidence, by_step):
        return not_run(mismatch, evidence, ours)
    low, high = statistics.expected_range(means / means.mean())
    limit = 2 * claim["share"]
    reason = (f"{len(means)} runs of {row['images']:,} images with {row['engine']}: ten have a spread of {low:.2%} to "
              f"{high:.2%} (90% interval); up to {limit:.2%}, twice the original's, counts as the same")
    if high <= limit and (len(means) < claim["runs"] or row["images"] < claim["images"]):
        return not_run(f"too short a profile: {len(means)} runs of {row['images']:,} images instead of {claim['runs']} of "
                       f"{claim['images']:,}", evidence, ours)
    groups = [[run["mean_ns"] for run in group] for group in states.grouped(runs) if len(group) >= latency.MIN_RUNS]
    if len(groups) > 1:
        within = " and ".join(f"{np.ptp(group) / np.mean(group):.2%} ({len(group)} runs)" for group in groups)
        reason += f"; within a state of the machine the spread is {within}"
    verdict = REPRODUCED if high <= limit else NOT_REPRODUCED if low > limit else INCONCLUSIVE
    return downgrade_if_disturbed(Judgement(verdict, reason, ours, [evidence]), zip(runs))


def half_no_gain(claim: dict, by_step: ByStep) -> Judgement:
    """The ratio of the median latency in a 16-bit format to that in float32, in one tuned engine.

    The format is the fastest whose measured peak FLOP/s exceed float32's. Reproduced where the ratio's interval is above
    1 − margin.
    """
    if not by_step["half_precision"]:
        return not_run("no half precision measured")
    evidence = by_step["half_precision"][0]
    rows = [row for row in precision.ran(evidence.record)
            if row["engine"] == claim["engine"] and row["precision"] in claim["precisions"] and "ratio" in row]
    if not rows:
        return not_run(f"no 16-bit format ran with {claim['engine']} here", evidence)
    candidates = [row for row in rows if row["peak_ratio"] > precision.HIGHER_PEAK]
    row = min(candidates or rows, key=lambda row: row["ratio"])
    ours = f"{row['precision']}: speedup " + format_interval(*_speedup(row), "×")
    runs = latency.paired_runs(row, precision.base_of(row, evidence.record))
    if reason := insufficient_sample(runs, "runs"):
        return not_run(reason, evidence, f"{row['precision']}: speedup {1 / row['ratio']:.2f}×")
    if not candidates:
        return not_run("other hardware: the peak FLOP/s of no 16-bit format exceed float32's here", evidence, ours)
    if mismatch := admissible.export_mismatch(claim, row, evidence, by_step):
        return not_run(mismatch, evidence, ours)
    verdict = threshold_verdict(1 - claim["margin"], row["ratio_interval"], REPRODUCED, NOT_REPRODUCED)
    reason = (f"{len(runs)} runs of {row['engine']} in {row['precision']}, the fastest 16-bit format whose peak FLOP/s exceed "
              f"float32's ({row['peak_ratio']:.2g}×); a gain below {claim['margin']:.0%} counts as none")
    reason += "".join(f"; {other['precision']} (peak {other['peak_ratio']:.2g}×): speedup {1 / other['ratio']:.2f}×"
                      for other in rows if other is not row)
    if not _hardware_matches("P100", evidence.record["environment"]):
        reason += f"; the claim concerned a P100, this is {evidence.record['environment']['hardware']}"
    if verdict == INCONCLUSIVE:
        reason += "; the interval includes both a gain and none: more stable runs, or more of them, could tell"
    return downgrade_if_disturbed(Judgement(verdict, reason, ours, [evidence]), runs)


def speedup_at_accuracy(claim: dict, by_step: ByStep) -> Judgement:
    """The speedup in median latency of the fastest accurate file over TorchScript with the original network, paired by round.

    An accurate file reaches the claimed accuracy, and the interval of its network's mean over seeds is above it, so that seed
    variance decides nothing. No round judges which file it found the fastest itself. Reproduced where the speedup's interval is
    above the limit, not reproduced where it is below, unless the seeds leave the mean accuracy of a faster file's network open.
    """
    if not by_step["faster"]:
        return not_run("this run has no record of 5_faster")
    evidence = by_step["faster"][0]
    images, accuracy, base = evidence.measured["test_images"], claim["accuracy"], frontier.base(evidence.measured["rows"])
    if not evidence.is_real:
        return not_run("synthetic data", evidence)
    if images < admissible.TEST_IMAGES:
        return not_run(f"too short a profile: {images:,} of {admissible.TEST_IMAGES:,} test images", evidence)
    if not base:
        return not_run("TorchScript did not run with the original network", evidence)
    if mismatch := admissible.export_mismatch(claim, base, evidence, by_step):
        return not_run(mismatch, evidence)
    rows = [admissible.with_seeds(row, evidence, by_step) for row in frontier.ran(evidence.record)]
    accurate = [row for row in rows if row["test_accuracy"] >= accuracy and admissible.mean_accuracy_exceeds(row, claim)]
    row = accurate[0] if accurate else None
    pending = frontier.fastest_at([row for row in rows if _speedup(row)[1][1] >= claim["speedup"]
                                   and admissible.mean_accuracy_is_open(row, claim)], accuracy)
    if pending and (not row or _speedup(row)[1][1] < claim["speedup"]):
        trained = pending["seed_accuracies"]
        if len(trained) < claim["seeds"]:
            done = "scored in int8" if pending["precision"] == "int8" else "trained"
            reason = f"{frontier.name(pending)}: {len(trained)} of {claim['seeds']} seeds of its network have been {done}"
            return Judgement(NOT_RUN, reason, _speedup_and_accuracy(pending), [evidence, *pending["seeds"]])
        mean = format_interval(np.mean(trained), statistics.mean_interval(trained), "%")
        reason = f"{frontier.name(pending)}: the network's mean accuracy over {len(trained)} seeds is {mean}"
        return Judgement(INCONCLUSIVE, reason, _speedup_and_accuracy(pending), [evidence, *pending["seeds"]])
    if not row:
        reason = f"no file reached {accuracy:g}% with an interval of the mean above that over {claim['seeds']} seeds or more"
        return Judgement(NOT_REPRODUCED, reason, used=[evidence])
    ours, seeds, runs = _speedup_and_accuracy(row), row["seed_accuracies"], latency.paired_runs(row, base)
    if reason := insufficient_sample(runs, "runs"):
        return not_run(reason, evidence, ours)
    row["ratio"], row["ratio_interval"] = latency.fastest_ratio(accurate, base)
    ours = _speedup_and_accuracy(row)
    reason = (f"{frontier.name(row)}: median {row['us']:,.0f} µs; the network's mean accuracy is {np.mean(seeds):.2f}% over "
              f"{len(seeds)} seeds")
    verdict = threshold_verdict(claim["speedup"], _speedup(row)[1], REPRODUCED, NOT_REPRODUCED)
    return downgrade_if_disturbed(Judgement(verdict, reason, ours, [evidence, *row["seeds"]]), runs)


RULES: dict[str, Callable[[dict, ByStep], Judgement]] = {
    rule.__name__: rule
    for rule in (network_size, trained_longer, accuracy_above, accuracy_range, exported_accuracy, latency_at_most,
                 run_spread, half_no_gain, speedup_at_accuracy)
}


def _recipe(run: Evidence) -> str:
    return run.record["parameters"]["recipe"]


def _seeds(claim: dict, by_step: ByStep) -> tuple[list[Evidence], list[float], Judgement | None]:
    """The claim's full-length runs and their accuracies (%), and the verdict where there are too few to judge."""
    runs = admissible.full_length_runs(claim, by_step)
    if not runs:
        return [], [], _no_full_length_run(claim, by_step)
    accuracies = [run.measured["accuracy"] for run in runs]
    reason = insufficient_sample(runs, "seeds")
    return runs, accuracies, Judgement(NOT_RUN, reason, format_accuracies(accuracies), runs) if reason else None


def _no_full_length_run(claim: dict, by_step: ByStep) -> Judgement:
    if not by_step["train"]:
        return not_run("no training run on record")
    longest = max(by_step["train"], key=lambda run: run.measured["pflop"])
    ours = f"{longest.measured['accuracy']:.2f}% after epoch {admissible.epochs(longest)}"
    return not_run(admissible.protocol_mismatch(claim["protocols"], longest), longest, ours)


def _hardware_matches(hardware: str, environment: dict) -> bool:
    gpu = environment["gpu"]
    if hardware == "P100":
        return bool(gpu) and bool(re.search(r"\bP100\b", gpu["name"]))  # not a P1000
    return hardware == "any" or (bool(gpu) and gpu["compute_capability"] >= [7, 0])


def _speedup(row: dict) -> tuple[float, statistics.Interval]:
    """The speedup of a row of `frontier.ran` or `precision.ran` over its baseline, with its interval."""
    low, high = row["ratio_interval"]
    return 1 / row["ratio"], (1 / high, 1 / low)


def _speedup_and_accuracy(row: dict) -> str:
    return format_interval(*_speedup(row), "×", digits=1) + f" faster than TorchScript, {row['test_accuracy']:.2f}% accuracy"
