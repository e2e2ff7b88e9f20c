"""Every batch size is timed with the options and threads that it is fastest with, and classified right."""

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
ON_A_GPU = BatchJob("eager", "float16", "cuda", threads=1, max_batch_size=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_all(tiny_network(), tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (7, [1, 2, 4]), (8, [1, 2, 4, 8])])
def test_batch_sizes_double_up_to_the_maximum(most: int, sizes: list[int]) -> None:
    assert batches.batch_sizes(most) == sizes


def test_every_batch_size_of_every_run_has_its_latency(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    monkeypatch.setattr(machine, "LOCK", str(tmp_path))
    monkeypatch.setattr(base, "ROOT", tmp_path)
    jobs = [*(BatchJob(name, "float32", "cpu", threads=1, max_batch_size=2) for name in ("eager", "onnxruntime")), ON_A_GPU]
    *rows, missing = batches.measure(jobs, RUNS, exported)
    for row in rows:
        assert row["batch_sizes"] == [1, 2]
        assert np.shape(row["batch_ns"]) == (RUNS, 2) and np.min(row["batch_ns"]) > 0
        assert row["batch_threads"] == [[1, 1]] * RUNS
        assert row["round"] == list(range(RUNS)) and len(row["contended"]) == RUNS
    if not torch.cuda.is_available():
        assert "reason" in missing and "batch_ns" not in missing


@pytest.mark.parametrize("name", ["eager", "torchscript", "onnxruntime", "openvino"])
def test_a_batch_has_the_classes_of_its_images(name: str, exported: Path) -> None:
    pixels = torch.randint(256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = model.predict(tiny_network(), data.Split(pixels, torch.zeros(8, dtype=torch.int64), {})).argmax(1).tolist()
    assert ENGINES[name](Setup(exported, exported, batch_size=8)).classes(data.normalize(pixels)).tolist() == expected


def test_each_batch_size_gets_its_fastest_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where each thread costs 1 ms and an image 2 ms of one thread."""
    clock = {"ns": 0}

    class Shared(PythonEngine):
        name = "shared"

        def logits(self, image: torch.Tensor) -> torch.Tensor:
            assert len(image) == self.setup.batch_size
            clock["ns"] += 1_000_000 * self.setup.threads + 2_000_000 * len(image) // self.setup.threads
            return torch.zeros(len(image), 10)

    images = data.Split(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: images)
    monkeypatch.setitem(ENGINES, "shared", Shared)
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2, 4])
    monkeypatch.setattr(batches, "time", SimpleNamespace(
        perf_counter_ns=lambda: clock["ns"], monotonic=lambda: clock["ns"] / 1e9))
    (tmp_path / "model.pt").touch()
    job = BatchJob("shared", "float32", "cpu", threads=0, max_batch_size=8)
    measured = job.measure(job.setup(tmp_path, tmp_path))
    assert measured["batch_threads"].tolist() == [1, 2, 2, 4]
    assert measured["batch_ns"].tolist() == [3e6, 4e6, 6e6, 8e6]
