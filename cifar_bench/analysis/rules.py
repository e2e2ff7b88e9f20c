"""The rules that judge: each takes a claim and the records by step, and returns a verdict with its reason.

Each says which one quantity it estimates and what "reproduced" means. tests/analysis/test_error_rates.py simulates how often
they say what, where a claim is true and where it is false.
"""

import re
from collections.abc import Callable
from itertools import chain

import numpy as np

from cifar_bench.analysis import frontier, latency, precision, statistics
from cifar_bench.analysis.admissible import (
    TEST_IMAGES,
    TRAINING_IMAGES,
    engine_row,
    epochs,
    full_length_runs,
    not_of_the_export,
    protocol_mismatch,
    seeds_clear,
    training_behind,
)
from cifar_bench.analysis.evidence import ByStep, Evidence
from cifar_bench.analysis.judgement import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    Judgement,
    against,
    listed,
    not_run,
    too_few,
    uncontended,
    with_interval,
    within,
)
from cifar_bench.analysis.latency import MIN_RUNS

TOO_NOISY = ("too noisy to tell: the same engine timed twice may differ by up to {:.1%} (A/A test); a machine on which that is "
             "less than {:.2%} could")


def network_size(claim: dict, by_step: ByStep) -> Judgement:
    """How many parameters the exported network has, a count: reproduced where it is the original's, below cifar10-fast's."""
    if not by_step["export"]:
        return not_run("no exported model")
    evidence = by_step["export"][0]
    ours, theirs = evidence.measured["parameters"], evidence.measured["cifar10_fast_parameters"]
    same = ours == claim["parameters"] and ours < theirs
    reason = f"counted here, against {theirs:,} of cifar10-fast's ResNet-9 ({ours / theirs:.0%})"
    return Judgement(REPRODUCED if same else NOT_REPRODUCED, reason, f"{ours:,} parameters", [evidence])


def trained_longer(claim: dict, by_step: ByStep) -> Judgement:
    """How many epochs the network was trained, a count: reproduced where they are more than cifar10-fast's.

    The network is that of the original's recipe; without such a training the exported one, whatever its recipe.
    """
    trainings, what = full_length_runs(claim, by_step), "by the original's recipe"
    if not trainings and by_step["export"]:
        behind = training_behind(by_step["export"][0], by_step)
        whole = behind and behind.is_real and behind.measured["train_images"] == TRAINING_IMAGES
        trainings, what = [behind] if whole else [], "for the exported weights"
    if not trainings:
        return _no_full_training(claim, by_step)
    made = epochs(trainings[0])
    verdict = REPRODUCED if made > claim["cifar10_fast_epochs"] else NOT_REPRODUCED
    return Judgement(verdict, f"{what}; cifar10-fast makes {claim['cifar10_fast_epochs']}", f"{made} epochs", trainings)


def accuracy_above(claim: dict, by_step: ByStep) -> Judgement:
    """The mean accuracy of the recipe over seeds, on the 10,000 test images: reproduced where its interval lies above."""
    trainings = full_length_runs(claim, by_step)
    if not trainings:
        return _no_full_training(claim, by_step)
    accuracies = [evidence.measured["accuracy"] for evidence in trainings]
    if few := too_few(trainings, "seeds"):
        return Judgement(NOT_RUN, few, listed(accuracies), trainings)
    interval = statistics.mean_interval(accuracies)
    verdict = against(claim["threshold"], interval, REPRODUCED, NOT_REPRODUCED)
    reason = f"mean of {len(trainings)} seeds, {_recipe(trainings[0])} recipe, last epoch, against {claim['threshold']}%"
    return Judgement(verdict, reason, with_interval(np.mean(accuracies), interval, "%"), trainings)


