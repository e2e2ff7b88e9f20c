"""Every setting and number of threads is tried in turns, in one process, and no contended try decides."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import tiny_network

from cifar_bench.engines import ENGINES, export
from cifar_bench.engines.base import PythonEngine, Setup
from cifar_bench.timing import tuning
from cifar_bench.timing.latency import LatencyJob
from cifar_bench.timing.tuning import TuningJob, combinations, thread_counts, try_all
from cifar_lib import cifar10 as dataset
from cifar_lib import data, timer

CALLS = tuning.IMAGES + tuning.IMAGES // 4  # of an engine in each try: the images, and those that warm it up


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_numbers_of_threads_double_up_to_the_cores(cores: int, counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "cores", lambda: cores)
    assert thread_counts() == counts


@dataclass
class Machine:
    """A clock that goes on only as images are classified, and a note of each image: threads of the engine, of PyTorch."""

    ns: int = 0
    loaded: list[int] = field(default_factory=list)
    images: list[tuple[int, int]] = field(default_factory=list)
    extra_ns: dict[int, int] = field(default_factory=dict)  # what an image takes longer in the try of that number

    @property
    def tries(self) -> list[int]:
        """The numbers of threads in the order of their tries."""
        return [count for count, _ in self.images[::CALLS]]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """An engine named "paced" that takes 3,000 ns an image with one thread, 1,700 with two and 2,000 with four."""
    state, before = Machine(), torch.get_num_threads()

    class Paced(PythonEngine):
        name = "paced"

        def __init__(self, setup: Setup) -> None:
            super().__init__(setup)
            state.loaded.append(setup.threads)

        def logits(self, image: torch.Tensor) -> torch.Tensor:
            state.ns += {1: 3000, 2: 1700, 4: 2000}[self.setup.threads] + state.extra_ns.get(len(state.images) // CALLS, 0)
            state.images.append((self.setup.threads, torch.get_num_threads()))
            return torch.zeros(1, 10)

    images = data.Split(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: images)
    monkeypatch.setitem(ENGINES, "paced", Paced)
    monkeypatch.setattr(timer, "time", SimpleNamespace(perf_counter_ns=lambda: state.ns))
    monkeypatch.setattr(tuning, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=lambda: 0.0))
    monkeypatch.setattr(timer, "gc", SimpleNamespace(collect=lambda: None, disable=lambda: None, enable=lambda: None))
    (tmp_path / "model.pt").touch()
    yield state
    torch.set_num_threads(before)


def trial(folder: Path) -> list[float]:
    job = TuningJob("paced", "float32", "cpu", 0, [("", 1), ("", 2), ("", 4)])
    return job.measure(job.setup(folder, folder))["ns"].tolist()


def test_every_number_is_tried_in_turns(machine: Machine, tmp_path: Path) -> None:
    assert trial(tmp_path) == [3000, 1700, 2000]
    assert machine.tries == [1, 2, 4] * tuning.TRIES
    assert machine.loaded == [1, 2, 4]  # once each


def test_pytorch_computes_with_the_number_that_is_tried(machine: Machine, tmp_path: Path) -> None:
    trial(tmp_path)
    assert all(own == pytorchs for own, pytorchs in machine.images)


def test_a_disturbed_try_does_not_decide(machine: Machine, tmp_path: Path) -> None:
    """As once when two threads were timed at 3,433 µs and one at 3,410 µs, where two take little more than half."""
    machine.extra_ns = {1: 1400, 6: 10_000, 8: 10_000}  # tries, counted from 0: the first of two threads, later others
    assert trial(tmp_path) == [3000, 1700, 2000]


def test_of_a_try_the_median_image_counts(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = itertools.cycle([1] * 30 + [1000] * 10)
    monkeypatch.setattr(timer, "time_images", lambda classify, images: (
        np.array([(classify(image) + 1) * next(slow) for image in images]), np.zeros(len(images), np.uint8)))
    assert trial(tmp_path) == [1, 1, 1]


def test_each_combination_has_its_time_measured_in_a_fresh_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2])
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    tried = try_all(LatencyJob("eager", "float32", "cpu", 0), tmp_path, tmp_path)
    assert [(one["options"], one["threads"]) for one in tried] == [
        ("channels-last", 1), ("channels-last", 2), ("contiguous", 1), ("contiguous", 2)]
    assert all(isinstance(one["ns"], float) and one["ns"] > 0 for one in tried)


@pytest.mark.parametrize(("chosen", "expected"), [
    ({}, [("channels-last", 1), ("channels-last", 2), ("contiguous", 1), ("contiguous", 2)]),
    ({"threads": 2}, [("channels-last", 2), ("contiguous", 2)]),
    ({"options": "contiguous"}, [("contiguous", 1), ("contiguous", 2)]),
    ({"device": "cuda"}, [("channels-last", 0), ("contiguous", 0)]),
], ids=["nothing chosen", "threads", "options", "on a GPU"])
def test_what_is_chosen_already_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, chosen: dict, expected: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2])
    assert combinations(replace(LatencyJob("eager", "float32", "cpu", 0), **chosen)) == expected


def test_all_combinations_share_one_process_and_are_prepared_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, jobs = [], []
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1, 2, 4])
    monkeypatch.setattr(ENGINES["aotinductor"], "prepare", lambda setup: prepared.append(setup.threads))
    monkeypatch.setattr(tuning, "run_in_fresh_process",
                        lambda job, setup: jobs.append((job, list(prepared))) or {
                            "ns": np.array([3.0, 1.0, 2.0]), "seconds": 1.0, "background_load": 0.0})
    (options,) = ENGINES["aotinductor"].options
    tried = try_all(LatencyJob("aotinductor", "bfloat16", "cpu", 0), tmp_path, tmp_path)
    assert tried == [{"options": options, "threads": threads, "ns": ns} for threads, ns in ((1, 3.0), (2, 1.0), (4, 2.0))]
    ((trial, before),) = jobs
    assert before == [1, 2, 4]
    assert trial == TuningJob("aotinductor", "bfloat16", "cpu", 0, [(options, 1), (options, 2), (options, 4)])


@pytest.mark.parametrize(("shares", "repeats", "times"), [
    ([0.0], 3, 1), ([0.5, 0.0], 3, 2), ([0.5] * 9, 3, 4), ([0.5], 0, 1)], ids=["idle", "once", "always", "not asked for"])
def test_what_others_disturb_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: list[float], repeats: int, times: int
) -> None:
    made = []
    monkeypatch.setattr(tuning, "thread_counts", lambda: [1])
    monkeypatch.setattr(tuning, "wait_until_idle", lambda: None)
    monkeypatch.setattr(tuning, "run_in_fresh_process", lambda job, setup: made.append(job) or {
        "ns": np.array([len(made), 9.0]), "seconds": 1.0, "background_load": shares[len(made) - 1]})
    tried = try_all(LatencyJob("eager", "float32", "cpu", 0), tmp_path, tmp_path, repeats)
    assert len(made) == times and tried[0]["ns"] == times  # of the last try
