"""Which records a rule may judge: training runs that follow a protocol, and timings of the exported network in the claim."""

import math
from collections.abc import Iterable, Sequence

from cifar_bench.analysis import latency, statistics
from cifar_bench.analysis.evidence import THIS_RUN, ByStep, Evidence

TRAINING_IMAGES = 50_000
TEST_IMAGES = 10_000
MIN_IMAGES = 200  # timed in a run
ACCURACY_TOLERANCE = 3.0  # percentage points, beyond sampling error, between the accuracies of timed predictions and the export


def full_length_runs(claim: dict, by_step: ByStep) -> list[Evidence]:
    """The training runs that follow the first of the claim's protocols that any run follows: one recipe, one run per seed.

    Where they differ in hyperparameters, those of this run where it has enough seeds, else those with the most seeds.
    """
    for protocol in claim["protocols"]:
        following = [run for run in by_step["train"] if not protocol_mismatch([protocol], run)]
        alike = [_one_per_seed(other for other in following if _hyperparameters(other) == _hyperparameters(run))
                 for run in following]
        if alike:
            return max(alike, key=lambda runs: (runs[0].when == THIS_RUN and len(runs) >= latency.MIN_RUNS, len(runs)))
    return []


def training_run_of(export: Evidence, by_step: ByStep) -> Evidence | None:
    """The training run that made the exported weights; None where it is not on record."""
    weights = export.measured["weights_sha256"]
    return next((run for run in by_step["train"] if run.measured["weights_sha256"] == weights), None)


def replicates(name: str, faster: dict, by_step: ByStep) -> list[Evidence]:
    """The full-length training runs with the configuration of a network in a `5_faster` record, one per seed."""
    weights = faster["measurements"]["networks"][name].get("weights_sha256")
    if not weights and not name and by_step["export"]:  # older records do not name the weights
        weights = by_step["export"][0].measured["weights_sha256"]
    runs = by_step["train"] + by_step["networks"]
    exported = next((run for run in runs if run.measured["weights_sha256"] == weights), None)
    if not exported:
        return []
    return _one_per_seed(run for run in runs if _configuration(run) == _configuration(exported)
                         and run.measured["train_images"] == TRAINING_IMAGES and run.measured["test_images"] == TEST_IMAGES)


def epochs(run: Evidence) -> int:
    return len(run.measured["epochs"])


def protocol_mismatch(protocols: Sequence[dict], run: Evidence) -> str:
    """Why a training run follows none of the protocols; "" where it follows one."""
    parameters, measured = run.record["parameters"], run.measured
    if not run.is_real:
        return "synthetic data"
    protocol = next((protocol for protocol in protocols if protocol["recipe"] == parameters["recipe"]), None)
    if not protocol:
        accepted = " or ".join(f"{protocol['epochs']} epochs of the {protocol['recipe']} recipe" for protocol in protocols)
        return f"another recipe: {parameters['recipe']}; the claim needs {accepted}"
    expected = {"without": [], "widths": [], "teachers": [], **{name: protocol[name] for name in ("width", "batch_size")}}
    for name, value in expected.items():
        if parameters[name] != value:
            return f"another protocol: {name} is {parameters[name]} instead of {value}"
    if measured["scored_on"] != "test images":
        return f"scored on {measured['scored_on']}"
    if measured["test_images"] < TEST_IMAGES:
        return f"too short a profile: {measured['test_images']:,} of {TEST_IMAGES:,} test images"
    if epochs(run) < protocol["epochs"] or measured["train_images"] < TRAINING_IMAGES:
        return (f"too short a profile: {epochs(run)} of {protocol['epochs']} epochs on "
                f"{measured['train_images']:,} of {TRAINING_IMAGES:,} images")
    return ""