def accuracy_range(claim: dict, by_step: ByStep) -> Judgement:
    """The difference of our recipe's mean accuracy from the original's, of which the range of its runs is known.

    An equivalence test of two samples (two one-sided tests at 5%): reproduced where the 90% interval of the difference lies
    within the margin, not reproduced where it lies outside.
    """
    trainings = full_length_runs(claim, by_step)
    if not trainings:
        return _no_full_training(claim, by_step)
    accuracies = [evidence.measured["accuracy"] for evidence in trainings]
    if few := too_few(trainings, "seeds"):
        return Judgement(NOT_RUN, few, listed(accuracies), trainings)
    low, high = statistics.difference_from_range(accuracies, *claim["range"])
    reason = (f"{len(trainings)} seeds; their mean is {low:+.2f} to {high:+.2f} points (90%) from the original's, where "
              f"anything within ±{claim['margin']} counts as the same")
    return Judgement(within(claim["margin"], (low, high)), reason, listed(accuracies), trainings)


def exported_accuracy(claim: dict, by_step: ByStep) -> Judgement:
    """The difference in accuracy of the exported file from the original's, over photos such as the 10,000 that both saw.

    Paired, as McNemar's test is: only photos on which one of the two is right make a difference uncertain. The original's
    answers are not known; on how many photos two trainings of this network disagree is (`disagreement`). Reproduced where the
    interval lies within the margin. Takes weights trained to the end.
    """
    if not by_step["export"]:
        return not_run("no exported model")
    evidence = by_step["export"][0]
    ours, images = evidence.measured["accuracy"], evidence.measured["test_images"]
    if not evidence.is_real:
        return not_run("synthetic data", evidence)
    if images < TEST_IMAGES:
        return not_run("too short a profile", evidence, f"{ours:.2f}% of {images:,} images")
    training = training_behind(evidence, by_step)
    if not training:
        return not_run("no record of the training behind the exported weights", evidence, f"{ours:.2f}%")
    if missing := protocol_mismatch(claim["protocols"], training):
        return Judgement(NOT_RUN, f"the exported weights come from {missing}", f"{ours:.2f}%", [evidence, training])
    low, high = statistics.paired_difference_interval(ours - claim["accuracy"], claim["disagreement"], images)
    reason = (f"{_recipe(training)} recipe; {low:+.2f} to {high:+.2f} points from {claim['accuracy']}%, where anything within "
              f"±{claim['margin']} counts as about")
    return Judgement(within(claim["margin"], (low, high)), reason, f"{ours:.2f}%", [evidence, training])


def latency_at_most(claim: dict, by_step: ByStep) -> Judgement:
    """The mean latency of an image, over processes: reproduced where its interval lies at or below the limit."""
    evidence, row = engine_row(by_step, claim["engines"])
    if not row:
        return not_run((evidence and "the engine did not run") or "no latency measured", evidence)
    runs = latency.judged_runs(row)
    if few := too_few(runs, "runs"):
        return not_run(few, evidence, f"{np.mean([run['mean_ns'] for run in runs]) / 1e3:,.1f} µs with {row['engine']}")
    mean, interval = latency.quantile(row, "mean")
    ours = with_interval(mean, interval, " µs", digits=1) + f" with {row['engine']}"
    environment = evidence.record["environment"]
    if not _fits(claim["hardware"], environment):
        wanted = {"P100": "a P100", "newer GPU": "an NVIDIA GPU newer than the P100"}[claim["hardware"]]
        return not_run(f"needs {wanted}", evidence, ours)
    if other := not_of_the_export(claim, row, evidence, by_step):
        return not_run(other, evidence, ours)
    limit = claim["limit_us"] * (1 + claim["margin"])
    resolution = latency.aa_difference(evidence.record)
    reason = (f"mean of {len(runs)} runs ({environment['hardware']}, PyTorch {environment['versions']['torch']}), against "
              f"{limit:,.0f} µs with the PyTorch of 2018")
    verdict = against(limit, interval, NOT_REPRODUCED, REPRODUCED)
    if (distance := abs(mean / limit - 1)) < resolution:
        verdict, reason = INCONCLUSIVE, TOO_NOISY.format(resolution, distance)
    return uncontended(Judgement(verdict, reason, ours, [evidence]), runs)


