"""Every outcome of every rule follows from the numbers on record, and edited verdicts are found out."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clones import REFERENCE
from records_made import Made

from cifar_bench import records
from cifar_bench.analysis import evidence, rules, statistics, verdicts
from cifar_bench.analysis.evidence import EARLIER, THIS_RUN
from cifar_bench.analysis.rules import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED
from cifar_lib import ROOT, InputError

RUN = "lab"
PARAMETERS = 2_570_280
ABOUT_ACCURACY = {"accuracy-above-94", "accuracy-five-runs", "exported-accuracy"}
P100 = {"name": "Tesla P100-PCIE-16GB", "compute_capability": [6, 0]}
P1000 = {"name": "Quadro P1000", "compute_capability": [6, 1]}
V100 = {"name": "Tesla V100-SXM2-16GB", "compute_capability": [7, 0]}
H100 = {"name": "NVIDIA H100 80GB HBM3", "compute_capability": [9, 0]}
CPU = None
MODEL = "beef"  # the SHA-256 of the exported model.pt
TRAINED = {"recipe": "original", "width": 40, "batch_size": 128}  # how the original trained
FAST = {"recipe": "fast", "batch_size": 250}

Write = Callable[..., None]


@pytest.fixture
def write(home: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`write(step, measurements)` puts a record where that step of the run keeps its own.

    It is the real record of that step but for the measurements given, the hardware and, of a training, its parameters.
    """
    monkeypatch.setattr(evidence, "ROOT", home)
    monkeypatch.setattr(verdicts, "ROOT", home)
    real = {step: made.record(step) for step in ("train/seed0", "export", "latency", "half_precision", "faster")}

    def write_record(
        step: str, measurements: dict, run: str = RUN, dataset: str = "CIFAR-10", gpu: dict | None = CPU, **changed: object
    ) -> None:
        training = step.startswith("train/")
        record = real["train/seed0" if training else step]
        own = {"run": run, **({"seed": int(step.removeprefix("train/seed")), **TRAINED, **changed} if training else {})}
        assert set(own) <= set(record["parameters"]) and {"hardware", "gpu"} <= set(record["environment"])
        path = records.step_folder(run, step) / "record.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record | {
            "step": step, "made": "2026-01-02T03:04:05+00:00",
            "parameters": record["parameters"] | own,
            "environment": record["environment"] | {"hardware": gpu["name"] if gpu else "a processor, 2 cores", "gpu": gpu},
            "data": record["data"] | {"dataset": dataset},
            "measurements": filled(record["measurements"], measurements) if measurements else {},
        }))

    return write_record


def filled(real: dict, given: dict) -> dict:
    """What is given, and the rest from a real record; of a list's rows each is filled from the real list's first.

    What a real record does not have, it may not be given either; rows that did not run stay as they are.
    """
    assert set(given) <= set(real), f"a real record has no {set(given) - set(real)}"
    both = real | given
    for name, value in given.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            both[name] = [filled(real[name][0], row) if "reason" not in row else row for row in value]
    return both


def training(accuracy: float = 94.5, epochs: int = 150, train_images: int = 50_000, test_images: int = 10_000) -> dict:
    return {
        "accuracy": accuracy, "train_images": train_images, "test_images": test_images, "parameters": PARAMETERS,
        "pflop": 8.9e-7 * epochs * train_images, "weights_sha256": "f00d", "epochs": [{"epoch": n + 1} for n in range(epochs)],
    }


def export(accuracy: float = 94.53, test_images: int = 10_000, parameters: int = PARAMETERS, theirs: int = 6_573_120) -> dict:
    return {
        "accuracy": accuracy, "correct": round(accuracy * test_images / 100), "test_images": test_images,
        "parameters": parameters, "cifar10_fast_parameters": theirs, "weights_sha256": "f00d",
        "formats": {"model.pt": {"sha256": MODEL}},
    }


def latency(*means_us: float, images: int = 10_000, engine: str = "torchscript") -> dict:
    """Runs of these means."""
    runs = [{"mean_ns": 1e3 * mean, "round": number, "contended": False} for number, mean in enumerate(means_us)]
    row = {"engine": engine, "images": images, "runs": runs, "accuracy": 94.5, "max_logit_error": 1e-6}
    return {"engines": [row], "models_sha256": {"model.pt": MODEL}}


def half_precision(low: float, high: float, runs: int = 3, support: str = "native", kind: str = "float16") -> dict:
    """Runs in float32 and in 16 bits whose ratio has the interval from `low` to `high`, and those of another engine."""
    steps = np.linspace(-1, 1, runs)
    logs = np.log(low * high) / 2 + np.log(high / low) / 2 * steps / statistics.mean_interval(steps)[1]
    means = {"float32": np.full(runs, 1e6), kind: 1e6 * np.exp(logs)}
    rows = [{"engine": "torchscript", "precision": kind, "support": support, "images": 1000, "accuracy": 94.5,
             "max_logit_error": 1e-6, "runs": [{"mean_ns": mean, "round": n, "contended": False}
                                                   for n, mean in enumerate(values)]} for kind, values in means.items()]
    others = [{**row, "engine": "onnxruntime", "runs": 3 * row["runs"][:1]} for row in rows]
    return {"precisions": others + rows, "models_sha256": {"model.pt": MODEL}}


