"""What the report's page is made of beside figures: the verdict table, tables of numbers, and where they come from."""

import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd
from IPython.display import HTML, display

from cifar_bench.analysis.evidence import THIS_RUN
from cifar_bench.analysis.judgement import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED
from cifar_bench.records import REFERENCES

NOTEBOOKS = {"train": "1_train", "export": "2_export", "latency": "3_latency", "half_precision": "4_half_precision",
             "faster": "5_faster"}  # what makes the record of each step
SECTIONS = {"train": "1.-Train", "export": "2.-Export", "latency": "3.-Latency", "half_precision": "4.-Half-precision",
            "faster": "5.-Faster"}


def verdict_table(claims: Sequence[dict], verdicts: Sequence[Mapping]) -> HTML:
    """Claim, the original's number, ours, the verdict with its reason, and what it rests on; a row for each claim.

    The claims are all the original's, or none is. One that other hardware is needed for takes a single line.
    """
    heads = ["Claim", "Claimed" if "by" in claims[0] else "Original (2018)", "Here", "Verdict", "Evidence"]
    rows = []
    for claim, verdict in zip(claims, verdicts):
        words = f'<strong title="{html.escape(claim["source"])}">{html.escape(claim["claim"])}</strong>'
        judged, reason = _marked(verdict["verdict"]), f"<small>{html.escape(verdict['reason'])}</small>"
        if verdict["verdict"] == NOT_RUN and claim["hardware"] != "any":
            cells = f'<td colspan="{len(heads)}">{words} {judged} {reason}</td>'
        else:
            others = [_words(claim["original"]), _words(verdict["ours"]), f"{judged}<br>{reason}",
                      _evidence(claim["step"], verdict["evidence"])]
            cells = f"<td>{words}</td>" + "".join(
                f'<td data-label="{head}">{cell}</td>' for head, cell in zip(heads[1:], others))
        rows.append(f'<tr id="{html.escape(claim["id"])}">{cells}</tr>')
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return HTML(f'<table class="verdicts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>')


def summary(claims: Sequence[dict], verdicts: Sequence[Mapping], fastest: str | None) -> HTML:
    """The result at a glance: the claims with each verdict, linked to their rows, and the sentence on the fastest way.

    Beside what was not reproduced stands what was found.
    """
    lines = []
    for kind in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN):
        alike = [_link(f"#{claim['id']}", claim["short"])
                 + (f" (here {_words(verdict['ours'])})" if kind == NOT_REPRODUCED else "")
                 for claim, verdict in zip(claims, verdicts) if verdict["verdict"] == kind]
        if alike:
            lines.append((_marked(kind, f"{len(alike)} of {len(claims)} claims {kind}"), "; ".join(alike)))
    if fastest:
        lines.append(("<strong>at 94%</strong>", _words(fastest)))
    return HTML(f'<dl class="summary">{"".join(f"<dt>{head}</dt><dd>{text}</dd>" for head, text in lines)}</dl>')


def table(frame: pd.DataFrame, label: str, folded: bool = False) -> HTML:
    """`frame` as a table that scrolls by itself where the page is narrow; `label` names it for screen readers.

    A folded one shows its label only, until it is opened.
    """
    numeric = {name for name in frame if pd.api.types.is_numeric_dtype(frame[name])}
    side = {name: ' class="number"' if name in numeric else "" for name in frame}
    head = "".join(f'<th scope="col"{side[name]}>{html.escape(str(name))}</th>' for name in frame)
    body = "".join(
        "<tr>" + "".join(f"<td{side[name]}>{html.escape(_text(value))}</td>" for name, value in row.items()) + "</tr>"
        for row in frame.to_dict("records")
    )
    name = html.escape(label)
    whole = (f'<div class="table" role="region" tabindex="0" aria-label="{name}"><table><thead><tr>{head}'
             f"</tr></thead><tbody>{body}</tbody></table></div>")
    return HTML(f"<details><summary>{name[0].upper()}{name[1:]}</summary>{whole}</details>" if folded else whole)


def stability(warnings: Sequence[str]) -> HTML:
    """A badge that says whether the machine was steady, and every reason to doubt it."""
    kind, word = ("not-reproduced", "shaky") if warnings else ("reproduced", "steady")
    reasons = "".join(f"<li>{html.escape(doubt[0].upper() + doubt[1:])}.</li>" for doubt in warnings)
    return HTML(f'<p>The measurement looks <strong class="verdict {kind}">{word}</strong></p>'
                + (f"<ul>{reasons}</ul>" if warnings else ""))


def measured(records: object) -> bool:
    """Whether there is something to show; says so on the page where there is not."""
    if not records:
        display(sentence("Not measured."))
    return bool(records)


def sentence(text: str) -> HTML:
    """A paragraph."""
    return HTML(f"<p>{_words(text)}</p>")


def sentences(items: Sequence[str]) -> HTML:
    """A list, a sentence an item."""
    return HTML("<ul>" + "".join(f"<li>{_words(sentence)}</li>" for sentence in items) + "</ul>")


def facts(record: dict) -> HTML:
    """One line: on what and when a record was measured, and with which versions and commit."""
    environment, versions = record["environment"], record["environment"]["versions"]
    commit = (environment["commit"] or "unknown")[:10] + (" with changes" if environment["uncommitted_changes"] else "")
    resumed = record["measurements"].get("resumed_after")
    seconds = record["seconds"]
    took = f"took {f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:,.0f} min'}"
    took += " after it was last resumed" if resumed else ""
    parts = [environment["hardware"], f"{environment['threads']} threads", f"PyTorch {versions['torch']}",
             f"Python {environment['python']}", record["made"][:10], f"commit {commit}", took]
    return HTML(f'<p class="soft">{html.escape(" · ".join(parts))}</p>')