def run_spread(claim: dict, by_step: ByStep) -> Judgement:
    """How far the slowest and the fastest of ten runs are apart in expectation, as a share of their mean.

    From the runs' standard deviation, with its interval for runs that are normal. Reproduced where the upper end (95%,
    one-sided) is at most twice the original's, below which two samples of ten cannot be told apart; not reproduced where the
    lower end is above that. Where the same engine, timed twice, may differ by more, the machine cannot tell.
    """
    evidence, row = engine_row(by_step, claim["engines"])
    if not row:
        return not_run((evidence and "the engine did not run") or "no latency measured", evidence)
    runs = latency.judged_runs(row)
    means = np.array([run["mean_ns"] for run in runs])
    ours = f"{np.ptp(means) / 1e3:,.1f} µs apart, mean {means.mean() / 1e3:,.1f} µs ({np.ptp(means) / means.mean():.2%})"
    if few := too_few(means, "runs"):
        return not_run(few, evidence, ours)
    if other := not_of_the_export(claim, row, evidence, by_step):
        return not_run(other, evidence, ours)
    low, high = statistics.expected_range(means / means.mean())
    limit, resolution = 2 * claim["share"], latency.aa_difference(evidence.record)
    reason = (f"{len(means)} runs of {row['images']:,} images with {row['engine']}: ten are {low:.2%} to {high:.2%} apart "
              f"(90%), where up to {limit:.2%}, twice the original's, counts as the same")
    if low > limit and resolution > limit:
        return Judgement(INCONCLUSIVE, TOO_NOISY.format(resolution, limit), ours, [evidence])
    if high <= limit and (len(means) < claim["runs"] or row["images"] < claim["images"]):
        wanted = f"{claim['runs']} of {claim['images']:,}"
        short = f"too short a profile: {len(means)} runs of {row['images']:,} images instead of {wanted}"
        return not_run(short, evidence, ours)
    verdict = REPRODUCED if high <= limit else NOT_REPRODUCED if low > limit else INCONCLUSIVE
    return uncontended(Judgement(verdict, reason, ours, [evidence]), runs)


def half_no_gain(claim: dict, by_step: ByStep) -> Judgement:
    """The mean latency in 16 bits over that in float32, in one engine, each as well set as it can be.

    Of the 16-bit formats that the hardware computes in, the fastest is judged. No gain is reproduced where the interval of the
    ratio lies above 1 − margin.
    """
    if not by_step["half_precision"]:
        return not_run("no half precision measured")
    evidence = by_step["half_precision"][0]
    rows = [row for row in precision.ran(evidence.record)
            if row["engine"] == claim["engine"] and row["precision"] in claim["precisions"] and "ratio" in row]
    if not rows:
        return not_run(f"no 16-bit format ran with {claim['engine']} here", evidence)
    native = [row for row in rows if row["support"] == "native"]
    row = min(native or rows, key=lambda row: row["ratio"])
    ours = f"{row['precision']}: " + with_interval(row["ratio"], row["ratio_interval"], "") + " × float32's time"
    runs = latency.pairs(row, precision.base_of(row, evidence.record))
    if few := too_few(runs, "runs"):
        return not_run(few, evidence, f"{row['precision']}: {row['ratio']:.2f} × float32's time")
    if not native:
        return not_run("other hardware: this one computes in no 16-bit format and emulates it", evidence, ours)
    if other := not_of_the_export(claim, row, evidence, by_step):
        return not_run(other, evidence, ours)
    verdict = against(1 - claim["margin"], row["ratio_interval"], REPRODUCED, NOT_REPRODUCED)
    reason = (f"{len(runs)} runs of {row['engine']} with the fastest 16-bit format that this hardware computes in; a gain "
              f"under {claim['margin']:.0%} would count as none")
    reason += "".join(f"; {other['precision']}{' is emulated and' * (other['support'] != 'native')} takes {other['ratio']:.2f}"
                      for other in rows if other is not row)
    if verdict == INCONCLUSIVE:
        reason += "; the interval holds both a gain and a loss, and steadier runs, or more, could tell"
    return uncontended(Judgement(verdict, reason, ours, [evidence]), chain.from_iterable(runs))


