"""The two recipes: the original's, of 150 epochs ("original"), and one of 40 epochs and similar accuracy ("fast").

The fast recipe's components come from Page, "How to train your ResNet" (2018: whitened first layer, label smoothing, larger
learning rates for batch-norm biases, weight averaging), Jordan, "94% on CIFAR-10 in 3.29 seconds" (2024, arXiv 2404.00498:
Dirac initialization, alternating flip) and Jordan and others, "Muon" (2024).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.functional import unfold
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cifar_lib.data import normalize
from cifar_lib.model import ResNet9


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of training. Learning rates are the peaks of their schedule; the defaults are the original's."""

    batch_size: int = 128
    learning_rate: float = 0.1  # of SGD
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    bias_factor: float = 1.0  # learning rate of batch-norm biases, relative to learning_rate
    linear_factor: float = 1.0  # learning rate of the last layer, likewise
    decay: str = "thirds"  # schedule: "thirds" (÷10 after each third) or "linear" (warm-up for a tenth, then down to 0)
    muon: bool = False  # Muon in place of SGD for the convolutions
    muon_rate: float = 0.08  # learning rate of Muon
    muon_steps: int = 5  # Newton–Schulz iterations
    whitening: bool = False  # the first convolution whitens 3×3 patches and is not trained
    dirac: bool = False  # Dirac initialization: the first outputs of the other convolutions pass their inputs on
    label_smoothing: float = 0.0
    alternating_flip: bool = False  # flip each image in every second epoch, not at random
    padding: int = 4  # pixels around the image for random crops
    reflect: bool = False  # pad by reflection, not with black
    cutout: int = 8  # side of the black square, in pixels
    averaging: float = 0.0  # weight averaging: time constant of the EMA as a share of all steps; 0 is none


RECIPES = {
    "original": Recipe(),
    "fast": Recipe(
        batch_size=250, learning_rate=0.012, momentum=0.85, nesterov=True, weight_decay=2.5e-4, bias_factor=160.0,
        linear_factor=16.0, decay="linear", muon=True, whitening=True, dirac=True, label_smoothing=0.2,
        alternating_flip=True, reflect=True, averaging=0.04, muon_rate=0.05, muon_steps=3, cutout=12,
    ),
}
COMPONENTS = ["muon", "whitening", "dirac", "label_smoothing", "alternating_flip", "reflect", "averaging", "bias_factor",
              "cutout"]


def choose(name: str, without: Iterable[str] = ()) -> Recipe:
    """The recipe of that name, with the components in `without` as the original has them."""
    return replace(RECIPES[name], **{component: getattr(RECIPES["original"], component) for component in without})


def initialize(network: ResNet9, recipe: Recipe, images: torch.Tensor) -> None:
    """Initialize the convolutions as the recipe says; the whitening filters are computed from `images` (uint8 N×3×32×32)."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if recipe.dirac:
        for layer in convolutions:
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    if recipe.whitening:
        first = convolutions[0].weight
        first.data.copy_(whitening_filters(images, len(first)))
        first.requires_grad_(False)


def whitening_filters(images: torch.Tensor, count: int) -> torch.Tensor:
    """Filters count×3×3×3: the leading eigenvectors of the covariance of 3×3 patches of `images` (uint8), then their negatives.

    The eigenvectors' responses are uncorrelated; the batch normalization after the convolution scales them to equal variance.
    Filters left over are random.
    """
    patches, total, products = 0, 0, 0  # summed over batches: all patches together take a gigabyte
    for batch in images.split(250):
        batch = unfold(normalize(batch), 3).transpose(1, 2).reshape(-1, 27).double()
        patches, total, products = patches + len(batch), total + batch.sum(0), products + batch.T @ batch
    covariance = products / patches - torch.outer(total, total) / patches**2
    vectors = torch.linalg.eigh(covariance).eigenvectors.float().flip(1).T.reshape(27, 3, 3, 3)
    filters = torch.randn(count, 3, 3, 3, device=images.device) / 27**0.5
    half = min(count // 2, 27)
    filters[:half], filters[half : 2 * half] = vectors[:half], -vectors[:half]
    return filters


def schedule(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate at a step (from 0) of `steps`, as a fraction of its peak."""
    if recipe.decay == "thirds":
        return [1.0, 0.1, 0.01][3 * step // steps]
    warm_up = 0.1 * steps
    return min((step + 1) / warm_up, (steps - step) / (steps - warm_up), 1.0)


def averaged_weights(network: ResNet9, recipe: Recipe, steps: int) -> AveragedModel | None:
    """The moving average (EMA) of weights and batch-norm statistics, to be updated at every step; None without averaging."""
    if not recipe.averaging:
        return None
    decay = 1 - 1 / max(1.0, recipe.averaging * steps)
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
