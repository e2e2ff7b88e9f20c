"""Every run is a process of its own, keeps every image's latency and class, and ends with the process that waits for it."""

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
JOBS = [EAGER, TORCHSCRIPT, CPP, REPEATED_IMAGE, ON_A_GPU]
RUNS = 2

Measured = tuple[list[dict], dict[str, np.ndarray], list[int]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Rows, series, and the process ids of a measurement of JOBS on synthetic data; the last job needs a GPU."""
    folder, pids = tmp_path_factory.mktemp("measured"), []
    infer.build()  # the compiler's processes are not counted

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            if "cifar_bench.timing" in arguments[0] or "--warmup" in arguments[0]:  # Python or the C++ program, not the probe
                pids.append(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
        patch.setattr(machine, "LOCK", str(folder))
        patch.setattr(base, "ROOT", folder)
        dataset.find.cache_clear()
        exported = export_all(tiny_network(), folder)
        base.cache_folder(exported)  # it asks the system about the processor: those processes are not counted either
        patch.setattr(subprocess, "Popen", Noted)
        rows, series = latency.measure(JOBS, RUNS, exported)
    return rows, series, pids


@pytest.fixture
def first_images(monkeypatch: pytest.MonkeyPatch) -> data.Split:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    return data.load("test").first(EAGER.images)


every_engine = pytest.mark.parametrize("number", [0, 1, 2], ids=["eager", "torchscript", "torchscript-cpp"])


@every_engine
def test_series_hold_the_latency_and_class_of_every_image(measured: Measured, first_images: data.Split, number: int) -> None:
    ns, classes = (measured[1][f"{JOBS[number].name}{suffix}"] for suffix in ("", "-predicted"))
    assert ns.shape == classes.shape == (RUNS, EAGER.images)
    assert ns.dtype == np.int64 and (ns > 0).all()
    expected = model.predict(tiny_network(), first_images).argmax(1).numpy()
    assert len(set(expected)) > 1 and (classes == expected).all()


@every_engine
def test_a_row_follows_from_the_series(measured: Measured, first_images: data.Split, number: int) -> None:
    rows, series, _ = measured
    row, ns = rows[number], series[rows[number]["series"]]
    assert [run["mean_ns"] for run in row["runs"]] == pytest.approx(ns.mean(1))
    assert [run["max_ns"] for run in row["runs"]] == ns.max(1).tolist()
    for name, share in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9)):
        assert [run[f"{name}_ns"] for run in row["runs"]] == pytest.approx(np.percentile(ns, share, axis=1))
    blocks = ns.reshape(RUNS, 20, 5)
    assert np.array([run["block_p50_ns"] for run in row["runs"]]) == pytest.approx(np.median(blocks, axis=2))
    correct = series[f"{row['series']}-predicted"] == first_images.labels.numpy()
    assert row["accuracy"] == pytest.approx(100 * correct.mean())


def test_the_repeated_image_has_one_class(measured: Measured, first_images: data.Split) -> None:
    expected = model.predict(tiny_network(), first_images.first(1)).argmax(1).item()
    assert measured[1][f"{REPEATED_IMAGE.name}-predicted"].shape == (RUNS, REPEATED_IMAGE.images)
    assert set(measured[1][f"{REPEATED_IMAGE.name}-predicted"].flat) == {expected}
    assert measured[0][3]["accuracy"] == (100 if expected == first_images.labels[0] else 0)


def test_a_row_has_the_job_and_the_state_of_its_processes(measured: Measured) -> None:
    for row, job in zip(measured[0][:4], JOBS):
        assert row.items() >= {"engine": job.engine, "precision": job.precision, "device": job.device, "threads": 1,
                               "images": 100, "warmup": 5, "variant": job.variant}.items()
        assert row["max_logit_error"] < 1e-3  # also of the repeated image
        assert row["file_bytes"] > 1000 and "reason" not in row and len(row["runs"]) == RUNS
        for run in row["runs"]:
            assert run["first_image_ns"] > 0 and run["load_ns"] > 0
            assert None not in (run["background_cores"], run["stopped_cores"])
            assert 0.1 < min(run["probes"]["clock_ghz"]) <= max(run["probes"]["clock_ghz"]) < 10


@pytest.mark.skipif(torch.cuda.is_available(), reason="the job that fails here runs where there is a GPU")
def test_every_run_is_a_process_of_its_own_and_a_job_that_fails_is_not_run_again(measured: Measured) -> None:
    rows, series, pids = measured
    assert "cuda" in rows[4]["reason"].lower() or "nvidia" in rows[4]["reason"].lower()
    assert "runs" not in rows[4] and ON_A_GPU.name not in series
    autotuned = 2  # eager and TorchScript
    assert os.getpid() not in pids and len(set(pids)) == len(pids) == autotuned + 4 * RUNS + 1


def test_a_model_that_is_replaced_while_it_is_timed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    exported = export_all(tiny_network(), tmp_path)
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    monkeypatch.setattr(latency, "run_rounds", lambda *_: (exported / "model.pt").write_bytes(b"another"))
    with refused(str(exported / "model.pt"), "was replaced while it was timed"):
        latency.measure([EAGER], RUNS, exported)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not signal a process that its parent has ended")
@pytest.mark.parametrize(("job", "name"), [(EAGER, "python"), (CPP, "infer")], ids=["while it starts", "in the C++ program"])
def test_a_measurement_ends_with_the_process_that_waits_for_it(job: LatencyJob, name: str, tmp_path: Path) -> None:
    infer.build()  # before, so that all children are those meant
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


def test_an_engine_that_fails_in_its_process_gives_the_reason_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'c++ 1' && exit\necho 'main.cpp:1: error: no' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # with nothing compiled before
    exported, job = export_all(tiny_network(), tmp_path), replace(EAGER, engine="compile")
    with pytest.raises(InputError) as caught:
        process.run_in_fresh_process(job, job.setup(exported, exported))
    message = str(caught.value)
    assert "main.cpp:1: error: no" in message
    assert "\n" not in message and str(tmp_path) not in message and "TORCHDYNAMO" not in message


@pytest.mark.parametrize("module", ["latency", "tuning", "batches", "loadgen"])
def test_a_measurement_does_not_import_scipy(module: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, cifar_bench.timing.{module}; print('scipy' in sys.modules)"],
        capture_output=True, text=True, check=True)
    assert loaded.stdout == "False\n"