def faster(us: float, accuracy: float = 94.2, seeds: tuple[float, ...] = (94.0, 94.2, 94.3), **changed: object) -> dict:
    """Three runs of TorchScript in 2,000 µs, and of another engine with a narrow network, whose ratio is known to 1%."""
    networks = {name: {"parameters": 1, "flop": 1.0, "seed_accuracies": list(accuracies)}
                for name, accuracies in (("", (94.5,)), ("narrow", seeds))}
    rows = [{"network": network, "engine": engine, "precision": precision, "test_accuracy": known, "accuracy": known,
             "images": 1000, "max_logit_error": 1e-6,
             "runs": [{"p50_ns": 1e3 * median * share, "round": number, "contended": False}
                      for number, share in enumerate(shares)]}
            for network, engine, precision, known, median, shares in (
                ("", "torchscript", "float32", 94.53, 2000.0, (0.998, 1, 1.002)),
                ("narrow", "openvino", "int8", accuracy, us, (1.002, 1, 0.998)))]
    return {"networks": networks, "rows": rows, "test_images": 10_000, "models_sha256": {"model.pt": MODEL}, **changed}


def judged(claim: str, run: str = RUN) -> dict:
    """The verdict on one claim of claims.yaml, from what is on record."""
    rows = verdicts.judge(evidence.gather(run), verdicts.load_claims())
    return next(row for row in rows if row["id"] == claim)


def steps_of(n: int, step: float, start: float = 828.0) -> list[float]:
    return [start + step * number for number in range(n)]


# ---- one rule after the other


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ({}, REPRODUCED),
        ({"parameters": 2_570_281}, NOT_REPRODUCED),
        ({"theirs": PARAMETERS}, NOT_REPRODUCED),
    ],
    ids=["the original's", "one parameter more", "not smaller than cifar10-fast's"],
)
def test_network_size_is_the_originals_count_and_below_cifar10_fasts(write: Write, counts: dict, verdict: str) -> None:
    write("export", export(**counts))
    assert judged("network-size")["verdict"] == verdict


def test_network_size_needs_an_export(write: Write) -> None:
    write("train/seed0", training())
    assert judged("network-size")["verdict"] == NOT_RUN


@pytest.mark.parametrize(
    ("measured", "changed", "verdict"),
    [
        (training(), {}, REPRODUCED),
        (training(epochs=40), FAST, REPRODUCED),  # of the exported weights the recipe does not matter
        (training(epochs=24), FAST, NOT_REPRODUCED),
        (training(epochs=150, train_images=49_999), {}, NOT_RUN),
        (training(epochs=150) | {"weights_sha256": "other"}, FAST, NOT_RUN),
    ],
    ids=["150 epochs", "40 epochs behind the export", "24 epochs behind the export", "an image short", "not of the export"],
)
def test_longer_than_cifar10_fasts_counts_epochs_on_all_images(
    write: Write, measured: dict, changed: dict, verdict: str
) -> None:
    write("train/seed0", measured, **changed)
    write("export", export())
    assert judged("trained-longer")["verdict"] == verdict


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([99.0, 99.0], NOT_RUN),
        ([94.4, 94.5, 94.6], REPRODUCED),  # Student's is ± 0.25
        ([94.1, 94.2, 94.3], INCONCLUSIVE),
        ([93.5, 93.6, 93.7], NOT_REPRODUCED),
    ],
)
def test_accuracy_above_94_is_judged_by_its_interval(write: Write, accuracies: list[float], verdict: str) -> None:
    for seed, accuracy in enumerate(accuracies):
        write(f"train/seed{seed}", training(accuracy))
    assert judged("accuracy-above-94")["verdict"] == verdict


@pytest.mark.parametrize(
    "measured",
    [training(epochs=24), training(train_images=4_000), training(test_images=2_000)],
    ids=["too few epochs", "too few training images", "too few test images"],
)
def test_accuracy_of_a_short_profile_is_not_judged(write: Write, measured: dict) -> None:
    write("train/seed0", measured)
    for claim in ("accuracy-above-94", "accuracy-five-runs"):
        assert judged(claim)["verdict"] == NOT_RUN


@pytest.mark.parametrize("changed", [{"width": 64}, {"batch_size": 1024}, {"recipe": "other"}], ids=str)
def test_a_training_by_another_protocol_is_not_judged(write: Write, changed: dict) -> None:
    write("train/seed0", training(), **changed)
    for claim in ("trained-longer", "accuracy-above-94", "accuracy-five-runs"):
        row = judged(claim)
        assert row["verdict"] == NOT_RUN
        assert "another" in row["reason"]


