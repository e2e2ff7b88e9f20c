"""Measurements from which the rules reach a known verdict, and the fixture `write`, which makes records of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from records_made import Made

from cifar_bench import records
from cifar_bench.analysis import evidence, statistics, verdicts
from cifar_bench.records import AA_TEST

RUN = "lab"
PARAMETERS = 2_570_280
MODEL = "beef"  # the SHA-256 of the exported model.pt
WEIGHTS = {"": "f00d", "narrow": "fed"}  # the SHA-256 of the weights of `faster`'s networks
ORIGINAL = {"recipe": "original", "width": 40, "batch_size": 128}
FAST = {"recipe": "fast", "batch_size": 250}
P100 = {"name": "Tesla P100-PCIE-16GB", "compute_capability": [6, 0]}
H100 = {"name": "NVIDIA H100 80GB HBM3", "compute_capability": [9, 0]}
CPU = None
SEEDS = (94.3, 94.4, 94.5, 94.35, 94.45)  # accuracies of the narrow network

Write = Callable[..., None]


def training(accuracy: float = 94.5, epochs: int = 150, train_images: int = 50_000, test_images: int = 10_000) -> dict:
    return {
        "accuracy": accuracy, "int8_accuracy": {"onnxruntime": accuracy}, "train_images": train_images,
        "test_images": test_images, "parameters": PARAMETERS, "pflop": 8.9e-7 * epochs * train_images, "weights_sha256": "f00d",
        "epochs": [{"epoch": n + 1} for n in range(epochs)],
    }


def export(accuracy: float = 94.53, test_images: int = 10_000, parameters: int = PARAMETERS, theirs: int = 6_573_120) -> dict:
    return {
        "accuracy": accuracy, "correct": round(accuracy * test_images / 100), "test_images": test_images,
        "parameters": parameters, "cifar10_fast_parameters": theirs, "weights_sha256": "f00d",
        "formats": {"model.pt": {"sha256": MODEL}},
    }


def latency(*means_us: float, images: int = 10_000, engine: str = "torchscript", variant: str = "") -> dict:
    """Runs of an engine with these means; of TorchScript with an A/A test of the same means, which finds no noise."""
    runs = [{"mean_ns": 1e3 * mean, "p50_ns": 1e3 * mean, "round": number, "contended": False}
            for number, mean in enumerate(means_us)]
    row = {"engine": engine, "variant": variant, "images": images, "runs": runs, "accuracy": 94.5, "max_logit_error": 1e-6}
    again = [{**row, "variant": AA_TEST}] if (engine, variant) == ("torchscript", "") else []
    return {"engines": [row, *again], "models_sha256": {"model.pt": MODEL}}


def half_precision(low: float, high: float, runs: int = 3, peak: float = 2, kind: str = "float16") -> dict:
    """Runs in float32 and in 16 bits whose ratio has the interval from `low` to `high`, and those of another engine.

    In 16 bits the peak FLOP/s are `peak` times float32's.
    """
    steps = np.linspace(-1, 1, runs)
    logs = np.log(low * high) / 2 + np.log(high / low) / 2 * steps / statistics.mean_interval(steps)[1]
    means = {"float32": np.full(runs, 1e6), kind: 1e6 * np.exp(logs)}
    rows = [{"engine": "torchscript", "precision": kind, "images": 1000, "accuracy": 94.5,
             "max_logit_error": 1e-6, "runs": [{"p50_ns": mean, "round": n, "contended": False}
                                                   for n, mean in enumerate(values)]} for kind, values in means.items()]
    others = [{**row, "engine": "onnxruntime", "runs": [run | {"p50_ns": 1e6} for run in row["runs"]]} for row in rows]
    peaks = [{"precision": name, "peak_flop_per_s": rate} for name, rate in (("float32", 1e11), (kind, peak * 1e11))]
    return {"precisions": others + rows, "peaks": peaks, "models_sha256": {"model.pt": MODEL}}


def faster(us: float, accuracy: float = 94.2, **changed: object) -> dict:
    """Three runs of TorchScript in 2,000 µs, and of another engine with a narrow network, whose ratio is known to 1%."""
    networks = {name: {"parameters": 1, "flop": 1.0, "accuracy": 94.5, "weights_sha256": weights}
                for name, weights in WEIGHTS.items()}
    rows = [{"network": network, "engine": engine, "precision": precision, "test_accuracy": known, "accuracy": known,
             "images": 1000, "max_logit_error": 1e-6, "quantizer": "onnxruntime" if precision == "int8" else None,
             "runs": [{"p50_ns": 1e3 * median * share, "round": number, "contended": False}
                      for number, share in enumerate(shares)]}
            for network, engine, precision, known, median, shares in (
                ("", "torchscript", "float32", 94.53, 2000.0, (0.998, 1, 1.002)),
                ("narrow", "openvino", "int8", accuracy, us, (1.002, 1, 0.998)))]
    return {"networks": networks, "rows": rows, "test_images": 10_000, "models_sha256": {"model.pt": MODEL}, **changed}


def contended(measured: dict, runs: int, rows: str = "engines") -> dict:
    """The same, but the last so many runs of each row were contended."""
    for row in measured[rows]:
        for run in row["runs"][-runs:]:
            run["contended"] = True
    return measured


def judged(claim: str, run: str = RUN) -> dict:
    """The verdict on one claim of claims.yaml, from the records on disk."""
    rows = verdicts.judge(evidence.gather(run), verdicts.load_claims())
    return next(row for row in rows if row["id"] == claim)


def steps_of(n: int, step: float, start: float = 828.0) -> list[float]:
    return [start + step * number for number in range(n)]


@pytest.fixture
def write(home: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`write(step, measurements)` writes a step's record: the real one with other measurements, hardware and parameters."""
    monkeypatch.setattr(evidence, "ROOT", home)
    monkeypatch.setattr(verdicts, "ROOT", home)
    real = {step: made.record(step) for step in ("train/seed0", "export", "latency", "half_precision", "faster")}
    for record in real.values():
        del record["digest"]

    def write_record(
        step: str, measurements: dict, run: str = RUN, dataset: str = "CIFAR-10", gpu: dict | None = CPU, **changed: object
    ) -> None:
        training = step.startswith("train/")
        record = real["train/seed0" if training else step]
        own = {"run": run, **({"seed": int(step.removeprefix("train/seed")), **ORIGINAL, **changed} if training else {})}
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


def write_seeds(write: Write, *accuracies: float, measured: dict | None = None, **changed: object) -> None:
    """Training runs with the configuration of `faster`'s narrow network, the first of which was exported."""
    for seed, accuracy in enumerate(accuracies):
        weights = "another" if seed else WEIGHTS["narrow"]
        write(f"train/seed{seed}", training(accuracy) | {"weights_sha256": weights} | (measured or {}), **{
            "run": "narrow", "widths": [1, 2, 3, 4], **changed})


def filled(real: dict, given: dict) -> dict:
    """`real` with the values of `given`, which must be among its keys; each row of a list is based on the real list's first."""
    assert set(given) <= set(real), f"a real record has no {set(given) - set(real)}"
    both = real | given
    for name, value in given.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            both[name] = [filled(real[name][0], row) if "reason" not in row else row for row in value]
    return both
