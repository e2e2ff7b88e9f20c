"""The rules' error rates, simulated: "reproduced" at least 8 times in 10 for true claims, at most 1 in 20 for false ones.

A false claim is false by a relevant margin: more than the claim's own margin.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from cifar_bench.analysis import rules, verdicts
from cifar_bench.analysis.evidence import THIS_RUN, Evidence
from cifar_bench.analysis.judgement import NOT_REPRODUCED, REPRODUCED

CLAIMS = {claim["id"]: claim for claim in verdicts.load_claims()}
PARAMETERS, MODEL = CLAIMS["network-size"]["parameters"], {"model.pt": "beef"}
P100 = {"name": "Tesla P100", "compute_capability": [6, 0]}
SIMULATIONS = 1000
ENVIRONMENT = {"gpu": P100, "hardware": "a P100", "versions": {"torch": "2"}}
Random = np.random.Generator


def record(measurements: dict, **parameters: object) -> Evidence:
    return Evidence("simulated", THIS_RUN, {"measurements": measurements, "parameters": parameters, "environment": ENVIRONMENT,
                                            "data": {"dataset": "CIFAR-10"}, "made": "now"})


def training_runs(accuracies: np.ndarray) -> dict:
    return {"train": [record({"accuracy": accuracy, "int8_accuracy": {"onnxruntime": accuracy}, "test_images": 10_000,
                              "train_images": 50_000, "epochs": [None] * 150, "scored_on": "test images", "recipe": {},
                              "weights_sha256": "f00d"},
                             recipe="original", width=40, batch_size=128, without=[], widths=[], teachers=[], seed=seed)
                      for seed, accuracy in enumerate(accuracies)]}


def exported(accuracy: float) -> dict:
    measured = {"accuracy": accuracy, "test_images": 10_000, "parameters": PARAMETERS, "weights_sha256": "f00d",
                "formats": {"model.pt": {"sha256": MODEL["model.pt"]}}}
    return {"export": [record(measured)], **training_runs(np.array([accuracy]))}


def timed(*rows: tuple[str, np.ndarray]) -> list[dict]:
    """Rows of TorchScript with these variants or precisions and means (µs)."""
    return [{"engine": "torchscript", "variant": kind, "precision": kind or "float32", "images": 10_000,
             "accuracy": 94.5, "max_logit_error": 0.0,
             "runs": [{"mean_ns": 1e3 * mean, "p50_ns": 1e3 * mean, "round": number, "contended": False}
                      for number, mean in enumerate(means)]} for kind, means in rows]


def latencies(means: np.ndarray, again: np.ndarray) -> dict:
    measured = {"engines": timed(("", means), ("aa-test", again)), "models_sha256": MODEL}
    return {**exported(94.5), "latency": [record(measured)]}


def precisions(float32: np.ndarray, float16: np.ndarray) -> dict:
    measured = {"precisions": timed(("float32", float32), ("float16", float16)), "models_sha256": MODEL,
                "peaks": [{"precision": "float32", "peak_flop_per_s": 1}, {"precision": "float16", "peak_flop_per_s": 2}]}
    return {**exported(94.5), "half_precision": [record(measured)]}


def drift(random: Random, deviation: float, count: int, r: float = 0.8) -> np.ndarray:
    """Factors near 1 for consecutive rounds, with this standard deviation and autocorrelation of lag 1."""
    steps = random.normal(0, 1, count)
    steps[1:] *= np.sqrt(1 - r**2)
    for number in range(1, count):
        steps[number] += r * steps[number - 1]
    return 1 + deviation * steps


def faster(ratio: float, noise: float, accuracy: float, count: int = 3, engines: int = 1) -> Callable[[Random], dict]:
    """The baseline, and five seeds of a network, one of them exported, with this ratio to the baseline's latency.

    So many engines run the network, all equally fast. Rounds drift by a tenth.
    """
    def simulate(random: Random) -> dict:
        rounds, trained = 2000 * drift(random, 0.1, count), random.normal(accuracy, 0.15, 5)
        base, = timed(("", rounds * random.normal(1, noise, count)))
        narrow = timed(*(("", ratio * rounds * random.normal(1, noise, count)) for _ in range(engines)))
        rows = [{**base, "precision": "float32", "network": "", "test_accuracy": 94.5},
                *({**row, "precision": "int8", "quantizer": "onnxruntime", "network": "narrow", "test_accuracy": trained[0],
                   "accuracy": trained[0]} for row in narrow)]
        networks = {name: {"parameters": 1, "weights_sha256": weights} for name, weights in (("", "beef"), ("narrow", "f00d"))}
        measured = {"rows": rows, "test_images": 10_000, "models_sha256": MODEL, "networks": networks}
        return {**exported(94.5), "faster": [record(measured)], **training_runs(trained)}
    return simulate


def seeds(mean: float, deviation: float, count: int = 5) -> Callable[[Random], dict]:
    return lambda random: training_runs(random.normal(mean, deviation, count))


def export_of(mean: float, deviation: float) -> Callable[[Random], dict]:
    return lambda random: exported(random.normal(mean, deviation))


def runs(mean: float, share: float, count: int = 10) -> Callable[[Random], dict]:
    """Runs whose expected spread is `share` of their mean, as is that of the A/A test's runs."""
    def simulate(random: Random) -> dict:
        return latencies(*random.normal(mean, mean * share / 3.078, (2, count)))
    return simulate


