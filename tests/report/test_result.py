"""The picture of the result and the comparison of machines follow from the records, whatever is there of them."""

from collections.abc import Callable

import numpy as np
import pytest
from records_made import Made, row_named

from cifar_bench.analysis import verdicts
from cifar_bench.analysis.evidence import EARLIER, THIS_RUN, Evidence
from cifar_bench.report import result
from cifar_bench.report import training as training_report

CLAIMS = verdicts.load_claims()
APART = np.array([0.998, 1.0, 1.002])

Times = dict[str, float]  # µs by engine
Timed = Callable[..., dict]
Halved = Callable[[float], dict]
Trained = Callable[..., Evidence]


@pytest.fixture
def timed(made: Made) -> Timed:
    """`timed(medians_us)` is the real record with three runs of each engine, 0.4% apart, and one row that did not run."""

    def record(medians_us: Times, hardware: str = "a processor") -> dict:
        real = made.record("latency")
        template = row_named(real["measurements"]["engines"], variant="")
        rows = [{**template, "engine": engine, "images": 1000, "runs": [
            {**run, "mean_ns": 1e3 * us * share, "p50_ns": 1e3 * us * share, "p99_ns": 2e3 * us}
            for run, share in zip(template["runs"], APART, strict=True)]} for engine, us in medians_us.items()]
        real["measurements"]["engines"] = [*rows, {"engine": "openvino", "variant": "", "reason": "it does not run here."}]
        real["environment"]["hardware"] = hardware
        return real

    return record


@pytest.fixture
def halved(made: Made) -> Halved:
    """`halved(ratio)` is the real record with TorchScript alone, whose bfloat16 takes so many times float32's time."""

    def record(ratio: float) -> dict:
        real = made.record("half_precision")
        template = row_named(real["measurements"]["precisions"], engine="torchscript", precision="float32")
        real["measurements"]["precisions"] = [
            {**template, "precision": kind, "runs": [{**run, "mean_ns": 1e6 * factor * share}
                                                     for run, share in zip(template["runs"], APART, strict=True)]}
            for kind, factor in (("float32", 1), ("bfloat16", ratio))]
        return real

    return record


@pytest.fixture
def trained(made: Made) -> Trained:
    """`trained(seed, accuracy)` is the real record of a training as if it had been made in full."""

    def evidence(seed: int, accuracy: float, when: str = EARLIER, epochs: int = 20, images: int = 50_000) -> Evidence:
        record = made.record("train/seed0")
        record["parameters"] |= {"seed": seed, "recipe": "fast", "epochs": epochs}
        record["measurements"] |= {"accuracy": accuracy, "test_images": 10_000, "train_images": images,
                                   "epochs": record["measurements"]["epochs"][:1] * epochs}
        return Evidence("lab/train/record.json", when, record)

    return evidence


def test_the_picture_sets_ours_beside_the_originals(timed: Timed, halved: Halved, trained: Trained) -> None:
    picture = result.overview(CLAIMS, [trained(0, 94.1), trained(1, 94.3)], timed({"eager": 1656, "torchscript": 2000}),
                              halved(0.5), None)
    assert "In float32 one image takes 1,656 µs here with eager, 2.0 times the P100" in picture.svg
    for words in ("original, five runs: 94.12 to 94.72;", "seed 1, fast recipe: 94.30 (93.83 to 94.74)", "original, P100: 828",
                  "original, ten runs: 0.24", "torchscript, 3 runs: 0.40", "torchscript, bfloat16: 0.50 (0.50"):
        assert words in picture.alternative.replace("\N{NO-BREAK SPACE}", " ")


def test_the_picture_shows_the_judged_and_the_fastest_engine_on_other_hardware(timed: Timed) -> None:
    there = timed({"torchscript": 500, "torchscript-cpp": 389, "eager": 700, "torchscript-cudagraph": 169}, "NVIDIA H200")
    picture = result.overview(CLAIMS, [], timed({"eager": 1656}), None, None, [there])
    shown = picture.numbers[picture.numbers["what"] == "mean latency of one image (µs)"]["of"]
    assert list(shown) == ["original, P100", "eager", "torchscript-cudagraph, NVIDIA H200", "torchscript-cpp, NVIDIA H200"]
    assert "takes 1,656 µs here with eager" in picture.title


