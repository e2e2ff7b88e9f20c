"""The two ways to train: the original's recipe ("original"), and one of 40 epochs in place of its 150 ("fast").

What the fast recipe is made of comes from Page, "How to train your ResNet" (2018: whitened first layer, label
smoothing, larger rates for batch-norm biases, averaged weights), Jordan, "94% on CIFAR-10 in 3.29 seconds" (2024,
arXiv 2404.00498: dirac initialisation, alternating flip) and Jordan and others, "Muon" (2024).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import nn
from torch.nn.functional import unfold
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cifar_lib.data import normalise
from cifar_lib.model import ResNet9


@dataclass(frozen=True)
class Recipe:
    """A way to train. Rates are the highest of the schedule; the defaults are the original's."""

    batch_size: int = 128
    learning_rate: float = 0.1  # of SGD
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    bias_factor: float = 1.0  # batch-norm biases learn so many times faster
    linear_factor: float = 1.0  # and the last layer
    decay: str = "thirds"  # of the rate: "thirds" (tenfold after each third) or "linear" (up for a tenth, then down to 0)
    muon: bool = False  # for the convolutions, in place of SGD
    muon_rate: float = 0.08
    muon_steps: int = 5  # of Newton and Schulz's iteration
    whitening: bool = False  # the first convolution splits image patches into uncorrelated parts, and stays so
    dirac: bool = False  # the other convolutions begin by passing their input on
    label_smoothing: float = 0.0
    alternating_flip: bool = False  # each image mirrored every second epoch, not at random
    padding: int = 4  # pixels around the image that crops may take in
    reflect: bool = False  # crops see the image mirrored at its border, not black
    cutout: int = 8  # pixels a side of the blackened square
    averaging: float = 0.0  # the result is a moving average of the weights over this share of the training


RECIPES = {
    "original": Recipe(),
    "fast": Recipe(
        batch_size=250, learning_rate=0.012, momentum=0.85, nesterov=True, weight_decay=2.5e-4, bias_factor=160.0,
        linear_factor=16.0, decay="linear", muon=True, whitening=True, dirac=True, label_smoothing=0.2,
        alternating_flip=True, reflect=True, averaging=0.04, muon_rate=0.05, muon_steps=3, cutout=12,
    ),
}
PARTS = ["muon", "whitening", "dirac", "label_smoothing", "alternating_flip", "reflect", "averaging", "bias_factor",
         "cutout"]


def choose(name: str, without: Iterable[str] = ()) -> Recipe:
    """The recipe of that name, the parts named in `without` as the original had them."""
    original = {field.name: field.default for field in fields(Recipe)}
    return replace(RECIPES[name], **{part: original[part] for part in without})


def initialise(network: ResNet9, recipe: Recipe, images: torch.Tensor) -> None:
    """Set the network's convolutions as the recipe begins; `images` (uint8 N×3×32×32) are whitened."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if recipe.dirac:
        for layer in convolutions:
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    if recipe.whitening:
        first = convolutions[0].weight
        first.data.copy_(whitening_filters(images, len(first)))
        first.requires_grad_(False)


def whitening_filters(images: torch.Tensor, count: int) -> torch.Tensor:
    """Filters count×3×3×3 along which 3×3 patches of `images` vary independently, strongest first, then the negatives.

    They are eigenvectors of the patches' covariance; the batch normalisation behind the convolution scales each to the
    same variance. Where `count` asks for more than twice 27 filters, the rest is random.
    """
    patches, total, products = 0, 0, 0  # a part at a time: all patches take a gigabyte
    for part in images.split(250):
        part = unfold(normalise(part), 3).transpose(1, 2).reshape(-1, 27).double()
        patches, total, products = patches + len(part), total + part.sum(0), products + part.T @ part
    covariance = products / patches - torch.outer(total, total) / patches**2
    vectors = torch.linalg.eigh(covariance).eigenvectors.float().flip(1).T.reshape(27, 3, 3, 3)
    filters = torch.randn(count, 3, 3, 3, device=images.device) / 27**0.5
    half = min(count // 2, 27)
    filters[:half], filters[half : 2 * half] = vectors[:half], -vectors[:half]
    return filters


def schedule(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step (from 0) in a training of `steps`, as a share of the highest."""
    if recipe.decay == "thirds":
        return [1.0, 0.1, 0.01][3 * step // steps]
    warm_up = 0.1 * steps
    return min((step + 1) / warm_up, (steps - step) / (steps - warm_up), 1.0)


def average(network: ResNet9, recipe: Recipe, steps: int) -> AveragedModel | None:
    """The moving average of the weights and batch-norm statistics, to be updated every step; None without averaging."""
    if not recipe.averaging:
        return None
    decay = 1 - 1 / max(1.0, recipe.averaging * steps)
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
