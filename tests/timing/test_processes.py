"""Every run is a process of its own, keeps every image's time and class, and ends with what waits for it."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import Refused
from helpers import export_all, tiny_network

from cifar_bench.engines import base, infer
from cifar_bench.timing import latency, machine, process
from cifar_bench.timing.latency import LatencyJob
from cifar_lib import InputError, data, model
from cifar_lib import cifar10 as dataset

EAGER, TORCHSCRIPT, CPP = (LatencyJob(engine, "float32", "cpu", threads=1, images=100, warmup=5)
                          for engine in ("eager", "torchscript", "torchscript-cpp"))
ON_A_GPU = LatencyJob("eager", "float16", "cuda", threads=1, options="contiguous", images=100, warmup=5)
REPEATED_IMAGE = replace(EAGER, variant=latency.REPEATED_IMAGE)
RUNS = 2

Measured = tuple[list[dict], dict[str, np.ndarray], list[int]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Rows, series, and the process ids of a measurement of five jobs on synthetic data; the last needs a GPU."""
    folder, pids = tmp_path_factory.mktemp("measured"), []
    infer.build()  # its compiler's processes are not counted

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            pids.append(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
        patch.setattr(machine, "LOCK", folder / "lock")
        patch.setattr(base, "ROOT", folder)
        dataset.find.cache_clear()
        exported = export_all(tiny_network(), folder)
        base.cache_folder(exported)  # asks the system about the processor: those processes are not counted either
        patch.setattr(subprocess, "Popen", Noted)
        rows, series = latency.measure([EAGER, TORCHSCRIPT, CPP, REPEATED_IMAGE, ON_A_GPU], RUNS, exported)
    return rows, series, pids


@pytest.fixture
def first_images(monkeypatch: pytest.MonkeyPatch) -> data.Split:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    return data.load("test").first(EAGER.images)


needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the job that fails here runs where there is a GPU")
every_job = pytest.mark.parametrize("job", [EAGER, TORCHSCRIPT, CPP], ids=lambda job: job.engine)


def test_a_model_that_is_replaced_while_it_is_timed_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    exported = export_all(tiny_network(), tmp_path)
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    monkeypatch.setattr(latency, "run_rounds", lambda *_: (exported / "model.pt").write_bytes(b"another"))
    with refused(str(exported / "model.pt"), "was replaced while it was timed"):
        latency.measure([EAGER], RUNS, exported)


@every_job
def test_series_hold_every_image_of_every_run(measured: Measured, job: LatencyJob) -> None:
    _, series, _ = measured
    assert series[job.name].shape == series[f"{job.name}-predicted"].shape == (RUNS, job.images)
    assert series[job.name].dtype == np.int64
    assert (series[job.name] > 0).all()


@every_job
def test_kept_classes_are_the_networks(measured: Measured, first_images: data.Split, job: LatencyJob) -> None:
    expected = model.predict(tiny_network(), first_images).argmax(1).numpy()
    assert len(set(expected)) > 1
    for classes in measured[1][f"{job.name}-predicted"]:
        assert np.array_equal(classes, expected)


def test_one_image_over_and_over_has_one_class(measured: Measured, first_images: data.Split) -> None:
    expected = model.predict(tiny_network(), first_images.first(1)).argmax(1).item()
    assert measured[1][f"{REPEATED_IMAGE.name}-predicted"].shape == (RUNS, REPEATED_IMAGE.images)
    assert set(measured[1][f"{REPEATED_IMAGE.name}-predicted"].flat) == {expected}
    assert measured[0][3]["accuracy"] == (100 if expected == first_images.labels[0] else 0)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["eager", "torchscript", "torchscript-cpp"])
def test_a_row_follows_from_the_series(measured: Measured, first_images: data.Split, number: int) -> None:
    rows, series, _ = measured
    row, ns = rows[number], series[rows[number]["series"]]
    assert [run["mean_ns"] for run in row["runs"]] == pytest.approx(ns.mean(1))
    assert [run["max_ns"] for run in row["runs"]] == ns.max(1).tolist()
    for name, share in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9)):
        assert [run[f"{name}_ns"] for run in row["runs"]] == pytest.approx(np.percentile(ns, share, axis=1))
    blocks = ns.reshape(RUNS, 20, 5)
    assert np.array([run["block_p50_ns"] for run in row["runs"]]) == pytest.approx(np.median(blocks, axis=2))
    right = series[f"{row['series']}-predicted"] == first_images.labels.numpy()
    assert row["accuracy"] == pytest.approx(100 * right.mean())


