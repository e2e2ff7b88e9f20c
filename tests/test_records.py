"""A record is there whole or not at all, and whatever else lies in its place is refused."""

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refused

from cifar_lib import records
from cifar_lib.records import Step

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

    def fail(*ignored: object) -> None:
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
    assert environment["versions"]["torch"] == torch.__version__


def test_record_lies_in_its_run_and_step(folder: Path, home: Path) -> None:
    assert folder == home / "results" / "lab" / "latency" / "eager"


def test_series_is_read_as_it_was_written(folder: Path) -> None:
    series = records.read_series(folder, records.read(folder), "latency_ns")
    assert series.dtype == LATENCIES.dtype and np.array_equal(series, LATENCIES)


def test_nothing_but_record_and_series_is_left(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["latency_ns.npy", "record.json"]


def test_old_record_goes_when_its_step_starts_again(folder: Path) -> None:
    Step("latency/eager", "lab", PARAMETERS)
    assert not (folder / "record.json").exists()


def test_no_record_while_a_step_is_under_way(home: Path) -> None:
    step = Step("train/seed0", "lab", PARAMETERS)
    assert list(step.folder.iterdir()) == []


def test_nothing_is_left_where_the_disk_is_full(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    step = Step("train/seed0", "lab", PARAMETERS)
    monkeypatch.setattr(np, "save", raises(OSError(errno.ENOSPC, "No space left on device")))
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


@pytest.mark.parametrize("content", [[], [1], "text", 3, None, {}, {"schema": records.SCHEMA}])
def test_json_that_is_no_record_is_refused(folder: Path, refused: Refused, content: object) -> None:
    (folder / "record.json").write_text(json.dumps(content))
    with refused(str(folder / "record.json"), f"schema {records.SCHEMA}"):
        records.read(folder)


def test_record_of_another_schema_is_refused(folder: Path, refused: Refused) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": records.SCHEMA + 1}))
    with refused(str(path), f"schema {records.SCHEMA}"):
        records.read(folder)


def test_missing_series_is_refused(folder: Path, refused: Refused) -> None:
    (folder / "latency_ns.npy").unlink()
    with refused(str(folder / "latency_ns.npy")):
        records.read_series(folder, records.read(folder), "latency_ns")


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_truncated_series_is_refused(folder: Path, refused: Refused, kept: int) -> None:
    path = folder / "latency_ns.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with refused(str(path)):
        records.read_series(folder, records.read(folder), "latency_ns")


@pytest.mark.parametrize("content", [b"no array", b"PK\x03\x04 no archive"])
def test_series_that_is_no_array_is_refused(folder: Path, refused: Refused, content: bytes) -> None:
    (folder / "latency_ns.npy").write_bytes(content)
    with refused(str(folder / "latency_ns.npy")):
        records.read_series(folder, records.read(folder), "latency_ns")


def test_series_of_pickled_objects_is_refused(folder: Path, refused: Refused) -> None:
    np.save(folder / "latency_ns.npy", np.array([{}, None]), allow_pickle=True)
    with refused(str(folder / "latency_ns.npy")):
        records.read_series(folder, records.read(folder), "latency_ns")


# ---- runs and devices


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


@pytest.mark.parametrize("name", ["gpu", "cuda:1", "CPU", ""])
def test_unknown_device_is_refused_with_those_allowed(refused: Refused, name: str) -> None:
    with refused(repr(name), "'auto'", "'cpu'", "'cuda'"):
        records.device_or_error(name)


def test_gpu_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("'cuda'", "'cpu'"):
        records.device_or_error("cuda")


@pytest.mark.parametrize(("has_gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, has_gpu: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert records.device_or_error("auto") == device


@pytest.mark.parametrize(
    ("flags", "name"),
    [("fpu sse2", "A CPU, 2 cores"), ("fpu avx2", "A CPU (AVX2), 2 cores"), ("avx2 avx512f", "A CPU (AVX-512), 2 cores"),
     ("avx2 avx512f amx_tile", "A CPU (AMX), 2 cores")],
)
def test_processors_of_the_same_name_are_told_apart_by_their_vectors(
    monkeypatch: pytest.MonkeyPatch, flags: str, name: str
) -> None:
    told = {"/proc/cpuinfo": f"model name\t: A CPU\nflags\t\t: {flags}\n"}
    monkeypatch.setattr(records, "_read", lambda path: told.get(path, ""))
    monkeypatch.setattr(records, "cores", lambda: 2)
    assert records.hardware("cpu") == name


# ---- the code behind a record


def test_results_are_no_change_of_the_code_and_code_is(home: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", home, "-c", "user.name=a", "-c", "user.email=b", *arguments], check=True)

    (home / "code.py").write_text("1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "code")
    for room in ("results", "figures"):
        (home / room).mkdir()
        (home / room / "new").write_text("2\n")
    assert records.environment("cpu")["uncommitted_changes"] is False
    (home / "code.py").write_text("3\n")
    assert records.environment("cpu")["uncommitted_changes"] is True