def test_the_originals_recipe_is_known_by_its_name_in_older_records(write: Write) -> None:
    write("train/seed0", training(), recipe="seed")
    assert judged("trained-longer")["verdict"] == REPRODUCED


def test_the_fast_recipe_shows_what_the_network_can_do_but_not_how_the_original_trained_it(write: Write) -> None:
    for seed in range(5):
        write(f"train/seed{seed}", training(94.4 + seed / 100, epochs=40), **FAST)
    write("export", export())
    assert judged("accuracy-above-94")["verdict"] == REPRODUCED
    assert "fast recipe" in judged("accuracy-above-94")["reason"]
    assert judged("exported-accuracy")["verdict"] == REPRODUCED
    row = judged("accuracy-five-runs")
    assert row["verdict"] == NOT_RUN
    assert row["reason"] == "another recipe, fast; the claim takes 150 epochs by the original recipe"


@pytest.mark.parametrize(
    ("measured", "changed", "reason"),
    [
        (training(epochs=39), {}, "39 of 40 epochs"),
        (training(epochs=40), {"without": ["muon", "dirac"]}, "the fast recipe without muon, dirac"),
        (training(epochs=40), {"batch_size": 500}, "batch_size 500 instead of 250"),
    ],
    ids=["an epoch short", "parts left out", "another batch size"],
)
def test_a_fast_training_that_is_not_whole_is_not_judged(write: Write, measured: dict, changed: dict, reason: str) -> None:
    write("train/seed0", measured, **FAST | changed)
    row = judged("accuracy-above-94")
    assert row["verdict"] == NOT_RUN and reason in row["reason"]


def test_trainings_of_different_length_are_not_averaged(write: Write) -> None:
    for seed, epochs in enumerate((40, 100, 40, 40)):
        write(f"train/seed{seed}", training(94.0 + seed, epochs=epochs), **FAST)
    assert judged("accuracy-above-94")["ours"].startswith("95.67%")  # of seeds 0, 2 and 3


def test_trainings_by_other_numbers_under_the_same_recipes_name_are_not_averaged(write: Write) -> None:
    for seed, padding in enumerate((4, 2, 4, 4)):
        write(f"train/seed{seed}", training(94.0 + seed, epochs=40) | {"recipe": {"padding": padding}}, **FAST)
    assert judged("accuracy-above-94")["ours"].startswith("95.67%")


def test_a_training_scored_on_held_out_images_is_not_judged(write: Write) -> None:
    write("train/seed0", training() | {"scored_on": "held-out training images"})
    assert judged("accuracy-above-94")["reason"] == "scored on held-out training images"


def test_trainings_by_the_originals_recipe_come_before_those_by_another(write: Write) -> None:
    write("train/seed0", training(94.9, epochs=40), **FAST)
    for seed in (1, 2, 3):
        write(f"train/seed{seed}", training(94.5))
    row = judged("accuracy-above-94")
    assert "3 seeds, original recipe" in row["reason"] and row["ours"].startswith("94.50%")


def test_a_seed_trained_twice_counts_once_and_the_runs_own_first(write: Write) -> None:
    for run, accuracy in ((RUN, 94.5), (records.SHIPPED, 94.9)):
        for seed in range(3):
            write(f"train/seed{seed}", training(accuracy), run=run)
    row = judged("accuracy-above-94")
    assert "3 seeds" in row["reason"] and row["ours"].startswith("94.50%")


def test_accuracy_without_a_training_is_not_judged(write: Write) -> None:
    write("latency", latency(828, 829))
    for claim in ABOUT_ACCURACY:
        assert judged(claim)["verdict"] == NOT_RUN
        assert judged(claim)["evidence"] == []


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([94.12, 94.3, 94.5, 94.6, 94.72], REPRODUCED),
        ([94.40, 94.47, 94.69], REPRODUCED),
        ([94.7, 95.0, 94.9, 95.1, 94.8], INCONCLUSIVE),
        ([92.8, 93.6, 94.4, 95.2, 96.0] * 8, INCONCLUSIVE),  # the right mean, but most of them outside of the range
        ([93.0, 93.1, 93.2, 93.1, 93.0], NOT_REPRODUCED),
        ([95.4, 95.5, 95.6, 95.5, 95.4], NOT_REPRODUCED),
        ([94.3, 94.4], NOT_RUN),
    ],
    ids=["the original's range", "three seeds", "above", "much wider", "well below", "well above", "two trainings"],
)
def test_five_runs_are_compared_with_the_originals_five(write: Write, accuracies: list[float], verdict: str) -> None:
    for seed, accuracy in enumerate(accuracies):
        write(f"train/seed{seed}", training(accuracy))
    assert judged("accuracy-five-runs")["verdict"] == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (export(94.53), REPRODUCED),
        (export(94.12), REPRODUCED),  # the original's own lowest
        (export(95.3), INCONCLUSIVE),
        (export(93.5), INCONCLUSIVE),
        (export(92.0), NOT_REPRODUCED),
        (export(97.0), NOT_REPRODUCED),
        (export(94.53, test_images=9_999), NOT_RUN),
    ],
    ids=["the same", "near", "a bit above", "a bit below", "well below", "well above", "an image short"],
)
def test_exported_accuracy_is_about_the_originals(write: Write, measured: dict, verdict: str) -> None:
    write("train/seed0", training(measured["accuracy"]))
    write("export", measured)
    assert judged("exported-accuracy")["verdict"] == verdict


