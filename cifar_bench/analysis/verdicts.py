"""Judges the claims of claims.yaml from records alone, and checks a run's verdicts.json against them.

    python -m cifar_bench.analysis.verdicts RUN     # exit code 0: the verdicts hold, 1: one differs, 2: they cannot be computed
"""

import argparse
import json
import shutil
import sys
import textwrap
from pathlib import Path

import yaml

from cifar_bench import RUN_NAME, records
from cifar_bench.analysis.evidence import EARLIER, ByStep, elsewhere, gather
from cifar_bench.analysis.judgement import NOT_RUN
from cifar_bench.analysis.rules import RULES
from cifar_lib import ROOT, InputError


def judge(by_step: ByStep, claims: list[dict]) -> list[dict]:
    """A verdict for each claim, as kept in verdicts.json. Depends on the records and the claims only.

    A claim about hardware that the run lacks is judged by a run that has it, where the project ships one.
    """
    verdicts, others = [], elsewhere(by_step)
    for claim in claims:
        rule = RULES[claim["rule"]]
        judgement = rule(claim, by_step)
        if judgement.verdict == NOT_RUN and claim["hardware"] != "any":
            theirs = (rule(claim, other) for other in others)
            judgement = next((other for other in theirs if other.verdict != NOT_RUN), judgement)
        evidence = [{"record": used.path, "when": used.when, "made": used.record["made"],
                     "hardware": used.record["environment"]["hardware"]} for used in judgement.used]
        verdicts.append({"id": claim["id"], "verdict": judgement.verdict, "reason": judgement.reason, "ours": judgement.ours,
                         "evidence": evidence})
    return verdicts


def load_claims(path: Path = ROOT / "claims.yaml") -> list[dict]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def load_claim(name: str) -> dict:
    return next(claim for claim in load_claims() if claim["id"] == name)


def write(run: str) -> list[dict]:
    """Judge `run` and keep the verdicts in its verdicts.json."""
    verdicts = judge(gather(run), load_claims())
    with records.replacing(ROOT / "results" / run / "verdicts.json") as path:
        path.write_text(json.dumps({"run": run, "verdicts": verdicts}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return verdicts


def _paragraph(head: str, text: str) -> str:
    """`text` beside `head`, in lines as wide as the terminal, but not too wide to be read well."""
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    return textwrap.fill(text, width, initial_indent=f"{head:<17}", subsequent_indent=" " * 17, break_on_hyphens=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cifar_bench.analysis.verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="the run, a folder under results/")
    run = parser.parse_args().run
    if not RUN_NAME.fullmatch(run):
        print(f"run is {run!r}: use letters, digits, '.', '_' and '-' only.", file=sys.stderr)
        return 2
    try:
        rows = json.loads((ROOT / "results" / run / "verdicts.json").read_text(encoding="utf-8"))["verdicts"]
        kept = {row["id"]: row for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"results/{run}/verdicts.json cannot be read ({error}): make the report first.", file=sys.stderr)
        return 2
    claims = load_claims()
    try:
        computed = judge(gather(run), claims)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        print(f"a record of {run} is damaged ({type(error).__name__}: {error}): run its step again.", file=sys.stderr)
        return 2
    differing = len(rows) - len(kept)  # a claim judged twice
    for claim, row in zip(claims, computed):
        same = kept.pop(row["id"], None) == row
        differing += not same
        print(_paragraph(f"{'  ' if same else '≠ '}{row['verdict']:<15}", claim["claim"]))
        where = EARLIER if {item["when"] for item in row["evidence"]} == {EARLIER} else "here"
        when = "claimed" if "by" in claim else "in 2018"
        print(_paragraph("", f"{row['ours']} {where}, {claim['original']} {when}; {row['reason']}"))
    if differing or kept:
        print(f"{differing + len(kept)} verdicts differ from results/{run}/verdicts.json.", file=sys.stderr)
    return int(bool(differing or kept))


if __name__ == "__main__":
    sys.exit(main())
