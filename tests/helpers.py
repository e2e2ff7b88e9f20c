"""What tests of several subpackages need: a small network and its exported files."""

import socket
from pathlib import Path

import torch

from cifar_bench.engines import export
from cifar_bench.timing import machine
from cifar_lib.model import ResNet9


def tiny_network() -> ResNet9:
    """An untrained network in eval mode, with batch-norm statistics of its own, that predicts several classes for noise."""
    torch.manual_seed(0)
    network = ResNet9([2, 4, 8, 16]).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(layer.running_var, 0.1, 0.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, -1, 0.5)
    return network


def export_all(network: torch.nn.Module, folder: Path) -> Path:
    """`folder` with the three exported files of `network` in it."""
    for name, write in export.FORMATS.items():
        write(network, folder / name)
    return folder


def lock_is_held(*_: object) -> bool:
    """Whether a measurement holds the lock."""
    with socket.socket(socket.AF_UNIX) as other:
        return not machine._bound(other)


def number_of(image: torch.Tensor) -> int:
    """The number that an image of `numbered` is filled with."""
    return int(image[0, 0, 0, 0])
