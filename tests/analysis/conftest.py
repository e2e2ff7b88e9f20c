"""The fixture that writes records to judge."""

import json
from pathlib import Path

import pytest
from claim_records import CPU, ORIGINAL, RUN, Write
from records_made import Made

from cifar_bench import records
from cifar_bench.analysis import evidence, verdicts


@pytest.fixture
def write(home: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`write(step, measurements)` writes a step's record: the real one with other measurements, hardware and parameters."""
    monkeypatch.setattr(evidence, "ROOT", home)
    monkeypatch.setattr(verdicts, "ROOT", home)
    real = {step: made.record(step) for step in ("train/seed0", "export", "latency", "half_precision", "faster")}

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


def filled(real: dict, given: dict) -> dict:
    """`real` with the values of `given`, which must be among its keys; each row of a list is based on the real list's first."""
    assert set(given) <= set(real), f"a real record has no {set(given) - set(real)}"
    both = real | given
    for name, value in given.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            both[name] = [filled(real[name][0], row) if "reason" not in row else row for row in value]
    return both
