"""The picture of the result and the comparison of machines follow from the records, whatever is there of them."""

import numpy as np
import pytest

from cifar_lib import figures, precision, verdicts
from cifar_lib.verdicts import Found

CLAIMS = verdicts.load_claims()
APART = np.array([0.998, 1.0, 1.002])


def timed(medians_us: dict[str, float], hardware: str = "a processor") -> dict:
    """A latency record: three runs of each engine, 0.4% apart, and one row that did not run."""
    rows = [{"engine": engine, "variant": "", "images": 1000, "runs": [
        {"mean_ns": 1e3 * us * share, "p50_ns": 1e3 * us * share, "p99_ns": 2e3 * us} for share in APART]}
        for engine, us in medians_us.items()]
    rows.append({"engine": "openvino", "variant": "", "reason": "it does not run here."})
    return {"environment": {"hardware": hardware}, "measurements": {"engines": rows}}


def halved(ratio: float) -> dict:
    rows = [{"engine": "torchscript", "precision": kind, "runs": [{"mean_ns": 1e6 * factor * share} for share in APART]}
            for kind, factor in (("float32", 1), ("bfloat16", ratio))]
    precision.compare(rows)
    return {"measurements": {"precisions": rows}}


def training(seed: int, accuracy: float, when: str = verdicts.EARLIER, epochs: int = 20, images: int = 50_000) -> Found:
    return Found("lab/train/record.json", when, {
        "parameters": {"seed": seed, "recipe": "fast", "epochs": epochs},
        "measurements": {"accuracy": accuracy, "test_images": 10_000, "train_images": images, "epochs": [{}] * epochs}})


def test_the_picture_sets_ours_beside_the_originals() -> None:
    picture = figures.result(CLAIMS, [training(0, 94.1), training(1, 94.3)], timed({"eager": 1656, "torchscript": 2000}),
                             halved(0.5))
    assert "In float32 one image takes 1,656 µs here with eager, 2.0 times the P100" in picture.svg
    for words in ("original, five runs: 94.12 to 94.72;", "seed 1, fast recipe: 94.30 (93.83 to 94.74)", "original, P100: 828",
                  "original, ten runs: 0.24", "torchscript, 3 runs: 0.40", "torchscript, bfloat16: 0.50 (0.50"):
        assert words in picture.alternative.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("parts", "panels"),
    [(([training(0, 94.1)], None, None), {"accuracy (%)"}),
     (([], timed({"torchscript-cpp": 500}), None),
      {"mean latency of one image (µs)", "slowest and fastest run apart (% of the mean)"}),
     (([], timed({"eager": 500}), None), {"mean latency of one image (µs)"}),
     (([], None, halved(2)), {"latency as a multiple of float32's"})],
)
def test_the_picture_shows_what_there_is(parts: tuple, panels: set[str]) -> None:
    assert set(figures.result(CLAIMS, *parts).numbers["what"]) == panels


def test_there_is_no_picture_of_nothing() -> None:
    assert figures.result(CLAIMS, [], None, {"measurements": {"precisions": []}}) is None


def test_what_was_recorded_earlier_is_drawn_otherwise_than_what_this_run_measured() -> None:
    own, earlier = (figures.result(CLAIMS, [training(0, 94.1, when)], None, None).svg
                    for when in (verdicts.THIS_RUN, verdicts.EARLIER))
    assert own != earlier


def test_machines_are_told_apart_and_set_beside_what_was_published() -> None:
    records = {"old": timed({"eager": 3000}), "new": timed({"eager": 300}, "another")}
    picture = figures.machines(records)
    assert "In float32 the fastest of this project is eager (new): 300 µs" in picture.svg
    assert "old is a processor and new is another" in picture.caption
    assert list(picture.numbers["source"]).count("published") == len(figures.published_table())
    order = [float(told.split(" ")[0].replace(",", "")) for told in picture.numbers["mean (µs)"]]
    assert order == sorted(order)


def test_the_table_of_machines_gives_each_engine_its_best_other_precision() -> None:
    records = {"old": timed({"eager": 3000, "torchscript": 2000}), "new": timed({"torchscript": 300}, "another")}
    table = figures.machines_table(records, {"new": halved(0.5)})
    assert list(zip(table["run"], table["engine"])) == [("old", "eager"), ("old", "torchscript"), ("new", "torchscript")]
    assert list(table["best other precision, × float32"].isna()) == [True, True, False]
    assert table["best other precision, × float32"][2].startswith("bfloat16 0.50")
    assert table["runs apart (%)"][0] == pytest.approx(0.4)


def test_the_sentence_on_training_tells_full_trainings_from_a_short_one() -> None:
    own = training(0, 62.8, verdicts.THIS_RUN, epochs=3, images=3200)
    assert figures.training_sentence([training(0, 94.06)], [own]) == (
        "Trained in full, for 20 epochs, it is right on 94.06% (seed 0, recorded earlier) of the test images. "
        "This run's own training (3,200 images, epochs: 3) ends at 62.80%.")
    full = training(1, 94.1, verdicts.THIS_RUN)
    assert "own" not in figures.training_sentence([full], [full])