@pytest.mark.parametrize(
    ("measured", "reason"),
    [(training(epochs=6), "6 of 150 epochs"), (training() | {"weights_sha256": "other"}, "no record of the training")],
    ids=["weights of a short training", "weights of another training"],
)
def test_exported_accuracy_takes_weights_trained_to_the_end(write: Write, measured: dict, reason: str) -> None:
    write("train/seed0", measured)
    write("export", export(84.0))
    row = judged("exported-accuracy")
    assert row["verdict"] == NOT_RUN
    assert reason in row["reason"]
    assert row["ours"].startswith("84.00%")


@pytest.mark.parametrize(
    ("gpu", "means", "on_a_p100", "on_a_newer_gpu"),
    [
        (P100, (820, 821, 822), REPRODUCED, NOT_RUN),
        (P100, (828, 828.1, 828.2), REPRODUCED, NOT_RUN),
        (P100, (826, 830, 834), INCONCLUSIVE, NOT_RUN),
        (P100, (900, 901, 902), NOT_REPRODUCED, NOT_RUN),
        (P100, (820, 821), NOT_RUN, NOT_RUN),
        (V100, (820, 821, 822), NOT_RUN, REPRODUCED),
        (H100, (500, 501, 502), NOT_RUN, REPRODUCED),
        (H100, (824, 828, 832), NOT_RUN, INCONCLUSIVE),
        (H100, (828.5, 828.6, 828.7), NOT_RUN, NOT_REPRODUCED),
        (P1000, (820, 821, 822), NOT_RUN, NOT_RUN),
        (CPU, (500, 501, 502), NOT_RUN, NOT_RUN),
    ],
)
def test_latency_is_judged_on_the_hardware_it_is_claimed_for(
    write: Write, gpu: dict | None, means: tuple[float, ...], on_a_p100: str, on_a_newer_gpu: str
) -> None:
    write("export", export())
    write("latency", latency(*means), gpu=gpu)
    assert judged("latency-p100")["verdict"] == on_a_p100
    assert judged("newer-gpu")["verdict"] == on_a_newer_gpu


def test_latency_on_other_hardware_is_shown_though_not_judged(write: Write) -> None:
    write("latency", latency(12_300, 12_400, 12_500), gpu=CPU)
    row = judged("latency-p100")
    assert row["ours"].startswith("12,400.0 µs")
    assert row["reason"] == "needs a P100"


@pytest.mark.parametrize(("cpp", "ours"), [([900, 901, 902], "901.0"), ([], "821.0")], ids=["C++ ran", "C++ did not run"])
def test_latency_is_that_of_torchscript_in_cpp_or_else_in_python(write: Write, cpp: list[float], ours: str) -> None:
    measured = latency(2_000, 2_001, 2_002, engine="eager")
    measured["engines"] += latency(820, 821, 822)["engines"]
    if cpp:
        measured["engines"] += latency(*cpp, engine="torchscript-cpp")["engines"]
    else:
        measured["engines"].append({"engine": "torchscript-cpp", "images": 10_000, "reason": "no C++ compiler was found"})
    write("latency", measured, gpu=P100)
    assert judged("latency-p100")["ours"].startswith(f"{ours} µs (")


def test_the_variants_of_an_engine_are_not_judged(write: Write) -> None:
    measured = latency(820, 821, 822)
    measured["engines"] += [{**row, "variant": records.REPEATED_IMAGE} for row in latency(100, 100, 100)["engines"]]
    write("latency", measured, gpu=P100)
    assert judged("latency-p100")["ours"].startswith("821.0 µs (")


@pytest.mark.parametrize("claim", ["latency-p100", "newer-gpu", "run-spread"])
def test_latency_claims_are_not_run_without_the_engine(write: Write, claim: str) -> None:
    rows = [*latency(820, 821, engine="eager")["engines"], {"engine": "torchscript", "images": 10_000, "reason": "it broke"}]
    write("latency", {"engines": rows}, gpu=P100)
    assert judged(claim)["verdict"] == NOT_RUN


