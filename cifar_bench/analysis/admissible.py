"""Which records a rule may judge: trainings that follow a protocol, and timings of the exported network they claim to time."""

from collections.abc import Iterable, Sequence

import numpy as np

from cifar_bench.analysis import latency, statistics
from cifar_bench.analysis.evidence import ByStep, Evidence

TRAINING_IMAGES = 50_000
TEST_IMAGES = 10_000
MIN_IMAGES = 200  # timed in a run
TOLERANCE = 3.0  # percentage points by which the accuracy of timed predictions may differ from the export's, beyond chance


def full_length_runs(claim: dict, by_step: ByStep) -> list[Evidence]:
    """The trainings that follow the first of the claim's protocols that any follows: by one recipe, one for each seed."""
    for protocol in claim["protocols"]:
        following = [evidence for evidence in by_step["train"] if not protocol_mismatch([protocol], evidence)]
        if following:
            return _first_of_each_seed(item for item in following if _recipe(item) == _recipe(following[0]))
    return []


def training_behind(export: Evidence, by_step: ByStep) -> Evidence | None:
    """The record of the training that made the exported weights."""
    weights = export.measured["weights_sha256"]
    return next((item for item in by_step["train"] if item.measured["weights_sha256"] == weights), None)


def runs_like(export: Evidence, by_step: ByStep) -> list[Evidence]:
    """The trainings that tell what to expect of the exported network: made as the one behind it, in full, one for each seed."""
    behind = training_behind(export, by_step)
    if not behind:
        return []
    whole = (training for training in by_step["train"] if training.measured["train_images"] == TRAINING_IMAGES
             and training.measured["test_images"] == TEST_IMAGES)
    return _first_of_each_seed(training for training in whole if _made_as(training) == _made_as(behind))


def epochs(training: Evidence) -> int:
    return len(training.measured["epochs"])


def protocol_mismatch(protocols: Sequence[dict], training: Evidence) -> str:
    """What keeps a training from following one of the protocols, in words; nothing where it does."""
    parameters, measured = training.record["parameters"], training.measured
    if not training.is_real:
        return "synthetic data"
    protocol = next((candidate for candidate in protocols if candidate["recipe"] == parameters["recipe"]), None)
    if not protocol:
        named = " or ".join(f"{wanted['epochs']} epochs by the {wanted['recipe']} recipe"
                            for wanted in protocols)
        return f"another recipe, {parameters['recipe']}; the claim takes {named}"
    if without := parameters.get("without"):  # records made before a part could be left out do not have it
        return f"another training: the {protocol['recipe']} recipe without {', '.join(without)}"
    if widths := parameters.get("widths"):  # likewise, with widths for each stage and teachers
        return f"another training: widths {', '.join(map(str, widths))}"
    if teachers := parameters.get("teachers"):
        return f"another training: taught by {', '.join(teachers)}"
    for name in ("width", "batch_size"):
        if parameters[name] != protocol[name]:
            return f"another training: {name} {parameters[name]} instead of {protocol[name]}"
    if measured.get("scored_on", "test images") != "test images":
        return f"scored on {measured['scored_on']}"
    if measured["test_images"] < TEST_IMAGES:
        return f"too short a profile: {measured['test_images']:,} of {TEST_IMAGES:,} test images"
    if epochs(training) < protocol["epochs"] or measured["train_images"] < TRAINING_IMAGES:
        return (f"too short a profile: {epochs(training)} of {protocol['epochs']} epochs on "
                f"{measured['train_images']:,} of {TRAINING_IMAGES:,} images")
    return ""


def not_of_the_export(claim: dict, row: dict, timing: Evidence, by_step: ByStep) -> str:
    """Why what was timed is not known to be the judged export with the claim's network, in words; nothing where it is.

    Three things tie a row of a timing to the export: the SHA-256 of model.pt, the logits, and the accuracy of the timed
    predictions.
    """
    if not by_step["export"]:
        return "there is no record of the export that was timed"
    export = by_step["export"][0].measured
    if export["parameters"] != claim["parameters"]:
        return f"another network: {export['parameters']:,} parameters instead of {claim['parameters']:,}"
    if timing.measured["models_sha256"].get("model.pt") != export["formats"]["model.pt"]["sha256"]:
        return "what was timed is not the model.pt of the export on record"
    if row["images"] < MIN_IMAGES:
        return f"too short a profile: {row['images']} images a run, {MIN_IMAGES} at least"
    if row["max_logit_error"] > latency.LOGIT_ERROR[row["precision"]]:
        return f"the timed engine computes something else: its logits are off by {row['max_logit_error']:.2g}"
    if timing.is_real and by_step["export"][0].is_real and not _about_as_right(row, export["accuracy"]):
        return f"the timed predictions are right on {row['accuracy']:.2f}%, the export's on {export['accuracy']:.2f}%"
    return ""


def seeds_clear(row: dict, accuracy: float) -> bool:
    """Whether a row of 5_faster is of a network whose seeds are right on more than `accuracy` percent on average.

    Its timed predictions must be about as right as its file is.
    """
    seeds = row["seed_accuracies"]
    return (len(seeds) >= latency.MIN_RUNS and float(np.mean(seeds)) > accuracy
            and _about_as_right(row, row["test_accuracy"]))


def engine_row(by_step: ByStep, engines: Sequence[str]) -> tuple[Evidence | None, dict | None]:
    """The latency record, and in it the row of the first of `engines` that ran."""
    if not by_step["latency"]:
        return None, None
    evidence = by_step["latency"][0]
    rows = [row for row in evidence.measured["engines"] if "runs" in row and not row.get("variant")]
    ran = [row for engine in engines for row in rows if row["engine"] == engine]
    return evidence, ran[0] if ran else None


def _about_as_right(row: dict, accuracy: float) -> bool:
    """Whether a row's timed predictions may be those of what is right on `accuracy` percent."""
    low, high = statistics.accuracy_interval(row["accuracy"], row["images"])
    return low - TOLERANCE <= accuracy <= high + TOLERANCE


def _first_of_each_seed(trainings: Iterable[Evidence]) -> list[Evidence]:
    """The same seed again tells nothing more: the run's own comes first."""
    seeds: dict[int, Evidence] = {}
    for training in trainings:
        seeds.setdefault(training.record["parameters"]["seed"], training)
    return list(seeds.values())


def _made_as(training: Evidence) -> tuple:
    """What trainings must share to be seeds of one network; older records have neither widths nor teachers."""
    parameters, measured = training.record["parameters"], training.measured
    return (_recipe(training), parameters["batch_size"], parameters.get("widths") or parameters["width"],
            parameters.get("teachers") or [], training.is_real, measured.get("scored_on", "test images"))


def _recipe(training: Evidence) -> tuple[int, dict | None]:
    """What two trainings must share to be averaged; older records do not hold the recipe's numbers."""
    return epochs(training), training.measured.get("recipe")
