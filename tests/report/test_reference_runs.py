"""The records that come with the project are drawn and said in words, whatever version of the code made them."""

from collections.abc import Callable

import numpy as np
import pytest
from clones import REFERENCE

from cifar_bench import records
from cifar_bench.analysis import rules, verdicts
from cifar_bench.analysis.evidence import THIS_RUN, ByStep, gather
from cifar_bench.analysis.latency import compared, judged_runs
from cifar_bench.report import export, latency, page, precision, result, style, training
from cifar_lib import data

Read = tuple[dict, dict[str, np.ndarray]]  # a record and its series


@pytest.fixture(scope="module")
def evidence() -> ByStep:
    return gather(REFERENCE)


@pytest.fixture(scope="module")
def timed(evidence: ByStep) -> Read:
    return with_series("latency", evidence)


@pytest.fixture(scope="module")
def half(evidence: ByStep) -> Read:
    return with_series("half_precision", evidence)


def with_series(step: str, evidence: ByStep) -> Read:
    record, folder = evidence[step][0].record, records.step_folder(REFERENCE, step)
    return record, {name: records.read_series(folder, record, name) for name in record["series"]}


@pytest.mark.parametrize("draw", [latency.histogram, latency.ecdf, latency.over_time, latency.run_means],
                         ids=lambda draw: draw.__name__)
def test_a_figure_of_latency_shows_every_engine(timed: Read, draw: Callable[..., style.Picture]) -> None:
    record, series = timed
    picture = draw(record, series)
    ran = {row["engine"] for row in record["measurements"]["engines"] if "runs" in row}
    assert len(ran) == 11 and [engine for engine in ran if engine not in picture.alternative] == []


def test_tables_and_sentences_of_latency_have_every_row(timed: Read) -> None:
    record, series = timed
    assert len(latency.table(record)) == 13 and len(latency.run_table(record, series)) == 13 * 10
    assert len(latency.reasons(record)) == 2  # without a GPU
    median, engine = min((np.mean([run["p50_ns"] for run in judged_runs(row)]) / 1e3, row["engine"])
                         for row in compared(record))
    said = latency.sentence(record)
    assert said.startswith(f"One image takes {median:,.0f} ") and f"with {engine}" in said
    names = [sentence.split(" takes")[0] for sentence in latency.checks(record)[:2]]
    assert names == ["torchscript in the A/A test", "torchscript with one image over and over"]


@pytest.mark.parametrize("draw", [precision.half_precision, precision.accuracy_and_latency, precision.batches],
                         ids=lambda draw: draw.__name__)
def test_a_figure_of_half_precision_shows_every_row(half: Read, draw: Callable[..., style.Picture]) -> None:
    record, _ = half
    picture = draw(record)
    names = [f"{row['engine']}, {row['precision']}" for row in record["measurements"]["precisions"] if "runs" in row]
    assert len(names) == 9 and [name for name in names if name not in picture.alternative] == []


def test_the_rest_of_half_precision_is_shown(half: Read) -> None:
    record, series = half
    assert "float32 the roof is" in precision.roofline(record).alternative
    changed = record["measurements"]["changed"]
    photos = precision.changed_predictions(changed, series["changed-images"], data.CLASSES)
    assert f"{changed['changed']:,} of {changed['predictions']:,} predictions change" in photos.title
    assert len(precision.table(record)) == 9 and len(precision.reasons(record)) == 6
    assert precision.sentence(record).startswith("Yes: one image at a time, bfloat16 takes 0.35 ")


def test_trainings_and_exports_are_shown(evidence: ByStep) -> None:
    full = rules.full_length_runs(verdicts.load_claim("accuracy-above-94"), evidence)
    in_full, own = [item.record for item in full], [item for item in evidence["train"] if item.when == THIS_RUN]
    assert len(in_full) == 3 and len(own) == 1
    matrix = np.array(in_full[0]["measurements"]["confusion"])
    for picture in (training.seeds(in_full), training.curves(in_full, "full"), training.curves([own[0].record]),
                    training.confusion(matrix, data.CLASSES), training.class_accuracy(matrix, data.CLASSES)):
        assert picture.alternative
    assert training.sentence(full, own).startswith("Trained in full, for 150 epochs")
    assert len(training.table(in_full, [item.when for item in full])) == 3
    exported = evidence["export"][0].measured
    assert len(export.table(exported)) == 3 and export.sentence(exported).startswith("Changed predictions: 0 of 10,000")


def test_the_cost_of_bfloat16_is_told() -> None:
    record = records.read(records.step_folder(records.SHIPPED, "mixed_precision"))
    assert "-0.05 points (-0.28 to +0.19) in 10 pairs of seeds" in training.mixed_precision_sentence(record)


def test_the_result_and_the_machines_are_shown(evidence: ByStep, timed: Read, half: Read) -> None:
    full = rules.full_length_runs(verdicts.load_claim("accuracy-above-94"), evidence)
    fast = evidence["faster"][0].record
    picture = result.overview(verdicts.load_claims(), full, timed[0], half[0], fast)
    assert len(set(picture.numbers["what"])) == 5
    assert f"onednn-cpp ({REFERENCE})" in result.machines({REFERENCE: timed[0]}).title
    assert len(result.machines_table({REFERENCE: timed[0]}, {REFERENCE: half[0]})) == 11


def test_the_page_says_where_numbers_come_from(evidence: ByStep) -> None:
    for item in (item for items in evidence.values() for item in items):
        assert item.path in page.source(item.path, item.record).data
    own = {step: [item.record for item in items if item.when == THIS_RUN] for step, items in evidence.items()}
    assert "make report PROFILE=thorough RUN=mine" in page.reproduce(REFERENCE, own).data