@pytest.mark.parametrize("claim", ["latency-p100", "newer-gpu", "run-spread", "half-precision"])
def test_timing_claims_are_not_run_without_a_timing(write: Write, claim: str) -> None:
    write("train/seed0", training())
    assert judged(claim)["verdict"] == NOT_RUN


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (latency(*steps_of(10, 0.1)), REPRODUCED),  # 0.9 of 828 µs: 0.11%
        (latency(*steps_of(10, 0.2)), REPRODUCED),  # 0.22%, as the original
        (latency(*steps_of(10, 0.35)), INCONCLUSIVE),
        (latency(*steps_of(10, 2)), NOT_REPRODUCED),  # 2.2%
        (latency(*steps_of(4, 20), images=1_000), NOT_REPRODUCED),  # fewer and shorter runs refute as well
        (latency(*steps_of(3, 0.01), images=1_000), NOT_RUN),
        (latency(*steps_of(9, 0.1)), NOT_RUN),
        (latency(*steps_of(10, 0.1), images=9_999), NOT_RUN),
        (latency(*steps_of(2, 20)), NOT_RUN),
    ],
    ids=["close", "as the original", "twice the original's", "apart", "short, apart", "short, close", "a run short",
         "an image short", "two runs"],
)
def test_run_spread_is_that_of_ten_runs_with_its_interval(write: Write, measured: dict, verdict: str) -> None:
    write("export", export())
    write("latency", measured)
    assert judged("run-spread")["verdict"] == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (half_precision(1.2, 1.4), REPRODUCED),
        (half_precision(0.985, 0.995), REPRODUCED),  # a gain under 2% counts as none
        (half_precision(0.95, 1.01), INCONCLUSIVE),
        (half_precision(0.78, 0.82), NOT_REPRODUCED),
        (half_precision(0.78, 0.82, kind="bfloat16"), NOT_REPRODUCED),
        (half_precision(0.78, 0.82, runs=2), NOT_RUN),
        (half_precision(3.1, 3.7, support="emulated"), NOT_RUN),  # says nothing of hardware that computes in float16
        ({"precisions": [{"engine": "torchscript", "precision": "float16", "reason": "it broke"}]}, NOT_RUN),
        ({"precisions": half_precision(1.2, 1.4)["precisions"][2:3]}, NOT_RUN),  # float32 alone
        ({"precisions": half_precision(1.2, 1.4)["precisions"][3:]}, NOT_RUN),  # float16 alone
    ],
    ids=["slower", "a tiny gain", "across", "faster", "bfloat16 faster", "two runs",
         "emulated", "it broke", "not asked for", "no float32"],
)
def test_half_precision_brings_no_gain_where_the_interval_stays_near_one(write: Write, measured: dict, verdict: str) -> None:
    write("export", export())
    write("half_precision", measured)
    assert judged("half-precision")["verdict"] == verdict


def test_half_precision_is_said_with_its_interval(write: Write) -> None:
    write("half_precision", half_precision(1.2, 1.3))
    assert judged("half-precision")["ours"] == "float16: 1.25 (1.20 to 1.30) × float32's time"


def test_the_fastest_16_bit_format_that_the_hardware_computes_in_is_judged(write: Write) -> None:
    emulated, native = half_precision(0.5, 0.6, support="emulated"), half_precision(0.78, 0.82, kind="bfloat16")
    write("export", export())
    write("half_precision", native | {"precisions": emulated["precisions"] + native["precisions"][-1:]})
    row = judged("half-precision")
    assert row["verdict"] == NOT_REPRODUCED and row["ours"].startswith("bfloat16: 0.80")


# ---- what does not belong together, and what was contended


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (faster(180), REPRODUCED),
        (faster(200), INCONCLUSIVE),
        (faster(220), NOT_REPRODUCED),
        (faster(180, accuracy=93.99), NOT_REPRODUCED),  # nothing else that was tried is accurate enough
        (faster(180, seeds=(94.4, 93.7, 93.8)), NOT_REPRODUCED),  # a lucky one
        (faster(180, seeds=(94.4, 94.3)), NOT_RUN),  # it may be
        (faster(220, seeds=(94.4, 94.3)), NOT_REPRODUCED),  # more seeds would not make it fast enough
        (faster(180, test_images=9999), NOT_RUN),
        (faster(180, models_sha256={"model.pt": "another"}), NOT_RUN),
    ],
)
def test_a_tenth_of_the_time_is_that_of_the_fastest_accurate_file(write: Write, measured: dict, verdict: str) -> None:
    write("export", export())
    write("faster", measured)
    assert judged("tenth-of-the-time")["verdict"] == verdict


def test_a_fast_file_that_waits_for_seeds_leaves_it_open_whether_a_tenth_is_reached(write: Write) -> None:
    slower, waiting = faster(280), faster(100, seeds=(94.3,))
    waiting["rows"][1]["network"] = "waiting"
    slower["rows"].append(waiting["rows"][1])
    slower["networks"]["waiting"] = waiting["networks"]["narrow"]
    write("export", export())
    write("faster", slower)
    row = judged("tenth-of-the-time")
    assert row["verdict"] == NOT_RUN and row["reason"].endswith("seeds of its network that were trained: 1, 3 are needed")


def test_a_file_whose_timed_predictions_are_of_something_else_is_no_winner(write: Write) -> None:
    write("export", export())
    measured = faster(180)
    measured["rows"][1]["accuracy"] = 10.0
    write("faster", measured)
    assert judged("tenth-of-the-time")["verdict"] == NOT_REPRODUCED


