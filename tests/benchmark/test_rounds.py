"""Rounds shuffle the jobs, stop by the clock and not by the result, and settle first what a job leaves open."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import tiny_network

from cifar_lib import InputError, data
from cifar_lib.benchmark import latency, machine, rounds
from cifar_lib.benchmark.latency import LatencyJob
from cifar_lib.benchmark.rounds import prepare_engine, run_rounds
from cifar_lib.engines import ENGINES, base, export
from cifar_lib.engines.base import Setup
from cifar_lib.records import AA_TEST

EAGER, TORCHSCRIPT = (LatencyJob(engine, "float32", "cpu", threads=1, images=100, warmup=5)
                      for engine in ("eager", "torchscript"))
ON_A_GPU = LatencyJob("eager", "float16", "cuda", threads=1, images=100, warmup=5)
PRECISIONS = [replace(EAGER, precision=precision) for precision in ("float32", "float16", "bfloat16")]


@pytest.fixture
def measured_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[LatencyJob]:
    """The jobs in the order in which they ran, with made-up results; `tmp_path` is the folder of exported files."""
    order = []

    def pretend(job: LatencyJob, setup: Setup) -> dict[str, np.ndarray]:
        order.append(job)
        if job.device == "cuda" and len(order) > 3:
            raise InputError("the GPU fell off the bus.")
        return {"ns": np.full(job.images, 1000), "classes": np.zeros(job.images, np.uint8), "warmup_ns": np.full(5, 2000),
                "logits": np.zeros((100, 10)), "load_ns": np.array(3), "involuntary_switches": np.array(0),
                "steal_share": 0.0, "mhz": [2000]}

    nothing = data.Split(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: nothing)
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    monkeypatch.setattr(rounds, "run_in_fresh_process", pretend)
    monkeypatch.setattr(machine, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(base, "ROOT", tmp_path)
    return order


@pytest.fixture
def tried_threads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The engines and precisions whose numbers of threads were tried; two threads are the fastest."""
    tried = []

    def pretend(job: LatencyJob, exported: Path, prepared: Path) -> dict[int, float]:
        tried.append((job.engine, job.precision))
        return {1: 3000.0, 2: 1000.0, 4: 2000.0}

    monkeypatch.setattr(latency, "fastest_threads", pretend)
    return tried


# ---- the order


def test_each_round_runs_every_job_in_an_order_of_its_own(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    run_rounds(PRECISIONS, 10, tmp_path, prepare_engine)
    orders = [tuple(measured_jobs[start : start + 3]) for start in range(0, 30, 3)]
    assert all(set(order) == set(PRECISIONS) for order in orders)
    assert len(set(orders)) > 1


def test_the_seed_decides_the_order(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    orders = []
    for seed in (1, 1, 2):
        measured_jobs.clear()
        run_rounds(PRECISIONS, 10, tmp_path, prepare_engine, seed=seed)
        orders.append(list(measured_jobs))
    assert orders[0] == orders[1] != orders[2]


# ---- the clock


@pytest.fixture
def minutes_a_round(monkeypatch: pytest.MonkeyPatch, measured_jobs: list[LatencyJob]) -> Callable[[float], None]:
    """Sets how long a run takes by the clock that `run_rounds` reads, which otherwise stands still."""
    clock, pretend = {"seconds": 0.0, "run": 0.0}, rounds.run_in_fresh_process

    def timed(job: LatencyJob, setup: Setup) -> dict[str, np.ndarray]:
        clock["seconds"] += clock["run"]
        return pretend(job, setup)

    monkeypatch.setattr(rounds, "run_in_fresh_process", timed)
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: clock["seconds"]))
    return lambda minutes: clock.update(run=60 * minutes)


@pytest.mark.parametrize(
    ("minutes", "each", "expected"),
    [(0, 5, 10), (4.5, 1, 5), (2.5, 1, 3), (0.1, 1, 3), (100, 1, 10)],
    ids=["no limit", "in the fifth round", "in the third", "in the first, yet three", "later than all rounds"],
)
def test_no_round_begins_after_the_minutes_but_for_the_first_three(
    minutes: float, each: float, expected: int, minutes_a_round: Callable[[float], None], measured_jobs: list[LatencyJob],
    tmp_path: Path,
) -> None:
    minutes_a_round(each)
    [outcome] = run_rounds([EAGER], 10, tmp_path, prepare_engine, minutes)
    assert len(outcome.results) == len(measured_jobs) == expected


