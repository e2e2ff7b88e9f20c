"""Every image is timed and its class kept, every run is a process of its own, and comparisons wait for each other."""

import fcntl
import gc
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import Refused
from test_engines import export_all, tiny_network

from cifar_lib import InputError, cpp, data, export, model, records, timer
from cifar_lib.engines import ENGINES, Setup
from cifar_lib.timer import Job, time_images

EAGER, TORCHSCRIPT, CPP = (Job(engine, "float32", "cpu", threads=1, images=100, warmup=5)
                          for engine in ("eager", "torchscript", "torchscript-cpp"))
ON_A_GPU = Job("eager", "float16", "cuda", threads=1, images=100, warmup=5)
RUNS = 2


def number_of(image: torch.Tensor) -> int:
    return int(image[0, 0, 0, 0])


@pytest.fixture
def numbered() -> list[torch.Tensor]:
    """50 images, number n filled with n."""
    return [torch.full((1, 3, 32, 32), float(number)) for number in range(50)]


# ---- the clock


def test_images_are_classified_once_each_and_in_order(numbered: list[torch.Tensor]) -> None:
    seen = []

    def classify(image: torch.Tensor) -> int:
        seen.append(number_of(image))
        return 0

    time_images(classify, numbered)
    assert seen == list(range(50))


def test_the_classes_are_those_that_classify_gave(numbered: list[torch.Tensor]) -> None:
    _, classes = time_images(number_of, numbered)
    assert classes.dtype == np.uint8
    assert classes.tolist() == list(range(50))


def test_times_are_positive_and_sum_to_no_more_than_what_passed(numbered: list[torch.Tensor]) -> None:
    start = time.perf_counter_ns()
    ns, _ = time_images(number_of, numbered)
    passed = time.perf_counter_ns() - start
    assert ns.shape == (50,) and ns.dtype == np.int64
    assert (ns > 0).all()
    assert ns.sum() <= passed


def test_a_time_holds_all_that_classify_does(numbered: list[torch.Tensor]) -> None:
    inside = []

    def classify(image: torch.Tensor) -> int:
        start = time.perf_counter_ns()
        found = number_of(image)
        inside.append(time.perf_counter_ns() - start)
        return found

    ns, _ = time_images(classify, numbered)
    assert (ns >= inside).all()


def test_garbage_is_not_collected_while_timing_and_is_after(numbered: list[torch.Tensor]) -> None:
    _, collecting = time_images(lambda _: gc.isenabled(), numbered)
    assert not collecting.any()
    assert gc.isenabled()


def test_garbage_is_collected_again_after_an_error(numbered: list[torch.Tensor]) -> None:
    def classify(image: torch.Tensor) -> int:
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError):
        time_images(classify, numbered)
    assert gc.isenabled()


# ---- a whole comparison


