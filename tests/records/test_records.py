"""A record is there whole or not at all, whatever else lies in its place is refused, and one process at a time makes it."""

import errno
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from clones import REFERENCE
from conftest import Refused

from cifar_bench import records
from cifar_bench.records import Step
from cifar_lib import ROOT

MEASUREMENTS = {"accuracy": 94.12, "engines": [{"name": "eager", "p50_ns": 120}], "compile_error": None}
DATA = {"dataset": "CIFAR-10", "sha256": {"test_batch.bin": "8e2e"}}
PARAMETERS = {"run": "lab", "epochs": 3}
LATENCIES = np.array([3, 1, 2], dtype=np.int64)


@pytest.fixture
def folder(home: Path) -> Path:
    """The folder of a step that is done, with a record and a series."""
    step = Step("latency/eager", "lab", PARAMETERS)
    step.write(MEASUREMENTS, DATA, {"latency_ns": LATENCIES})
    return step.folder


def raises(error: Exception) -> Callable[..., None]:
    """A function that does nothing but raise `error`."""

    def fail(*ignored: object, **named: object) -> None:
        raise error

    return fail


# ---- writing


def test_record_is_read_as_it_was_written(home: Path) -> None:
    step = Step("latency/eager", "lab", PARAMETERS)
    written = step.write(MEASUREMENTS, DATA, {"latency_ns": LATENCIES})
    assert records.read(step.folder) == written


def test_record_says_what_was_done(folder: Path) -> None:
    record = records.read(folder)
    assert record["step"] == "latency/eager"
    assert record["parameters"] == PARAMETERS
    assert record["measurements"] == MEASUREMENTS
    assert record["data"] == DATA


def test_record_says_where_it_was_made(folder: Path) -> None:
    environment = records.read(folder)["environment"]
    assert environment["device"] == "cpu" and environment["gpu"] is None
    assert environment["threads"] == torch.get_num_threads()
    build_named_or_not = {torch.__version__, torch.__version__.partition("+")[0]}  # CUDA's packages do not give "+cu130"
    assert environment["versions"]["torch"] in build_named_or_not


def test_record_names_the_profile_that_asked_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(records.PROFILE_VARIABLE, "thorough")
    assert Step("train/seed0", "lab", PARAMETERS).write(MEASUREMENTS, DATA)["profile"] == "thorough"


def test_record_of_a_notebook_run_by_hand_names_no_profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(records.PROFILE_VARIABLE, raising=False)
    assert Step("train/seed0", "lab", PARAMETERS).write(MEASUREMENTS, DATA)["profile"] is None


def test_record_lies_in_its_run_and_step(folder: Path, home: Path) -> None:
    assert folder == home / "results" / "lab" / "latency" / "eager"


def test_series_is_read_as_it_was_written(folder: Path) -> None:
    series = records.read_series(folder, records.read(folder), "latency_ns")
    assert series.dtype == LATENCIES.dtype and np.array_equal(series, LATENCIES)


