"""What the report's page is made of beside figures: the verdict table, tables of numbers, the facts at the top."""

import html
from collections.abc import Mapping, Sequence

import pandas as pd
from IPython.display import HTML


def verdict_table(claims: Sequence[dict], verdicts: Sequence[Mapping]) -> HTML:
    """Claim, the original's number, ours, the verdict with its reason, and what it rests on; a row for each claim."""
    heads = ["Claim", "Original (2018)", "Here", "Verdict", "Evidence"]
    rows = []
    for claim, verdict in zip(claims, verdicts):
        kind = verdict["verdict"].replace(" ", "-")
        cells = [
            f'<span title="{html.escape(claim["source"])}">{html.escape(claim["claim"])}</span>',
            html.escape(claim["original"]),
            html.escape(verdict["ours"]),
            f'<span class="verdict {kind}">{verdict["verdict"]}</span><br><small>{html.escape(verdict["reason"])}</small>',
            _evidence(verdict["evidence"]),
        ]
        labelled = [f'<td data-label="{head}">{cell}</td>' for head, cell in zip(heads[1:], cells[1:])]
        rows.append(f'<tr id="{html.escape(claim["id"])}"><td><strong>{cells[0]}</strong></td>{"".join(labelled)}</tr>')
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return HTML(f'<table class="verdicts"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>')


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


def steadiness(doubts: Sequence[str]) -> HTML:
    """A badge that says whether the machine was steady, and every reason to doubt it."""
    kind, word = ("not-reproduced", "shaky") if doubts else ("reproduced", "steady")
    reasons = "".join(f"<li>{html.escape(doubt[0].upper() + doubt[1:])}.</li>" for doubt in doubts)
    return HTML(f'<p>The measurement looks <span class="verdict {kind}">{word}</span></p>'
                + (f"<ul>{reasons}</ul>" if doubts else ""))


def sentences(found: Sequence[str]) -> HTML:
    """A list, a sentence an item."""
    return HTML("<ul>" + "".join(f"<li>{html.escape(sentence)}</li>" for sentence in found) + "</ul>")


def facts(record: dict) -> HTML:
    """One line: on what and when a record was measured, and with which versions and commit."""
    environment, versions = record["environment"], record["environment"]["versions"]
    commit = (environment["commit"] or "unknown")[:10] + (" with changes" if environment["uncommitted_changes"] else "")
    parts = [environment["hardware"], f"{environment['threads']} threads", f"PyTorch {versions['torch']}",
             f"Python {environment['python']}", record["made"][:10], f"commit {commit}", f"{record['seconds']:,.0f} s"]
    return HTML(f'<p class="soft">{html.escape(" · ".join(parts))}</p>')


def _evidence(found: Sequence[Mapping]) -> str:
    lines = []
    for item in found:
        path = html.escape(item["record"])
        lines.append(f'{html.escape(item["when"])}: <a href="../{path}">{path.replace("/", "/<wbr>")}</a>'
                     f'<br><small>{html.escape(item["hardware"])}, {html.escape(item["made"][:10])}</small>')
    return "<br>".join(lines) or "–"


def _text(value: object) -> str:
    if pd.isna(value):  # an engine that did not run has no number here
        return "–"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
        return f"{value:,.{digits}f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
