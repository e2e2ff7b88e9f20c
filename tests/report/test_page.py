"""What comes from records reaches the page as text, whatever it holds."""

from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from records_made import Made

from cifar_bench.analysis.evidence import THIS_RUN
from cifar_bench.report import page
from cifar_bench.report.style import Picture
from cifar_lib import ROOT

HOSTILE = '"><script>alert(1)</script><b onclick=\'alert(2)\'>&amp;'
SVG = '<?xml version="1.0"?>\n<svg width="8pt" height="4pt" viewBox="0 0 8 4"><path id="p1"/><use href="#p1"/></svg>'


class Parsed(HTMLParser):
    """The tags, attributes and text of a piece of HTML, as a browser would take them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, name: str) -> list[str | None]:
        return [value for attribute, value in self.attributes if attribute == name]

    def is_harmless(self) -> bool:
        return not {"script", "b"} & set(self.tags) and not any(name.startswith("on") for name, _ in self.attributes)


def claim(**changes: str) -> dict:
    return {"id": "half-precision", "claim": "No gain.", "source": "README", "original": "none", "step": "latency",
            "hardware": "any", "short": "no gain"} | changes


def verdict(**changes: object) -> dict:
    return {"id": "half-precision", "verdict": "not run", "reason": "no GPU", "ours": "–", "evidence": []} | changes


def evidence(**changes: str) -> dict:
    return {"record": "lab/latency/record.json", "when": "recorded earlier", "made": "2026-01-02T03:04:05+00:00",
            "hardware": "a processor"} | changes


Record = Callable[..., dict]


@pytest.fixture
def record(made: Made) -> Record:
    """`record("latency")` is the real record of that step, made by a known commit in a known time; more of its environment
    may be changed."""

    def changed(step: str = "latency", **changes: object) -> dict:
        real = made.record(step)
        environment = {"hardware": "a processor", "commit": "0123456789abcdef", "uncommitted_changes": False, **changes}
        assert set(environment) < set(real["environment"])
        return real | {"environment": real["environment"] | environment, "seconds": 1234.5}

    return changed


# ---- the verdict table


@pytest.mark.parametrize("field", ["claim", "original"])
def test_a_hostile_claim_is_text(field: str) -> None:
    parsed = Parsed(page.verdict_table([claim(**{field: HOSTILE})], [verdict()]).data)
    assert parsed.is_harmless()
    assert HOSTILE in parsed.text


def test_a_hostile_source_is_a_title() -> None:
    parsed = Parsed(page.verdict_table([claim(source=HOSTILE)], [verdict()]).data)
    assert parsed.is_harmless()
    assert HOSTILE in parsed.all("title")


@pytest.mark.parametrize("field", ["reason", "ours"])
def test_a_hostile_verdict_is_text(field: str) -> None:
    parsed = Parsed(page.verdict_table([claim()], [verdict(**{field: HOSTILE})]).data)
    assert parsed.is_harmless()
    assert HOSTILE in parsed.text


@pytest.mark.parametrize("field", ["when", "hardware"])
def test_hostile_evidence_is_text(field: str) -> None:
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence(**{field: HOSTILE})])]).data)
    assert parsed.is_harmless()
    assert HOSTILE in parsed.text


def test_evidence_links_to_its_section_and_its_record() -> None:
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence(when=THIS_RUN)])]).data)
    assert parsed.all("href") == ["#3.-Latency", "../lab/latency/record.json"]
    earlier = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence()])]).data)
    assert earlier.all("href") == ["../lab/latency/record.json"]  # another machine's, which the section does not show
    hostile = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence(record=HOSTILE)])]).data)
    assert hostile.is_harmless()
    assert hostile.all("href") == [f"../{HOSTILE}"]


def test_records_made_on_the_same_hardware_are_told_together() -> None:
    made = [evidence(record=f"lab/train/seed{number}/record.json", made=f"2026-01-0{number + 2}T03:04:05+00:00",
                     hardware="a processor" if number < 2 else "another") for number in range(3)]
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=made)]).data)
    assert parsed.text.endswith(
        "recorded earliera processor, 2026-01-02, 2026-01-03recorded earlieranother, 2026-01-04")
    assert parsed.all("href") == [f"../lab/train/seed{number}/record.json" for number in range(3)]


def test_this_runs_machine_is_not_named_in_every_row() -> None:
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence(when=THIS_RUN)])]).data)
    assert parsed.text.endswith("measured in this run2026-01-02")


def test_records_of_one_day_are_told_by_one_date() -> None:
    made = [evidence(record=f"lab/train/seed{number}/record.json") for number in range(3)]
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=made)]).data)
    assert parsed.text.endswith("a processor, 2026-01-02, 2, 3")
    assert parsed.all("href") == [f"../lab/train/seed{number}/record.json" for number in range(3)]


def test_the_summary_names_the_claims_by_verdict_and_the_fastest_way() -> None:
    claims = [claim(id=name, short=name) for name in ("one", "two", HOSTILE)]
    verdicts = [verdict(), verdict(verdict="reproduced"), verdict()]
    parsed = Parsed(page.summary(claims, verdicts, HOSTILE).data)
    assert parsed.is_harmless()
    assert parsed.text == f"1 of 3 claims reproducedtwo2 of 3 claims not runone; {HOSTILE}at 94%{HOSTILE}"
    assert parsed.all("href") == ["#two", "#one", f"#{HOSTILE}"]
    assert "at 94%" not in Parsed(page.summary(claims, verdicts, None).data).text


def test_the_summary_says_what_was_found_in_place_of_what_was_claimed() -> None:
    parsed = Parsed(page.summary([claim()], [verdict(verdict="not reproduced", ours=HOSTILE)], None).data)
    assert parsed.is_harmless()
    assert parsed.text == f"1 of 1 claims not reproducedno gain (here {HOSTILE})"


def test_a_claim_that_takes_other_hardware_is_a_line() -> None:
    rows = [claim(), claim(hardware="P100")]
    for kind, cells in (("not run", 6), ("reproduced", 10)):
        parsed = Parsed(page.verdict_table(rows, 2 * [verdict(verdict=kind)]).data)
        assert parsed.tags.count("td") == cells
        assert parsed.all("colspan") == (["5"] if kind == "not run" else [])
        assert parsed.all("id") == ["half-precision", "half-precision"]


def test_a_row_shows_the_verdict_and_can_be_linked_to() -> None:
    parsed = Parsed(page.verdict_table([claim()], [verdict()]).data)
    assert "not run" in parsed.texts
    assert "half-precision" in parsed.all("id")
    assert "verdict not-run" in parsed.all("class")


# ---- tables of numbers


def test_a_hostile_table_is_text() -> None:
    parsed = Parsed(page.table(pd.DataFrame({HOSTILE: [HOSTILE + "in a cell"]}), HOSTILE).data)
    assert parsed.is_harmless()
    assert parsed.texts == [HOSTILE, HOSTILE + "in a cell"]
    assert parsed.all("aria-label") == [HOSTILE]


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.nan, "–"), (0.000354, "0.000354"), (1.234, "1.23"), (123.456, "123.5"), (12345.6, "12,346"), (1234567, "1,234,567"),
     ("it broke", "it broke")],
)
def test_a_cell_shows_its_value(value: object, text: str) -> None:
    assert Parsed(page.table(pd.DataFrame({"number": [value]}), "numbers").data).texts == ["number", text]


def test_numbers_that_are_missing_leave_the_others_as_they_are() -> None:
    frame = pd.DataFrame([{"engine": "eager", "mean (µs)": 828.25}, {"engine": "torchscript"}])
    assert Parsed(page.table(frame, "latency").data).texts == ["engine", "mean (µs)", "eager", "828.2", "torchscript", "–"]


def test_only_columns_of_numbers_are_set_as_numbers() -> None:
    frame = pd.DataFrame({"engine": ["eager"], "mean (µs)": [828.2]})
    assert Parsed(page.table(frame, "latency").data).all("class") == ["table", "number", "number"]


def test_a_folded_table_is_whole_behind_its_label() -> None:
    frame = pd.DataFrame({"engine": ["eager"]})
    parsed = Parsed(page.table(frame, HOSTILE, folded=True).data)
    assert parsed.is_harmless()
    assert parsed.texts == [HOSTILE, "engine", "eager"]
    assert page.table(frame, "every run", folded=True).data.startswith("<details><summary>Every run</summary>")


# ---- the line of facts


def test_hostile_hardware_is_text(record: Record) -> None:
    parsed = Parsed(page.facts(record(hardware=HOSTILE)).data)
    assert parsed.is_harmless()
    assert HOSTILE in parsed.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, "commit 0123456789"), ({"uncommitted_changes": True}, "with changes"), ({"commit": None}, "unknown")],
)
def test_facts_say_which_code_it_was(record: Record, changes: dict, words: str) -> None:
    assert words in Parsed(page.facts(record(**changes)).data).text


def test_facts_of_a_resumed_training_do_not_claim_its_last_part_for_the_whole(record: Record) -> None:
    training = record("train/seed0")
    assert Parsed(page.facts(training).data).text.endswith("took 21 min")
    training["measurements"]["resumed_after"] = [4]
    assert Parsed(page.facts(training).data).text.endswith("last resumed")


# ---- where numbers come from


def test_the_source_of_numbers_is_a_command_that_can_be_pasted_and_links_to_record_and_series(record: Record) -> None:
    timing = record() | {"parameters": {"run": "lab", "runs": 3}, "series": {"eager-float32": "eager-float32.npz"}}
    parsed = Parsed(page.source("lab/latency/record.json", timing).data)
    assert "papermill notebooks/3_latency.ipynb out.ipynb -y '{\"run\": \"lab\", \"runs\": 3}'" in parsed.texts
    assert parsed.all("href") == ["../../notebooks/3_latency.ipynb", "../lab/latency/record.json",
                                  "../lab/latency/eager-float32.npz"]


def test_the_winners_file_is_linked(record: Record) -> None:
    found = record("faster")
    found["measurements"]["winner"] = {"file": HOSTILE, "bytes": 2_600_000, "sha256": HOSTILE}
    parsed = Parsed(page.source("lab/faster/record.json", found).data)
    assert parsed.is_harmless()
    assert f"{HOSTILE}, 2.6 MB, SHA-256 {HOSTILE}" in parsed.text
    assert f"../lab/faster/{HOSTILE}" in parsed.all("href")


@pytest.mark.parametrize("step", ["train/seed0", "export", "latency", "half_precision"])
def test_the_source_of_a_real_record_links_to_files_that_are_there(made: Made, step: str) -> None:
    parsed = Parsed(page.source(f"lab/{step}/record.json", made.record(step)).data)
    notebook, *files = parsed.all("href")
    assert (ROOT / notebook.removeprefix("../../")).is_file()
    assert len(files) == 1 + len(made.record(step)["series"])
    assert [file for file in files if not (made.root / "results/lab" / file).is_file()] == []


@pytest.mark.parametrize("changes", [
    {"parameters": {HOSTILE: HOSTILE}}, {"series": {HOSTILE: HOSTILE}},
    {"data": {"dataset": HOSTILE, "sha256": {HOSTILE: HOSTILE}}},
])
def test_a_hostile_source_is_text_only(record: Record, changes: dict) -> None:
    assert Parsed(page.source(f"{HOSTILE}/latency/record.json", record() | changes).data).is_harmless()


def of_profiles(record: Record, **profiles: str | None) -> dict[str, list[dict]]:
    """A record of each of these steps, by step, as made with this profile."""
    return {step: [record("train/seed0" if step == "train" else step) | {"profile": profile}]
            for step, profile in profiles.items()}


def test_the_report_can_be_made_again_by_one_command_with_its_profile(record: Record) -> None:
    made = of_profiles(record, train="quick", export="quick", latency="quick", half_precision="quick")
    assert "make report PROFILE=quick RUN=lab" in Parsed(page.reproduce("lab", made).data).texts
    assert 'make report PROFILE=quick RUN=lab COMPARE="a b"' in Parsed(page.reproduce("lab", made, ["a", "b"]).data).texts


@pytest.mark.parametrize(("of_latency", "of_the_rest"), [(None, "quick"), ("smoke", "quick"), (None, None)],
                         ids=["one by hand", "two profiles", "all by hand"])
def test_a_run_that_no_single_profile_made_names_no_command_for_all(
    record: Record, of_latency: str | None, of_the_rest: str | None
) -> None:
    made = of_profiles(record, train=of_the_rest, latency=of_latency, half_precision=of_the_rest)
    parsed = Parsed(page.reproduce(HOSTILE, made).data)
    assert parsed.is_harmless() and not any(text.startswith("make") for text in parsed.texts)
    assert any(text.startswith("the notebooks one by one: each section ends with its command") for text in parsed.texts)


def test_a_hostile_profile_and_hostile_runs_are_text(record: Record) -> None:
    parsed = Parsed(page.reproduce(HOSTILE, of_profiles(record, latency=HOSTILE), [HOSTILE]).data)
    assert parsed.is_harmless() and any(text.startswith("make report") and HOSTILE in text for text in parsed.texts)


def test_records_without_a_profile_are_older_ones(record: Record) -> None:
    older = record()
    del older["profile"]
    assert not any(text.startswith("make") for text in Parsed(page.reproduce("lab", {"latency": [older]}).data).texts)


def test_a_steady_measurement_has_a_badge_and_a_shaky_one_its_reasons() -> None:
    assert Parsed(page.stability([]).data).text == "The measurement looks steady"
    shaky = Parsed(page.stability([HOSTILE, "others used it"]).data)
    assert shaky.is_harmless() and shaky.tags.count("li") == 2
    assert HOSTILE in shaky.text and shaky.texts[-1] == "Others used it."


@pytest.mark.parametrize(("records", "shown"), [([], False), (None, False), ([{}], True)])
def test_what_was_not_measured_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch, records: object, shown: bool
) -> None:
    displayed = []
    monkeypatch.setattr(page, "display", displayed.append)
    assert page.measured(records) == shown
    assert [said.data for said in displayed] == ([] if shown else ["<p>Not measured.</p>"])


def test_a_hostile_sentence_is_text() -> None:
    parsed = Parsed(page.sentence(HOSTILE).data)
    assert parsed.is_harmless() and parsed.texts == [HOSTILE]


# ---- pictures


def test_a_hostile_title_and_caption_are_text() -> None:
    parsed = Parsed(Picture("run_means", HOSTILE, SVG, HOSTILE, "dots")._repr_html_())
    assert parsed.is_harmless()
    assert parsed.text.count(HOSTILE) == 2


def test_a_hostile_alternative_is_a_label() -> None:
    parsed = Parsed(Picture("run_means", "", SVG, "Means.", HOSTILE)._repr_html_())
    assert parsed.is_harmless()
    assert parsed.all("aria-label") == [HOSTILE]


def test_two_pictures_on_a_page_share_no_ids() -> None:
    parsed = Parsed("".join(Picture(name, "", SVG, "", "")._repr_html_() for name in ("one", "two")))
    ids = parsed.all("id")
    assert len(ids) == len(set(ids)) == 4
    assert all(link.removeprefix("#") in ids for link in parsed.all("href"))
