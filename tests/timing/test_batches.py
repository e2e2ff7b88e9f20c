"""Several images at once: every batch size is timed, with the number of threads it is fastest with, and classified rightly."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import export_all, tiny_network

from cifar_bench.engines import ENGINES, base
from cifar_bench.engines.base import PythonEngine, Setup
from cifar_bench.timing import batches, machine, tuning
from cifar_bench.timing.batches import BatchJob
from cifar_lib import cifar10 as dataset
from cifar_lib import data, model

RUNS = 2
ON_A_GPU = BatchJob("eager", "float16", "cuda", threads=1, largest=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(tiny_network(), tmp_path_factory.mktemp("exported"))


@pytest.fixture
def first_images(monkeypatch: pytest.MonkeyPatch) -> data.Split:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    return data.load("test").first(8)


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (2, [1, 2]), (7, [1, 2, 4]), (8, [1, 2, 4, 8])])
def test_batches_double_up_to_the_largest(largest: int, sizes: list[int]) -> None:
    assert batches.batch_sizes(largest) == sizes


def test_every_batch_size_of_every_run_has_its_time(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    monkeypatch.setattr(machine, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(base, "ROOT", tmp_path)
    jobs = [*(BatchJob(name, "float32", "cpu", threads=1, largest=2) for name in ("eager", "onnxruntime")),
            ON_A_GPU]
    *rows, missing = batches.measure(jobs, RUNS, exported)
    for row in rows:
        assert row["batch_sizes"] == [1, 2]
        assert np.shape(row["batch_ns"]) == (RUNS, 2) and np.min(row["batch_ns"]) > 0
        assert row["batch_threads"] == [[1, 1]] * RUNS
        assert row["round"] == list(range(RUNS)) and len(row["contended"]) == RUNS
    if not torch.cuda.is_available():
        assert "reason" in missing and "batch_ns" not in missing


@pytest.mark.parametrize("name", ["eager", "torchscript", "onnxruntime", "openvino"])
def test_a_batch_has_the_classes_of_its_images(name: str, exported: Path, first_images: data.Split) -> None:
    images = data.normalise(first_images.images)
    engine = ENGINES[name](Setup(exported, exported, batch=8))
    assert engine.classes(images).tolist() == model.predict(tiny_network(), first_images).argmax(1).tolist()


def test_each_batch_size_gets_the_number_of_threads_that_it_is_fastest_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where a thread more costs 1 ms and an image costs 2 ms of one thread."""
    clock, timed = {"ns": 0}, []

    class Shared(PythonEngine):
        name = "shared"

        def logits(self, image: torch.Tensor) -> torch.Tensor:
            threads = self.setup.threads
            clock["ns"] += 1_000_000 * threads + 2_000_000 * len(image) // threads
            timed.append((self.setup.batch, len(image), threads))
            return torch.zeros(len(image), 10)

    images = data.Split(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: images)
    monkeypatch.setitem(ENGINES, "shared", Shared)
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2, 4])
    monkeypatch.setattr(batches, "time", SimpleNamespace(
        perf_counter_ns=lambda: clock["ns"], monotonic=lambda: clock["ns"] / 1e9))
    (tmp_path / "model.pt").touch()
    job = BatchJob("shared", "float32", "cpu", threads=0, largest=8)
    measured = job.measure(job.setup(tmp_path, tmp_path))
    assert measured["batch_threads"].tolist() == [1, 2, 2, 4]
    assert measured["batch_ns"].tolist() == [3e6, 4e6, 6e6, 8e6]
    assert all(batch == images for batch, images, _ in timed)
    for size, ns in zip([1, 2, 4, 8], measured["batch_ns"]):
        tries = 3 * (batches.WARMUP + batches.TRIES)
        assert [batch for batch, _, _ in timed].count(size) == tries + batches.WARMUP + int(batches.SECONDS * 1e9 / ns)