def drifting_runs(mean: float, deviation: float, count: int = 10) -> Callable[[Random], dict]:
    """Runs that drift, together with those of the A/A test; both vary by 0.2%, too."""
    def simulate(random: Random) -> dict:
        return latencies(*(mean * drift(random, deviation, count) * random.normal(1, 0.002, (2, count))))
    return simulate


def ratio(true: float, noise: float, count: int = 5) -> Callable[[Random], dict]:
    """Runs in float32 and float16 whose ratio is `true`, with drift shared by a round (a tenth) and noise of their own."""
    def simulate(random: Random) -> dict:
        rounds = 2000 * drift(random, 0.1, count)
        return precisions(rounds * random.normal(1, noise, count), true * rounds * random.normal(1, noise, count))
    return simulate


def rate(claim: str, simulate: Callable[[Random], dict], verdict: str) -> float:
    """How often the claim's rule returns this verdict."""
    random, rule = np.random.default_rng(0), rules.RULES[CLAIMS[claim]["rule"]]
    return float(np.mean([rule(CLAIMS[claim], defaultdict(list, simulate(random))).verdict == verdict
                          for _ in range(SIMULATIONS)]))


@pytest.mark.parametrize(("claim", "simulate"), [
    ("accuracy-above-94", seeds(94.5, 0.2)),
    ("accuracy-five-runs", seeds(94.42, 0.258)),  # five normal values of that deviation have the original's range on average
    ("exported-accuracy", export_of(94.42, 0.258)),
    ("latency-p100", runs(820, 0.0024)),
    ("latency-p100", drifting_runs(800, 0.01)),
    ("run-spread", runs(828, 0.0024)),
    ("half-precision", ratio(1.05, 0.01)),
    ("ten-times-faster", faster(0.09, 0.01, 94.4)),
])
def test_what_is_true_and_well_measured_is_reproduced_8_times_in_10(claim: str, simulate: Callable[[Random], dict]) -> None:
    assert rate(claim, simulate, REPRODUCED) >= 0.8
    assert rate(claim, simulate, NOT_REPRODUCED) <= 0.05


@pytest.mark.parametrize(("claim", "simulate"), [
    ("accuracy-above-94", seeds(93.9, 0.2)),
    ("accuracy-five-runs", seeds(94.42 - 0.6, 0.258)),
    ("accuracy-five-runs", seeds(94.42 + 0.6, 0.258)),
    ("accuracy-five-runs", seeds(94.42, 0.8, count=40)),  # most are outside of the original's range
    ("exported-accuracy", export_of(94.53 - 1.0, 0.2)),
    ("latency-p100", runs(832, 0.0024)),
    ("latency-p100", drifting_runs(840, 0.02)),
    ("run-spread", runs(828, 0.0048)),
    ("half-precision", ratio(0.96, 0.01)),
    ("ten-times-faster", faster(0.102, 0.01, 94.4)),
    ("ten-times-faster", faster(0.101, 0.02, 94.4, count=5, engines=12)),
    ("ten-times-faster", faster(0.09, 0.01, 93.8)),
])
def test_what_is_false_is_reproduced_1_time_in_20_at_most(claim: str, simulate: Callable[[Random], dict]) -> None:
    assert rate(claim, simulate, REPRODUCED) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATIONS)


@pytest.mark.parametrize(("claim", "simulate"), [
    ("accuracy-above-94", seeds(93.5, 0.2)),
    ("accuracy-five-runs", seeds(93.0, 0.258)),
    ("exported-accuracy", export_of(92.5, 0.2)),
    ("latency-p100", runs(900, 0.0024)),
    ("half-precision", ratio(0.8, 0.01)),
    ("exported-accuracy", export_of(10.0, 0.2)),
    ("ten-times-faster", faster(0.12, 0.01, 94.4)),
    ("ten-times-faster", faster(0.09, 0.01, 93.5)),
])
def test_what_is_far_from_true_is_not_reproduced_8_times_in_10(claim: str, simulate: Callable[[Random], dict]) -> None:
    assert rate(claim, simulate, NOT_REPRODUCED) >= 0.8


@pytest.mark.parametrize("spread", [0.03, 0.05, 0.1, 0.3])
def test_a_noisy_machine_refutes_that_its_runs_agree(spread: float) -> None:
    assert rate("run-spread", runs(828, spread), NOT_REPRODUCED) >= 0.8
