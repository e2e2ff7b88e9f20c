"""What 5_faster shows follows from its record, whatever is missing in it."""

import pytest
from claim_records import RUN, Write, export, training, write_seeds
from claim_records import faster as measured_faster
from records_made import Made

from cifar_bench.analysis import frontier
from cifar_bench.analysis.evidence import gather
from cifar_bench.report import faster


@pytest.fixture
def record(made: Made) -> dict:
    return made.record("faster")


def test_the_sentence_names_the_winner_with_its_accuracy_and_speedup(record: dict) -> None:
    rows = frontier.ran(record)
    sentence = faster.sentence(record, 0)
    for words in (f"the original network in {rows[0]['precision']} with {rows[0]['engine']}:", f"{rows[0]['us']:,.0f} µs",
                  f"{rows[0]['test_accuracy']:.2f}%", f"{frontier.base(rows)['us']:,.0f} µs"):
        assert words in sentence


def test_where_nothing_is_accurate_enough_the_most_accurate_is_named(record: dict) -> None:
    best = max(frontier.ran(record), key=lambda row: row["test_accuracy"])
    sentence = faster.sentence(record, 99.9)
    assert sentence.startswith("Nothing reaches an accuracy of 99.9%")
    assert sentence.endswith(f"{frontier.name(best)}, with {best['test_accuracy']:.2f}%.")
    assert faster.accuracy_against_latency(record, 99.9).title == "Nothing reaches an accuracy of 99.9%"


@pytest.mark.usefixtures("needs_compiler")
def test_every_row_that_ran_is_shown_and_every_other_has_its_reason(record: dict) -> None:
    record["measurements"]["rows"].append(
        {"network": "narrow", "engine": "openvino", "precision": "float16", "reason": "it does not run here."})
    drawn = faster.accuracy_against_latency(record, 0)
    assert len(faster.table(record)) == len(drawn.numbers) == len(frontier.ran(record)) == 4
    assert drawn.title.startswith(f"0% accuracy at a median latency of {frontier.ran(record)[0]['us']:,.0f} µs")
    assert faster.reasons(record) == ["narrow, openvino, float16: it does not run here."]


def test_a_networks_row_gives_the_mean_over_the_training_runs_that_differ_in_their_seed_only(write: Write) -> None:
    write("export", export())
    write("faster", measured_faster(180))
    write("train/seed0", training(94.5))
    write_seeds(write, 94.0, 94.2, 94.4, teachers=["shipped/0"])
    for seed, images, widths, teachers in ((3, 10, [1, 2, 3, 4], ["shipped/0"]), (4, 50_000, [2, 3, 4, 5], ["shipped/0"]),
                                           (5, 50_000, [1, 2, 3, 4], [])):
        write(f"train/seed{seed}", training(90.0, train_images=images) | {"weights_sha256": "another"}, run="narrow",
              widths=widths, teachers=teachers)
    by_step = gather(RUN)
    record = by_step["faster"][0].record
    table = faster.networks(record, by_step).set_index("network")
    assert list(table["seeds"]) == [1, 3] and list(table["mean of the seeds (%)"]) == pytest.approx([94.5, 94.2])
    assert list(table["distilled from"]) == ["", "shipped/0"]
    for network in record["measurements"]["networks"].values():
        del network["weights_sha256"]  # as in older records, whose original network is that of the run's export
    assert list(faster.networks(record, by_step)["seeds"]) == [1, 0]


def test_the_recommendation_names_the_fastest_accurate_row_its_cost_and_the_alternatives(record: dict) -> None:
    ran = frontier.ran(record)
    words = faster.recommendation(record, 0)
    assert words[0].startswith(f"Use {ran[0]['engine']} in {ran[0]['precision']} with the")
    assert f"median latency {ran[0]['us']:,.0f} µs" in words[0] and "interval" in words[0]
    assert f"It changes {ran[0]['changed_predictions']:,} of " in words[1]
    float32 = next(row for row in ran if row["precision"] == "float32")
    assert float32 is ran[0] or any("in float32, timed beside it" in line and f"{float32['us']:,.0f} µs" in line
                                    for line in words)
    assert faster.recommendation(record, 100.1) == []
