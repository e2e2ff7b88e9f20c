"""Rounds shuffle the jobs, stop by the clock and not by the result, and settle first what a job leaves open."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import tiny_network

from cifar_bench.engines import ENGINES, base, export
from cifar_bench.engines.base import Setup
from cifar_bench.records import AA_TEST
from cifar_bench.timing import latency, machine, rounds
from cifar_bench.timing.latency import LatencyJob
from cifar_bench.timing.rounds import compile_engine, run_rounds
from cifar_lib import InputError, data

EAGER, TORCHSCRIPT = (LatencyJob(engine, "float32", "cpu", threads=1, images=100, warmup=5)
                      for engine in ("eager", "torchscript"))
ON_A_GPU = LatencyJob("eager", "float16", "cuda", threads=1, options="contiguous", images=100, warmup=5)
TRIED = [{"options": "channels-last", "threads": 2, "ns": 3000.0}, {"options": "contiguous", "threads": 2, "ns": 1000.0}]
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
                "background_load": 0.01, "mhz": [2000]}

    nothing = data.Split(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: nothing)
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    monkeypatch.setattr(rounds, "run_in_fresh_process", pretend)
    monkeypatch.setattr(machine, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(base, "ROOT", tmp_path)
    return order


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The engines and precisions whose options and threads were tried; two threads and "contiguous" are the fastest."""
    tries = []

    def pretend(job: LatencyJob, exported: Path, cache: Path, repeats: int) -> list[dict]:
        tries.append((job.engine, job.precision))
        return TRIED

    monkeypatch.setattr(latency, "try_all", pretend)
    return tries


# ---- the order


