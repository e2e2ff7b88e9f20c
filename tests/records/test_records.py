"""A record is written whole or not at all, anything else in its place is refused, and one process at a time writes it."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refused

from cifar_bench import records
from cifar_bench.records import Step, code
from cifar_lib import ROOT

MEASUREMENTS = {"accuracy": 94.12, "engines": [{"name": "eager", "p50_ns": 120}], "compile_error": None}
DATA = {"dataset": "CIFAR-10", "sha256": {"test_batch.bin": "8e2e"}}
PARAMETERS = {"run": "lab", "epochs": 3}
LATENCIES = np.array([3, 1, 2], dtype=np.int64)


@pytest.fixture
def folder(home: Path) -> Path:
    """The folder of a finished step, with a record and a series."""
    step = Step("latency/eager", "lab", PARAMETERS)
    step.write(MEASUREMENTS, DATA, {"latency_ns": LATENCIES})
    return step.folder


def raises(error: Exception) -> Callable[..., None]:
    """A function that does nothing but raise `error`."""

    def fail(*ignored: object, **named: object) -> None:
        raise error

    return fail


# ---- writing


def test_record_and_series_are_read_as_they_were_written(home: Path) -> None:
    step = Step("latency/eager", "lab", PARAMETERS)
    written = step.write(MEASUREMENTS, DATA, {"latency_ns": LATENCIES})
    assert step.folder == home / "results" / "lab" / "latency" / "eager"
    record, series = records.read(step.folder), records.read_series(step.folder, written, "latency_ns")
    assert record == written and series.dtype == LATENCIES.dtype and np.array_equal(series, LATENCIES)
    assert (record["step"], record["parameters"], record["measurements"], record["data"]) == (
        "latency/eager", PARAMETERS, MEASUREMENTS, DATA)
    assert record["environment"]["device"] == "cpu" and record["environment"]["threads"] == torch.get_num_threads()
    assert sorted(path.name for path in step.folder.iterdir()) == ["latency_ns.npz", "record.json"]


def test_record_names_the_profile_that_make_report_ran(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(records.PROFILE_VARIABLE, "thorough")
    assert Step("train/seed0", "lab", PARAMETERS).write(MEASUREMENTS, DATA)["profile"] == "thorough"
    monkeypatch.delenv(records.PROFILE_VARIABLE)
    assert Step("train/seed0", "lab", PARAMETERS).write(MEASUREMENTS, DATA)["profile"] is None


def test_old_record_is_deleted_when_its_step_starts_again(folder: Path) -> None:
    Step("latency/eager", "lab", PARAMETERS)
    assert [path.name for path in folder.iterdir()] == ["latency_ns.npz"]


def test_nothing_is_left_where_the_disk_is_full(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    step = Step("train/seed0", "lab", PARAMETERS)
    monkeypatch.setattr(np, "savez_compressed", raises(OSError(errno.ENOSPC, "No space left on device")))
    with refused(str(step.folder), "No space left"):
        step.write(MEASUREMENTS, DATA, {"latency_ns": LATENCIES})
    assert list(step.folder.iterdir()) == []


def test_measurement_that_is_not_a_number_is_refused(home: Path) -> None:
    step = Step("train/seed0", "lab", PARAMETERS)
    with pytest.raises(ValueError):
        step.write({"epochs": [{"loss": float("nan")}]}, DATA)
    assert list(step.folder.iterdir()) == []


def test_replacing_writes_the_whole_file_or_keeps_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with records.replacing(target) as path:
        path.write_text("old")
        assert not target.exists()
    with pytest.raises(ZeroDivisionError), records.replacing(target) as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


# ---- what a step refuses


@pytest.mark.parametrize("run", ["", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\n", "ä"])
def test_bad_run_name_is_refused(home: Path, refused: Refused, run: str) -> None:
    with refused(repr(run)):
        Step("train/seed0", run, PARAMETERS)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("place", ["results", "results/lab"])
def test_file_in_the_place_of_a_folder_is_refused_and_kept(home: Path, refused: Refused, place: str) -> None:
    (home / place).parent.mkdir(exist_ok=True)
    (home / place).write_text("precious")
    with refused(str(home / place)):
        Step("train/seed0", "lab", PARAMETERS)
    assert (home / place).read_text() == "precious"


def test_old_record_stays_where_the_folder_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    before = records.read(folder)
    monkeypatch.setattr(os, "replace", raises(PermissionError(errno.EACCES, "Permission denied")))
    with refused(str(folder), "Permission denied"):
        Step("latency/eager", "lab", PARAMETERS)
    assert records.read(folder) == before


def test_a_reference_run_is_refused_while_its_records_are_there(home: Path, refused: Refused) -> None:
    Step("latency", "xeon", PARAMETERS).write({}, DATA)
    with refused("xeon is a reference run of this project", "delete results/xeon"):
        Step("train/seed7", "xeon", PARAMETERS)
    (home / "results/xeon/latency/record.json").unlink()
    Step("train/seed7", "xeon", PARAMETERS)


# ---- one process at a time


HOLDS = """
import sys
from pathlib import Path
from cifar_bench import records
from cifar_lib import InputError
records.ROOT = Path(sys.argv[1])
records.environment.describe = lambda device: {}  # which takes a second
try:
    step = records.Step(sys.argv[2], sys.argv[3], {})
