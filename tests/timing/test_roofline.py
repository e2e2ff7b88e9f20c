"""The rooflines are those of the machine: nothing measured lies above them, and FLOP and bytes follow from the network."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cifar_bench.analysis import precision
from cifar_bench.timing import roofline
from cifar_bench.timing.roofline import Layer
from cifar_lib import model


def test_layers_are_the_networks_in_order_with_all_of_its_flop() -> None:
    network = model.ResNet9().eval()
    layers = list(roofline.layers(network))
    assert [layer.name for layer in layers] == ["first.0", "second.enter.0", "second.residual.0.0", "second.residual.1.0",
                                               "third.0", "fourth.enter.0", "fourth.residual.0.0", "fourth.residual.1.0",
                                               "linear"]
    modules, padded = dict(network.named_modules()), 0
    for layer, side in zip(layers[:-1], [32, 32, 16, 16, 16, 8, 4, 4], strict=True):
        pairs = modules[layer.name].in_channels * modules[layer.name].out_channels
        assert layer.flop == 2 * pairs * (3 * side - 2) ** 2  # at each edge one of three products is with padding
        padded += 2 * pairs * ((3 * side) ** 2 - (3 * side - 2) ** 2)
    assert layers[-1].flop == 2 * 320 * 10
    assert sum(layer.flop for layer in layers) + padded == model.forward_flop(network)  # which counts the padding
    assert layers[0] == Layer("first.0", 2 * 3 * 40 * (3 * 32 - 2) ** 2, 27 * 40, (3 + 40) * 32 * 32)


def test_a_batch_shares_the_weights() -> None:
    layer = Layer("a layer", flop=1, weights=100, activations=10)
    assert layer.bytes(batch=1, size=4) == 440
    assert layer.bytes(batch=8, size=2) == 360


@pytest.mark.parametrize(("intensity", "cached", "attainable"), [(1, True, 4e10), (1, False, 1e10), (100, True, 1e11)])
def test_the_roofline_is_the_lower_of_two_limits(intensity: float, cached: bool, attainable: float) -> None:
    copies = [{"bytes": 2**14, "bytes_per_s": 4e10}, {"bytes": 2**28, "bytes_per_s": 1e10}]
    measured = {"peak_flop_per_s": 1e11, "copies": copies}
    assert precision.attainable_flop_per_s(measured, intensity, cached) == pytest.approx(attainable)


@pytest.mark.measures
def test_no_layer_lies_above_the_roofline() -> None:
    measured = roofline.measure(model.ResNet9().eval(), "float32", "cpu", [1, 8], threads=2)
    assert [point["batch"] for point in measured["points"]] == [1, 8] * 9
    assert precision.layers_above_roofline(measured) == []
    rates = [point["flop"] / np.mean(point["seconds"]) for point in measured["points"]]
    assert max(rates) > 0.2 * measured["peak_flop_per_s"]  # or a roofline far above everything would pass


@pytest.mark.measures
def test_int8_has_a_roofline_and_no_layers() -> None:
    measured = roofline.measure(model.ResNet9([2, 4, 8, 16]).eval(), "int8", "cpu", [1], threads=1)
    assert (measured["element_bytes"], measured["points"]) == (1, [])
    assert 1e9 < measured["peak_flop_per_s"] == measured["products"]["matrix product"] < 1e14


def test_measuring_uses_the_threads_and_leaves_the_network_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    network, threads, used = model.ResNet9([2, 4, 8, 16]).eval(), torch.get_num_threads(), set()
    monkeypatch.setattr(roofline, "_seconds", lambda work, device: used.add(torch.get_num_threads()) or [1.0])
    monkeypatch.setattr(roofline, "MATRICES", [8])
    monkeypatch.setattr(roofline, "CONVOLVED", [1])
    try:
        roofline.measure(network, "bfloat16", "cpu", [1], threads + 1)
    finally:
        torch.set_num_threads(threads)
    assert used == {threads + 1}
    assert network.linear.weight.dtype == torch.float32


@pytest.mark.parametrize(("seconds", "repeated"), [(1 / 1024, int(1024 * roofline.SECONDS / roofline.REPEATS)), (64, 1)])
def test_the_repeats_share_the_seconds(seconds: float, repeated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = {"seconds": 0.0}, []

    def work() -> None:
        calls.append(clock["seconds"])
        clock["seconds"] += seconds if len(calls) > 1 else 5  # the first call warms up

    monkeypatch.setattr(roofline, "time", SimpleNamespace(perf_counter=lambda: clock["seconds"]))
    assert roofline._seconds(work, "cpu") == [seconds] * roofline.REPEATS
    assert len(calls) == 2 + roofline.REPEATS * repeated


def test_the_best_rate_is_the_peak_and_no_larger_product_is_tried_after_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([[2e-3, 1e-3], [1e-3, 4e-3], [0.2, 0.3], [1e-9]])
    monkeypatch.setattr(roofline, "_seconds", lambda work, device: next(seconds))
    sizes = ((2 * side**3, (side, side), (side, side)) for side in (8, 16, 32, 64))
    assert roofline._peak_flop_per_s(torch.matmul, sizes, torch.float32, "cpu") == pytest.approx(2 * 16**3 / 1e-3)
    assert next(seconds) == [1e-9]  # of the largest