def test_each_round_runs_every_job_in_an_order_of_its_own(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    run_rounds(PRECISIONS, 10, tmp_path, compile_engine)
    orders = [tuple(measured_jobs[start : start + 3]) for start in range(0, 30, 3)]
    assert all(set(order) == set(PRECISIONS) for order in orders)
    assert len(set(orders)) > 1


def test_the_seed_decides_the_order(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    orders = []
    for seed in (1, 1, 2):
        measured_jobs.clear()
        run_rounds(PRECISIONS, 10, tmp_path, compile_engine, seed=seed)
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
    [outcome] = run_rounds([EAGER], 10, tmp_path, compile_engine, minutes)
    assert len(outcome.results) == len(measured_jobs) == expected


def test_a_round_that_has_begun_is_run_to_its_end(
    minutes_a_round: Callable[[float], None], measured_jobs: list[LatencyJob], tmp_path: Path
) -> None:
    minutes_a_round(1)
    outcomes = run_rounds(PRECISIONS, 10, tmp_path, compile_engine, 10)  # over within the fourth round of 3 minutes
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
    [outcome] = run_rounds([EAGER], 2, tmp_path, compile_engine, 0.1)
    assert len(outcome.results) == 2


# ---- what cannot run


def test_where_no_engine_runs_a_sentence_says_why(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the engines runs here; of eager-float16: the GPU fell off the bus\."):
        latency.measure([ON_A_GPU], 4, tmp_path)


def test_an_engine_that_fails_in_a_later_round_has_no_series(measured_jobs: list[LatencyJob], tmp_path: Path) -> None:
    rows, series = latency.measure([EAGER, ON_A_GPU], 4, tmp_path)
    assert rows[1]["reason"] == "the GPU fell off the bus."
    assert set(series) == {EAGER.name, f"{EAGER.name}-predicted"}
    assert len(rows[0]["runs"]) == 4


def test_an_engine_without_its_library_is_a_row_with_the_reason(
    measured_jobs: list[LatencyJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINES["torchscript"], "library", "no_such_library")
    rows, _ = latency.measure([EAGER, TORCHSCRIPT], 2, tmp_path)
    build_named_or_not = {torch.__version__, torch.__version__.partition("+")[0]}  # CUDA's packages do not give "+cu130"
    assert rows[0]["version"] in build_named_or_not and len(rows[0]["runs"]) == 2
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


# ---- what others disturb


@pytest.fixture
def others(measured_jobs: list[LatencyJob], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The share of the processors that others use in one run after the other, as a test writes it down; then none."""
    shares, pretend = [], rounds.run_in_fresh_process

    def contended(job: LatencyJob, setup: Setup) -> dict[str, np.ndarray]:
        return {**pretend(job, setup), "ns": np.full(100, 10_000_000), "background_load": shares.pop(0) if shares else 0.0}

    monkeypatch.setattr(rounds, "run_in_fresh_process", contended)
    monkeypatch.setattr(machine, "background_load", lambda seconds: 0.0)
    return shares


def test_a_disturbed_run_is_measured_again_and_stays(others: list[float], tmp_path: Path) -> None:
    others += [0.0, 0.5, 0.0]
    (outcome,) = run_rounds([EAGER], 3, tmp_path, compile_engine, repeats=3)
    assert [(result["round"], result["contended"]) for result in outcome.results] == [
        (0, False), (1, True), (2, False), (1, False)]


def test_a_run_is_measured_again_so_many_times_at_most(others: list[float], tmp_path: Path) -> None:
    others += 20 * [0.5]
    (outcome,) = run_rounds([EAGER], 1, tmp_path, compile_engine, repeats=2)
    assert [result["contended"] for result in outcome.results] == [True, True, True]
    assert outcome.contended_rounds() == [0]


def test_the_record_keeps_every_run_and_tells_them_apart(others: list[float], tmp_path: Path) -> None:
    others += [0.5]
    (row,), series = latency.measure([replace(EAGER, options="contiguous")], 3, tmp_path, repeats=1)
    assert [run["contended"] for run in row["runs"]] == [True, False, False, False]
    assert [run["round"] for run in row["runs"]] == [0, 1, 2, 0]
    assert series[row["series"]].shape == (4, 100)


def test_before_measuring_again_others_are_waited_for(
    others: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [0.9, 0.9, 0.0, 0.0]
    monkeypatch.setattr(machine, "background_load", lambda seconds: busy.pop(0))
    others += [0.5]
    run_rounds([EAGER], 1, tmp_path, compile_engine, repeats=1)
    assert busy == [0.0]


# ---- options and threads


def test_an_engine_gets_the_settings_and_threads_that_it_is_fastest_with(
    measured_jobs: list[LatencyJob], tries: list[tuple[str, str]], tmp_path: Path
) -> None:
    rows, _ = latency.measure([replace(EAGER, threads=0), replace(EAGER, threads=0, variant=AA_TEST)], 1, tmp_path)
    assert [(row["options"], row["threads"], row["trials"]) for row in rows] == 2 * [("contiguous", 2, TRIED)]
    assert [(job.options, job.threads) for job in measured_jobs] == 2 * [("contiguous", 2)]
    assert tries == [("eager", "float32")]  # once for both


def test_settings_are_tried_once_for_each_engine_and_precision(
    measured_jobs: list[LatencyJob], tries: list[tuple[str, str]], tmp_path: Path
) -> None:
    jobs = [replace(job, threads=0) for job in (EAGER, TORCHSCRIPT, PRECISIONS[1], EAGER)]
    latency.measure(jobs, 1, tmp_path)
    assert tries == [("eager", "float32"), ("torchscript", "float32"), (PRECISIONS[1].engine, PRECISIONS[1].precision)]


def test_a_program_in_cpp_gets_what_its_twin_in_python_is_fastest_with(
    measured_jobs: list[LatencyJob], tries: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINES["torchscript-cpp"], "prepare", lambda setup: None)
    latency.measure([replace(TORCHSCRIPT, threads=0), replace(TORCHSCRIPT, engine="torchscript-cpp", threads=0)], 1, tmp_path)
    assert tries == [("torchscript", "float32")]
    assert [(job.options, job.threads) for job in measured_jobs] == 2 * [("contiguous", 2)]


def test_where_there_is_one_way_only_nothing_is_tried(
    measured_jobs: list[LatencyJob], tries: list[tuple[str, str]], tmp_path: Path
) -> None:
    rows, _ = latency.measure([replace(EAGER, threads=4, options="channels-last")], 1, tmp_path)
    assert (rows[0]["threads"], rows[0]["options"], rows[0]["trials"]) == (4, "channels-last", None)
    assert tries == []
