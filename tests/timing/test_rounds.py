"""Rounds shuffle the jobs, stop by the clock and not by the result, and repeat what was contended."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import lock_is_held, tiny_network

from cifar_bench.engines import ENGINES, base, export
from cifar_bench.engines.base import Setup
from cifar_bench.records import AA_TEST
from cifar_bench.timing import latency, machine, numerics, peak, rounds
from cifar_bench.timing.latency import LatencyJob
from cifar_bench.timing.rounds import compile_engine, run_rounds
from cifar_lib import InputError, data

EAGER, TORCHSCRIPT = (LatencyJob(engine, "float32", "cpu", threads=1, images=100, warmup=5)
                      for engine in ("eager", "torchscript"))
ON_A_GPU = LatencyJob("eager", "float16", "cuda", threads=1, options="contiguous", images=100, warmup=5)
TRIALS = [{"options": "channels-last", "threads": 2, "ns": 3000.0}, {"options": "contiguous", "threads": 2, "ns": 1000.0}]
PRECISIONS = [replace(EAGER, precision=precision) for precision in ("float32", "float16", "bfloat16")]


class Runs:
    """Made-up results in place of processes, on a clock that stands still between them."""

    def __init__(self) -> None:
        self.jobs: list[LatencyJob] = []  # in the order in which they ran
        self.loads: list[float] = []  # the background load of one run after the other; then none
        self.stops: list[float] = []  # likewise, the part of a core on which nothing ran
        self.trips: list[float] = []  # the readings of one probe after the other; then 90 ns
        self.minutes, self.seconds = 0.0, 0.0  # of a run; of the clock

    def __call__(self, job: LatencyJob, setup: Setup) -> dict[str, np.ndarray]:
        self.jobs.append(job)
        self.seconds += 60 * self.minutes
        if job.device == "cuda" and len(self.jobs) > 2:
            raise InputError("the GPU fell off the bus.")
        return {"ns": np.full(job.images, 10_000_000), "classes": np.zeros(job.images, np.uint8), "warmup_ns": np.full(5, 2000),
                "logits": np.zeros((100, 10)), "load_ns": np.array(3),
                "background_cores": self.loads.pop(0) if self.loads else 0.01,
                "stopped_cores": self.stops.pop(0) if self.stops else 0.0}

    def probe(self, threads: int) -> dict[str, float]:
        return {"clock_ghz": 4.2, "round_trip_ns": self.trips.pop(0) if self.trips else 90.0}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """`tmp_path` is the folder of exported files."""
    images = data.Split(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: images)
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    runs = Runs()
    monkeypatch.setattr(rounds, "run_in_fresh_process", runs)
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: runs.seconds))
    monkeypatch.setattr(rounds, "probe", runs.probe)
    monkeypatch.setattr(machine, "background_cores", lambda seconds: 0.0)
    monkeypatch.setattr(machine, "LOCK", str(tmp_path))
    monkeypatch.setattr(base, "ROOT", tmp_path)
    return runs


# ---- order and time


def test_each_round_runs_every_job_in_an_order_of_its_own(runs: Runs, tmp_path: Path) -> None:
    run_rounds(PRECISIONS, 10, tmp_path, compile_engine)
    orders = [tuple(runs.jobs[start : start + 3]) for start in range(0, 30, 3)]
    assert all(set(order) == set(PRECISIONS) for order in orders)
    assert len(set(orders)) > 1


@pytest.mark.parametrize(("minutes", "expected"), [(0, 10), (10, 4), (0.1, 3)],
                         ids=["no limit", "within the fourth round", "within the first, but at least three"])
def test_no_round_after_the_third_begins_after_the_limit(minutes: float, expected: int, runs: Runs, tmp_path: Path) -> None:
    runs.minutes = 1
    outcomes = run_rounds(PRECISIONS, 10, tmp_path, compile_engine, minutes)
    assert [len(outcome.results) for outcome in outcomes] == 3 * [expected]


def test_compiling_does_not_count_for_the_limit(runs: Runs, tmp_path: Path) -> None:
    def compile(*_: object) -> None:
        runs.seconds += 6000

    [outcome] = run_rounds([EAGER], 10, tmp_path, compile, 1)
    assert len(outcome.results) == 10


def test_the_machine_is_held_while_jobs_are_compiled_and_measured(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    monkeypatch.setattr(rounds, "run_in_fresh_process", lambda job, setup: held.append(lock_is_held()) or runs(job, setup))
    run_rounds([EAGER], 2, tmp_path, lambda *_: held.append(lock_is_held()))
    assert held == [True, True, True] and not lock_is_held()


def test_the_machine_is_held_while_files_are_scored_and_peaks_measured(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = latency.measure([EAGER], 1, tmp_path)
    held, test = [], data.load("test")
    monkeypatch.setattr(numerics, "predict", lambda *_: held.append(lock_is_held()) or np.zeros((len(test), 10)))
    monkeypatch.setattr(peak, "measure", lock_is_held)
    numerics.add_accuracy(rows, tmp_path, test)
    numerics.compare_predictions(rows, tmp_path, test)
    held += peak.measure_all(["float32"], "cpu")
    assert held == [True, True, True] and not lock_is_held()


# ---- what cannot run


def test_where_no_engine_runs_an_error_says_why(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the engines runs here; of eager-float16: the GPU fell off the bus\."):
        latency.measure([ON_A_GPU], 4, tmp_path)


@pytest.mark.parametrize(("failing", "left"), [({3}, [0, 1, 2, 4]), ({2, 3}, [])])
def test_a_run_that_fails_in_a_late_round_costs_itself_alone_unless_too_few_rounds_are_left_to_pair(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: set[int], left: list[int]
) -> None:
    def fails(job: LatencyJob, setup: Setup) -> dict[str, np.ndarray]:
        result = runs(job, setup)
        if job.engine == "torchscript" and runs.jobs.count(job) - 1 in failing:
            raise InputError("killed.")
        return result

    monkeypatch.setattr(rounds, "run_in_fresh_process", fails)
    rows, series = latency.measure([EAGER, TORCHSCRIPT], 5, tmp_path)
    assert [run["round"] for run in rows[1].get("runs", [])] == left and len(rows[0]["runs"]) == 5
    assert len(series.get(TORCHSCRIPT.name, [])) == len(left)
    assert rows[1]["failures"] == ["killed."] if left else rows[1]["reason"] == "killed."


def test_an_engine_with_too_few_runs_that_end_well_has_no_series(runs: Runs, tmp_path: Path) -> None:
    rows, series = latency.measure([EAGER, ON_A_GPU], 4, tmp_path)
    assert rows[1]["reason"] == "the GPU fell off the bus."
    assert set(series) == {EAGER.name, f"{EAGER.name}-predicted"}
    assert len(rows[0]["runs"]) == 4


def test_an_engine_without_its_library_is_a_row_with_the_reason(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINES["torchscript"], "library", "no_such_library")
    rows, _ = latency.measure([EAGER, TORCHSCRIPT], 2, tmp_path)
    assert rows[0]["version"].startswith(torch.__version__.partition("+")[0]) and len(rows[0]["runs"]) == 2
    assert "no_such_library cannot be imported" in rows[1]["reason"]
    assert TORCHSCRIPT not in runs.jobs


# ---- contended runs


def test_a_contended_run_is_repeated_and_stays_in_the_record(runs: Runs, tmp_path: Path) -> None:
    runs.loads = [0.0, 0.5, 0.0]
    (row,), series = latency.measure([replace(EAGER, options="contiguous")], 3, tmp_path, repeats=3)
    assert [(run["round"], run["contended"]) for run in row["runs"]] == [(0, False), (1, True), (2, False), (1, False)]
    assert series[row["series"]].shape == (4, 100)


def test_a_run_in_which_the_state_of_the_machine_changed_is_repeated_and_stays_in_the_record(
    runs: Runs, tmp_path: Path
) -> None:
    runs.trips = [90, 110, 95, 385, 385, 390]
    (row,), _ = latency.measure([EAGER], 3, tmp_path, repeats=3)
    assert [(run["round"], run["state_changed"], run["probes"]["round_trip_ns"]) for run in row["runs"]] == [
        (0, False, [90, 110]), (1, True, [95, 385]), (2, False, [385, 390]), (1, False, [90, 90])]


def test_a_run_that_was_stopped_is_repeated_but_waiting_for_a_gpu_is_no_stop(runs: Runs, tmp_path: Path) -> None:
    runs.stops = [0.5, 0.01, 0.5]
    (row,), _ = latency.measure([EAGER], 1, tmp_path, repeats=1)
    assert [(run["contended"], run["stopped_cores"]) for run in row["runs"]] == [(True, 0.5), (False, 0.01)]
    runs.jobs.clear()
    (row,), _ = latency.measure([ON_A_GPU], 1, tmp_path, repeats=1)
    assert [(run["contended"], run["stopped_cores"]) for run in row["runs"]] == [(False, 0.5)]


def test_a_run_during_which_others_used_the_gpu_is_contended(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "run_in_fresh_process", lambda *job: {**runs(*job), "gpu_load": 30, "gpu_mhz": 1755})
    (row,), _ = latency.measure([EAGER], 1, tmp_path)
    assert row["runs"][0]["contended"] and row["runs"][0]["gpu_mhz"] == 1755


def test_a_run_is_repeated_so_many_times_at_most(runs: Runs, tmp_path: Path) -> None:
    runs.loads = 20 * [0.5]
    (outcome,) = run_rounds([EAGER], 1, tmp_path, compile_engine, repeats=2)
    assert [result["contended"] for result in outcome.results] == [True, True, True]


def test_before_repeating_the_machine_must_be_idle(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = [0.9, 0.9, 0.0, 0.0]
    monkeypatch.setattr(machine, "background_cores", lambda seconds: loads.pop(0))
    runs.loads = [0.5]
    run_rounds([EAGER], 1, tmp_path, compile_engine, repeats=1)
    assert loads == [0.0]


# ---- options and threads


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The engines and precisions that were autotuned, all with the result of TRIALS."""
    tuned = []
    monkeypatch.setattr(latency, "autotune", lambda job, *_: tuned.append((job.engine, job.precision)) or TRIALS)
    return tuned


