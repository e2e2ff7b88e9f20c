"""Judges the claims of claims.yaml from records alone, and checks a run's verdicts.json against them.

    python -m cifar_bench.analysis.verdicts RUN     # exit code 0: the verdicts hold, 1: one differs, 2: they cannot be computed
"""

import argparse
import json
import sys
from pathlib import Path

import yaml

from cifar_bench import RUN_NAME, records
from cifar_bench.analysis.evidence import RECORDED_EARLIER, ByStep, gather, gpu_reference_runs
from cifar_bench.analysis.judgement import NOT_RUN
from cifar_bench.analysis.rules import RULES
from cifar_lib import ROOT, InputError


def judge(by_step: ByStep, claims: list[dict]) -> list[dict]:
    """A verdict for each claim, as kept in verdicts.json; depends on the records and the claims only.

    A claim about hardware that the run lacks is judged by a reference run on that hardware, where the project ships one.
    """
    verdicts, references = [], gpu_reference_runs(by_step)
    for claim in claims:
        rule = RULES[claim["rule"]]
        judgement = rule(claim, by_step)
        if judgement.verdict == NOT_RUN and claim["hardware"] != "any":
            by_reference = (rule(claim, reference) for reference in references)
            judgement = next((other for other in by_reference if other.verdict != NOT_RUN), judgement)
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
    """Judge `run` and keep the verdicts in its verdicts.json, with the SHA-256 of the records that may have decided them.

    That of a reference run stays as it is.
    """
    by_step = gather(run)
    verdicts = judge(by_step, load_claims())
    if records.is_reference(run):
        return verdicts
    paths = sorted(item.path for step in by_step.values() for item in step)
    kept = {"run": run, "records": {path: records.sha256(ROOT / "results" / path) for path in paths}, "verdicts": verdicts}
    with records.replacing(ROOT / "results" / run / "verdicts.json") as path:
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return verdicts


def are_of_these_records(run: str) -> bool:
    """Whether the records that the verdicts.json of `run` was computed from are unchanged."""
    try:
        known = json.loads((ROOT / "results" / run / "verdicts.json").read_text(encoding="utf-8"))["records"]
        return all(records.sha256(ROOT / "results" / path) == sha256 for path, sha256 in known.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def check(run: str) -> int:
    """Print the verdicts of `run`, marking those that differ from its verdicts.json; return the number of differences.

    Raises InputError where they cannot be compared.
    """
    if not RUN_NAME.fullmatch(run):
        raise InputError(f"run is {run!r}: use letters, digits, '.', '_' and '-' only.")
    try:
        rows = json.loads((ROOT / "results" / run / "verdicts.json").read_text(encoding="utf-8"))["verdicts"]
        kept = {row["id"]: row for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"results/{run}/verdicts.json cannot be read ({error}): make the report first.") from error
    claims = load_claims()
    try:
        computed = judge(gather(run), claims)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"a record of {run} is damaged ({type(error).__name__}: {error}): run its step again.") from error
    for claim, row in zip(claims, computed):
        earlier = {item["when"] for item in row["evidence"]} == {RECORDED_EARLIER}
        print(f"{'  ' if kept.get(row['id']) == row else '≠ '}{row['verdict']:<14} {claim['claim']}")
        print(f"{'':<17}{row['ours']} {RECORDED_EARLIER if earlier else 'here'}, {claim['original']} "
              f"{'claimed' if 'by' in claim else 'in 2018'}; {row['reason']}")
    unchanged = sum(row in computed for row in kept.values())
    return max(len(rows), len(computed)) - unchanged


def main() -> int:
    description = (__doc__ or "").partition("\n\n")[0]  # python -OO has none
    parser = argparse.ArgumentParser(prog="python -m cifar_bench.analysis.verdicts", description=description)
    parser.add_argument("run", help="the run, a folder under results/")
    run = parser.parse_args().run
    try:
        differing = check(run)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if differing:
        print(f"{differing} verdicts differ from results/{run}/verdicts.json.", file=sys.stderr)
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