def test_a_tenth_of_the_time_takes_the_base_and_step_5(write: Write) -> None:
    write("export", export())
    assert judged("tenth-of-the-time")["reason"] == "this run has no record of 5_faster"
    write("faster", {**faster(180), "rows": faster(180)["rows"][1:]})
    assert judged("tenth-of-the-time")["reason"] == "TorchScript did not run with the original network"


def contended(measured: dict, runs: int, rows: str = "engines") -> dict:
    """The same, but that others contended the last so many runs of each row."""
    for row in measured[rows]:
        for run in row["runs"][-runs:]:
            run["contended"] = True
    return measured


@pytest.mark.parametrize(
    ("exported", "changed", "reason"),
    [
        ({"parameters": 12_345}, {}, "another network: 12,345 parameters"),
        ({}, {"models_sha256": {"model.pt": "another"}}, "not the model.pt of the export"),
        ({}, {"images": 100}, "100 images a run"),
        ({}, {"max_logit_error": 99.0}, "logits are off by 99"),
        ({}, {"accuracy": 10.0}, "right on 10.00%"),
        (None, {}, "no record of the export"),
    ],
    ids=["another network", "another file", "few images", "other logits", "other classes", "no export"],
)
@pytest.mark.parametrize("claim", ["latency-p100", "run-spread", "half-precision"])
def test_a_timing_of_something_else_is_not_judged(
    write: Write, claim: str, exported: dict | None, changed: dict, reason: str
) -> None:
    step = "half_precision" if claim == "half-precision" else "latency"
    measured = half_precision(1.2, 1.4) if step == "half_precision" else latency(*steps_of(10, 0.1, 820))
    for row in measured["precisions" if step == "half_precision" else "engines"]:
        row.update({name: value for name, value in changed.items() if name in row})
    measured |= {name: value for name, value in changed.items() if name in measured}
    if exported is not None:
        write("export", export() | exported)
    write(step, measured, gpu=P100)
    row = judged(claim)
    assert row["verdict"] == NOT_RUN and reason in row["reason"]


@pytest.mark.parametrize("means", [(500, 501, 502), (900, 901, 902)], ids=["fast", "slow"])
def test_where_all_runs_were_disturbed_nothing_is_decided(write: Write, means: tuple[float, ...]) -> None:
    write("export", export())
    write("latency", contended(latency(*means), 3), gpu=P100)
    row = judged("latency-p100")
    assert row["verdict"] == INCONCLUSIVE and "others used the machine" in row["reason"]


def test_half_precision_is_not_decided_by_disturbed_runs(write: Write) -> None:
    write("export", export())
    write("half_precision", contended(half_precision(1.2, 1.4), 3, "precisions"))
    assert judged("half-precision")["verdict"] == INCONCLUSIVE


def test_disturbed_runs_do_not_count_beside_others(write: Write) -> None:
    write("export", export())
    write("latency", contended(latency(820, 821, 822, 9_000), 1), gpu=P100)
    row = judged("latency-p100")
    assert row["verdict"] == REPRODUCED and row["ours"].startswith("821.0")


@pytest.mark.parametrize("claim", ["latency-p100", "run-spread"])
def test_what_the_aa_test_cannot_tell_apart_is_inconclusive(write: Write, claim: str) -> None:
    apart = steps_of(10, 2)
    measured = latency(*apart)
    measured["engines"] += [{**row, "variant": records.AA_TEST} for row in latency(*(1.1 * us for us in apart))["engines"]]
    for row in measured["engines"]:
        for run in row["runs"]:
            run["p50_ns"] = run["mean_ns"]
    write("export", export())
    write("latency", measured, gpu=P100)
    row = judged(claim)
    assert row["verdict"] == INCONCLUSIVE and "may differ by up to 10.0% (A/A test)" in row["reason"]


# ---- synthetic data


def write_everything(write: Write, dataset: str = "CIFAR-10") -> None:
    for seed, accuracy in enumerate([94.3, 94.4, 94.5, 94.4, 94.3]):
        write(f"train/seed{seed}", training(accuracy), dataset=dataset)
    write("export", export(), dataset=dataset)
    write("latency", latency(*steps_of(10, 0.1)), dataset=dataset)
    write("half_precision", half_precision(1.2, 1.4), dataset=dataset)


@pytest.mark.parametrize("claim", sorted(ABOUT_ACCURACY))
def test_accuracy_on_synthetic_data_is_not_judged(write: Write, claim: str) -> None:
    write_everything(write)
    assert judged(claim)["verdict"] == REPRODUCED
    write_everything(write, dataset="synthetic")
    assert judged(claim)["verdict"] == NOT_RUN
    assert "synthetic" in judged(claim)["reason"]


