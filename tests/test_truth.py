"""Engines of known time, measured by the whole pipeline: fresh processes, timer, statistics, comparison, LoadGen.

How often the intervals hold is tested on generated series, in test_stats.
"""

from collections.abc import Iterator
from pathlib import Path

import known_time
import numpy as np
import pytest
from test_engines import export_all, tiny_network

from cifar_lib import data, latency, stats, timer
from cifar_lib.timer import Job

RUNS = 5


def job(engine: str, variant: str = "", images: int = known_time.IMAGES) -> Job:
    return Job(engine, "float32", "cpu", threads=1, images=images, warmup=0, variant=variant)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of exported files, while the timer's processes know the engines of known time."""
    folder, here = tmp_path_factory.mktemp("truth"), Path(__file__).parent
    (folder / "sitecustomize.py").write_text("import known_time\n")  # Python imports a module of this name when it starts
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{here}:{here.parent}")
        patch.setenv("CIFAR10_DIR", data.STAND_IN)
        patch.setattr(timer, "LOCK", folder / "lock")
        data.find.cache_clear()
        yield export_all(tiny_network(), folder)


@pytest.fixture(scope="module")
def measured(exported: Path) -> tuple[dict[str, dict], np.ndarray]:
    """The rows by name, and the first run's series (ns) of the engine that spins."""
    jobs = [job("spin"), job("spin", timer.AGAIN), job("spin-longer"), job("sleep")]
    rows, series = timer.measure(jobs, RUNS, exported)
    return {latency.name(row): row for row in rows}, series["spin-float32"][0]


@pytest.fixture
def rows(measured: tuple[dict[str, dict], np.ndarray]) -> dict[str, dict]:
    return measured[0]


@pytest.fixture
def spun_ns(measured: tuple[dict[str, dict], np.ndarray]) -> np.ndarray:
    return measured[1]


@pytest.mark.parametrize("quantile, z", [(0.5, 0.0), (0.9, 1.2816)])
def test_quantiles_are_those_of_the_known_distribution(spun_ns: np.ndarray, quantile: float, z: float) -> None:
    low, high = stats.quantile_interval(spun_ns, quantile)
    assert low < known_time.MEDIAN_NS * np.exp(known_time.SIGMA * z) < high
    assert high / low < 1.15  # an interval that holds anything would show nothing


def test_every_image_takes_its_known_time_and_hardly_more(spun_ns: np.ndarray) -> None:
    excess = spun_ns - known_time.TIMES_NS
    assert (excess >= 0).all()
    assert np.median(excess) < 0.01 * known_time.MEDIAN_NS


def test_a_sleeping_engine_takes_its_time_and_what_waking_up_costs(rows: dict[str, dict]) -> None:
    for run in rows["sleep"]["runs"]:
        assert 1 < run["p50_ns"] / np.median(known_time.TIMES_NS) < 1.3


def test_an_engine_is_found_as_fast_as_itself(rows: dict[str, dict]) -> None:
    again = rows["spin (as if it were another engine)"]["runs"]
    ratio, _ = stats.ratio_interval([run["p50_ns"] for run in again], [run["p50_ns"] for run in rows["spin"]["runs"]])
    assert ratio == pytest.approx(1, abs=0.01)


def test_a_slowdown_of_2_percent_is_found(rows: dict[str, dict]) -> None:
    longer = rows["spin-longer"]["runs"]
    ratio, (low, high) = stats.ratio_interval([run["p50_ns"] for run in longer],
                                              [run["p50_ns"] for run in rows["spin"]["runs"]])
    assert ratio == pytest.approx(1.02, abs=0.01)
    assert 1 < low < high < 1.04


def test_loadgen_and_our_timer_agree_within_2_percent(exported: Path) -> None:
    found = timer.cross_check(job("spin-alike", timer.LOADGEN, images=100), exported)
    assert len(found["ours_ns"]) == len(found["loadgen_ns"]) == 10
    ratio, (low, high) = latency.loadgen_ratio(found)
    assert ratio == pytest.approx(1, abs=0.02)
    assert low <= ratio <= high


