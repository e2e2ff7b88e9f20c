"""What 5_faster shows follows from its record, whatever is there of it."""

import pytest
from records_made import Made

from cifar_bench.analysis import frontier
from cifar_bench.report import faster


@pytest.fixture
def record(made: Made) -> dict:
    return made.record("faster")


def test_the_sentence_names_the_winner_its_accuracy_and_its_ratio(record: dict) -> None:
    rows = frontier.ran(record)
    said = faster.sentence(record, 0)
    for words in (f"the original network in {rows[0]['precision']}, by {rows[0]['engine']}:", f"{rows[0]['us']:,.0f} µs",
                  f"{rows[0]['test_accuracy']:.2f}%", f"{rows[0]['ratio']:.3f}"):
        assert words in said


def test_where_nothing_is_accurate_enough_the_most_accurate_is_named(record: dict) -> None:
    best = max(frontier.ran(record), key=lambda row: row["test_accuracy"])
    assert faster.sentence(record, 99.9) == (
        f"Nothing that was tried is right on 99.9% of 200 test images: the most accurate is {frontier.name(best)}, "
        f"{best['test_accuracy']:.2f}%.")


def test_every_row_that_ran_is_in_the_table_and_every_other_has_its_reason(record: dict) -> None:
    record["measurements"]["rows"].append(
        {"network": "narrow", "engine": "openvino", "precision": "float16", "reason": "it does not run here."})
    assert len(faster.table(record)) == len(frontier.ran(record)) == 3
    assert faster.reasons(record) == ["narrow, openvino, float16: it does not run here."]


def test_networks_are_told_with_what_their_seeds_reach(record: dict) -> None:
    described = record["measurements"]["networks"]
    assert list(described) == [frontier.ORIGINAL]
    described["narrow"] = described[frontier.ORIGINAL] | {"seed_accuracies": [94.0, 94.2, 94.4], "teachers": ["shipped/0"]}
    table = faster.networks(described).set_index("network")
    assert table.loc["narrow", "their mean (%)"] == pytest.approx(94.2) and table.loc["narrow", "seeds"] == 3
    assert table.loc["narrow", "taught by"] == "shipped/0"
    assert "original" in table.index


@pytest.mark.parametrize("accuracy", [0.0, 99.9])
def test_the_figure_shows_every_row_and_says_what_the_accuracy_takes(record: dict, accuracy: float) -> None:
    picture = faster.accuracy_against_latency(record, accuracy)
    for row in frontier.ran(record):
        assert frontier.name(row) in picture.alternative
    assert picture.title.startswith(f"{accuracy:g}% takes" if accuracy == 0 else "99.9% is reached by nothing")


def test_what_the_time_is_made_of_is_shown_for_the_winner_and_the_base(record: dict) -> None:
    picture = faster.time_breakdown(record, 0)
    assert list(picture.numbers["what"]) == list(dict.fromkeys(
        [frontier.name(frontier.ran(record)[0]), "original, torchscript, float32"]))
    record["measurements"]["rooflines"] = []
    assert faster.time_breakdown(record, 0) is None
