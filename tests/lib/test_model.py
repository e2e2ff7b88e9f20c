"""The network is the one described, and its counts and scores are those computed by hand."""

import pytest
import torch
import torch.nn.functional as F
from conftest import Refused

from cifar_lib import model
from cifar_lib.data import Split, normalize

Tensors = dict[str, torch.Tensor]


def trained_looking(widths: list[int]) -> model.ResNet9:
    """A network in eval mode whose batch normalization has statistics and weights of its own."""
    torch.manual_seed(0)
    network = model.ResNet9(widths).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
            torch.nn.init.normal_(layer.bias)
    return network


def reference_logits(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
    """The network as described, in functions only."""

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        norm = [weights[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(F.conv2d(x, weights[f"{name}.0.weight"], padding=1), *norm))

    def block(x: torch.Tensor, name: str) -> torch.Tensor:
        x = F.max_pool2d(conv(x, f"{name}.enter"), 2)
        return x + conv(conv(x, f"{name}.residual.0"), f"{name}.residual.1")

    x = conv(x, "first")
    x = block(x, "second")
    x = F.max_pool2d(conv(x, "third"), 2)
    x = F.max_pool2d(block(x, "fourth"), 4)
    return 0.125 * x[:, :, 0, 0] @ weights["linear.weight"].T


# ---- structure and counts


@pytest.mark.parametrize("widths", [[40, 80, 160, 320], [8, 12, 20, 6]])
def test_forward_is_the_described_network(widths: list[int]) -> None:
    network, x = trained_looking(widths), torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, expected = network(x), reference_logits(x, network.state_dict())
    assert logits.shape == (4, 10)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(("widths", "count"), [(model.WIDTHS, 2_570_280), (model.CIFAR10_FAST_WIDTHS, 6_573_120)])
def test_parameters_are_as_many_as_published(widths: list[int], count: int) -> None:
    assert model.count_parameters(model.ResNet9(widths)) == count


def test_flop_are_those_counted_by_hand() -> None:
    convolutions = [  # height and width of the output, channels in, channels out
        (32, 3, 40),
        (32, 40, 80), (16, 80, 80), (16, 80, 80),
        (16, 80, 160),
        (8, 160, 320), (4, 320, 320), (4, 320, 320),
    ]  # fmt: skip
    by_hand = sum(2 * side**2 * 9 * inputs * outputs for side, inputs, outputs in convolutions) + 2 * 320 * 10
    assert by_hand == 297_130_240
    assert model.forward_flop(model.ResNet9()) == by_hand


@pytest.mark.parametrize("training", [True, False])
def test_counting_flop_leaves_the_network_as_it_was(training: bool) -> None:
    network = model.ResNet9([1, 2, 4, 8]).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model.forward_flop(network)
    assert network.training == training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


# ---- predictions


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_predict_gives_every_images_logits_in_order(batch_size: int) -> None:
    network, random = trained_looking([2, 4, 8, 16]), torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8, generator=random)
    split = Split(images, torch.zeros(20, dtype=torch.int64), {"dataset": "CIFAR-10", "sha256": {}})
    expected = reference_logits(normalize(images), network.state_dict())
    torch.testing.assert_close(model.predict(network, split, batch_size), expected)


def test_accuracy_is_the_percentage_of_largest_logits_at_the_label() -> None:
    logits = torch.tensor([[0.1, 3.0, -1.0], [2.0, 1.0, 0.0], [-3.0, -2.0, -1.0], [0.0, 0.5, 0.4]])
    assert model.accuracy(logits, torch.tensor([1, 0, 2, 2])) == 75
    assert model.accuracy(logits[:3], torch.tensor([1, 0, 0])) == pytest.approx(200 / 3, abs=1e-9)


@pytest.mark.parametrize("widths", [[], [1, 2, 3], [1, 2, 3, 0], [1, 2, 3, 4097], [1, 2, 3, 4.0]])
def test_widths_are_four_numbers_of_channels(widths: list, refused: Refused) -> None:
    with refused("widths must be four numbers from 1 to 4,096"):
        model.check_widths(widths)
    assert model.check_widths([16, 48, 96, 256]) == [16, 48, 96, 256]
