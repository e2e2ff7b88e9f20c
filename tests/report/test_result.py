"""The headline and the comparison with other runs follow from the records, whatever is missing of them."""

from collections.abc import Callable

import numpy as np
import pytest
from records_made import Made, row_named

from cifar_bench.analysis import frontier
from cifar_bench.analysis.evidence import RECORDED_EARLIER, THIS_RUN, Evidence
from cifar_bench.report import result, training

APART = np.array([0.998, 1.0, 1.002])

Times = dict[str, float]  # µs by engine
Timed = Callable[..., dict]
Trained = Callable[..., Evidence]


@pytest.fixture
def timed(made: Made) -> Timed:
    """`timed(means_us)` is the real record with three runs of each engine, 0.4% apart, and one row that did not run."""

    def record(means_us: Times, hardware: str = "a processor") -> dict:
        real = made.record("latency")
        template = row_named(real["measurements"]["engines"], variant="")
        rows = [{**template, "engine": engine, "images": 1000, "runs": [
            {**run, "mean_ns": 1e3 * us * share, "p50_ns": 1e3 * us * share, "p99_ns": 2e3 * us}
            for run, share in zip(template["runs"], APART, strict=True)]} for engine, us in means_us.items()]
        real["measurements"]["engines"] = [*rows, {"engine": "openvino", "variant": "", "reason": "it does not run here."}]
        real["environment"]["hardware"] = hardware
        return real

    return record


@pytest.fixture
def trained(made: Made) -> Trained:
    """`trained(seed, accuracy)` is the real record of a training run as if it were full-length."""

    def evidence(seed: int, accuracy: float, when: str = RECORDED_EARLIER, epochs: int = 20, images: int = 50_000) -> Evidence:
        record = made.record("train/seed0")
        record["parameters"] |= {"seed": seed, "recipe": "fast", "epochs": epochs}
        record["measurements"] |= {"accuracy": accuracy, "test_images": 10_000, "train_images": images,
                                   "epochs": record["measurements"]["epochs"][:1] * epochs}
        return Evidence("lab/train/record.json", when, record)

    return evidence


@pytest.fixture
def fast(made: Made, needs_compiler: None) -> dict:
    """The real record as if its images were CIFAR-10's and its latencies 1000 µs with TorchScript, else 100 to 800."""
    record = made.record("faster")
    record["data"]["dataset"], record["measurements"]["test_images"] = "CIFAR-10", 10_000
    us = {"torchscript, float32": 1000, "torchscript-cpp, float32": 800, "onnxruntime, float32": 300, "onnxruntime, int8": 100}
    for row in record["measurements"]["rows"]:
        row["test_accuracy"] = 94.4
        for run in row["runs"]:
            run.update(p50_ns=1e3 * us[frontier.short_name(row)], contended=False, probes={})
    return record


def test_the_headline_goes_from_torchscript_to_the_fastest(fast: dict) -> None:
    drawn = result.headline(fast, 94, 828)
    assert drawn.title == "int8 with onnxruntime: one image in 100 µs, 10.0× faster than TorchScript, at 94.40% accuracy"
    assert list(drawn.numbers["network, engine, precision"]) == [
        f"original, {row}" for row in ("torchscript, float32", "torchscript-cpp, float32", "onnxruntime, float32",
                                       "onnxruntime, int8")]
    assert ">300 µs · 3.33× faster · 94.40%</text>" in drawn.svg and ">mean 828 µs (other hardware)</text>" in drawn.svg


def test_the_headline_is_of_what_is_accurate_enough(fast: dict) -> None:
    next(row for row in fast["measurements"]["rows"] if row["precision"] == "int8")["test_accuracy"] = 93.9
    drawn = result.headline(fast, 94, 828)
    assert drawn.title.startswith("float32 with onnxruntime: one image in 300 µs, 3.33× faster") and len(drawn.numbers) == 3


def test_without_torchscript_the_headline_has_no_speedup(fast: dict) -> None:
    fast["measurements"]["rows"] = [row for row in fast["measurements"]["rows"] if row["engine"] != "torchscript"]
    drawn = result.headline(fast, 94, 828)
    assert drawn.title == "int8 with onnxruntime: one image in 100 µs, at 94.40% accuracy" and "faster" not in drawn.svg


def test_there_is_no_headline_of_nothing(fast: dict) -> None:
    assert result.headline(None, 94, 828) is None and result.headline(fast, 94.5, 828) is None
    fast["data"]["dataset"] = "synthetic"
    assert result.headline(fast, 94, 828) is None


def test_claims_are_compared_by_what_each_run_measured_itself() -> None:
    def verdicts(*whens: str) -> list[dict]:
        return [{"verdict": "reproduced", "ours": "5 µs", "reason": "", "evidence": [{"when": when} for when in whens]},
                {"verdict": "not run", "ours": "9×", "reason": "too short", "evidence": []},
                {"verdict": "reproduced", "ours": "94%", "reason": "", "evidence": []}]

    claims = [{"step": "latency", "short": "fast"}, {"step": "faster", "short": "faster"}, {"step": "train", "short": "exact"}]
    table = result.claims_by_run(claims, {"here": verdicts(THIS_RUN, RECORDED_EARLIER), "there": verdicts(RECORDED_EARLIER)})
    assert list(table["claim"]) == ["fast", "faster"]
    assert list(table["here"]) == ["reproduced: 5 µs", "not run: too short"]
    assert list(table["there"]) == ["–", "not run: too short"]


def test_engines_are_compared_run_by_run(timed: Timed) -> None:
    table = result.engines_by_run({"old": timed({"eager": 3000, "torchscript": 2000}), "new": timed({"torchscript": 300})})
    assert list(zip(table["run"], table["engine"])) == [("old", "eager"), ("old", "torchscript"), ("new", "torchscript")]
    assert table["p50 (µs)"][2].startswith("300 (") and table["spread (%)"][0] == pytest.approx(0.4)


def test_the_sentence_on_training_names_the_accuracy_of_each_seed(trained: Trained) -> None:
    sentence = training.sentence([trained(0, 94.06)])
    assert "20 epochs reach an accuracy of 94.06% (seed 0, recorded earlier)" in sentence