def test_claims_are_set_side_by_side_by_what_each_run_measured_itself() -> None:
    def verdicts(when: str) -> list[dict]:
        return [{"verdict": "reproduced", "ours": "5 µs", "evidence": [{"when": when}]},
                {"verdict": "not run", "ours": "–", "evidence": []}]

    claims = [{"step": "latency", "short": "fast"}, {"step": "faster", "short": "faster"}, {"step": "train", "short": "right"}]
    table = result.claims_table(claims, {"here": verdicts(THIS_RUN), "there": verdicts(EARLIER)})
    assert list(table["claim"]) == ["fast", "faster"]
    assert list(table["here"]) == ["reproduced: 5 µs", "not run"] and list(table["there"]) == ["–", "not run"]


@pytest.mark.parametrize(
    ("accuracies", "medians_us", "ratio", "panels"),
    [([94.1], None, None, {"accuracy (%)"}),
     ([], {"torchscript-cpp": 500}, None,
      {"mean latency of one image (µs)", "slowest and fastest run apart (% of the mean)"}),
     ([], {"eager": 500}, None, {"mean latency of one image (µs)"}),
     ([], None, 2, {"latency as a multiple of float32's"})],
)
def test_the_picture_shows_what_there_is(
    timed: Timed, halved: Halved, trained: Trained, accuracies: list[float], medians_us: Times | None, ratio: float | None,
    panels: set[str],
) -> None:
    picture = result.overview(CLAIMS, [trained(0, accuracy) for accuracy in accuracies], medians_us and timed(medians_us),
                              ratio and halved(ratio), None)
    assert set(picture.numbers["what"]) == panels


@pytest.mark.parametrize(("accuracy", "dataset", "shown"),
                         [(94.4, "CIFAR-10", True), (93.0, "CIFAR-10", False), (94.4, "synthetic", False)])
def test_the_picture_shows_the_fastest_ways_to_be_accurate_enough(
    made: Made, timed: Timed, accuracy: float, dataset: str, shown: bool
) -> None:
    fast = made.record("faster")
    fast["data"]["dataset"], fast["measurements"]["test_images"] = dataset, 10_000
    for row in fast["measurements"]["rows"]:
        row["test_accuracy"] = accuracy if row["precision"] == "int8" else 93.0
    picture = result.overview(CLAIMS, [], timed({"eager": 1656}), None, fast)
    for row in ("onnxruntime, int8 (94.40%)", "torchscript, float32 (93.00%)"):
        assert (f"right on at least 94%, and TorchScript, {row}" in picture.alternative) == shown
    assert ("; the fastest at 94% takes " in picture.title and picture.title.endswith("µs (onnxruntime, int8)")) == shown


def test_there_is_no_picture_of_nothing(halved: Halved) -> None:
    nothing = halved(2)
    nothing["measurements"]["precisions"] = []
    assert result.overview(CLAIMS, [], None, nothing, None) is None


def test_what_was_recorded_earlier_is_drawn_otherwise_than_what_this_run_measured(trained: Trained) -> None:
    own, earlier = (result.overview(CLAIMS, [trained(0, 94.1, when)], None, None, None).svg for when in (THIS_RUN, EARLIER))
    assert own != earlier


def test_machines_are_told_apart_and_set_beside_what_was_published(timed: Timed) -> None:
    picture = result.machines({"old": timed({"eager": 3000}), "new": timed({"eager": 300}, "another")})
    assert "In float32 the fastest of this project is eager (new): 300 µs" in picture.svg
    assert "old is a processor and new is another" in picture.caption
    assert list(picture.numbers["source"]).count("published") == len(result.published_table())
    order = [float(mean.split(" ")[0].replace(",", "")) for mean in picture.numbers["mean (µs)"]]
    assert order == sorted(order)


def test_the_table_of_machines_gives_each_engine_its_best_other_precision(timed: Timed, halved: Halved) -> None:
    latencies = {"old": timed({"eager": 3000, "torchscript": 2000}), "new": timed({"torchscript": 300}, "another")}
    table = result.machines_table(latencies, {"new": halved(0.5)})
    assert list(zip(table["run"], table["engine"])) == [("old", "eager"), ("old", "torchscript"), ("new", "torchscript")]
    assert list(table["best other precision, × float32"].isna()) == [True, True, False]
    assert table["best other precision, × float32"][2].startswith("bfloat16 0.50")
    assert table["runs apart (%)"][0] == pytest.approx(0.4)


def test_the_sentence_on_training_tells_full_length_runs_from_a_short_one(trained: Trained) -> None:
    own = trained(0, 62.8, THIS_RUN, epochs=3, images=3200)
    assert training_report.sentence([trained(0, 94.06)], [own]) == (
        "Trained in full, for 20 epochs, it is right on 94.06% (seed 0, recorded earlier) of the test images. "
        "This run's own training (3,200 images, epochs: 3) ends at 62.80%.")
    full = trained(1, 94.1, THIS_RUN)
    assert "own" not in training_report.sentence([full], [full])
