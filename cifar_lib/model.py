"""The network: a trimmed ResNet-9, after Page's cifar10-fast, with the original's widths by default."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import max_pool2d
from torch.utils.flop_counter import FlopCounterMode

from cifar_lib import InputError
from cifar_lib.data import Split, normalize

WIDTHS = [40, 80, 160, 320]
MAX_CHANNELS = 4096  # in each of the four stages
CIFAR10_FAST_WIDTHS = [64, 128, 256, 512]  # Page, cifar10-fast, dawn.py


class ConvBN(nn.Sequential):
    """3×3 convolution without bias, batch normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Block(nn.Module):
    """ConvBN, 2×2 max-pooling, then two ConvBN with a residual connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enter = ConvBN(inputs, outputs)
        self.residual = nn.Sequential(ConvBN(outputs, outputs), ConvBN(outputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = max_pool2d(self.enter(x), 2)
        return x + self.residual(x)


class ResNet9(nn.Module):
    """Normalized float32 images N×3×32×32 in, logits N×10 out."""

    def __init__(self, widths: list[int] | None = None) -> None:
        super().__init__()
        first, second, third, fourth = widths or WIDTHS
        self.first = ConvBN(3, first)
        self.second = Block(first, second)
        self.third = ConvBN(second, third)
        self.fourth = Block(third, fourth)
        self.linear = nn.Linear(fourth, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x))
        x = max_pool2d(self.third(x), 2)
        x = max_pool2d(self.fourth(x), 4).flatten(1)
        return self.linear(x) * 0.125  # cifar10-fast's scale of the logits


def check_widths(widths: Sequence[object]) -> list[int]:
    """`widths` as a list. Raises InputError where they are not the channels of four stages."""
    if len(widths) != 4 or any(type(width) is not int or not 1 <= width <= MAX_CHANNELS for width in widths):
        raise InputError(f"widths must be four numbers from 1 to {MAX_CHANNELS:,}, not {list(widths)}.")
    return list(widths)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flop(model: nn.Module) -> int:
    """FLOP of one image's forward pass, products with the zero padding included; a multiply-add counts as two."""
    device = next(model.parameters()).device
    was_training = model.training
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32, device=device))
    model.train(was_training)
    return counter.get_total_flops()


@torch.inference_mode()
def predict(model: nn.Module, split: Split, batch_size: int = 200) -> torch.Tensor:
    """The logits of every image, float32 N×10 in host memory, without test-time augmentation. Call `model.eval()` before."""
    batches = split.images.contiguous(memory_format=torch.channels_last).split(batch_size)
    return torch.cat([model(normalize(batch)).float().cpu() for batch in batches])


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The percentage of images whose predicted class is their label."""
    return 100 * (logits.argmax(1) == labels.cpu()).double().mean().item()


def network_from(state: Mapping[str, torch.Tensor]) -> ResNet9:
    """The network with these weights, in eval mode; its widths are inferred from their shapes."""
    layers = ("first.0.weight", "second.enter.0.weight", "third.0.weight", "fourth.enter.0.weight")
    network = ResNet9([state[layer].shape[0] for layer in layers])
    network.load_state_dict(state)
    return network.eval()
