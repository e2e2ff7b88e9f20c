"""The overview and the comparison with other runs follow from the records, whatever is missing of them."""

from collections.abc import Callable

import numpy as np
import pytest
from records_made import Made, row_named

from cifar_bench.analysis import verdicts
from cifar_bench.analysis.evidence import RECORDED_EARLIER, THIS_RUN, Evidence
from cifar_bench.report import result, training

CLAIMS = verdicts.load_claims()
APART = np.array([0.998, 1.0, 1.002])

Times = dict[str, float]  # µs by engine
Timed = Callable[..., dict]
Halved = Callable[[float], dict]
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
def halved(made: Made) -> Halved:
    """`halved(ratio)` is the real record with TorchScript alone, whose float16 takes so many times float32's latency."""

    def record(ratio: float) -> dict:
        real = made.record("half_precision")
        template = row_named(real["measurements"]["precisions"], engine="torchscript", precision="float32")
        real["measurements"]["precisions"] = [
            {**template, "precision": kind, "runs": [{**run, "p50_ns": 1e6 * factor * share}
                                                     for run, share in zip(template["runs"], APART, strict=True)]}
            for kind, factor in (("float32", 1), ("float16", ratio))]
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


def test_the_overview_shows_our_numbers_beside_the_originals(timed: Timed, halved: Halved, trained: Trained) -> None:
    there = timed({"torchscript": 500, "torchscript-cpp": 389, "eager": 700}, "NVIDIA H200")
    drawn = result.overview(CLAIMS, [trained(0, 94.1), trained(1, 94.3)], timed({"eager": 1656, "torchscript": 2000}),
                            halved(0.5), None, [there])
    assert "1,656 µs (eager)" in drawn.title and "828 µs" in drawn.title
    shown = dict(zip(drawn.numbers["of"], drawn.numbers["number"].str.replace("\N{NO-BREAK SPACE}", " ")))
    for row, number in {"original, five runs": "94.12 to 94.72", "seed 1, fast recipe": "94.30 (93.83 to 94.74)",
                        "original, P100": "828", "original, ten runs": "0.24", "torchscript, 3 runs": "0.40",
                        "torchscript, float16": "0.50 (0.50 to 0.50)"}.items():
        assert shown[row] == number
    assert shown["torchscript-cpp, NVIDIA H200"].startswith("389 (")  # the engine that decides the claim about newer GPUs


@pytest.mark.parametrize(
    ("accuracies", "means_us", "ratio", "panels"),
    [([94.1], None, None, 1), ([], {"torchscript-cpp": 500}, None, 2), ([], {"eager": 500}, None, 1), ([], None, 2, 1)],
)
def test_the_overview_shows_what_there_is(
    timed: Timed, halved: Halved, trained: Trained, accuracies: list[float], means_us: Times | None, ratio: float | None,
    panels: int,
) -> None:
    drawn = result.overview(CLAIMS, [trained(0, accuracy) for accuracy in accuracies], means_us and timed(means_us),
                            ratio and halved(ratio), None)
    assert len(set(drawn.numbers["quantity"])) == panels


def test_there_is_no_overview_of_nothing(halved: Halved) -> None:
    nothing = halved(2)
    nothing["measurements"]["precisions"] = []
    assert result.overview(CLAIMS, [], None, nothing, None) is None


@pytest.mark.parametrize(("accuracy", "dataset", "shown"),
                         [(94.4, "CIFAR-10", True), (93.0, "CIFAR-10", False), (94.4, "synthetic", False)])
def test_the_overview_shows_the_fastest_at_the_accuracy(
    made: Made, timed: Timed, accuracy: float, dataset: str, shown: bool
) -> None:
    fast = made.record("faster")
    fast["data"]["dataset"], fast["measurements"]["test_images"] = dataset, 10_000
    for row in fast["measurements"]["rows"]:
        row["test_accuracy"] = accuracy if row["precision"] == "int8" else 93.0
    drawn = result.overview(CLAIMS, [], timed({"eager": 1656}), None, fast)
    assert ({"onnxruntime, int8 (94.40%)", "torchscript, float32 (93.00%)"} <= set(drawn.numbers["of"])) == shown
    assert drawn.title.endswith("µs (onnxruntime, int8)") == shown and "the lowest and the highest run" in drawn.caption


def test_evidence_recorded_earlier_is_drawn_otherwise_than_this_runs(trained: Trained) -> None:
    own, earlier = (result.overview(CLAIMS, [trained(0, 94.1, when)], None, None, None).svg
                    for when in (THIS_RUN, RECORDED_EARLIER))
    assert own != earlier


def test_claims_are_compared_by_what_each_run_measured_itself() -> None:
    def verdicts(*whens: str) -> list[dict]:
        return [{"verdict": "reproduced", "ours": "5 µs", "evidence": [{"when": when} for when in whens]},
                {"verdict": "not run", "ours": "–", "evidence": []}, {"verdict": "reproduced", "ours": "94%", "evidence": []}]

    claims = [{"step": "latency", "short": "fast"}, {"step": "faster", "short": "faster"}, {"step": "train", "short": "exact"}]
    table = result.claims_by_run(claims, {"here": verdicts(THIS_RUN, RECORDED_EARLIER), "there": verdicts(RECORDED_EARLIER)})
    assert list(table["claim"]) == ["fast", "faster"]
    assert list(table["here"]) == ["reproduced: 5 µs", "not run"] and list(table["there"]) == ["–", "not run"]


def test_engines_are_compared_run_by_run(timed: Timed) -> None:
    table = result.engines_by_run({"old": timed({"eager": 3000, "torchscript": 2000}), "new": timed({"torchscript": 300})})
    assert list(zip(table["run"], table["engine"])) == [("old", "eager"), ("old", "torchscript"), ("new", "torchscript")]
    assert table["p50 (µs)"][2].startswith("300 (") and table["spread (%)"][0] == pytest.approx(0.4)


def test_the_sentence_on_training_tells_full_length_runs_from_a_short_one(trained: Trained) -> None:
    own = trained(0, 62.8, THIS_RUN, epochs=3, images=3200)
    sentence = training.sentence([trained(0, 94.06)], [own])
    assert "20 epochs reach an accuracy of 94.06% (seed 0, recorded earlier)" in sentence
    assert sentence.endswith("(3,200 images, epochs: 3) reaches 62.80%.")
    full = trained(1, 94.1, THIS_RUN)
    assert "own" not in training.sentence([full], [full])