@pytest.mark.parametrize("number", [0, 1, 2, 3], ids=["eager", "torchscript", "torchscript-cpp", "one image"])
def test_a_row_says_how_its_process_fared(measured: Measured, number: int) -> None:
    row = measured[0][number]
    assert row["max_logit_error"] < 1e-3  # also where the first image's are what is expected of all
    assert row["file_bytes"] > 1000
    for run in row["runs"]:
        assert run["first_image_ns"] > 0 and run["load_ns"] > 0 and run["involuntary_switches"] >= 0
        assert -0.2 < run["background_load"] <= 1  # the system counts in hundredths of a second, and a run is short


def test_rows_are_in_the_order_of_the_jobs_and_say_what_was_run(measured: Measured) -> None:
    for row, job in zip(measured[0], [EAGER, TORCHSCRIPT, CPP, REPEATED_IMAGE, ON_A_GPU], strict=True):
        assert row.items() >= {"engine": job.engine, "precision": job.precision, "device": job.device, "threads": 1,
                               "images": 100, "warmup": 5, "variant": job.variant}.items()


def test_every_run_is_a_process_of_its_own(measured: Measured) -> None:
    _, series, pids = measured
    assert os.getpid() not in pids
    assert len(set(pids)) == len(pids) >= RUNS * len([name for name in series if not name.endswith("-predicted")])


@needs_no_gpu
def test_an_engine_that_cannot_run_is_a_row_with_its_reason(measured: Measured) -> None:
    rows, series, _ = measured
    assert "cuda" in rows[4]["reason"].lower() or "nvidia" in rows[4]["reason"].lower()
    assert "runs" not in rows[4]
    assert ON_A_GPU.name not in series


@needs_no_gpu
def test_an_engine_that_cannot_run_leaves_the_others_whole(measured: Measured) -> None:
    for row in measured[0][:4]:
        assert "reason" not in row
        assert len(row["runs"]) == RUNS


@needs_no_gpu
def test_an_engine_that_cannot_run_is_tried_once(measured: Measured) -> None:
    tries = 2  # of eager's options and of TorchScript's
    assert len(measured[2]) == tries + 4 * RUNS + 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent has ended")
@pytest.mark.parametrize(("job", "name"), [(EAGER, "python"), (CPP, "infer")], ids=["while it starts", "in the C++ program"])
def test_what_times_ends_with_what_waits_for_it(job: LatencyJob, name: str, tmp_path: Path) -> None:
    infer.build()  # in time, so that all children are those meant
    exported, endless = export_all(tiny_network(), tmp_path), replace(job, warmup=5_000_000)
    waits = (f"from pathlib import Path; from cifar_bench.timing.latency import LatencyJob\n"
             f"from cifar_bench.timing.process import run_in_fresh_process\n"
             f"run_in_fresh_process({endless}, {endless}.setup(*map(Path, {[str(exported)] * 2})))")
    waiting = psutil.Popen([sys.executable, "-c", waits], env={**os.environ, "CIFAR10_DIR": dataset.SYNTHETIC})
    children, deadline = [], time.monotonic() + 120
    try:
        while not any(child.is_running() and child.name().startswith(name) for child in children):
            assert waiting.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
            children = waiting.children(recursive=True)
        waiting.kill()
        waiting.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
    finally:
        for child in [waiting, *children]:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def test_an_engine_that_fails_in_its_process_says_why_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    monkeypatch.setenv("CXX", "/no/such/compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # nothing was compiled before
    exported, job = export_all(tiny_network(), tmp_path), replace(EAGER, engine="compile")
    with pytest.raises(InputError) as caught:
        process.run_in_fresh_process(job, job.setup(exported, exported))
    message = str(caught.value)
    assert "No working C++ compiler found" in message
    assert "\n" not in message and "/no/such" not in message and "TORCHDYNAMO" not in message


@pytest.mark.parametrize("module", ["latency", "tuning", "batches", "loadgen"])
def test_what_times_does_not_wait_for_scipy(module: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, cifar_bench.timing.{module}; print('scipy' in sys.modules)"],
        capture_output=True, text=True, check=True)
    assert loaded.stdout == "False\n"
