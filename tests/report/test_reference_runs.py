"""The records that come with the project are shown whole."""


import numpy as np
import pytest
from clones import REFERENCE

from cifar_bench import records
from cifar_bench.analysis import frontier, precision, verdicts
from cifar_bench.analysis.admissible import full_length_runs
from cifar_bench.analysis.evidence import THIS_RUN, ByStep, gather
from cifar_bench.analysis.latency import compared_engines, judged_runs
from cifar_bench.report import export, faster, latency, page, result, training
from cifar_bench.report import precision as half_precision
from cifar_bench.report.words import times_faster

Read = tuple[dict, dict[str, np.ndarray]]  # a record and its series


@pytest.fixture(scope="module")
def evidence() -> ByStep:
    return gather(REFERENCE)


@pytest.fixture(scope="module")
def timed(evidence: ByStep) -> Read:
    record, folder = evidence["latency"][0].record, records.step_folder(REFERENCE, "latency")
    return record, {name: records.read_series(folder, record, name) for name in record["series"]}


def test_figures_of_latency_show_every_engine(timed: Read) -> None:
    record, series = timed
    for numbers in (latency.histogram(record, series).numbers, latency.run_means(record).numbers):
        assert set(numbers["engine"]) == {row["engine"] for row in record["measurements"]["engines"] if "runs" in row}
        assert len(numbers) == 11


def test_tables_and_sentences_of_latency_have_every_row(timed: Read) -> None:
    record, _ = timed
    assert len(latency.table(record)) == 13 and len(latency.run_table(record)) == 13 * 10
    assert len(latency.reasons(record)) == 2  # without a GPU
    median, engine = min((np.median([run["p50_ns"] for run in judged_runs(row)]) / 1e3, row["engine"])
                         for row in compared_engines(record))
    assert latency.sentence(record).startswith(f"{engine} is the fastest: median latency {median:,.0f} µs, ")
    contended = f" of the {len(latency.run_table(record))} runs, checks included, were contended by other programs."
    assert latency.sentence(record).endswith(contended)
    aa_test, repeated_image, loadgen, clock = latency.checks(record)
    assert "A/A" in aa_test and "repeated-image" in repeated_image and "LoadGen" in loadgen and "ns" in clock


def test_half_precision_has_every_row(evidence: ByStep) -> None:
    record = evidence["half_precision"][0].record
    ran = precision.ran(record)
    assert len(ran) == len(half_precision.table(record)) == 9 and len(half_precision.reasons(record)) == 6
    assert len(half_precision.speedups(record).numbers) == 6
    assert len(half_precision.batches(record).numbers.columns) == 1 + 9
    best = min((row for row in ran if row["precision"] == "bfloat16"), key=lambda row: row["ratio"])
    sentence = half_precision.sentence(record)
    assert sentence.startswith("Yes: one image at a time, bfloat16") and times_faster(best["ratio"]) in sentence


def test_training_runs_and_exports_are_shown(evidence: ByStep) -> None:
    full = full_length_runs(verdicts.load_claim("accuracy-above-94"), evidence)
    in_full = [item.record for item in full]
    assert len(training.table(full)) == len(training.seeds(in_full).numbers) == 3
    assert len(training.curves(in_full, "full").numbers) == 3 * 150
    assert training.sentence(full).startswith("Full-length training runs of 150 epochs")
    exported = evidence["export"][0].measured
    assert len(export.table(exported)) == 3 and export.sentence(exported).startswith("Changed predictions: 0 of 10,000")
    mixed_precision = records.read(records.step_folder(records.SHIPPED, "mixed_precision"))
    assert "-0.05 points (95% interval -0.28 to +0.19) in 10 pairs" in training.mixed_precision_sentence(mixed_precision)


def test_the_fastest_is_as_much_faster_as_the_record_says(evidence: ByStep) -> None:
    record = evidence["faster"][0].record
    winner = frontier.fastest_at(frontier.ran(record), 94.0)
    assert f"{winner['us']:,.0f} µs" in faster.sentence(record, 94.0)
    assert f"{1 / winner['ratio']:.1f}× faster" in faster.sentence(record, 94.0)


def test_the_headline_has_every_precision_and_the_page_links_every_record(evidence: ByStep) -> None:
    headline = result.headline(evidence["faster"][0].record, 94.0, 828)
    assert {row.split(", ")[-1] for row in headline.numbers["network, engine, precision"]} == {"float32", "bfloat16", "int8"}
    for item in (item for items in evidence.values() for item in items):
        assert item.path in page.source((item.path, item.record)).data
    own = {step: [item.record for item in items if item.when == THIS_RUN] for step, items in evidence.items()}
    assert "make report PROFILE=thorough RUN=mine" in page.reproduce(REFERENCE, own).data