Measured = tuple[list[dict], dict[str, np.ndarray], list[int]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Rows, series, and the process ids of a comparison of four jobs on stand-in data; the last needs a GPU."""
    folder, pids = tmp_path_factory.mktemp("timer"), []
    cpp.build()  # its compiler's processes are not counted

    class Noted(subprocess.Popen):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            pids.append(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR10_DIR", data.STAND_IN)
        patch.setattr(timer, "LOCK", folder / "lock")
        patch.setattr(subprocess, "Popen", Noted)
        data.find.cache_clear()
        rows, series = timer.measure([EAGER, TORCHSCRIPT, CPP, ON_A_GPU], RUNS, export_all(tiny_network(), folder))
    return rows, series, pids


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(timer, "LOCK", tmp_path / "lock")
    return export_all(tiny_network(), tmp_path)


@pytest.fixture
def first_images(monkeypatch: pytest.MonkeyPatch) -> data.Split:
    monkeypatch.setenv("CIFAR10_DIR", data.STAND_IN)
    return data.load("test").first(EAGER.images)


needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the job that fails here runs where there is a GPU")


@pytest.mark.parametrize("job", [EAGER, TORCHSCRIPT, CPP], ids=lambda job: job.engine)
def test_series_hold_every_image_of_every_run(measured: Measured, job: Job) -> None:
    _, series, _ = measured
    assert series[job.series].shape == series[f"{job.series}-classes"].shape == (RUNS, job.images)
    assert series[job.series].dtype == np.int64
    assert (series[job.series] > 0).all()


@pytest.mark.parametrize("job", [EAGER, TORCHSCRIPT, CPP], ids=lambda job: job.engine)
def test_kept_classes_are_the_networks(measured: Measured, first_images: data.Split, job: Job) -> None:
    expected = model.predict(tiny_network(), first_images).argmax(1).numpy()
    assert len(set(expected)) > 1
    for classes in measured[1][f"{job.series}-classes"]:
        assert np.array_equal(classes, expected)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["eager", "torchscript", "torchscript-cpp"])
def test_a_row_follows_from_the_series(measured: Measured, first_images: data.Split, number: int) -> None:
    rows, series, _ = measured
    row, ns = rows[number], series[rows[number]["series"]]
    assert [run["mean_ns"] for run in row["runs"]] == pytest.approx(ns.mean(1))
    assert [run["max_ns"] for run in row["runs"]] == ns.max(1).tolist()
    right = series[f"{row['series']}-classes"] == first_images.labels.numpy()
    assert row["accuracy"] == pytest.approx(100 * right.mean())


def test_rows_are_in_the_order_of_the_jobs_and_say_what_was_run(measured: Measured) -> None:
    for row, job in zip(measured[0], [EAGER, TORCHSCRIPT, CPP, ON_A_GPU], strict=True):
        assert row.items() >= {"engine": job.engine, "precision": job.precision, "device": job.device, "threads": 1,
                               "images": 100, "warmup": 5}.items()


def test_every_run_is_a_process_of_its_own(measured: Measured) -> None:
    _, series, pids = measured
    assert os.getpid() not in pids
    assert len(set(pids)) == len(pids) >= RUNS * len([name for name in series if not name.endswith("-classes")])


@needs_no_gpu
def test_an_engine_that_cannot_run_is_a_row_with_its_reason(measured: Measured) -> None:
    rows, series, _ = measured
    assert "cuda" in rows[3]["reason"].lower() or "nvidia" in rows[3]["reason"].lower()
    assert "runs" not in rows[3]
    assert ON_A_GPU.series not in series


@needs_no_gpu
def test_an_engine_that_cannot_run_leaves_the_others_whole(measured: Measured) -> None:
    for row in measured[0][:3]:
        assert "reason" not in row
        assert len(row["runs"]) == RUNS


@needs_no_gpu
def test_an_engine_that_cannot_run_is_tried_once(measured: Measured) -> None:
    assert len(measured[2]) == 3 * RUNS + 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process that its parent has ended")
@pytest.mark.parametrize(("job", "name"), [(EAGER, "python"), (CPP, "infer")], ids=["while it starts", "in the C++ program"])
def test_what_times_ends_with_what_waits_for_it(job: Job, name: str, exported: Path) -> None:
    cpp.build()  # in time, so that all children are those meant
    endless = replace(job, warmup=5_000_000)
    waits = (f"from pathlib import Path; from cifar_lib import timer; from cifar_lib.timer import Job\n"
             f"timer._in_fresh_process({endless}, {endless}.setup(*map(Path, {[str(exported)] * 2})))")
    waiting = psutil.Popen([sys.executable, "-c", waits], env={**os.environ, "CIFAR10_DIR": data.STAND_IN})
    children, deadline = [], time.monotonic() + 60
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
        for process in [waiting, *children]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_what_times_does_not_wait_for_scipy() -> None:
    loaded = subprocess.run([sys.executable, "-c", "import sys, cifar_lib.timer; print('scipy' in sys.modules)"],
                            capture_output=True, text=True, check=True)
    assert loaded.stdout == "False\n"


# ---- the rounds, without the processes


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """The jobs in the order in which they ran, with nothing measured behind them."""
    order = []

    def pretend(job: Job, setup: Setup) -> dict[str, np.ndarray]:
        order.append(job)
        speed = {1: 3000, 2: 1000, 4: 2000}[job.threads]
        if job.device == "cuda" and len(order) > 3:
            raise InputError("the GPU fell off the bus.")
        return {"ns": np.full(job.images, speed), "classes": np.zeros(job.images, np.uint8), "warmup_ns": np.full(5, 2000),
                "logits": np.zeros((100, 10)), "load_ns": np.array(3), "involuntary_switches": np.array(0),
                "steal_share": 0.0, "mhz": [2000]}

    nothing = data.Split(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64), {})
    monkeypatch.setattr(data, "load", lambda _: nothing)
    export.torchscript(tiny_network(), tmp_path / "model.pt")
    monkeypatch.setattr(timer, "_in_fresh_process", pretend)
    monkeypatch.setattr(timer, "LOCK", tmp_path / "lock")
    return order


def test_where_no_engine_runs_a_sentence_says_why(pretended: list[Job], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the engines runs here; of eager-float16: the GPU fell off the bus\."):
        timer.measure([ON_A_GPU], 4, tmp_path)


def test_each_round_runs_every_job_in_an_order_of_its_own(pretended: list[Job], tmp_path: Path) -> None:
    jobs = [Job("eager", precision, "cpu", 1, 100, 5) for precision in ("float32", "float16", "bfloat16")]
    timer.measure(jobs, 10, tmp_path)
    rounds = [tuple(pretended[start:start + 3]) for start in range(0, 30, 3)]
    assert all(set(one) == set(jobs) for one in rounds)
    assert len(set(rounds)) > 1


def test_the_seed_decides_the_order(pretended: list[Job], tmp_path: Path) -> None:
    jobs = [Job("eager", precision, "cpu", 1, 100, 5) for precision in ("float32", "float16", "bfloat16")]
    orders = []
    for seed in (1, 1, 2):
        pretended.clear()
        timer.measure(jobs, 10, tmp_path, seed)
        orders.append(list(pretended))
    assert orders[0] == orders[1] != orders[2]


def test_an_engine_that_fails_in_a_later_round_has_no_series(pretended: list[Job], tmp_path: Path) -> None:
    rows, series = timer.measure([EAGER, ON_A_GPU], 4, tmp_path)
    assert rows[1]["reason"] == "the GPU fell off the bus."
    assert set(series) == {EAGER.series, f"{EAGER.series}-classes"}
    assert len(rows[0]["runs"]) == 4


def test_an_engine_without_its_library_is_a_row_with_the_reason(
    pretended: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENGINES["torchscript"], "library", "no_such_library")
    rows, _ = timer.measure([EAGER, TORCHSCRIPT], 2, tmp_path)
    assert rows[0]["version"] == torch.__version__ and len(rows[0]["runs"]) == 2
    assert "no_such_library cannot be imported" in rows[1]["reason"]
    assert TORCHSCRIPT not in pretended


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_numbers_of_threads_double_up_to_the_cores(cores: int, counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "cores", lambda: cores)
    assert timer.thread_counts() == counts


def test_an_engine_gets_the_number_of_threads_that_it_is_fastest_with(
    pretended: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "cores", lambda: 4)
    rows, _ = timer.measure([replace(EAGER, threads=0), replace(EAGER, threads=0, variant=timer.AGAIN)], 1, tmp_path)
    assert [row["threads"] for row in rows] == [2, 2]
    assert rows[0]["threads_tried_ns"] == rows[1]["threads_tried_ns"] == {1: 3000, 2: 1000, 4: 2000}
    assert [job.threads for job in pretended] == [1, 2, 4, 2, 2]  # tried once for both


def test_a_disturbed_try_does_not_settle_the_number_of_threads(
    pretended: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As once when two threads were timed at 3,433 µs and one at 3,410 µs, where two take little more than half."""
    undisturbed = timer._in_fresh_process

    def disturbed_at_first(job: Job, setup: Setup) -> dict[str, np.ndarray]:
        first = job.threads == 2 and job not in pretended
        return {**undisturbed(job, setup), **({"ns": np.full(job.images, 3100)} if first else {})}

    monkeypatch.setattr(records, "cores", lambda: 2)
    monkeypatch.setattr(timer, "_in_fresh_process", disturbed_at_first)
    rows, _ = timer.measure([replace(EAGER, threads=0)], 1, tmp_path)
    assert (rows[0]["threads"], rows[0]["threads_tried_ns"]) == (2, {1: 3000, 2: 1000})
    assert [job.threads for job in pretended] == [1, 2, 1, 2, 2]  # clear after the second turn


def test_a_named_number_of_threads_is_kept_and_others_are_not_tried(pretended: list[Job], tmp_path: Path) -> None:
    rows, _ = timer.measure([replace(EAGER, threads=4)], 1, tmp_path)
    assert (rows[0]["threads"], rows[0]["threads_tried_ns"]) == (4, None)
    assert [job.threads for job in pretended] == [4]


def test_batches_double_up_to_the_largest(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", data.STAND_IN)
    jobs = [*(replace(EAGER, engine=name, images=2) for name in ("eager", "onnxruntime", "aotinductor")), ON_A_GPU]
    *rows, missing = timer.measure_batches(jobs, RUNS, exported)
    for row in rows:
        assert row["batches"] == [1, 2]
        assert np.shape(row["batch_ns"]) == (RUNS, 2) and np.min(row["batch_ns"]) > 0
    assert "reason" in missing and "batch_ns" not in missing


@pytest.mark.parametrize("name", ["eager", "torchscript", "onnxruntime", "openvino"])
def test_a_batch_has_the_classes_of_its_images(name: str, exported: Path, first_images: data.Split) -> None:
    images = data.normalise(first_images.images[:8])
    engine = ENGINES[name](Setup(exported, exported, batch=8))
    assert engine.classes(images).tolist() == model.predict(tiny_network(), first_images.first(8)).argmax(1).tolist()


def test_a_busy_machine_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([np.array([100, 0, 50, 800, 50, 0, 0, 0]), np.array([150, 10, 60, 900, 70, 0, 0, 10])])
    monkeypatch.setattr(timer, "_jiffies", lambda: next(readings))
    assert timer.busy_share(0) == pytest.approx(80 / 200)


def test_a_system_without_counts_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "_jiffies", lambda: np.zeros(8, np.int64))
    assert timer.busy_share(0) == 0


def test_a_lock_that_cannot_be_opened_is_named(
    pretended: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(timer, "LOCK", tmp_path / "nowhere" / "lock")
    with refused("nowhere", "TMPDIR"):
        timer.measure([EAGER], 1, tmp_path)


def test_a_lock_file_that_only_others_may_write_serves(
    pretended: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer.LOCK.touch()
    opened = Path.open

    def as_another_user(path: Path, mode: str = "r", *arguments, **keywords):
        if path == timer.LOCK and mode != "r":
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", as_another_user)
    timer.measure([EAGER], 1, tmp_path)
    assert pretended == [EAGER]


def test_a_comparison_waits_until_another_one_ends(
    pretended: list[Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = threading.Thread(target=timer.measure, args=([EAGER], 1, tmp_path), daemon=True)
    with timer.LOCK.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting.start()
        said, deadline = "", time.monotonic() + 20
        while "waiting" not in said and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capsys.readouterr().err
        assert "waiting" in said
        assert pretended == [] and waiting.is_alive()
    waiting.join(20)
    assert not waiting.is_alive()
    assert pretended == [EAGER]
