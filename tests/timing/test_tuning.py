"""All combinations of options and threads are timed, interleaved in one process, and no contended trial decides."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import tiny_network

from cifar_bench.engines import ENGINES, export
from cifar_bench.engines.base import PythonEngine
from cifar_bench.timing import tuning
from cifar_bench.timing.latency import LatencyJob
from cifar_bench.timing.tuning import TuningJob, autotune, combinations, thread_counts
from cifar_lib import cifar10 as dataset
from cifar_lib import data, timer

CALLS = tuning.IMAGES + tuning.IMAGES // 4  # of an engine in each trial: the images, and those that warm it up


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_numbers_of_threads_double_up_to_the_cores(cores: int, counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "cores", lambda: cores)
    assert thread_counts() == counts


@dataclass
class Machine:
    """A clock that advances only as images are classified, and the threads of each image: the engine's and PyTorch's."""

    ns: int = 0
    images: list[tuple[int, int]] = field(default_factory=list)
    extra_ns: dict[int, int] = field(default_factory=dict)  # what each image of a trial takes longer, by the trial's number


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """An engine named "paced" with a latency of 3,000 ns with one thread, 1,700 with two and 2,000 with four."""
    state, before = Machine(), torch.get_num_threads()

    class Paced(PythonEngine):
        name = "paced"

        def logits(self, image: torch.Tensor) -> torch.Tensor:
            state.ns += {1: 3000, 2: 1700, 4: 2000}[self.setup.threads] + state.extra_ns.get(len(state.images) // CALLS, 0)
            state.images.append((self.setup.threads, torch.get_num_threads()))
            return torch.zeros(1, 10)

    images = data.Split(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: images)
    monkeypatch.setitem(ENGINES, "paced", Paced)
    monkeypatch.setattr(timer, "time", SimpleNamespace(perf_counter_ns=lambda: state.ns))
    monkeypatch.setattr(tuning, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=lambda: 0.0))
    monkeypatch.setattr(timer, "gc", SimpleNamespace(collect=lambda: None, disable=lambda: None, enable=lambda: None))  # slow
    (tmp_path / "model.pt").touch()
    yield state
    torch.set_num_threads(before)


def trials(folder: Path) -> list[float]:
    job = TuningJob("paced", "float32", "cpu", 0, [("", 1), ("", 2), ("", 4)])
    return job.measure(job.setup(folder, folder))["ns"].tolist()


def test_trials_are_interleaved_and_pytorch_uses_their_threads(machine: Machine, tmp_path: Path) -> None:
    assert trials(tmp_path) == [3000, 1700, 2000]
    assert [threads for threads, _ in machine.images[::CALLS]] == [1, 2, 4] * tuning.TRIALS
    assert all(threads == pytorchs for threads, pytorchs in machine.images)


def test_a_slow_combination_is_timed_on_few_images(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TRIAL_NS", 20_000)  # 6 images of 3,000 ns, 11 of 1,700, 10 of 2,000
    assert trials(tmp_path) == [3000, 1700, 2000]
    assert [threads for threads, _ in machine.images].count(1) == tuning.TRIALS * (tuning.IMAGES // 4 + 6)


def test_a_contended_trial_does_not_decide(machine: Machine, tmp_path: Path) -> None:
    """As when two threads were once timed at 3,433 µs and one at 3,410 µs, where two take little more than half as long."""
    machine.extra_ns = {1: 1400, 6: 10_000, 8: 10_000}  # by trial, counted from 0: the first of two threads, later ones
    assert trials(tmp_path) == [3000, 1700, 2000]


def test_each_combination_is_timed_in_a_fresh_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2])
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    timed = autotune(LatencyJob("eager", "float32", "cpu", 0), tmp_path, tmp_path)
    assert [(trial["options"], trial["threads"]) for trial in timed] == [
        ("channels-last", 1), ("channels-last", 2), ("contiguous", 1), ("contiguous", 2)]
    assert all(isinstance(trial["ns"], float) and trial["ns"] > 0 for trial in timed)


@pytest.mark.parametrize(("fixed", "expected"), [
    ({}, [("channels-last", 1), ("channels-last", 2), ("contiguous", 1), ("contiguous", 2)]),
    ({"threads": 2}, [("channels-last", 2), ("contiguous", 2)]),
    ({"options": "contiguous"}, [("contiguous", 1), ("contiguous", 2)]),
    ({"device": "cuda"}, [("channels-last", 0), ("contiguous", 0)]),
], ids=["nothing fixed", "threads", "options", "on a GPU"])
def test_what_the_job_fixes_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, fixed: dict, expected: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2])
    assert combinations(replace(LatencyJob("eager", "float32", "cpu", 0), **fixed)) == expected


@pytest.mark.parametrize(("loads", "repeats", "times"), [([0.0], 3, 1), ([0.5, 0.0], 3, 2), ([0.5] * 9, 3, 4)],
                         ids=["idle", "once", "always"])
def test_contended_trials_are_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: list[float], repeats: int, times: int
) -> None:
    measured = []
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1])
    monkeypatch.setattr(tuning, "wait_until_idle", lambda: None)
    monkeypatch.setattr(tuning, "run_in_fresh_process", lambda job, setup: measured.append(job) or {
        "ns": np.array([len(measured), 9.0]), "seconds": 1.0, "background_cores": loads[len(measured) - 1]})
    timed = autotune(LatencyJob("eager", "float32", "cpu", 0), tmp_path, tmp_path, repeats)
    assert len(measured) == times and timed[0]["ns"] == times  # of the last measurement