def test_an_engine_is_autotuned_once_for_each_precision_and_gets_its_fastest_options_and_threads(
    runs: Runs, tuned: list[tuple[str, str]], tmp_path: Path
) -> None:
    jobs = [replace(job, threads=0) for job in (EAGER, TORCHSCRIPT, PRECISIONS[1], replace(EAGER, variant=AA_TEST))]
    rows, _ = latency.measure(jobs, 1, tmp_path)
    assert tuned == [("eager", "float32"), ("torchscript", "float32"), ("eager", "float16")]
    assert [(row["options"], row["threads"], row["trials"]) for row in rows] == 4 * [("contiguous", 2, TRIALS)]
    assert [(job.options, job.threads) for job in runs.jobs] == 4 * [("contiguous", 2)]


@pytest.mark.usefixtures("needs_compiler")
def test_a_cpp_engine_gets_the_options_of_its_python_twin(
    runs: Runs, tuned: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINES["torchscript-cpp"], "compile", lambda setup: None)
    latency.measure([replace(TORCHSCRIPT, threads=0), replace(TORCHSCRIPT, engine="torchscript-cpp", threads=0)], 1, tmp_path)
    assert tuned == [("torchscript", "float32")]
    assert [(job.options, job.threads) for job in runs.jobs] == 2 * [("contiguous", 2)]


def test_a_single_combination_is_not_autotuned(runs: Runs, tuned: list[tuple[str, str]], tmp_path: Path) -> None:
    rows, _ = latency.measure([replace(EAGER, threads=4, options="channels-last")], 1, tmp_path)
    assert (rows[0]["threads"], rows[0]["options"], rows[0]["trials"]) == (4, "channels-last", None)
    assert tuned == []
