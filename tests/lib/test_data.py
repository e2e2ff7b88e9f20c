"""Splits keep images and labels together, and augmentation gives what a plain loop gives."""

import numpy as np
import pytest
import torch
from conftest import Refused

from cifar_lib import cifar10 as dataset
from cifar_lib import data
from cifar_lib.data import Split

# ---- splits


def test_official_test_images_come_in_the_official_order(cifar10: object) -> None:
    test = data.load("test")
    assert test.origin["dataset"] == "CIFAR-10" and test.images.shape == (10_000, 3, 32, 32)
    assert test.labels[:5].tolist() == [3, 8, 8, 0, 6] and test.images[0, 0, 0, :3].tolist() == [158, 159, 165]


def test_held_out_images_are_not_trained_on(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    images, origin = np.arange(10 * 3072).astype(np.uint8).reshape(10, 3, 32, 32), {"dataset": "CIFAR-10", "sha256": {}}
    monkeypatch.setattr(dataset, "read", lambda _: (images, np.arange(10), origin))
    train, held_out = data.train_and_held_out(7, 3)
    assert (train.labels.tolist(), held_out.labels.tolist()) == ([*range(7)], [7, 8, 9])
    assert np.array_equal(train.images, images[:7]) and np.array_equal(held_out.images, images[7:])
    assert train.origin == held_out.origin == origin and len(data.train_and_held_out(10, 0)[1]) == 0
    with refused("train_images and held_out must be 10 at most together"):
        data.train_and_held_out(8, 3)


# ---- augmentation and batches


def slow_augment(
    images: np.ndarray, random: torch.Generator, pad: int, cutout: int, border: str = "constant", flip: list | None = None
) -> np.ndarray:
    """What `data.augment` does, one image at a time."""
    count, _, height, width = images.shape

    def draw(below: int) -> list[int]:
        return torch.randint(below, (count,), generator=random).tolist()

    top, left, mirror = draw(2 * pad + 1), draw(2 * pad + 1), flip or draw(2)
    hole_y, hole_x = (draw(height), draw(width)) if cutout else ([0] * count, [0] * count)
    result = []
    for i in range(count):
        image = np.pad(images[i], ((0, 0), (pad, pad), (pad, pad)), mode=border)
        image = image[:, top[i] : top[i] + height, left[i] : left[i] + width].copy()
        if mirror[i]:
            image = image[:, :, ::-1].copy()
        for y in range(hole_y[i] - cutout // 2, hole_y[i] - cutout // 2 + cutout):
            for x in range(hole_x[i] - cutout // 2, hole_x[i] - cutout // 2 + cutout):
                if 0 <= y < height and 0 <= x < width:
                    image[:, y, x] = 0
        result.append(image)
    return np.stack(result)


def some_images(count: int, height: int = 32, width: int = 32) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize(
    ("count", "height", "width", "pad", "cutout"),
    [(60, 32, 32, 4, 8), (1, 32, 32, 4, 8), (20, 10, 14, 3, 5), (20, 32, 32, 0, 8), (20, 32, 32, 4, 0)],
)
def test_augment_gives_what_a_loop_over_images_gives(count: int, height: int, width: int, pad: int, cutout: int) -> None:
    images = some_images(count, height, width)
    fast = data.augment(images, torch.Generator().manual_seed(5), pad, cutout)
    slow = slow_augment(images.numpy(), torch.Generator().manual_seed(5), pad, cutout)
    assert np.array_equal(fast.numpy(), slow)


@pytest.mark.parametrize(("height", "width", "pad"), [(32, 32, 4), (9, 5, 4), (32, 32, 0)])
def test_augment_reflects_at_the_border_and_flips_the_given_images(height: int, width: int, pad: int) -> None:
    images, flip = some_images(40, height, width), [True, False] * 20
    fast = data.augment(images, torch.Generator().manual_seed(5), pad, 8, reflect=True, flip=torch.tensor(flip))
    slow = slow_augment(images.numpy(), torch.Generator().manual_seed(5), pad, 8, "reflect", flip)
    assert np.array_equal(fast.numpy(), slow)


def test_flips_alternate_between_epochs_and_differ_between_seeds() -> None:
    slope = torch.arange(32, dtype=torch.uint8).expand(200, 3, 32, 32).contiguous()  # brighter to the right
    split = Split(slope, torch.arange(200), {"dataset": "CIFAR-10", "sha256": {}})

    def flipped(seed: int) -> list[torch.Tensor]:
        random, flips = torch.Generator().manual_seed(seed), []
        for number in range(4):
            batches = [*data.training_batches(split, 64, random, cutout=0, reflect=True, epoch=number)]
            images, labels = (torch.cat(part) for part in zip(*batches))
            falls = (images[:, 0, 0, 8] > images[:, 0, 0, 24])
            flips.append(falls[labels.argsort()])
        return flips

    one, two, three, four = flipped(0)
    assert torch.equal(one, ~two) and torch.equal(one, three) and torch.equal(two, four)
    assert 0.3 < one.float().mean() < 0.7
    assert not torch.equal(one, flipped(1)[0])


def test_augment_gives_new_bytes_in_channels_last_memory() -> None:
    images = some_images(10)
    augmented = data.augment(images, torch.Generator().manual_seed(0))
    assert augmented.dtype == torch.uint8 and augmented.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, some_images(10))


def test_normalize_is_the_originals_formula_for_every_byte() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    expected = (np.arange(256) / 255 - 0.5) / 0.25
    assert data.normalize(pixels).dtype == torch.float32
    assert np.allclose(data.normalize(pixels).numpy(), expected, rtol=0, atol=1e-6)


@pytest.fixture
def plain_split() -> Split:
    """150 images of one color each: image i has label i and pixels i + 1, so that augmented images are recognized."""
    labels = torch.arange(150)
    images = (labels + 1).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    return Split(images, labels, {"dataset": "CIFAR-10", "sha256": {}})


def epoch(split: Split, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*data.training_batches(split, 64, random))
    return torch.cat(images), torch.cat(labels)


def test_every_epoch_has_each_image_once_with_its_label_in_a_new_order(plain_split: Split) -> None:
    random = torch.Generator().manual_seed(0)
    epochs = [epoch(plain_split, random) for _ in range(2)]
    for images, labels in epochs:
        assert sorted(labels.tolist()) == list(range(150))
        colors = ((images.amax((1, 2, 3)) * 0.25 + 0.5) * 255).round()
        assert torch.equal(colors, labels + 1.0)
    assert not torch.equal(epochs[0][1], epochs[1][1])


@pytest.mark.parametrize("padding", [0, 2, 4])
def test_batches_are_cropped_with_the_given_padding(plain_split: Split, padding: int) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.cat([images for images, _ in data.training_batches(plain_split, 64, random, padding, cutout=0)])
    black = images[:, 0] == data.normalize(torch.zeros(1, dtype=torch.uint8))  # no image has black pixels itself
    assert black.all(2).sum(1).max() == black.all(1).sum(1).max() == padding


def test_the_last_batch_may_be_smaller(plain_split: Split) -> None:
    sizes = [len(labels) for _, labels in data.training_batches(plain_split, 64, torch.Generator().manual_seed(0))]
    assert sizes == [64, 64, 22]


def test_the_seed_decides_the_batches(plain_split: Split) -> None:
    one, same, other = (epoch(plain_split, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one[0], same[0]) and torch.equal(one[1], same[1]) and not torch.equal(one[1], other[1])