def test_nothing_but_record_and_series_is_left(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["latency_ns.npz", "record.json"]


def test_old_record_goes_when_its_step_starts_again(folder: Path) -> None:
    Step("latency/eager", "lab", PARAMETERS)
    assert not (folder / "record.json").exists()


def test_no_record_while_a_step_is_under_way(home: Path) -> None:
    step = Step("train/seed0", "lab", PARAMETERS)
    assert list(step.folder.iterdir()) == []


def test_nothing_is_left_where_the_disk_is_full(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    step = Step("train/seed0", "lab", PARAMETERS)
    monkeypatch.setattr(zipfile.ZipFile, "writestr", raises(OSError(errno.ENOSPC, "No space left on device")))
    with refused(str(step.folder), "No space left"):
        step.write(MEASUREMENTS, DATA, {"latency_ns": LATENCIES})
    assert list(step.folder.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan")])
def test_measurement_that_is_no_number_is_refused(home: Path, value: float) -> None:
    step = Step("train/seed0", "lab", PARAMETERS)
    with pytest.raises(ValueError):
        step.write({"epochs": [{"loss": value}]}, DATA)
    assert list(step.folder.iterdir()) == []


def test_replacing_puts_a_file_in_place(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with records.replacing(target) as path:
        path.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_replacing_leaves_nothing_on_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), records.replacing(tmp_path / "file") as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_replacing_keeps_the_old_file_on_an_error(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), records.replacing(target) as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"


# ---- what a step refuses


@pytest.mark.parametrize("run", ["", "..", "../x", "a/b", "/x", ".hidden", "-x", "a b", "a\n", "ä"])
def test_bad_run_name_is_refused(home: Path, refused: Refused, run: str) -> None:
    with refused(repr(run)):
        Step("train/seed0", run, PARAMETERS)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("run", ["lab", "2024-05-01", "v1.2_b", "7"])
def test_good_run_name_is_taken(home: Path, run: str) -> None:
    assert Step("train/seed0", run, PARAMETERS).folder.is_dir()


def test_file_in_the_place_of_the_folder_is_refused_and_kept(home: Path, refused: Refused) -> None:
    (home / "results").mkdir()
    (home / "results" / "lab").write_text("precious")
    with refused(str(home / "results" / "lab")):
        Step("train/seed0", "lab", PARAMETERS)
    assert (home / "results" / "lab").read_text() == "precious"


def test_old_record_stays_where_the_folder_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    before = records.read(folder)
    monkeypatch.setattr(os, "replace", raises(PermissionError(errno.EACCES, "Permission denied")))
    with refused(str(folder), "Permission denied"):
        Step("latency/eager", "lab", PARAMETERS)
    assert records.read(folder) == before


def test_file_in_the_place_of_all_results_is_refused_and_kept(home: Path, refused: Refused) -> None:
    (home / "results").write_text("precious")
    with refused(str(home / "results")):
        Step("train/seed0", "lab", PARAMETERS)
    assert (home / "results").read_text() == "precious"


# ---- one process at a time


HOLDS = """
import sys
from pathlib import Path
from cifar_bench import records
from cifar_lib import InputError
records.ROOT = Path(sys.argv[1])
records.environment.describe = lambda device: {}  # what the machine is takes a second, and is not asked here
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
    """Another process at this step of this run: it writes the record when it is sent a line, and ends at a second one."""
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(home), step, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen) -> str:
    """The next line that the process prints, or what it says at its end."""
    return process.stdout.readline().strip() or process.stderr.read().strip()


def test_second_process_at_a_step_is_refused_and_changes_nothing(home: Path, refused: Refused) -> None:
    with other_process(home) as process:
        assert told(process) == "begun"
        folder = records.step_folder("lab", "latency/eager")
        (folder / "weights.pt").write_text("precious")
        with refused("another process", "latency/eager", "lab"):
            Step("latency/eager", "lab", PARAMETERS)
        assert [path.name for path in folder.iterdir()] == ["weights.pt"]


@pytest.mark.parametrize(("step", "run"), [("latency/other", "lab"), ("latency/eager", "lab2")])
def test_other_steps_and_runs_go_on_meanwhile(home: Path, step: str, run: str) -> None:
    with other_process(home, step, run) as process:
        assert told(process) == "begun"
        assert Step("latency/eager", "lab", PARAMETERS).write(MEASUREMENTS, DATA)


def test_step_is_free_when_its_record_is_written_though_the_process_lives_on(home: Path, refused: Refused) -> None:
    with other_process(home) as process:
        assert told(process) == "begun"
        with refused("another process"):
            Step("latency/eager", "lab", PARAMETERS)
        process.stdin.write("write\n")
        process.stdin.flush()
        assert told(process) == "written" and process.poll() is None
        assert Step("latency/eager", "lab", PARAMETERS).write(MEASUREMENTS, DATA)


def test_step_is_free_when_its_process_is_killed(home: Path, refused: Refused) -> None:
    with other_process(home) as process:
        assert told(process) == "begun"
        with refused("another process"):
            Step("latency/eager", "lab", PARAMETERS)
        process.kill()
        process.wait()
        assert Step("latency/eager", "lab", PARAMETERS).write(MEASUREMENTS, DATA)


def test_a_cell_run_twice_in_one_kernel_begins_its_step_anew_and_keeps_others_out(home: Path) -> None:
    steps = [Step("latency/eager", "lab", PARAMETERS) for _ in range(2)]
    with other_process(home) as process:
        assert told(process).startswith("refused: another process is at latency/eager of the run lab")
    steps[1].write(MEASUREMENTS, DATA)
    with other_process(home) as process:
        assert told(process) == "begun"


# ---- reading


def test_missing_record_is_refused(home: Path, refused: Refused) -> None:
    with refused(str(home / "record.json"), "run that step"):
        records.read(home)


def test_truncated_record_is_refused(folder: Path, refused: Refused) -> None:
    path = folder / "record.json"
    path.write_text(path.read_text()[:-20])
    with refused(str(path)):
        records.read(folder)


def test_record_that_is_no_text_is_refused(folder: Path, refused: Refused) -> None:
    (folder / "record.json").write_bytes(b"\xff\xfe\x00")
    with refused(str(folder / "record.json")):
        records.read(folder)


NO_MEASUREMENTS = {key: [] for key in records.KEYS} | {"schema": records.SCHEMA}


@pytest.mark.parametrize("content", [[], [1], "text", 3, None, {}, {"schema": records.SCHEMA}, NO_MEASUREMENTS])
def test_json_that_is_no_record_is_refused(folder: Path, refused: Refused, content: object) -> None:
    (folder / "record.json").write_text(json.dumps(content))
    with refused(str(folder / "record.json"), f"schema {records.SCHEMA}"):
        records.read(folder)


@pytest.mark.parametrize("changes", [{"step": "half_precision"}, {"data": None}, {"data": {}}, {"environment": {}}])
def test_record_of_another_step_or_without_what_readers_need_is_refused(
    folder: Path, refused: Refused, changes: dict[str, object]
) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with refused(str(path), "of this step"):
        records.read(folder)


def test_a_reference_run_is_refused_while_its_records_are_there(home: Path, refused: Refused) -> None:
    Step("latency", "xeon", PARAMETERS).write({}, {"dataset": "CIFAR-10"})
    with refused("xeon is a reference run of this project", "delete results/xeon"):
        Step("train/seed7", "xeon", PARAMETERS)
    (home / "results/xeon/latency/record.json").unlink()
    Step("train/seed7", "xeon", PARAMETERS)


def test_record_of_another_schema_is_refused(folder: Path, refused: Refused) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": records.SCHEMA + 1}))
    with refused(str(path), f"schema {records.SCHEMA}"):
        records.read(folder)


def test_missing_series_is_refused(folder: Path, refused: Refused) -> None:
    (folder / "latency_ns.npz").unlink()
    with refused(str(folder / "latency_ns.npz")):
        records.read_series(folder, records.read(folder), "latency_ns")


def test_series_without_its_values_is_refused(folder: Path, refused: Refused) -> None:
    np.savez(folder / "latency_ns.npz", others=LATENCIES)
    with refused(str(folder / "latency_ns.npz")):
        records.read_series(folder, records.read(folder), "latency_ns")


def test_series_with_a_changed_byte_is_refused(folder: Path, refused: Refused) -> None:
    content = bytearray((folder / "latency_ns.npz").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (folder / "latency_ns.npz").write_bytes(content)
    with refused(str(folder / "latency_ns.npz")):
        records.read_series(folder, records.read(folder), "latency_ns")


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_truncated_series_is_refused(folder: Path, refused: Refused, kept: int) -> None:
    path = folder / "latency_ns.npz"
    path.write_bytes(path.read_bytes()[:kept])
    with refused(str(path)):
        records.read_series(folder, records.read(folder), "latency_ns")


@pytest.mark.parametrize("content", [b"no array", b"PK\x03\x04 no archive"])
def test_series_that_is_no_array_is_refused(folder: Path, refused: Refused, content: bytes) -> None:
    (folder / "latency_ns.npz").write_bytes(content)
    with refused(str(folder / "latency_ns.npz")):
        records.read_series(folder, records.read(folder), "latency_ns")


def test_series_of_pickled_objects_is_refused(folder: Path, refused: Refused) -> None:
    np.savez(folder / "latency_ns.npz", values=np.array([{}, None]))
    with refused(str(folder / "latency_ns.npz")):
        records.read_series(folder, records.read(folder), "latency_ns")


# ---- older records


def test_a_series_of_an_older_record_is_read(folder: Path) -> None:
    np.save(folder / "latency_ns.npy", LATENCIES)
    record = records.read(folder) | {"series": {"latency_ns": "latency_ns.npy"}}
    assert np.array_equal(records.read_series(folder, record, "latency_ns"), LATENCIES)


def rewrite(folder: Path, **changed: object) -> None:
    """Change a record as an older version would have written it."""
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_old_names_of_recipes_are_read_as_the_new_ones(folder: Path) -> None:
    rewrite(folder, parameters={"recipe": "seed"}, measurements={"trainings": [{"recipe": "seed"}, {"recipe": "fast"}]})
    record = records.read(folder)
    assert record["parameters"]["recipe"] == "original"
    assert [training["recipe"] for training in record["measurements"]["trainings"]] == ["original", "fast"]


def test_old_name_of_the_aa_test_is_read_as_the_new_one(folder: Path) -> None:
    engines = [{"engine": "eager", "variant": name} for name in ("again", "", records.REPEATED_IMAGE, records.AA_TEST)]
    rewrite(folder, measurements={"engines": engines})
    variants = [row["variant"] for row in records.read(folder)["measurements"]["engines"]]
    assert variants == [records.AA_TEST, "", records.REPEATED_IMAGE, records.AA_TEST] and records.AA_TEST == "aa-test"


def test_record_without_a_profile_is_read(folder: Path) -> None:
    path = folder / "record.json"
    content = json.loads(path.read_text())
    del content["profile"]
    path.write_text(json.dumps(content))
    assert records.read(folder)["measurements"] == MEASUREMENTS


REFERENCES = sorted(path.parent for run in (records.SHIPPED, REFERENCE)
                    for path in (ROOT / "results" / run).rglob("record.json"))


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_reference_record_is_read_with_the_names_of_today_and_all_its_series(reference: Path) -> None:
    record = records.read(reference)
    named = [record["parameters"], *record["measurements"].get("trainings", [])]
    assert {owner["recipe"] for owner in named if "recipe" in owner} <= {"original", "fast"}
    assert not {row.get("variant") for row in record["measurements"].get("engines", [])} & set(records.VARIANT_NAMES)
    for name in record["series"]:
        assert len(records.read_series(reference, record, name))


# ---- runs


def test_own_step_goes_before_the_shipped_one(folder: Path) -> None:
    Step("latency/eager", records.SHIPPED, PARAMETERS).write(MEASUREMENTS, DATA)
    assert records.run_or_shipped("lab", "latency/eager") == folder


def test_shipped_step_stands_in_where_a_run_has_none(folder: Path, home: Path) -> None:
    assert records.run_or_shipped("other", "latency/eager") == home / "results" / "shipped" / "latency" / "eager"


def test_shipped_step_stands_in_where_the_own_one_lacks_a_file(folder: Path, home: Path) -> None:
    shipped = home / "results" / "shipped" / "latency" / "eager"
    assert records.run_or_shipped("lab", "latency/eager", "model.pt") == shipped
    (folder / "model.pt").touch()
    assert records.run_or_shipped("lab", "latency/eager", "model.pt") == folder


def test_shipped_step_stands_in_while_the_own_one_is_unfinished(home: Path) -> None:
    Step("latency/eager", "lab", PARAMETERS)
    assert records.run_or_shipped("lab", "latency/eager") == home / "results" / "shipped" / "latency" / "eager"
