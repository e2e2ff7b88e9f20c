"""Verdicts rest on the right records, and edits of verdicts or records are detected."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from claim_records import (
    CPU,
    H100,
    RUN,
    SEEDS,
    Write,
    export,
    faster,
    half_precision,
    judged,
    latency,
    steps_of,
    training,
    write_seeds,
)
from clones import COMMITTED_RUNS

from cifar_bench import records
from cifar_bench.analysis import evidence, rules, verdicts
from cifar_bench.analysis.evidence import RECORDED_EARLIER, THIS_RUN
from cifar_bench.analysis.judgement import NOT_REPRODUCED, NOT_RUN, REPRODUCED
from cifar_lib import InputError

ABOUT_ACCURACY = {"accuracy-above-94", "accuracy-five-runs", "exported-accuracy", "ten-times-faster"}
OTHERS = {"network-size", "run-spread", "half-precision"}

# ---- evidence


def write_everything(write: Write, dataset: str = "CIFAR-10") -> None:
    for seed, accuracy in enumerate([94.3, 94.4, 94.5, 94.4, 94.3]):
        write(f"train/seed{seed}", training(accuracy), dataset=dataset)
    write("export", export(), dataset=dataset)
    write("latency", latency(*steps_of(10, 0.1)), dataset=dataset)
    write("half_precision", half_precision(1.2, 1.4), dataset=dataset)
    write("faster", faster(180), dataset=dataset)
    write_seeds(write, *SEEDS, dataset=dataset)


def test_accuracy_is_not_judged_on_synthetic_data_and_the_rest_is(write: Write) -> None:
    write_everything(write)
    assert {judged(claim)["verdict"] for claim in ABOUT_ACCURACY | OTHERS} == {REPRODUCED}
    write_everything(write, dataset="synthetic")
    assert {(judged(claim)["verdict"], judged(claim)["reason"]) for claim in ABOUT_ACCURACY} == {(NOT_RUN, "synthetic data")}
    assert {judged(claim)["verdict"] for claim in OTHERS} == {REPRODUCED}


def test_a_training_run_on_synthetic_data_does_not_count_beside_real_ones(write: Write) -> None:
    write("train/seed0", training(99.9), dataset="synthetic")
    for seed in (10, 9, 2):
        write(f"train/seed{seed}", training(94.5))
    row = judged("accuracy-above-94")
    assert [used["record"] for used in row["evidence"]] == [f"lab/train/seed{seed}/record.json" for seed in (2, 9, 10)]


def test_a_run_without_an_export_and_training_runs_uses_the_shipped_ones_and_says_so(write: Write) -> None:
    write("latency", latency(828, 829))
    write("export", export(), run=records.SHIPPED)
    for seed in range(3):
        write(f"train/seed{seed}", training(94.6), run=records.SHIPPED)
    for claim in ("network-size", "accuracy-above-94"):
        assert {(used["record"].split("/")[0], used["when"]) for used in judged(claim)["evidence"]} == {
            (records.SHIPPED, RECORDED_EARLIER)}
    write("train/seed0", training(), epochs=1)
    assert judged("network-size")["reason"] == "no exported model"  # the shipped one is not of this run's weights
    write("export", export(parameters=1_000))
    used, = judged("network-size")["evidence"]
    assert (used["record"], used["when"]) == ("lab/export/record.json", THIS_RUN)


def test_a_run_on_synthetic_data_uses_its_own_records_only(write: Write) -> None:
    write("latency", latency(820, 821, 822), dataset="synthetic")
    write("train/seed0", training(), run=records.SHIPPED)
    write("export", export(), run=records.SHIPPED)
    gathered = evidence.gather(RUN)
    assert not gathered["train"] and not gathered["export"]


def test_timings_of_the_shipped_run_are_not_used(write: Write) -> None:
    write("train/seed0", training())
    write("latency", latency(820, 821), run=records.SHIPPED)
    write("half_precision", half_precision(1.2, 1.4), run=records.SHIPPED)
    gathered = evidence.gather(RUN)
    assert not gathered["latency"] and not gathered["half_precision"]


@pytest.mark.parametrize(
    ("gpu", "dataset", "verdict", "ours"),
    [
        (CPU, "CIFAR-10", REPRODUCED, "389"),
        (H100, "CIFAR-10", NOT_REPRODUCED, "2,010"),  # its own GPU counts, not another one
        (CPU, "synthetic", NOT_RUN, "2,010"),
    ],
)
def test_a_claim_about_gpus_is_judged_by_the_reference_run_where_a_run_has_no_gpu(
    write: Write, gpu: dict | None, dataset: str, verdict: str, ours: str
) -> None:
    write("latency", latency(2000, 2010, 2020), gpu=gpu, dataset=dataset)
    write("latency", latency(388, 389, 390), run=records.REFERENCE_GPUS[0], gpu=H100)
    write("export", export(), run=records.SHIPPED)
    row = judged("newer-gpu")
    assert (row["verdict"], row["ours"].split(" ")[0]) == (verdict, ours)
    used, = row["evidence"]
    assert used["when"] == (RECORDED_EARLIER if verdict == REPRODUCED else THIS_RUN)
    assert used["hardware"] == (H100["name"] if verdict == REPRODUCED or gpu else "a processor, 2 cores")
    assert judged("latency-p100")["ours"].startswith("2,010")  # which that run cannot judge either


def test_a_reference_run_that_was_deleted_and_not_yet_made_again_is_passed_over(write: Write, home: Path) -> None:
    (home / "results" / records.REFERENCE_GPUS[0] / "latency").mkdir(parents=True)
    write("latency", latency(2000, 2010, 2020))
    assert judged("newer-gpu")["verdict"] == NOT_RUN


def test_a_run_with_no_records_of_its_own_is_refused(write: Write) -> None:
    write("train/seed0", training(), run=records.SHIPPED)
    with pytest.raises(InputError, match=RUN):
        evidence.gather(RUN)


# ---- claims.yaml, python -m cifar_bench.analysis.verdicts


def test_every_claim_has_an_id_of_its_own_and_every_rule_judges_one() -> None:
    claims = verdicts.load_claims()
    assert len({claim["id"] for claim in claims}) == len(claims)
    assert {claim["rule"] for claim in claims} == set(rules.RULES)
    assert {claim["hardware"] for claim in claims} == {"any", "P100", "newer GPU"}


@pytest.fixture
def kept(write: Write) -> Path:
    """The verdicts.json of a run in which every step is on record."""
    write_everything(write)
    verdicts.write(RUN)
    return records.step_folder(RUN, "verdicts.json")


def exit_code(monkeypatch: pytest.MonkeyPatch, run: str = RUN) -> int:
    monkeypatch.setattr("sys.argv", ["verdicts", run])
    return verdicts.main()


def test_unchanged_verdicts_hold_and_are_printed(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch) == 0
    printed = capsys.readouterr().out
    for row in json.loads(kept.read_text())["verdicts"]:
        assert row["verdict"] in printed and row["ours"] in printed and row["reason"] in printed


@pytest.mark.parametrize("edit", [
    lambda rows: rows[0].update(verdict=NOT_REPRODUCED),
    lambda rows: rows[0].update(evidence=[]),
    lambda rows: rows.pop(),
    lambda rows: rows.append({**rows[0], "id": "one-more"}),
    lambda rows: rows.insert(0, {**rows[0], "verdict": NOT_REPRODUCED}),
], ids=["verdict", "evidence", "deleted", "added", "twice"])
def test_an_edited_verdict_is_detected(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], edit: Callable[[list], None]
) -> None:
    content = json.loads(kept.read_text())
    edit(content["verdicts"])
    kept.write_text(json.dumps(content))
    assert exit_code(monkeypatch) == 1 and capsys.readouterr().err.startswith("1 verdicts differ")


def test_a_changed_record_is_detected(kept: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("half_precision", half_precision(0.78, 0.82))
    assert exit_code(monkeypatch) == 1


@pytest.mark.parametrize("content", [None, "", "[]", '{"verdicts": [{}]}'])
def test_missing_or_damaged_verdicts_cannot_be_checked(
    kept: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    kept.unlink() if content is None else kept.write_text(content)
    assert exit_code(monkeypatch) == 2


def test_a_damaged_record_or_run_name_cannot_be_checked(
    kept: Path, write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, "nowhere") == exit_code(monkeypatch, f"{RUN}/") == 2
    write("latency", {})
    assert exit_code(monkeypatch) == 2
    assert f"a record of {RUN} is damaged (KeyError: 'engines')" in capsys.readouterr().err
    damaged = records.step_folder(RUN, "latency") / "record.json"
    damaged.write_text("not JSON")
    assert exit_code(monkeypatch) == 2 and str(damaged) in capsys.readouterr().err


@pytest.mark.parametrize("run", COMMITTED_RUNS)
def test_the_committed_runs_are_judged(run: str) -> None:
    rows = verdicts.judge(evidence.gather(run), verdicts.load_claims())
    judged_by = {row["id"]: row["evidence"] for row in rows if row["verdict"] != NOT_RUN}
    without_the_original = ("h100", "narrow")  # training runs only, and another network
    of_an_export = set() if run in without_the_original else {"network-size", "exported-accuracy"}
    assert set(judged_by) >= {"accuracy-above-94", *of_an_export} and all(judged_by.values())