def time_at_accuracy(claim: dict, by_step: ByStep) -> Judgement:
    """The median latency of the fastest file that is right on enough test images, over TorchScript's for the original network.

    Paired by round. The file's accuracy is a count; that it is not luck is shown by the mean of its network's trainings, which
    must lie above the limit, too. Reproduced where the ratio's interval lies below the limit, not reproduced where above,
    unless a faster file waits for its network's trainings.
    """
    if not by_step["faster"]:
        return not_run("this run has no record of 5_faster")
    evidence = by_step["faster"][0]
    images, accuracy, base = evidence.measured["test_images"], claim["accuracy"], frontier.base(evidence.measured["rows"])
    if not evidence.is_real:
        return not_run("synthetic data", evidence)
    if images < TEST_IMAGES:
        return not_run(f"too short a profile: {images:,} of {TEST_IMAGES:,} test images", evidence)
    if not base:
        return not_run("TorchScript did not run with the original network", evidence)
    if other := not_of_the_export(claim, base, evidence, by_step):
        return not_run(other, evidence)
    rows = frontier.ran(evidence.record)
    row = frontier.fastest_at([row for row in rows if seeds_clear(row, accuracy)], accuracy)
    pending = frontier.fastest_at([row for row in rows if row["ratio_interval"][0] <= claim["limit"]
                                  and len(row["seed_accuracies"]) < MIN_RUNS], accuracy)
    if pending and (not row or row["ratio_interval"][0] > claim["limit"]):
        seeds = f"seeds of its network that were trained: {len(pending['seed_accuracies'])}, {MIN_RUNS} are needed"
        return not_run(f"{frontier.name(pending)}: {seeds}", evidence, _time_at_accuracy(pending))
    if not row:
        reason = f"nothing that was tried is right on {accuracy:g}%, with a mean above that over {MIN_RUNS} seeds or more"
        return Judgement(NOT_REPRODUCED, reason, used=[evidence])
    ours = _time_at_accuracy(row)
    runs = latency.pairs(row, base)
    if few := too_few(runs, "runs"):
        return not_run(few, evidence, ours)
    seeds = row["seed_accuracies"]
    reason = f"{frontier.name(row)}, {row['us']:,.0f} µs; the network's mean is {np.mean(seeds):.2f}% over {len(seeds)} seeds"
    verdict = against(claim["limit"], row["ratio_interval"], NOT_REPRODUCED, REPRODUCED)
    return uncontended(Judgement(verdict, reason, ours, [evidence]), chain.from_iterable(runs))


def _time_at_accuracy(row: dict) -> str:
    return with_interval(row["ratio"], row["ratio_interval"], "", 3) + f" × TorchScript's time, {row['test_accuracy']:.2f}%"


RULES: dict[str, Callable[[dict, ByStep], Judgement]] = {
    rule.__name__: rule
    for rule in (network_size, trained_longer, accuracy_above, accuracy_range, exported_accuracy, latency_at_most,
                 run_spread, half_no_gain, time_at_accuracy)
}


def _recipe(training: Evidence) -> str:
    return training.record["parameters"]["recipe"]


def _no_full_training(claim: dict, by_step: ByStep) -> Judgement:
    if not by_step["train"]:
        return not_run("no training on record")
    longest = max(by_step["train"], key=lambda evidence: evidence.measured["pflop"])
    alike = [evidence for evidence in by_step["train"] if evidence.measured["pflop"] == longest.measured["pflop"]]
    accuracies = listed([evidence.measured["accuracy"] for evidence in alike])
    return Judgement(NOT_RUN, protocol_mismatch(claim["protocols"], longest), f"{accuracies} after epoch {epochs(longest)}", alike)


def _fits(hardware: str, environment: dict) -> bool:
    gpu = environment["gpu"]
    if hardware == "any":
        return True
    if hardware == "P100":
        return bool(gpu) and bool(re.search(r"\bP100\b", gpu["name"]))  # not a P1000
    return bool(gpu) and gpu["compute_capability"] >= [7, 0]
