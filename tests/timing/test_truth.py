"""Engines of known latency, measured by the whole pipeline: fresh processes, timer, statistics, comparison, LoadGen.

The coverage of the intervals is tested on generated series, in test_statistics.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import known_time
import numpy as np
import pytest
import torch
from helpers import export_all, tiny_network

from cifar_bench.analysis import latency as analysis
from cifar_bench.analysis import statistics
from cifar_bench.engines import ENGINES, base, infer
from cifar_bench.records import AA_TEST
from cifar_bench.records.environment import cores
from cifar_bench.timing import latency, loadgen, machine
from cifar_bench.timing.latency import LatencyJob
from cifar_bench.timing.loadgen import LoadGenJob
from cifar_lib import cifar10 as dataset
from cifar_lib import data

pytestmark = pytest.mark.measures

RUNS = 5
LOADGEN_ROUNDS = 5


def job(engine: str, variant: str = "", images: int = known_time.IMAGES) -> LatencyJob:
    return LatencyJob(engine, "float32", "cpu", threads=1, images=images, warmup=0, variant=variant)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of exported files, while the measuring processes know the engines of known latency."""
    folder, here = tmp_path_factory.mktemp("truth"), Path(__file__).parent
    (folder / "sitecustomize.py").write_text(  # Python imports a module of this name when it starts
        "import cifar_bench.engines, known_time\ncifar_bench.engines.ENGINES.update(known_time.BY_NAME)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{here}:{here.parent}")
        patch.setenv("CIFAR10_DIR", dataset.SYNTHETIC)
        for name, engine in known_time.BY_NAME.items():
            patch.setitem(ENGINES, name, engine)
        patch.setattr(machine, "LOCK", str(folder))
        patch.setattr(base, "ROOT", folder)
        dataset.find.cache_clear()
        yield export_all(tiny_network(), folder)


@pytest.fixture(scope="module")
def measured(exported: Path) -> tuple[dict[tuple[str, str], dict], np.ndarray]:
    """The rows by engine and variant, and the first run's series (ns) of the engine that spins."""
    rows, series = latency.measure([job("spin"), job("spin", AA_TEST), job("spin-longer")], RUNS, exported)
    return {(row["engine"], row["variant"]): row for row in rows}, series["spin-float32"][0]


@pytest.fixture
def rows(measured: tuple[dict, np.ndarray]) -> dict[tuple[str, str], dict]:
    return measured[0]


@pytest.fixture
def spun_ns(measured: tuple[dict, np.ndarray]) -> np.ndarray:
    return measured[1]


@pytest.mark.parametrize("quantile, z", [(0.5, 0.0), (0.9, 1.2816)])
def test_quantiles_are_those_of_the_known_distribution(spun_ns: np.ndarray, quantile: float, z: float) -> None:
    low, high = statistics.quantile_interval(spun_ns, quantile)
    assert low < known_time.MEDIAN_NS * np.exp(known_time.SIGMA * z) < high
    assert high / low < 1.15  # or an interval that contains everything would pass


def test_every_image_has_its_known_latency_and_hardly_more(spun_ns: np.ndarray) -> None:
    excess = spun_ns - known_time.TIMES_NS
    assert (excess >= 0).all()
    assert np.median(excess) < 0.01 * known_time.MEDIAN_NS


