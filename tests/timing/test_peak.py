"""The peak is that of the machine: nothing measured lies above it."""

from types import SimpleNamespace

import pytest
import torch

from cifar_bench.timing import peak
from cifar_lib import model


def test_products_with_the_zero_padding_are_not_counted() -> None:
    network = model.ResNet9().eval()
    layers, padded = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)], 0
    for layer, side in zip(layers, [32, 32, 16, 16, 16, 8, 4, 4], strict=True):  # at each edge one of three products is
        padded += 2 * layer.in_channels * layer.out_channels * ((3 * side) ** 2 - (3 * side - 2) ** 2)
    assert peak.flop_without_padding(network) + padded == model.forward_flop(network)


@pytest.mark.measures
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_convolution_is_slower_than_the_peak_but_not_by_far(kind: str) -> None:
    measured = peak.measure(kind, "cpu", threads=2)
    layer, images = torch.nn.Conv2d(160, 320, 3).eval(), torch.randn(8, 160, 18, 18)
    rate = 8 * 16 * 16 * 2 * 9 * 160 * 320 / min(peak._seconds(lambda: layer(images), "cpu"))
    assert 0.02 * measured["peak_flop_per_s"] < rate
    if kind == "float32":
        assert rate < 1.1 * measured["peak_flop_per_s"]


def test_measuring_uses_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, used = torch.get_num_threads(), set()
    monkeypatch.setattr(peak, "_seconds", lambda work, device: used.add(torch.get_num_threads()) or [1.0])
    monkeypatch.setattr(peak, "MATRICES", [8])
    monkeypatch.setattr(peak, "CONVOLVED", [1])
    try:
        peak.measure("bfloat16", "cpu", threads + 1)
    finally:
        torch.set_num_threads(threads)
    assert used == {threads + 1}


@pytest.mark.parametrize(("seconds", "repeated"), [(1 / 1024, int(1024 * peak.SECONDS / peak.REPEATS)), (64, 1)])
def test_the_repeats_share_the_seconds(seconds: float, repeated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = {"seconds": 0.0}, []

    def work() -> None:
        calls.append(clock["seconds"])
        clock["seconds"] += seconds if len(calls) > 1 else 5  # the first call warms up

    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: clock["seconds"]))
    assert peak._seconds(work, "cpu") == [seconds] * peak.REPEATS
    assert len(calls) == 2 + peak.REPEATS * repeated


def test_the_best_rate_is_the_peak_and_no_larger_product_is_tried_after_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([[2e-3, 1e-3], [1e-3, 4e-3], [0.2, 0.3], [1e-9]])
    monkeypatch.setattr(peak, "_seconds", lambda work, device: next(seconds))
    sizes = ((2 * side**3, (side, side), (side, side)) for side in (8, 16, 32, 64))
    assert peak._peak_flop_per_s(torch.matmul, sizes, torch.float32, "cpu") == pytest.approx(2 * 16**3 / 1e-3)
    assert next(seconds) == [1e-9]  # of the largest
