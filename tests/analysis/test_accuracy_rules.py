"""The verdicts on network and accuracy follow from the training runs and the export on record."""

import pytest
from claim_records import FAST, PARAMETERS, RUN, Write, export, judged, training

from cifar_bench import records
from cifar_bench.analysis.judgement import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED


@pytest.mark.parametrize(("counts", "verdict"), [
    ({}, REPRODUCED), ({"parameters": 2_570_281}, NOT_REPRODUCED), ({"theirs": PARAMETERS}, NOT_REPRODUCED)])
def test_network_size_is_the_originals_and_below_cifar10_fasts(write: Write, counts: dict, verdict: str) -> None:
    write("export", export(**counts))
    assert judged("network-size")["verdict"] == verdict


def test_trained_longer_counts_the_epochs_of_the_originals_recipe(write: Write) -> None:
    write("train/seed0", training(epochs=40), **FAST)
    assert judged("trained-longer")["verdict"] == NOT_RUN
    write("train/seed0", training())
    assert judged("trained-longer")["verdict"] == REPRODUCED


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
    ("accuracies", "verdict"),
    [
        ([94.12, 94.3, 94.5, 94.6, 94.72], REPRODUCED),
        ([94.7, 95.0, 94.9, 95.1, 94.8], INCONCLUSIVE),
        ([92.8, 93.6, 94.4, 95.2, 96.0] * 8, INCONCLUSIVE),  # the right mean, but most of them outside of the range
        ([93.0, 93.1, 93.2, 93.1, 93.0], NOT_REPRODUCED),
        ([95.4, 95.5, 95.6, 95.5, 95.4], NOT_REPRODUCED),
        ([94.3, 94.4], NOT_RUN),
    ],
)
def test_five_runs_are_compared_with_the_originals_five(write: Write, accuracies: list[float], verdict: str) -> None:
    for seed, accuracy in enumerate(accuracies):
        write(f"train/seed{seed}", training(accuracy))
    assert judged("accuracy-five-runs")["verdict"] == verdict


@pytest.mark.parametrize(
    ("measured", "changed", "reason"),
    [
        (training(epochs=149), {}, "149 of 150 epochs"),
        (training(train_images=49_999), {}, "49,999 of 50,000 images"),
        (training(test_images=9_999), {}, "9,999 of 10,000 test images"),
        (training(epochs=39), FAST, "39 of 40 epochs"),
        (training() | {"scored_on": "held-out training images"}, {}, "scored on held-out training images"),
        (training(), {"recipe": "other"}, "150 epochs of the original recipe or 40 epochs of the fast recipe"),
        (training(), {"width": 64}, "width is 64 instead of 40"),
        (training(), FAST | {"batch_size": 500}, "batch_size is 500 instead of 250"),
        (training(), FAST | {"without": ["muon", "dirac"]}, "without is ['muon', 'dirac']"),
        (training(), {"widths": [1, 2, 3, 4]}, "widths is [1, 2, 3, 4]"),
        (training(), {"teachers": ["shipped/0"]}, "teachers is ['shipped/0']"),
    ],
)
def test_a_training_run_that_does_not_follow_the_protocol_is_not_judged(
    write: Write, measured: dict, changed: dict, reason: str
) -> None:
    write("train/seed0", measured, **changed)
    row = judged("accuracy-above-94")
    assert row["verdict"] == NOT_RUN and reason in row["reason"]


def test_the_fast_recipe_shows_what_the_network_can_reach_but_not_how_the_original_trained_it(write: Write) -> None:
    for seed in range(5):
        write(f"train/seed{seed}", training(94.4 + seed / 100, epochs=40), **FAST)
    write("export", export())
    assert judged("accuracy-above-94")["verdict"] == judged("exported-accuracy")["verdict"] == REPRODUCED
    assert judged("accuracy-five-runs")["verdict"] == NOT_RUN


@pytest.mark.parametrize("differing", [{"epochs": [{"epoch": 1}] * 100}, {"recipe": {"padding": 2}}], ids=["epochs", "padding"])
def test_training_runs_with_other_hyperparameters_are_not_averaged(write: Write, differing: dict) -> None:
    for seed in range(4):
        write(f"train/seed{seed}", training(94.0 + seed, epochs=40) | (differing if seed == 1 else {}), **FAST)
    assert judged("accuracy-above-94")["ours"].startswith("95.67%")  # of seeds 0, 2 and 3


def test_the_originals_recipe_comes_before_the_fast_one(write: Write) -> None:
    write("train/seed0", training(94.9, epochs=40), **FAST)
    for seed in (1, 2, 3):
        write(f"train/seed{seed}", training(94.5))
    assert judged("accuracy-above-94")["ours"].startswith("94.50%")


def test_one_own_seed_trained_for_longer_does_not_hide_the_shipped_ones(write: Write) -> None:
    for seed in range(3):
        write(f"train/seed{seed}", training(94.5), run=records.SHIPPED)
    write("train/seed0", training(94.9, epochs=200))
    row = judged("accuracy-above-94")
    assert (row["verdict"], len(row["evidence"])) == (REPRODUCED, 3)
    for seed in (1, 2):
        write(f"train/seed{seed}", training(94.9, epochs=200))
    assert judged("accuracy-above-94")["ours"].startswith("94.90%")


def test_a_repeated_seed_counts_once_and_the_runs_own_first(write: Write) -> None:
    for run, accuracy in ((RUN, 94.5), (records.SHIPPED, 94.9)):
        for seed in range(3):
            write(f"train/seed{seed}", training(accuracy), run=run)
    row = judged("accuracy-above-94")
    assert len(row["evidence"]) == 3 and row["ours"].startswith("94.50%")


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (export(94.12), REPRODUCED),  # the original's own lowest
        (export(95.3), INCONCLUSIVE),
        (export(93.5), INCONCLUSIVE),
        (export(92.0), NOT_REPRODUCED),
        (export(10.0), NOT_REPRODUCED),  # which differs on more images than two training runs of the network
        (export(97.0), NOT_REPRODUCED),
        (export(94.53, test_images=9_999), NOT_RUN),
    ],
)
def test_exported_accuracy_is_about_the_originals(write: Write, measured: dict, verdict: str) -> None:
    write("train/seed0", training(measured["accuracy"]))
    write("export", measured)
    assert judged("exported-accuracy")["verdict"] == verdict


@pytest.mark.parametrize(
    ("measured", "reason"),
    [(training(epochs=6), "6 of 150 epochs"), (training() | {"weights_sha256": "other"}, "no record of the training run")],
)
def test_exported_accuracy_needs_weights_of_a_full_length_run(write: Write, measured: dict, reason: str) -> None:
    write("train/seed0", measured)
    write("export", export(84.0))
    row = judged("exported-accuracy")
    assert row["verdict"] == NOT_RUN and reason in row["reason"] and row["ours"].startswith("84.00%")
