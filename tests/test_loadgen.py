"""MLPerf's LoadGen and our timer measure the same thing, where the truth is known."""

import time

import numpy as np
import pytest
import torch
from conftest import Refused

from cifar_lib import loadgen
from cifar_lib.timer import time_images


def spin(image: torch.Tensor) -> int:
    """Work for as many ns as the image says."""
    end = time.perf_counter_ns() + int(image)
    while time.perf_counter_ns() < end:
        pass
    return 3


@pytest.fixture
def known() -> list[torch.Tensor]:
    """200 times between 1 and 3 ms, evenly spread: nine tenths are below 2.8 ms."""
    return [torch.tensor(ns) for ns in np.linspace(1e6, 3e6, 200).astype(int)]


def test_loadgen_asks_for_as_many_images_as_there_are_one_at_a_time(known: list[torch.Tensor]) -> None:
    asked = []
    loadgen.single_stream(lambda image: asked.append(int(image)) or 0, known)
    assert len(asked) == len(known)
    assert set(asked) <= {int(image) for image in known}


def test_loadgens_quantile_is_the_one_that_is_known(known: list[torch.Tensor]) -> None:
    rounds = [loadgen.single_stream(spin, known) for _ in range(5)]  # it draws the images anew each time
    found, alone = np.median(rounds, axis=0)
    assert found == pytest.approx(2.8e6, rel=0.05)
    assert 2.6e6 < alone < found


def test_our_quantile_is_the_one_that_is_known(known: list[torch.Tensor]) -> None:
    ns, _ = time_images(spin, known)
    assert loadgen.quantile(ns) == pytest.approx(2.8e6, rel=0.02)


def test_our_quantile_is_that_of_loadgen_on_the_same_times() -> None:
    assert loadgen.quantile(np.random.default_rng(0).permutation(100)) == 90


def test_a_missing_library_is_an_error_of_one_sentence(
    known: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlperf_loadgen", None)
    with refused("LoadGen", "pip install mlcommons-loadgen"):
        loadgen.single_stream(spin, known)