def test_a_round_that_has_begun_is_run_to_its_end(
    minutes_a_round: Callable[[float], None], measured_jobs: list[LatencyJob], tmp_path: Path
) -> None:
    minutes_a_round(1)
    outcomes = run_rounds(PRECISIONS, 10, tmp_path, prepare_engine, 10)  # over within the fourth round of 3 minutes
    assert [len(outcome.results) for outcome in outcomes] == [4, 4, 4]


def test_preparing_takes_none_of_the_minutes(
    minutes_a_round: Callable[[float], None], measured_jobs: list[LatencyJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"seconds": 0.0}
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: now["seconds"]))
    [outcome] = run_rounds([EAGER], 10, tmp_path, lambda *_: now.update(seconds=6000), 1)
    assert len(outcome.results) == 10


def test_fewer_rounds_than_three_are_no_more_for_the_clock(
    minutes_a_round: Callable[[float], None], measured_jobs: list[LatencyJob], tmp_path: Path
) -> None:
    minutes_a_round(1)
    [outcome] = run_rounds([EAGER], 2, tmp_path, prepare_engine, 0.1)
    assert len(outcome.results) == 2


# ---- what cannot run


def test_where_no_engine_runs_a_sentence_says_why(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the engines runs here; of eager-float16: the GPU fell off the bus\."):
        latency.measure([ON_A_GPU], 4, tmp_path)


def test_an_engine_that_fails_in_a_later_round_has_no_series(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    rows, series = latency.measure([EAGER, ON_A_GPU], 4, tmp_path)
    assert rows[1]["reason"] == "the GPU fell off the bus."
    assert set(series) == {EAGER.name, f"{EAGER.name}-classes"}
    assert len(rows[0]["runs"]) == 4


def test_an_engine_without_its_library_is_a_row_with_the_reason(
    measured_jobs: list[LatencyJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINES["torchscript"], "library", "no_such_library")
    rows, _ = latency.measure([EAGER, TORCHSCRIPT], 2, tmp_path)
    assert rows[0]["version"] == torch.__version__ and len(rows[0]["runs"]) == 2
    assert "no_such_library cannot be imported" in rows[1]["reason"]
    assert TORCHSCRIPT not in measured_jobs


def test_the_machine_is_held_while_jobs_are_prepared_and_measured(
    measured_jobs: list[LatencyJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    pretend = rounds.run_in_fresh_process

    def is_held() -> bool:
        lock = machine.FileLock(machine.LOCK, thread_local=False)
        try:
            with lock.acquire(timeout=0):
                return False
        except machine.Timeout:
            return True

    def noted(job: LatencyJob, setup: Setup) -> dict[str, np.ndarray]:
        held.append(is_held())
        return pretend(job, setup)

    monkeypatch.setattr(rounds, "run_in_fresh_process", noted)
    run_rounds([EAGER], 2, tmp_path, lambda *_: held.append(is_held()))
    assert held == [True, True, True]
    assert not is_held()


# ---- the number of threads


def test_an_engine_gets_the_number_of_threads_that_it_is_fastest_with(
    measured_jobs: list[LatencyJob], tried_threads: list[tuple[str, str]], tmp_path: Path
) -> None:
    rows, _ = latency.measure([replace(EAGER, threads=0), replace(EAGER, threads=0, variant=AA_TEST)], 1, tmp_path)
    assert [row["threads"] for row in rows] == [2, 2]
    assert rows[0]["threads_tried_ns"] == rows[1]["threads_tried_ns"] == {1: 3000, 2: 1000, 4: 2000}
    assert [job.threads for job in measured_jobs] == [2, 2]
    assert tried_threads == [("eager", "float32")]  # once for both


def test_numbers_of_threads_are_tried_once_for_each_engine(
    measured_jobs: list[LatencyJob], tried_threads: list[tuple[str, str]], tmp_path: Path
) -> None:
    jobs = [replace(job, threads=0) for job in (EAGER, TORCHSCRIPT, PRECISIONS[1])]
    rows, _ = latency.measure(jobs, 1, tmp_path)
    assert tried_threads == [("eager", "float32"), ("torchscript", "float32")]
    assert [row["threads"] for row in rows] == [2, 2, 2]


def test_a_named_number_of_threads_is_kept_and_others_are_not_tried(
    measured_jobs: list[LatencyJob], tried_threads: list[tuple[str, str]], tmp_path: Path
) -> None:
    rows, _ = latency.measure([replace(EAGER, threads=4)], 1, tmp_path)
    assert (rows[0]["threads"], rows[0]["threads_tried_ns"]) == (4, None)
    assert [job.threads for job in measured_jobs] == [4]
    assert tried_threads == []