def source(path: str, record: Mapping) -> HTML:
    """`facts`, and folded away what it takes to get the same again: notebook, command, commit, data, record, series.

    `path` is the record's, from results/ on; links are relative to results/<run>/, where the report lies.
    """
    notebook, folder = NOTEBOOKS[record["step"].split("/")[0]], path.rsplit("/", 1)[0]
    own = {"run": _own_name(record["parameters"]["run"])} if "run" in record["parameters"] else {}
    parameters = json.dumps(record["parameters"] | own, ensure_ascii=False)
    command = f"papermill notebooks/{notebook}.ipynb out.ipynb -y {shlex.quote(parameters)}"
    series = ", ".join(_link(f"../{folder}/{file}", file) for file in record["series"].values())
    hashes = ", ".join(f"{name} {value}" for name, value in sorted(record["data"].get("sha256", {}).items()))
    versions = ", ".join(f"{name} {version}" for name, version in record["environment"]["versions"].items())
    rows = {
        "Notebook": _link(f"../../notebooks/{notebook}.ipynb", notebook),
        "Command": f"<code>{html.escape(command)}</code>",
        "Commit": f"<code>{html.escape(record['environment']['commit'] or 'unknown')}</code>",
        "Data": html.escape(f"{record['data']['dataset']}; SHA-256 of {hashes}" if hashes else record["data"]["dataset"]),
        "System": html.escape(f"{record['environment']['system']}; {versions}"),
        "Record": _link(f"../{path}", path),
        "Raw series": series or "none",
    }
    if winner := record["measurements"].get("winner"):
        link = _link(f"../{folder}/{winner['file']}", winner["file"])
        rows["Winner's file"] = f"{link}, {winner['bytes'] / 1e6:.1f} MB, SHA-256 {html.escape(winner['sha256'])}"
    return HTML(f"{facts(record).data}<details><summary>Where these numbers come from</summary>{_list(rows)}</details>")


def reproduce(run: str, by_step: Mapping[str, Sequence[Mapping]], beside: Sequence[str] = ()) -> HTML:
    """The commands that make this report again, from the records of `run` by step and the runs set beside it."""
    environments = [record["environment"] for step in by_step.values() for record in step]
    commits = dict.fromkeys(environment["commit"] or "unknown" for environment in environments)
    locks = dict.fromkeys(environment.get("requirements_sha256") or "unknown" for environment in environments)
    changed = any(environment["uncommitted_changes"] for environment in environments)
    profiles = {record.get("profile") for step in by_step.values() for record in step}  # older records have none
    profile = profiles.pop() if len(profiles) == 1 else None
    name = _own_name(run)
    make = f"make report PROFILE={profile} RUN={name}" + (f' COMPARE="{" ".join(beside)}"' if beside else "")
    by_hand = "the notebooks one by one: each section ends with its command, under “Where these numbers come from”"
    rows = {
        "Command": f"<code>{html.escape(make)}</code>" if profile else by_hand,
        "Commit": html.escape(", ".join(commits) + (", with uncommitted changes" if changed else "")),
        "requirements.lock": html.escape(f"SHA-256 {', '.join(locks)}"),
        "Verdicts alone": f"<code>{html.escape(f'python -m cifar_bench.analysis.verdicts {run}')}</code>",
    }
    return HTML(_list(rows))


def _own_name(run: str) -> str:
    """`run`, or where the project ships it, a name that one's own may have."""
    return "mine" if run in REFERENCES else run


def _words(text: str) -> str:
    """`text` with its numbers kept on one line with their unit."""
    return re.sub(r"(?<=\d) (?=µs)", "\N{NO-BREAK SPACE}", html.escape(text))


def _marked(verdict: str, text: str | None = None) -> str:
    """A verdict, or `text` that says it, in its color and with its sign."""
    return f'<strong class="verdict {verdict.replace(" ", "-")}">{text or verdict}</strong>'


def _list(rows: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in rows.items())}</dl>"


def _link(target: str, text: str) -> str:
    return f'<a href="{html.escape(target)}">{html.escape(text)}</a>'


def _evidence(step: str, evidence: Sequence[Mapping]) -> str:
    """The section to read, and when and on what (but for this run's machine) the records were made, linked by their dates."""
    section = SECTIONS[step]
    elsewhere = step == "latency" and evidence and all(item["when"] != THIS_RUN for item in evidence)
    lines = [] if elsewhere else [_link(f"#{section}", section.replace("-", " "))]  # that section shows this run's own
    alike: dict[tuple[str, str], dict[str, list[str]]] = {}
    for item in evidence:
        dates = alike.setdefault((item["when"], item["hardware"]), {})
        dates.setdefault(item["made"][:10], []).append(f"../{item['record']}")
    for (when, hardware), dates in alike.items():
        links = [_link(target, str(number) if number > 1 else date)
                 for date, targets in dates.items() for number, target in enumerate(targets, 1)]
        where = [] if when == THIS_RUN else [html.escape(hardware)]
        lines.append(f"{html.escape(when)}<br><small>{', '.join([*where, *links])}</small>")
    return "<br>".join(lines)


def _text(value: object) -> str:
    if pd.isna(value):  # where there is no number, of an engine that did not run, say
        return "–"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
        return f"{value:,.{digits}f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
