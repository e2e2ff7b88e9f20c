"""What comes from records reaches the page, and as text, whatever it holds."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from claim_records import Write
from clones import REFERENCE
from IPython.display import HTML
from records_made import Made

from cifar_bench.analysis import verdicts
from cifar_bench.analysis.evidence import RECORDED_EARLIER, THIS_RUN
from cifar_bench.records import PROFILE_VARIABLE
from cifar_bench.report import page, style
from cifar_bench.report.style import Picture
from cifar_lib import ROOT

HOSTILE = '"><script>alert(1)</script><b onclick=\'alert(2)\'>&amp;'
SVG = '<?xml version="1.0"?>\n<svg width="8pt" height="4pt" viewBox="0 0 8 4"><path id="p1"/><use href="#p1"/></svg>'


class Parsed(HTMLParser):
    """The tags, attributes and text of a piece of HTML, as a browser reads them."""

    def __init__(self, piece: HTML) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(piece.data)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def all(self, name: str) -> list[str | None]:
        return [value for attribute, value in self.attributes if attribute == name]


def claim(**changes: str) -> dict:
    return {"id": "half-precision", "claim": "No gain.", "source": "README", "original": "none", "step": "latency",
            "hardware": "any", "short": "no gain", "settled": {"machine": HOSTILE, "command": HOSTILE}} | changes


def verdict(**changes: object) -> dict:
    return {"id": "half-precision", "verdict": "not run", "reason": "no GPU", "ours": "–", "evidence": []} | changes


def evidence(**changes: str) -> dict:
    return {"record": "lab/latency/record.json", "when": RECORDED_EARLIER, "made": "2026-01-02T03:04:05+00:00",
            "hardware": "a processor"} | changes


Record = Callable[..., dict]


@pytest.fixture
def record(made: Made) -> Record:
    """`record("latency", commit=None)` is the real record of that step with changes to its environment."""

    def changed(step: str = "latency", **changes: object) -> dict:
        real = made.record(step)
        environment = {"hardware": "a processor", "commit": "0123456789abcdef", "uncommitted_changes": False, **changes}
        assert set(environment) < set(real["environment"])
        return real | {"environment": real["environment"] | environment, "seconds": 1234.5}

    return changed


def test_every_piece_of_the_page_shows_a_hostile_value_as_text(record: Record) -> None:
    poisoned = record(hardware=HOSTILE, commit=HOSTILE, system=HOSTILE) | {
        "parameters": {"run": HOSTILE, HOSTILE: HOSTILE}, "series": {HOSTILE: HOSTILE}, "profile": HOSTILE,
        "data": {"dataset": HOSTILE, "sha256": {HOSTILE: HOSTILE}}}
    claims = [claim(**dict.fromkeys(("id", "claim", "source", "original", "short"), HOSTILE), hardware=hardware)
              for hardware in ("any", "P100")]
    verdicts = [verdict(reason=HOSTILE, ours=HOSTILE, evidence=[evidence(hardware=HOSTILE, record=HOSTILE)])] * 2
    frame = pd.DataFrame({HOSTILE: [HOSTILE]})
    pieces = [page.verdict_table(claims, verdicts), page.summary(claims, verdicts), page.open_claims(claims, verdicts),
              page.card([(HOSTILE, HOSTILE, HOSTILE)]), page.table(frame, HOSTILE), page.table(frame, HOSTILE, folded=True),
              page.folded(HOSTILE), page.stability([HOSTILE]), page.sentence(HOSTILE), page.sentences([HOSTILE]),
              page.facts(poisoned), page.source((f"{HOSTILE}/latency/record.json", poisoned)),
              page.reproduce(HOSTILE, {"latency": [poisoned]}, [HOSTILE]), page.figure("a", HOSTILE, SVG, HOSTILE, frame)]
    for piece in map(Parsed, pieces):
        assert not {"script", "b"} & set(piece.tags) and not any(name.startswith("on") for name, _ in piece.attributes)
        assert any("<script>alert(1)</script>" in text for text in piece.texts)


# ---- verdicts


def test_evidence_links_to_its_records_and_to_the_section_that_shows_this_runs() -> None:
    earlier = [evidence(record=f"lab/train/seed{number}/record.json", made=f"2026-01-0{day}T03:04:05+00:00", hardware=hardware)
               for number, (day, hardware) in enumerate([(2, "a GPU"), (2, "a GPU"), (4, "another")])]
    parsed = Parsed(page.verdict_table([claim()], [verdict(evidence=earlier)]))
    assert parsed.all("href") == [f"../lab/train/seed{number}/record.json" for number in range(3)]
    text = " ".join(parsed.texts)
    assert RECORDED_EARLIER in text and "2026-01-02" in text and "2026-01-04" in text and "another" in text
    own = Parsed(page.verdict_table([claim()], [verdict(evidence=[evidence(when=THIS_RUN)])]))
    assert own.all("href") == ["#3.-Latency", "../lab/latency/record.json"]


def test_a_claim_that_needs_other_hardware_takes_one_cell_unless_it_was_judged() -> None:
    for kind, cells in (("not run", 5), ("reproduced", 8)):
        parsed = Parsed(page.verdict_table([claim(), claim(hardware="P100")], 2 * [verdict(verdict=kind)]))
        assert parsed.tags.count("td") == cells and parsed.texts.count(kind) == 2
        assert parsed.all("id") == ["half-precision", "half-precision"]


def test_the_summary_has_a_line_for_each_verdict_findings_first_and_what_holds_by_construction_last() -> None:
    claims = [claim(id=name, short=name, **more) for name, more in (("one", {}), ("two", {"by_construction": True}),
                                                                    ("three", {}), ("four", {}))]
    kinds = ("not run", "reproduced", "reproduced", "not reproduced")
    parsed = Parsed(page.summary(claims, [verdict(verdict=kind, ours="5 ms (4 to 6)") for kind in kinds]))
    assert parsed.all("href") == ["#four", "#three", "#one", "#two"]
    text = " ".join(parsed.texts)
    assert text.startswith("not reproduced four : 5 ms reproduced three") and "By construction: two (reproduced)" in text


def test_an_open_claim_says_what_would_settle_it() -> None:
    claims = [claim(short=kind, settled={"machine": "a P100", "command": f"make {kind}"}) for kind in ("a", "b", "c")]
    kinds = ("reproduced", "not run", "inconclusive")
    text = " ".join(" ".join(Parsed(page.open_claims(claims, [verdict(verdict=kind) for kind in kinds])).texts).split())
    assert "not run b : no GPU. To settle it, on a P100: make b inconclusive c" in text and "make a" not in text
    assert Parsed(page.open_claims(claims, [verdict(verdict="reproduced")] * 3)).texts == ["No claim is open."]


def test_a_result_is_shown_with_its_interval_set_apart() -> None:
    assert Parsed(page.card([("speedup", "11.8× faster (11.2 to 12.5)", "in int8")])).texts == (
        ["speedup", "11.8× faster", "(11.2 to 12.5)", "in int8"])


def test_the_timing_is_stable_or_unstable_for_reasons() -> None:
    assert "stable" in Parsed(page.stability([])).texts
    assert Parsed(page.stability(["it drifts", "it waits"])).texts == (
        ["Timing", "unstable", ": 2 reasons", "It drifts.", "It waits."])


@pytest.mark.parametrize(("records", "shown"), [([], False), (None, False), ([{}], True)])
def test_what_was_not_measured_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, records: object, shown: bool) -> None:
    displayed = []
    monkeypatch.setattr(page, "display", displayed.append)
    assert page.measured(records) == shown and len(displayed) == (not shown)


# ---- tables of numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.nan, "–"), (0.000354, "0.000354"), (1.234, "1.23"), (1.0, "1.00"), (123.456, "123"), (12345.6, "12,346"),
     (1234567, "1,234,567"),
     ("it broke", "it broke")],
)
def test_a_cell_shows_its_value(value: object, text: str) -> None:
    assert Parsed(page.table(pd.DataFrame({"number": [value]}), "numbers")).texts == ["number", text]


def test_only_columns_of_numbers_are_set_as_numbers() -> None:
    frame = pd.DataFrame([{"engine": "eager", "mean (µs)": 828.25}, {"engine": "torchscript"}])
    parsed = Parsed(page.table(frame, "latency"))
    assert parsed.all("class") == ["table", "number", "number", "number"]
    assert parsed.texts[2:] == ["eager", "828", "torchscript", "–"]


def test_a_table_with_many_columns_shows_the_first_and_folds_the_whole() -> None:
    parsed = Parsed(page.table(pd.DataFrame({"a": ["1"], "b": ["2"], "c": ["3"]}), "numbers", columns=2))
    assert parsed.texts == ["a", "b", "1", "2", "Numbers: all columns", "a", "b", "c", "1", "2", "3"]
    assert parsed.all("aria-label") == ["numbers", "numbers: all columns"]


def test_the_numbers_of_a_figure_are_a_file_to_download() -> None:
    parsed = Parsed(page.figure("one", "", SVG, "", pd.DataFrame({"µs": [1.5], "name": ['<a, "b">']})))
    [link] = [link for link in parsed.all("href") if link.startswith("data:")]
    assert unquote(link.partition(",")[2]) == 'µs,name\n1.5,"<a, ""b"">"\n' and parsed.all("download") == ["one.csv"]


# ---- where numbers come from


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, "commit 0123456789 ·"), ({"uncommitted_changes": True}, "with changes"), ({"commit": None}, "unknown")],
)
def test_facts_say_which_code_it_was(record: Record, changes: dict, words: str) -> None:
    assert words in Parsed(page.facts(record(**changes))).texts[0]


def test_a_training_run_took_the_time_of_all_its_epochs_also_where_it_resumed(record: Record) -> None:
    training_run = record("train/seed0")
    training_run["measurements"]["epochs"] = [{"train_seconds": 1000}] * 3
    assert Parsed(page.facts(training_run)).texts[0].endswith("took 50 min")
    assert Parsed(page.facts(record("latency"))).texts[0].endswith("took 21 min")


@pytest.mark.parametrize("step", ["train/seed0", "export", "latency", "half_precision", "faster"])
def test_the_source_is_a_command_to_paste_and_links_to_files_that_are_there(made: Made, step: str) -> None:
    record = made.record(step)
    parsed = Parsed(page.source((f"lab/{step}/record.json", record | {"parameters": {"run": "lab", "runs": 3}})))
    path, notebook, *series = parsed.all("href")
    files = [path, *series]
    assert f"papermill {notebook.removeprefix('../../')} out.ipynb -y '{{\"run\": \"lab\", \"runs\": 3}}'" in parsed.texts
    assert (ROOT / notebook.removeprefix("../../")).is_file()
    assert len(files) == 1 + len(record["series"])
    assert [file for file in files if not (made.root / "results/lab" / file).is_file()] == []


@pytest.mark.parametrize(("profiles", "command"), [
    (["quick", "quick"], 'make report PROFILE=quick RUN=lab COMPARE="a b"'), ([None, "quick"], None), ([None, None], None),
])
def test_a_report_names_one_command_where_one_profile_made_all_records(
    record: Record, profiles: list[str | None], command: str | None
) -> None:
    made = {step: [record(step) | {"profile": profile}] for step, profile in zip(("latency", "export"), profiles)}
    assert [text for text in Parsed(page.reproduce("lab", made, ["a", "b"])).texts if text.startswith("make")] == (
        [command] if command else [])


@pytest.mark.parametrize("profile", ["", "thorough"])
def test_verdicts_and_figures_of_a_reference_run_are_written_by_make_report_only(
    write: Write, home: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    write("latency", {}, run=REFERENCE)
    monkeypatch.setattr(verdicts, "judge", lambda by_step, claims: [])
    monkeypatch.setattr(style, "ROOT", home)
    if profile:
        monkeypatch.setenv(PROFILE_VARIABLE, profile)
    assert verdicts.write(REFERENCE) == []
    Picture("one", "", SVG, "").save(REFERENCE)
    written = [home / "results" / REFERENCE / "verdicts.json", home / "figures" / REFERENCE / "one.svg"]
    assert [path.is_file() for path in written] == [bool(profile)] * 2


def test_two_figures_on_a_page_share_no_ids() -> None:
    parsed = Parsed(HTML("".join(Picture(name, "", SVG, "")._repr_html_() for name in ("one", "two"))))
    ids = parsed.all("id")
    assert len(ids) == len(set(ids)) == 4
    assert all(link.removeprefix("#") in ids for link in parsed.all("href"))
