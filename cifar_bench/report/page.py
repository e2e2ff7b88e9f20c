"""The pieces of the report's page, from templates that escape every value: results, verdicts, tables, figures, sources."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from IPython.display import HTML, display
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cifar_bench.analysis.evidence import RECORDED_EARLIER, THIS_RUN
from cifar_bench.analysis.judgement import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED
from cifar_bench.records import REFERENCES
from cifar_bench.records.code import NOTEBOOKS

KINDS = (NOT_REPRODUCED, INCONCLUSIVE, REPRODUCED, NOT_RUN)  # findings first
SECTIONS = {"train": "1.-Train", "export": "2.-Export", "latency": "3.-Latency", "half_precision": "4.-Half-precision",
            "faster": "5.-Faster"}
PIECES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates" / "report"), autoescape=True,
                     undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                     finalize=lambda value: value.replace(" µs", "\N{NO-BREAK SPACE}µs") if isinstance(value, str) else value,
                     ).get_template("pieces.html.j2").module


def _html(piece: str, *values: object) -> HTML:
    """What a macro of pieces.html.j2 makes of these values."""
    return HTML(str(getattr(PIECES, piece)(*values)))


def card(results: Sequence[tuple[str, str, str]]) -> HTML:
    """The main results: for each a label, a value with its interval in brackets, and what else belongs to it."""
    return _html("card", [(label, *_without_interval(value), detail) for label, value, detail in results])


def verdict_table(claims: Sequence[Mapping], verdicts: Sequence[Mapping]) -> HTML:
    """A row for each claim: the original's number, ours, the verdict with its reason, and the evidence.

    The claims are all the original's, or none is. A claim that needs other hardware takes a single cell.
    """
    return _html("verdict_table", list(zip(claims, verdicts)), SECTIONS, THIS_RUN)


def summary(claims: Sequence[Mapping], verdicts: Sequence[Mapping]) -> HTML:
    """A line for each verdict, linked to its row, findings first; then the claims that hold by construction, in one line."""
    rows = list(zip(claims, verdicts))
    found = [(claim, verdict, _without_interval(verdict["ours"])[0], {item["when"] for item in verdict["evidence"]})
             for kind in KINDS for claim, verdict in rows
             if verdict["verdict"] == kind and not claim.get("by_construction")]
    return _html("summary", found, [row for row in rows if row[0].get("by_construction")], {RECORDED_EARLIER})


def open_claims(claims: Sequence[Mapping], verdicts: Sequence[Mapping]) -> HTML:
    """Each claim that is inconclusive or was not run: why, and the machine and the command that would settle it."""
    return _html("open_claims", [(claim, verdict) for claim, verdict in zip(claims, verdicts)
                                 if verdict["verdict"] in (INCONCLUSIVE, NOT_RUN)])


def table(frame: pd.DataFrame, label: str, folded: bool = False, columns: int | None = None) -> HTML:
    """`frame` as a table that scrolls by itself on a narrow page; `label` names it for screen readers.

    A folded table shows only its label until it is opened. Where `columns` is less than all, the first ones are shown, and the
    whole table is folded below.
    """
    if columns and columns < len(frame.columns):
        whole = table(frame, f"{label}: all columns", folded=True)
        return HTML(table(frame.iloc[:, :columns], label).data + whole.data)
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame]
    rows = [[_text(value) for value in row.values()] for row in frame.to_dict("records")]
    return _html("table", list(zip(frame, numeric)), rows, label, folded)


def folded(label: str, *pieces: HTML) -> HTML:
    """Pieces that show only a label until they are opened."""
    return _html("folded", label, "".join(piece.data for piece in pieces))


def figure(name: str, title: str, svg: str, caption: str, numbers: pd.DataFrame | None) -> HTML:
    """An <svg> element with its title, its caption, and its numbers as a CSV file to download."""
    csv = "" if numbers is None else "data:text/csv;charset=utf-8," + quote(numbers.to_csv(index=False))
    return _html("figure", name, title, svg, caption, csv)


def stability(warnings: Sequence[str]) -> HTML:
    """A badge that says whether the timing is stable, and every warning, folded."""
    return _html("stability", [warning[0].upper() + warning[1:] for warning in warnings])


def measured(records: object) -> bool:
    """Whether there is something to show; says so on the page where there is not."""
    if not records:
        display(sentence("Not measured."))
    return bool(records)


def synthetic() -> HTML:
    return _html("synthetic")


def sentence(text: str) -> HTML:
    return _html("sentence", text)


def sentences(items: Sequence[str]) -> HTML:
    """A list, a sentence an item."""
    return _html("sentences", items)


def not_run(reasons: Sequence[str]) -> HTML:
    """What did not run and why, folded; nothing where all ran."""
    return folded(f"What did not run here, and why ({len(reasons)})", sentences(reasons)) if reasons else HTML("")


def facts(record: Mapping) -> HTML:
    """One line: on what and when a record was measured, and with which versions and commit."""
    environment, epochs = record["environment"], record["measurements"].get("epochs")
    seconds = sum(epoch["train_seconds"] for epoch in epochs) if epochs else record["seconds"]
    commit = (environment["commit"] or "unknown")[:10] + (" with changes" if environment["uncommitted_changes"] else "")
    took = f"took {seconds:.0f} s" if seconds < 120 else f"took {seconds / 60:,.0f} min"
    return _html("facts", [environment["hardware"], f"{environment['threads']} threads",
                           f"PyTorch {environment['versions']['torch']}", f"Python {environment['python']}",
                           record["made"][:10], f"commit {commit}", took])


def source(*records: tuple[str, Mapping]) -> HTML:
    """`facts` of the first record, and folded what is needed to measure each again: notebook, command, commit, data, files.

    A record comes with its path relative to results/; links are relative to results/<run>/, where the report lies.
    """
    rows = []
    for path, record in records:
        notebook = NOTEBOOKS[record["step"].split("/")[0]]
        parameters = json.dumps(record["parameters"] | {"run": _own_name(record["parameters"]["run"])}, ensure_ascii=False)
        command = f"papermill notebooks/{notebook}.ipynb out.ipynb -y {shlex.quote(parameters)}"
        rows.append((notebook, command, path, path.rsplit("/", 1)[0], record))
    return HTML(facts(records[0][1]).data + _html("source", rows).data)


def reproduce(run: str, by_step: Mapping[str, Sequence[Mapping]], compare: Sequence[str] = ()) -> HTML:
    """The commands that make this report again, from the records of `run` by step and the runs that it is compared with."""
    made = [record for step in by_step.values() for record in step]
    environments, profiles = [record["environment"] for record in made], {record["profile"] for record in made}
    profile = profiles.pop() if len(profiles) == 1 else None
    make = f"make report PROFILE={profile} RUN={_own_name(run)}" + (f' COMPARE="{" ".join(compare)}"' if compare else "")
    return _html("reproduce", make if profile else None, f"python -m cifar_bench.analysis.verdicts {run}",
                 list(dict.fromkeys(environment["commit"] or "unknown" for environment in environments)),
                 list(dict.fromkeys(environment["requirements_sha256"] or "unknown" for environment in environments)),
                 any(environment["uncommitted_changes"] for environment in environments))


def _without_interval(text: str) -> tuple[str, str]:
    """What precedes the first bracket, and the bracket with what follows."""
    value, bracket, rest = text.partition(" (")
    return value, bracket.strip() + rest


def _own_name(run: str) -> str:
    """`run`, or a name that a user's run may have where the project ships it."""
    return "mine" if run in REFERENCES else run


def _text(value: object) -> str:
    if pd.isna(value):  # of an engine that did not run, say
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