except InputError as error:
    sys.exit(f"refused: {error}")
print("begun", flush=True)
if sys.stdin.readline():
    step.write({}, {})
    print("written", flush=True)
sys.stdin.readline()
"""


@contextmanager
def other_process(home: Path, step: str = "latency/eager", run: str = "lab") -> Iterator[subprocess.Popen]:
    """Another process that runs this step: it writes the record when it is sent a line, and ends at a second one."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(home), step, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def output_of(process: subprocess.Popen) -> str:
    """The next line that the process prints, or its error at the end."""
    return process.stdout.readline().strip() or process.stderr.read().strip()


def test_second_process_of_a_step_is_refused_and_changes_nothing(home: Path, refused: Refused) -> None:
    with other_process(home) as process:
        assert output_of(process) == "begun"
        folder = records.step_folder("lab", "latency/eager")
        (folder / "weights.pt").write_text("precious")
        with refused("another process", "latency/eager", "lab"):
            Step("latency/eager", "lab", PARAMETERS)
        assert [path.name for path in folder.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize(("step", "run"), [("latency/other", "lab"), ("latency/eager", "lab2")])
def test_other_steps_and_runs_are_not_blocked(home: Path, step: str, run: str) -> None:
    with other_process(home, step, run) as process:
        assert output_of(process) == "begun"
        assert Step("latency/eager", "lab", PARAMETERS).write(MEASUREMENTS, DATA)


@pytest.mark.parametrize("ends", ["written", "killed"])
def test_step_is_free_when_its_record_is_written_or_its_process_killed(home: Path, refused: Refused, ends: str) -> None:
    with other_process(home) as process:
        assert output_of(process) == "begun"
        with refused("another process"):
            Step("latency/eager", "lab", PARAMETERS)
        if ends == "written":
            process.stdin.write("write\n")
            process.stdin.flush()
            assert output_of(process) == "written" and process.poll() is None
        else:
            process.kill()
            process.wait()
        assert Step("latency/eager", "lab", PARAMETERS).write(MEASUREMENTS, DATA)


def test_a_cell_run_twice_in_one_kernel_restarts_its_step_and_keeps_others_out(home: Path) -> None:
    steps = [Step("latency/eager", "lab", PARAMETERS) for _ in range(2)]
    with other_process(home) as process:
        assert output_of(process).startswith("refused: another process is running latency/eager of the run lab")
    steps[1].write(MEASUREMENTS, DATA)
    with other_process(home) as process:
        assert output_of(process) == "begun"


# ---- reading


def test_missing_record_is_refused(home: Path, refused: Refused) -> None:
    with refused(str(home / "record.json"), "run that step"):
        records.read(home)


@pytest.mark.parametrize("content", [b'{"schema": 1, ', b"\xff\xfe\x00", b"[1]", b'{"schema": 1}'])
def test_file_that_is_not_a_record_is_refused(folder: Path, refused: Refused, content: bytes) -> None:
    (folder / "record.json").write_bytes(content)
    with refused(str(folder / "record.json")):
        records.read(folder)


@pytest.mark.parametrize("changes", [{"step": "half_precision"}, {"data": None}, {"data": {}}, {"environment": {}},
                                     {"schema": records.SCHEMA + 1}])
def test_record_of_another_step_or_schema_or_without_what_readers_need_is_refused(
    folder: Path, refused: Refused, changes: dict[str, object]
) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with refused(str(path), "of this step"):
        records.read(folder)


def test_a_record_that_was_edited_or_is_of_other_inputs_is_refused_and_measured_again(home: Path, refused: Refused) -> None:
    model = home / "model.pt"
    model.write_bytes(b"a model")
    step = Step("latency", "lab", PARAMETERS)
    step.write({"mean_us": 828.0, "by_batch": {10: 1.0, 9: 2.0}}, DATA, {"latency_ns": LATENCIES}, inputs=[model])
    path = step.folder / "record.json"
    assert records.reason_to_measure_again(path, {}) == ""
    model.touch()
    assert records.reason_to_measure_again(path, {}) == ""
    model.write_bytes(b"another model")
    assert "was made with another model.pt" in records.reason_to_measure_again(path, {})
    model.write_bytes(b"a model")
    whole = path.read_text()
    for edited, words in ((whole.replace("828.0", "82.8"), "was changed"), (whole.replace("828.0", "NaN"), "it holds NaN"),
                          ('{"mean_ns": -1, ' + whole[1:], "mean_ns is negative"),
                          ("", "is not a record"), (whole[: len(whole) // 2], "is not a record")):
        path.write_text(edited)
        with refused(str(path), words):
            records.read(step.folder)
        assert words in records.reason_to_measure_again(path, {})
    path.write_text(whole)
    np.savez_compressed(step.folder / "latency_ns.npz", values=2 * LATENCIES)
    assert "is not the series of its record" in records.reason_to_measure_again(path, {})


def test_a_record_of_other_code_or_parameters_is_set_aside_and_put_back_when_it_counts_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(records.PROFILE_VARIABLE, "smoke")
    path = Step("latency", "lab", PARAMETERS).folder / "record.json"

    def counts(planned: dict) -> bool:
        records.set_aside(path, planned)
        return path.is_file()

    Step("latency", "lab", PARAMETERS).write({}, DATA)
    assert counts(PARAMETERS) and not counts({"epochs": 4}) and not counts({"epochs": 5}) and counts(PARAMETERS)
    assert capsys.readouterr().out == f"{path} was made with another epochs: that step is run again.\n"
    with monkeypatch.context() as other:
        other.setattr(code, "step_digest", lambda step: "other code")
        assert not counts({}) and "another code" in capsys.readouterr().out
    assert counts({})
    monkeypatch.delenv(records.PROFILE_VARIABLE)
    Step("latency", "lab", PARAMETERS).write({}, DATA)
    assert counts({"epochs": 4})  # it was made by hand


@pytest.mark.parametrize("damage", ["missing", "truncated", "a changed byte", "another array", "pickled objects"])
def test_damaged_series_is_refused(folder: Path, refused: Refused, damage: str) -> None:
    path = folder / "latency_ns.npz"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:60])
    elif damage == "a changed byte":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    else:
        np.savez(path, **({"others": LATENCIES} if damage == "another array" else {"values": np.array([{}, None])}))
    with refused(str(path)):
        records.read_series(folder, records.read(folder), "latency_ns")


REFERENCES = sorted(path.parent for run in records.REFERENCES for path in (ROOT / "results" / run).rglob("record.json"))


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_reference_record_is_read_with_all_its_series(reference: Path) -> None:
    record = records.read(reference)
    assert {"profile", "measurements"} < set(record)
    for name in record["series"]:
        assert len(records.read_series(reference, record, name))


# ---- runs


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["export/record.json", "export/model.pt"], "lab"),
        (["latency/record.json"], records.SHIPPED),
        (["train/seed0/record.json", "train/seed0/weights.pt"], None),
        (["train/seed0/checkpoint-0-0001-0.pt"], None),  # of a training run that was interrupted
        (["export/model.pt"], None),  # of an export that failed
        (["export/record.json"], None),  # brought without the model
    ],
)
def test_the_shipped_network_is_measured_only_where_a_run_has_no_weights_of_its_own(
    home: Path, refused: Refused, capsys: pytest.CaptureFixture[str], files: list[str], taken: str | None
) -> None:
    for path in [home / "results" / "lab" / name for name in files]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if taken:
        assert records.exported("lab") == home / "results" / taken / "export"
    else:
        with refused("results/lab has weights of its own but no export: run 2_export first"):
            records.exported("lab")
    assert ("the shipped network is measured" in capsys.readouterr().out) == (taken == records.SHIPPED)