def test_a_synthetic_training_does_not_count_beside_a_real_one(write: Write) -> None:
    write("train/seed0", training(99.9), dataset="synthetic")
    for seed in (1, 2, 3):
        write(f"train/seed{seed}", training(94.5, epochs=151))
    row = judged("accuracy-above-94")
    assert [used["record"] for used in row["evidence"]] == [f"lab/train/seed{seed}/record.json" for seed in (1, 2, 3)]
    assert row["ours"].startswith("94.50%")


@pytest.mark.parametrize("claim", ["network-size", "run-spread", "half-precision"])
def test_what_is_not_about_accuracy_is_judged_on_synthetic_data(write: Write, claim: str) -> None:
    write_everything(write, dataset="synthetic")
    assert judged(claim)["verdict"] == REPRODUCED


# ---- evidence


def test_a_run_without_its_own_export_borrows_the_shipped_one_and_says_so(write: Write) -> None:
    write("latency", latency(828, 829))
    write("export", export(), run=records.SHIPPED)
    (used,) = judged("network-size")["evidence"]
    assert (used["record"], used["when"]) == ("shipped/export/record.json", EARLIER)


def test_a_run_on_synthetic_data_borrows_nothing(write: Write) -> None:
    write("latency", latency(820, 821, 822), dataset="synthetic")
    write("train/seed0", training(), run=records.SHIPPED)
    write("export", export(), run=records.SHIPPED)
    assert {judged(claim)["verdict"] for claim in ABOUT_ACCURACY} == {NOT_RUN}


def test_a_runs_own_export_comes_before_the_shipped_one(write: Write) -> None:
    write("export", export(parameters=1_000))
    write("export", export(), run=records.SHIPPED)
    (used,) = judged("network-size")["evidence"]
    assert (used["record"], used["when"]) == ("lab/export/record.json", THIS_RUN)


def test_shipped_trainings_count_beside_the_runs_own(write: Write) -> None:
    write("train/seed0", training(94.5))
    write("train/seed1", training(94.6), run=records.SHIPPED)
    when = [used["when"] for used in judged("accuracy-above-94")["evidence"]]
    assert when == [THIS_RUN, EARLIER]


@pytest.mark.parametrize("step", ["latency", "half_precision"])
def test_timings_are_never_borrowed(write: Write, step: str) -> None:
    write("train/seed0", training())
    write(step, {"latency": latency(820, 821), "half_precision": half_precision(1.2, 1.4)}[step], run=records.SHIPPED)
    assert evidence.gather(RUN)[step] == []


@pytest.mark.parametrize(
    ("gpu", "means", "dataset", "verdict", "ours"),
    [
        (CPU, (2000, 2010, 2020), "CIFAR-10", REPRODUCED, "389.0"),
        (H100, (2000, 2010, 2020), "CIFAR-10", NOT_REPRODUCED, "2,010.0"),  # its own GPU counts, not another one
        (CPU, (2000, 2010, 2020), "synthetic", NOT_RUN, "2,010.0"),
    ],
)
def test_a_claim_about_gpus_is_judged_by_the_shipped_run_on_one_where_a_run_has_none(
    write: Write, gpu: dict | None, means: tuple[float, ...], dataset: str, verdict: str, ours: str
) -> None:
    write("latency", latency(*means), gpu=gpu, dataset=dataset)
    write("latency", latency(388, 389, 390), run=records.REFERENCE_GPUS[0], gpu=H100)
    write("export", export(), run=records.SHIPPED)
    row = judged("newer-gpu")
    assert (row["verdict"], row["ours"].split(" ")[0]) == (verdict, ours)
    assert [used["when"] for used in row["evidence"]] == [EARLIER if verdict == REPRODUCED else THIS_RUN]
    other = judged("latency-p100")  # which that run cannot judge either
    assert (other["verdict"], other["ours"].split(" ")[0], other["reason"]) == (NOT_RUN, "2,010.0", "needs a P100")


def test_the_shipped_run_is_judged_by_itself(write: Write) -> None:
    for seed in range(3):
        write(f"train/seed{seed}", training(), run=records.SHIPPED)
    row = judged("accuracy-above-94", run=records.SHIPPED)
    assert row["verdict"] == REPRODUCED
    assert [used["record"] for used in row["evidence"]] == [f"shipped/train/seed{seed}/record.json" for seed in range(3)]


def test_a_run_with_no_records_of_its_own_is_refused(write: Write) -> None:
    write("train/seed0", training(), run=records.SHIPPED)
    with pytest.raises(InputError, match=RUN):
        evidence.gather(RUN)


def test_trainings_are_listed_in_the_order_of_their_seeds(write: Write) -> None:
    for seed in (10, 9, 2):
        write(f"train/seed{seed}", training())
    seeds = [training.record["parameters"]["seed"] for training in evidence.gather(RUN)["train"]]
    assert seeds == [2, 9, 10]


def test_evidence_names_hardware_and_date(write: Write) -> None:
    write("latency", latency(820, 821), gpu=P100)
    (used,) = judged("latency-p100")["evidence"]
    assert used["hardware"] == P100["name"]
    assert used["made"] == "2026-01-02T03:04:05+00:00"


