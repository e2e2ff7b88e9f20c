"""CIFAR-10 as tensors: whole splits in memory, normalized, augmented and cut into batches on the device."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from cifar_lib import InputError, cifar10

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@dataclass(frozen=True)
class Split:
    """The training or the test images: `images` uint8 N×3×32×32 (RGB), `labels` int64 N, in the official order."""

    images: torch.Tensor
    labels: torch.Tensor
    origin: dict  # for the record: {"dataset": "CIFAR-10" or "synthetic", "sha256": {file name: hash}}

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "Split":
        return Split(self.images[:count], self.labels[:count], self.origin)

    def last(self, count: int) -> "Split":
        return Split(self.images[len(self) - count :], self.labels[len(self) - count :], self.origin)

    def to(self, device: str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device), self.origin)


def load(split: str) -> Split:
    """Load "train" (50,000 images) or "test" (10,000). Raises InputError where a file is damaged."""
    images, labels, origin = cifar10.read(split)
    return Split(torch.from_numpy(images), torch.from_numpy(labels), origin)


def train_and_held_out(train_images: int, held_out: int) -> tuple[Split, Split]:
    """The first `train_images` training images, and the last `held_out`. Raises InputError if they would overlap."""
    everything = load("train")
    if train_images + held_out > len(everything):
        raise InputError(f"train_images and held_out must be {len(everything):,} at most together: lower one of them.")
    return everything.first(train_images), everything.last(held_out)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """The network's float32 input from uint8 images: (x/255 − 0.5) / 0.25, as the original did."""
    return (images.float() / 255 - 0.5) / 0.25


def augment(
    images: torch.Tensor, generator: torch.Generator, padding: int = 4, cutout: int = 8, reflect: bool = False,
    flip: torch.Tensor | None = None,
) -> torch.Tensor:
    """Random crop of the padded image, random horizontal flip, and cutout, sampled independently for each image.

    uint8 N×3×32×32 in and out (out in channels-last memory), on the images' device. Padding is black, or the image mirrored
    at its border with `reflect`. `flip` (bool N) says which images to flip, in place of a random half. The black square of
    `cutout` pixels a side is centerd on a random pixel and clipped at the border, as in the original.
    """
    count, _, height, width = images.shape
    device = images.device

    def randint(below: int) -> torch.Tensor:
        return torch.randint(below, (count, 1), generator=generator, device=device)

    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    rows, columns = randint(2 * padding + 1) + y, randint(2 * padding + 1) + x
    columns = torch.where(randint(2).bool() if flip is None else flip[:, None], columns.flip(1), columns)
    if reflect:
        source = images
        rows, columns = _reflected(rows - padding, height), _reflected(columns - padding, width)
    else:
        source = F.pad(images, (padding, padding, padding, padding))
    image_index = torch.arange(count, device=device)[:, None, None]
    cropped = source.permute(0, 2, 3, 1)[image_index, rows[:, :, None], columns[:, None, :]]  # N×32×32×3
    if cutout:
        top, left = randint(height) - cutout // 2, randint(width) - cutout // 2
        inside = ((y >= top) & (y < top + cutout))[:, :, None] & ((x >= left) & (x < left + cutout))[:, None, :]
        cropped.masked_fill_(inside[..., None], 0)
    return cropped.permute(0, 3, 1, 2)


def _reflected(position: torch.Tensor, size: int) -> torch.Tensor:
    """Pixel indices reflected back into [0, size), without repeating the edge pixel."""
    return size - 1 - (size - 1 - position.abs()).abs()


def training_batches(
    split: Split, size: int, generator: torch.Generator, padding: int = 4, cutout: int = 8, reflect: bool = False,
    epoch: int | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch: every image once, in random order, augmented and normalized. The last batch may be smaller.

    Yields images (float32 N×3×32×32) and labels (int64 N). Given an `epoch`, flips alternate: each image is flipped in every
    second epoch, and a fixed random half of them starts flipped.
    """
    device = split.labels.device
    order = torch.randperm(len(split), generator=generator, device=device)
    flips = None
    if epoch is not None:
        fixed = torch.Generator(device).manual_seed(generator.initial_seed() + 1)  # the same in all epochs of a training run
        flips = torch.randint(2, (len(split),), generator=fixed, device=device) == epoch % 2
    for batch in order.split(size):
        flip = None if flips is None else flips[batch]
        yield normalize(augment(split.images[batch], generator, padding, cutout, reflect, flip)), split.labels[batch]