def export_mismatch(claim: dict, row: dict, timing: Evidence, by_step: ByStep) -> str:
    """Why a timed row is not known to be the judged export with the claim's network; "" where it is.

    Three things tie a row to the export: the SHA-256 of model.pt, the logits, and the accuracy of the timed predictions.
    """
    if not by_step["export"]:
        return "no record of the export that was timed"
    export = by_step["export"][0].measured
    if export["parameters"] != claim["parameters"]:
        return f"another network: {export['parameters']:,} parameters instead of {claim['parameters']:,}"
    if timing.measured["models_sha256"].get("model.pt") != export["formats"]["model.pt"]["sha256"]:
        return "the timed model.pt is not the export on record"
    if row["images"] < MIN_IMAGES:
        return f"too short a profile: {row['images']} images a run, {MIN_IMAGES} needed"
    if row["max_logit_error"] > latency.LOGIT_ERROR[row["precision"]]:
        return f"the timed engine computes something else: logit error {row['max_logit_error']:.2g}"
    if timing.is_real and by_step["export"][0].is_real and not _accuracies_agree(row, export["accuracy"]):
        return f"the timed predictions have an accuracy of {row['accuracy']:.2f}%, the export has {export['accuracy']:.2f}%"
    return ""


def with_seeds(row: dict, faster: Evidence, by_step: ByStep) -> dict:
    """A row of `5_faster` with the replicates of its network, its `seeds`, and their `seed_accuracies` (%).

    Those of an int8 row are of the seeds' networks as the row's was quantized; seeds that were not so scored are left out.
    """
    accuracies = [(seed, _accuracy_as_in(row, seed)) for seed in replicates(row["network"], faster.record, by_step)]
    scored = [(seed, accuracy) for seed, accuracy in accuracies if accuracy is not None]
    return {**row, "seeds": [seed for seed, _ in scored], "seed_accuracies": [accuracy for _, accuracy in scored]}


def mean_accuracy_exceeds(row: dict, claim: dict) -> bool:
    """Whether the interval of the mean accuracy over the seeds of a row `with_seeds` is above the claim's.

    False with fewer seeds than the claim asks for, and where the timed predictions are not as accurate as the row's file.
    """
    return _mean_accuracy_interval(row, claim)[0] > claim["accuracy"] and _accuracies_agree(row, row["test_accuracy"])


def mean_accuracy_is_open(row: dict, claim: dict) -> bool:
    """Whether the seeds of a row `with_seeds` do not tell on which side of the claim's accuracy their mean is."""
    low, high = _mean_accuracy_interval(row, claim)
    return low <= claim["accuracy"] <= high


def engine_row(by_step: ByStep, engines: Sequence[str]) -> tuple[Evidence | None, dict | None]:
    """The latency record, and in it the row of the first of `engines` that ran."""
    if not by_step["latency"]:
        return None, None
    evidence = by_step["latency"][0]
    rows = {row["engine"]: row for row in evidence.measured["engines"] if "runs" in row and not row["variant"]}
    return evidence, next((rows[engine] for engine in engines if engine in rows), None)


def _accuracy_as_in(row: dict, seed: Evidence) -> float | None:
    """The accuracy (%) of a seed's network, quantized as in an int8 row; None where it was not so scored."""
    if row["precision"] != "int8":
        return seed.measured["accuracy"]
    return seed.measured.get("int8_accuracy", {}).get(row.get("quantizer"))  # older records have neither


def _mean_accuracy_interval(row: dict, claim: dict) -> statistics.Interval:
    """The interval of the mean accuracy (%) over a network's seeds; without bounds where there are too few for the claim."""
    seeds = row["seed_accuracies"]
    return statistics.mean_interval(seeds) if len(seeds) >= claim["seeds"] else (-math.inf, math.inf)


def _accuracies_agree(row: dict, accuracy: float) -> bool:
    """Whether a row's timed predictions may come from a network with this accuracy (%)."""
    low, high = statistics.accuracy_interval(row["accuracy"], row["images"])
    return low - ACCURACY_TOLERANCE <= accuracy <= high + ACCURACY_TOLERANCE


def _one_per_seed(runs: Iterable[Evidence]) -> list[Evidence]:
    """The first run of each seed: a repeated seed is no independent sample."""
    seeds: dict[int, Evidence] = {}
    for run in runs:
        seeds.setdefault(run.record["parameters"]["seed"], run)
    return list(seeds.values())


def _configuration(run: Evidence) -> tuple:
    """What training runs must share to be replicates of one network."""
    parameters = run.record["parameters"]
    return (_hyperparameters(run), parameters["batch_size"], parameters["widths"] or parameters["width"],
            parameters["teachers"], run.is_real, run.measured["scored_on"])


def _hyperparameters(run: Evidence) -> tuple[int, dict]:
    """What training runs must share to be averaged."""
    return epochs(run), run.measured["recipe"]