# ---- claims.yaml


CLAIMS = verdicts.load_claims()


def test_every_claim_has_an_id_of_its_own() -> None:
    ids = [claim["id"] for claim in CLAIMS]
    assert len(ids) == len(set(ids)) > 0


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["id"])
def test_a_claim_says_what_it_rests_on(claim: dict) -> None:
    assert claim["rule"] in rules.RULES
    assert claim["hardware"] in {"any", "P100", "newer GPU"}
    for key in ("claim", "source", "original"):
        assert isinstance(claim[key], str) and claim[key].strip(), key


def test_every_rule_judges_a_claim() -> None:
    assert {claim["rule"] for claim in CLAIMS} == set(rules.RULES)


# ---- python -m cifar_bench.analysis.verdicts


@pytest.fixture
def kept(write: Write) -> Path:
    """The verdicts.json of a run on which every step is on record."""
    write_everything(write)
    verdicts.write(RUN)
    return records.step_folder(RUN, "verdicts.json")


def exit_code(monkeypatch: pytest.MonkeyPatch, run: str = RUN) -> int:
    monkeypatch.setattr("sys.argv", ["verdicts", run])
    return verdicts.main()


def test_verdicts_are_the_same_when_computed_twice(kept: Path) -> None:
    before = kept.read_bytes()
    verdicts.write(RUN)
    assert kept.read_bytes() == before


def test_unchanged_verdicts_hold(kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(monkeypatch) == 0
    printed = " ".join(capsys.readouterr().out.split())
    rows = json.loads(kept.read_text())["verdicts"]
    assert [claim["id"] for claim, row in zip(CLAIMS, rows)
            if f"{row['verdict']} {claim['claim']} {row['ours']} " not in printed or row["reason"] not in printed] == []


def change_a_verdict(rows: list[dict]) -> None:
    rows[0]["verdict"] = NOT_REPRODUCED


def change_a_number(rows: list[dict]) -> None:
    rows[0]["ours"] = "1 parameter"


def change_the_evidence(rows: list[dict]) -> None:
    rows[0]["evidence"] = []


def delete_one(rows: list[dict]) -> None:
    del rows[0]


def add_one(rows: list[dict]) -> None:
    rows.append({**rows[0], "id": "one-more"})


def judge_one_twice(rows: list[dict]) -> None:
    rows.insert(0, {**rows[0], "verdict": NOT_REPRODUCED})


@pytest.mark.parametrize(
    "edit", [change_a_verdict, change_a_number, change_the_evidence, delete_one, add_one, judge_one_twice]
)
def test_edited_verdicts_are_found_out(kept: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[list], None]) -> None:
    content = json.loads(kept.read_text())
    edit(content["verdicts"])
    kept.write_text(json.dumps(content))
    assert exit_code(monkeypatch) == 1


def test_verdicts_that_the_records_no_longer_bear_out_are_found_out(
    kept: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("half_precision", half_precision(0.78, 0.82))
    assert exit_code(monkeypatch) == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"verdicts": 1}', '{"verdicts": ["text"]}', '{"verdicts": [{}]}', "\0"])
def test_damaged_verdicts_cannot_be_checked(kept: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    kept.write_text(content)
    assert exit_code(monkeypatch) == 2


def test_missing_verdicts_cannot_be_checked(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.unlink()
    assert exit_code(monkeypatch) == 2


@pytest.mark.parametrize("content", ["", "{}", "not JSON"])
def test_a_damaged_record_cannot_be_judged(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    damaged = records.step_folder(RUN, "latency") / "record.json"
    damaged.write_text(content)
    assert exit_code(monkeypatch) == 2
    assert str(damaged) in capsys.readouterr().err


def test_a_record_without_its_measurements_cannot_be_judged(
    kept: Path, write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("latency", {})
    assert exit_code(monkeypatch) == 2
    assert capsys.readouterr().err == f"a record of {RUN} is damaged (KeyError: 'engines'): run its step again.\n"


def test_a_run_that_does_not_exist_cannot_be_judged(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(monkeypatch, "nowhere") == exit_code(monkeypatch, f"{RUN}/") == 2


@pytest.mark.parametrize("run", [REFERENCE, records.SHIPPED])
def test_the_records_that_come_with_the_project_are_read_and_judged(run: str) -> None:
    rows = verdicts.judge(evidence.gather(run), verdicts.load_claims())
    judged_by = {row["id"]: row["evidence"] for row in rows if row["verdict"] != NOT_RUN}
    assert set(judged_by) >= {"network-size", "accuracy-above-94", "exported-accuracy"} and all(judged_by.values())


def test_the_verdicts_of_the_reference_run_hold() -> None:
    command = [sys.executable, "-m", "cifar_bench.analysis.verdicts", REFERENCE]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stderr == "" and "Ten runs are no more than 2 µs per image apart" in " ".join(process.stdout.split())