@pytest.fixture
def burners() -> Iterator[None]:
    """Processes that keep every core busy, for some seconds."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores())]
    end = threading.Timer(5, lambda: [program.kill() for program in programs])
    end.start()
    yield
    end.cancel()
    for program in programs:
        program.kill()
        program.wait()


def test_contended_runs_are_repeated_and_the_result_is_right(exported: Path, burners: None) -> None:
    (row,), _ = latency.measure([job("spin")], 3, exported, repeats=3)
    contended = [run for run in row["runs"] if run["contended"]]
    assert len(contended) > 0 and min(run["background_cores"] for run in contended) > 0.4
    assert len(analysis.judged_runs(row)) == 3 and not any(map(analysis.disturbance, analysis.judged_runs(row)))
    median, _ = analysis.quantile(row, "p50")
    assert median == pytest.approx(np.median(known_time.TIMES_NS) / 1e3, rel=0.02)


def test_a_run_that_was_stopped_is_contended(exported: Path) -> None:
    [row], _ = latency.measure([job("stopped")], 1, exported)
    run, = row["runs"]
    assert run["contended"] and run["stopped_cores"] + run["background_cores"] > 0.7  # another process hides a stop


def test_a_sleeping_engine_has_its_known_latency_and_that_of_waking_up(exported: Path) -> None:
    slept_ns = known_time.Sleep.times_ns
    [row], _ = latency.measure([job("sleep", images=len(slept_ns))], 2, exported)
    for run in row["runs"]:
        assert 1 < run["p50_ns"] / np.median(slept_ns) < 1.3


SPIN = """
#include <chrono>
#include <ATen/ATen.h>
#include <torch/library.h>

at::Tensor spin(const at::Tensor&) {
    static int calls = 0;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1 + calls++ % 3);
    while (std::chrono::steady_clock::now() < end) {}
    return at::zeros({1, 10});
}

TORCH_LIBRARY(known_time, library) { library.def("spin(Tensor image) -> Tensor", spin); }
"""


class Spin(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.ops.known_time.spin(image)


def test_the_cpp_program_measures_a_known_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is an operator that spins for 1, 2, 3, 1, 2, 3, … ms."""
    source, library, torch_folder = tmp_path / "spin.cpp", tmp_path / "spin.so", Path(torch.__file__).parent
    program = infer.build()
    source.write_text(SPIN)
    subprocess.run(["c++", "-std=c++20", "-O1", "-shared", "-fPIC", source, "-o", library, f"-I{torch_folder}/include",
                    f"-L{torch_folder}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch_folder}/lib"], check=True)
    torch.ops.load_library(library)
    torch.jit.script(Spin()).save(str(tmp_path / "spin.pt"))
    test = data.Split(torch.zeros(300, 3, 32, 32, dtype=torch.uint8), torch.zeros(300, dtype=torch.int64), {})
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setattr(infer, "build", lambda: program)
    measured = infer.run(tmp_path / "spin.pt", test, logits=0, warmup=30, threads=1)
    for name in ("warmup_ns", "ns"):
        known_ns = 1e6 * (1 + np.arange(len(measured[name])) % 3)
        excess = measured[name] - known_ns
        assert (excess >= 0).all() and np.median(excess) < 50_000
    assert measured["load_ns"] > 0


def ratio_of_medians(row: dict, base: dict) -> tuple[float, statistics.Interval]:
    return statistics.ratio_interval(*([run["p50_ns"] for run in runs] for runs in (row["runs"], base["runs"])))


def test_an_engine_is_found_as_fast_as_itself(rows: dict[tuple[str, str], dict]) -> None:
    ratio, _ = ratio_of_medians(rows["spin", AA_TEST], rows["spin", ""])
    assert ratio == pytest.approx(1, abs=0.01)


def test_a_slowdown_of_2_percent_is_found(rows: dict[tuple[str, str], dict]) -> None:
    ratio, (low, high) = ratio_of_medians(rows["spin-longer", ""], rows["spin", ""])
    assert ratio == pytest.approx(1.02, abs=0.01)
    assert 1 < low < high < 1.04


def test_loadgen_and_our_timer_agree_within_2_percent(exported: Path) -> None:
    measured = loadgen.cross_check(LoadGenJob("spin-alike", "float32", "cpu", 1, LOADGEN_ROUNDS, warmup=0), exported)
    assert len(measured["ours_ns"]) == len(measured["loadgen_ns"]) == LOADGEN_ROUNDS
    ratio, (low, high) = analysis.loadgen_ratio(measured)
    assert ratio == pytest.approx(1, abs=0.02)
    assert low <= ratio <= high
