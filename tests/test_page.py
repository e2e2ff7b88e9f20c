"""What comes from records reaches the page as text, whatever it holds."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml

from cifar_lib import ROOT, page
from cifar_lib.figures import Picture

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
    return {"id": "half-precision", "claim": "No gain.", "source": "README", "original": "none", "step": "latency"} | changes


def verdict(**changes: object) -> dict:
    return {"id": "half-precision", "verdict": "not run", "reason": "no GPU", "ours": "–", "evidence": []} | changes


def evidence(**changes: str) -> dict:
    return {"record": "lab/latency/record.json", "when": "measured in this run", "made": "2026-01-02T03:04:05+00:00",
            "hardware": "a processor"} | changes


def record(**changes: object) -> dict:
    environment = {"hardware": "a processor", "threads": 2, "versions": {"torch": "2.13.0"}, "python": "3.13.0",
                   "commit": "0123456789abcdef", "uncommitted_changes": False} | changes
    return {"environment": environment, "made": "2026-01-02T03:04:05+00:00", "seconds": 1234.5, "measurements": {}}


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
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence()])]).data)
    assert parsed.all("href") == ["#3.-Latency", "../lab/latency/record.json"]
    hostile = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence(record=HOSTILE)])]).data)
    assert hostile.is_harmless()
    assert hostile.all("href") == ["#3.-Latency", f"../{HOSTILE}"]


def test_records_made_on_the_same_hardware_are_told_together() -> None:
    made = [evidence(record=f"lab/train/seed{number}/record.json", made=f"2026-01-0{number + 2}T03:04:05+00:00",
                     hardware="a processor" if number < 2 else "another") for number in range(3)]
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=made)]).data)
    assert parsed.text.endswith(
        "measured in this runa processor, 2026-01-02, 2026-01-03measured in this runanother, 2026-01-04")
    assert parsed.all("href")[1:] == [f"../lab/train/seed{number}/record.json" for number in range(3)]


def test_the_summary_counts_the_verdicts() -> None:
    parsed = Parsed(page.summary([verdict(), verdict(verdict="reproduced"), verdict()]).data)
    assert parsed.text == "Of 3 claims: 1 reproduced, 2 not run."


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


def test_hostile_hardware_is_text() -> None:
    parsed = Parsed(page.facts(record(hardware=HOSTILE)).data)
    assert parsed.is_harmless()
    assert HOSTILE in parsed.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, "commit 0123456789"), ({"uncommitted_changes": True}, "changes"), ({"commit": None}, "unknown")],
)
def test_facts_say_which_code_it_was(changes: dict, words: str) -> None:
    assert words in Parsed(page.facts(record(**changes)).data).text


def test_facts_of_a_resumed_training_do_not_claim_its_last_part_for_the_whole() -> None:
    assert Parsed(page.facts(record()).data).text.endswith("took 1,234 s")
    assert Parsed(page.facts({**record(), "measurements": {"resumed_after": [4]}}).data).text.endswith("last resumed")


# ---- where numbers come from


def step_record(**changes: object) -> dict:
    return {**record(system="Linux"), "step": "latency", "parameters": {"run": "lab", "runs": 3},
            "data": {"dataset": "CIFAR-10", "sha256": {}}, "series": {"eager-float32": "eager-float32.npy"}} | changes


def test_the_source_of_numbers_is_a_command_that_can_be_pasted_and_links_to_record_and_series() -> None:
    parsed = Parsed(page.source("lab/latency/record.json", step_record()).data)
    assert "papermill notebooks/3_latency.ipynb out.ipynb -y '{\"run\": \"lab\", \"runs\": 3}'" in parsed.texts
    assert parsed.all("href") == ["../../notebooks/3_latency.ipynb", "../lab/latency/record.json",
                                  "../lab/latency/eager-float32.npy"]
    assert re.search(r"In \[\d+\] latency_histogram, latency_ecdf;", parsed.text)


@pytest.mark.parametrize("changes", [
    {"parameters": {HOSTILE: HOSTILE}}, {"series": {HOSTILE: HOSTILE}},
    {"data": {"dataset": HOSTILE, "sha256": {HOSTILE: HOSTILE}}},
])
def test_a_hostile_source_is_text_only(changes: dict) -> None:
    assert Parsed(page.source(f"{HOSTILE}/latency/record.json", step_record(**changes)).data).is_harmless()


def quick_run(**changes: object) -> dict[str, list[dict]]:
    """Records, by step, as profile quick makes them for the run lab, but for `changes` of the timing's parameters."""
    quick = yaml.safe_load((ROOT / "profiles" / "quick.yaml").read_text())
    own = {"train": {"seed": 0, "batch_size": 250}, "export": {"seed": 0, "weights_from": "shipped"}, "latency": changes,
           "half_precision": {}}
    return {step: [step_record(step=step, parameters=page._defaults(step) | quick[step] | {"run": "lab"} | added)]
            for step, added in own.items()}


def test_the_report_can_be_made_again_by_one_command_with_its_profile() -> None:
    assert "make report PROFILE=quick RUN=lab" in Parsed(page.reproduce("lab", quick_run()).data).texts
    assert 'make report PROFILE=quick RUN=lab BESIDE="a b"' in Parsed(page.reproduce("lab", quick_run(), ["a", "b"]).data).texts


@pytest.mark.parametrize("changes", [{"images": 999}, {"threads": 1}])
def test_a_run_by_hand_is_of_no_profile(changes: dict) -> None:
    assert page.profile_of("lab", quick_run(**changes)) is None
    assert page.profile_of("lab", quick_run() | {"train": []}) is None
    parsed = Parsed(page.reproduce(HOSTILE, quick_run(**changes)).data)
    assert parsed.is_harmless() and not any(text.startswith("make") for text in parsed.texts)


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
