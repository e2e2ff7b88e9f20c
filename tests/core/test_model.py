"""The network is the one described, counts are those of a count by hand, and bad weights are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Refused

from cifar_lib import model
from cifar_lib.data import Split, normalise

Tensors = dict[str, torch.Tensor]


def trained_looking(widths: list[int]) -> model.ResNet9:
    """A network in eval mode whose batch normalisation has statistics and weights of its own."""
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
    """The network as its description says, in functions alone."""

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


def test_default_widths_are_the_originals() -> None:
    assert [layer.out_channels for layer in model.ResNet9().modules() if isinstance(layer, torch.nn.Conv2d)] == [
        40, 80, 80, 80, 160, 320, 320, 320,
    ]  # fmt: skip


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


def test_training_counts_three_forward_passes_an_image() -> None:
    assert model.training_pflop(model.ResNet9(), 150 * 50_000) == pytest.approx(3 * 297_130_240 * 7_500_000 / 1e15)


# ---- predictions


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_predict_gives_every_images_logits_in_order(batch_size: int) -> None:
    network, random = trained_looking([2, 4, 8, 16]), torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8, generator=random)
    split = Split(images, torch.zeros(20, dtype=torch.int64), {"dataset": "CIFAR-10", "sha256": {}})
    expected = reference_logits(normalise(images), network.state_dict())
    torch.testing.assert_close(model.predict(network, split, batch_size), expected)


def test_accuracy_is_the_percentage_of_largest_logits_at_the_label() -> None:
    logits = torch.tensor([[0.1, 3.0, -1.0], [2.0, 1.0, 0.0], [-3.0, -2.0, -1.0], [0.0, 0.5, 0.4]])
    assert model.accuracy(logits, torch.tensor([1, 0, 2, 2])) == 75


def test_accuracy_of_three_images_is_not_rounded() -> None:
    assert model.accuracy(torch.eye(3), torch.tensor([0, 1, 0])) == pytest.approx(200 / 3, abs=1e-9)


# ---- weights files


@pytest.mark.parametrize("widths", [[40, 80, 160, 320], [8, 12, 20, 6]])
def test_weights_can_be_saved_and_loaded(tmp_path: Path, widths: list[int]) -> None:
    network = trained_looking(widths)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    loaded = model.load_weights(tmp_path / "weights.pt")
    x = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    assert torch.equal(loaded(x), network(x))


def test_missing_weights_are_refused(tmp_path: Path, refused: Refused) -> None:
    with refused(str(tmp_path / "weights.pt"), "1_train"):
        model.load_weights(tmp_path / "weights.pt")


def test_folder_in_the_place_of_weights_is_refused(tmp_path: Path, refused: Refused) -> None:
    with refused(str(tmp_path)):
        model.load_weights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"these are no weights\n", b"version 1\nsize 10\n", b"<html>", b"0"])
def test_text_in_the_place_of_weights_is_refused(tmp_path: Path, refused: Refused, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with refused(str(path)):
        model.load_weights(path)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75, 0.99])
def test_truncated_weights_are_refused(tmp_path: Path, refused: Refused, share: float) -> None:
    path = tmp_path / "weights.pt"
    torch.save(model.ResNet9([4, 8, 16, 32]).state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with refused(str(path)):
        model.load_weights(path)


SOMETHING_ELSE = {
    "a number": 3,
    "a list": [torch.zeros(3)],
    "a tensor": torch.zeros(3),
    "an empty dict": {},
    "other names": {"conv1.weight": torch.zeros(4, 3, 3, 3)},
    "numbers for tensors": dict.fromkeys(model.ResNet9([1, 2, 4, 8]).state_dict(), 3),
    "tensors without dimensions": dict.fromkeys(model.ResNet9([1, 2, 4, 8]).state_dict(), torch.tensor(3)),
    "some weights only": {
        name: value for name, value in model.ResNet9([1, 2, 4, 8]).state_dict().items() if "residual" not in name
    },
    "a whole network": model.ResNet9([1, 2, 4, 8]),
}


@pytest.mark.parametrize("thing", SOMETHING_ELSE.values(), ids=SOMETHING_ELSE.keys())
def test_something_else_in_the_place_of_weights_is_refused(tmp_path: Path, refused: Refused, thing: object) -> None:
    path = tmp_path / "weights.pt"
    torch.save(thing, path)
    with refused(str(path)):
        model.load_weights(path)


# ---- scores


def test_confusion_counts_each_image_once_in_the_row_of_its_class() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 3, 9]), torch.tensor([0, 5, 5, 3, 0])
    matrix = model.confusion(F.one_hot(predicted, 10).float(), labels)
    expected = np.zeros((10, 10), int)
    expected[0, 0], expected[0, 5], expected[3, 3], expected[9, 0] = 1, 2, 1, 1
    assert np.array_equal(matrix, expected)


@pytest.mark.parametrize("widths", [[], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 0], [1, 2, 3, 4097], [1, 2, 3, 4.0]])
def test_widths_are_four_numbers_of_channels(widths: list, refused: Refused) -> None:
    with refused("widths must be four numbers from 1 to 4,096"):
        model.check_widths(widths)
    assert model.check_widths([16, 48, 96, 256]) == [16, 48, 96, 256]


def test_a_missing_or_damaged_program_is_refused(tmp_path: Path, refused: Refused) -> None:
    with refused("there is no model at", "2_export"):
        model.load_exported(tmp_path / "model.pt")
    (tmp_path / "model.pt").write_text("no program")
    with refused("model.pt cannot be loaded", "2_export"):
        model.load_exported(tmp_path / "model.pt")
