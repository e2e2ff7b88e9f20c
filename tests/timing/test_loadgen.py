"""MLPerf's LoadGen and our timer measure the same quantity, where the truth is known."""

import itertools
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Refused

from cifar_bench.timing import loadgen
from cifar_lib import timer


def spin(image: torch.Tensor) -> int:
    """Spins for as many ns as the image says."""
    end = time.perf_counter_ns() + int(image)
    while time.perf_counter_ns() < end:
        pass
    return 3


@pytest.fixture
def known() -> list[torch.Tensor]:
    """200 times between 1 and 3 ms, evenly spaced: nine tenths are below 2.8 ms."""
    return [torch.tensor(ns) for ns in np.linspace(1e6, 3e6, 200).astype(int)]


@pytest.mark.measures
def test_loadgens_quantile_is_the_known_one(known: list[torch.Tensor]) -> None:
    excess, quantiles = [], []
    for _ in range(5):  # it draws the images anew each time
        drawn = []
        theirs, within = loadgen.single_stream(lambda image, drawn=drawn: drawn.append(int(image)) or spin(image), known)
        assert len(drawn) == len(known) and set(drawn) <= {int(image) for image in known}
        quantiles.append(loadgen.quantile(drawn))
        assert quantiles[-1] <= within < theirs
        excess.append(theirs / quantiles[-1])
    assert np.median(quantiles) == pytest.approx(2.8e6, rel=0.05)
    assert 1 < min(excess) < 1.05  # the minimum, since interference only adds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that advances only as a test adds to its `ns`, for our timer and within LoadGen's queries."""
    state = SimpleNamespace(ns=0)
    for module in (timer, loadgen):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter_ns=lambda: state.ns))
    return state


def advance(clock: SimpleNamespace, ns: int) -> int:
    clock.ns += ns
    return 3


def test_our_quantile_is_the_known_one(known: list[torch.Tensor], clock: SimpleNamespace) -> None:
    ns, _ = timer.time_images(lambda image: advance(clock, int(image)), known)
    assert loadgen.quantile(ns) == pytest.approx(2.8e6, rel=0.02)
    assert loadgen.quantile(np.random.default_rng(0).permutation(100)) == 90  # as LoadGen defines it


def test_within_loadgens_queries_our_clock_measures_classify_alone(known: list[torch.Tensor], clock: SimpleNamespace) -> None:
    drawn = []
    _, within = loadgen.single_stream(lambda image: drawn.append(int(image)) or advance(clock, int(image)), known)
    assert within == loadgen.quantile(drawn) > 2.5e6


def test_rounds_are_interleaved_and_each_timer_is_first_in_half_of_them(
    known: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    drift = itertools.count(1)

    def theirs(classify: object, images: list[torch.Tensor]) -> tuple[float, float]:
        return (value := float(next(drift))), value - 0.5

    monkeypatch.setattr(timer, "time_images", lambda classify, images: (np.full(len(images), next(drift)), None))
    monkeypatch.setattr(loadgen, "single_stream", theirs)
    measured = loadgen.interleave_with_loadgen(lambda image: 3, known, 4)
    assert {name: values.tolist() for name, values in measured.items()} == {
        "ours_ns": [1, 4, 5, 8], "loadgen_ns": [2, 3, 6, 7], "within_loadgen_ns": [1.5, 2.5, 5.5, 6.5]}


def test_a_missing_library_is_named(known: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with refused("LoadGen", "pip install mlcommons-loadgen"):
        loadgen.single_stream(spin, known)
