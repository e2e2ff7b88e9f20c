"""Splits are cut and moved whole, and augmentation does what slow, plain code does."""

import numpy as np
import pytest
import torch
from conftest import Refused

from cifar_lib import cifar10 as dataset
from cifar_lib import data
from cifar_lib.data import Split

# ---- splits


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray, dict]]:
    """What the files hold from here on: ten training images and seven test images."""
    random = np.random.default_rng(0)
    held = {
        split: (random.integers(256, size=(count, 3, 32, 32), dtype=np.uint8), random.integers(10, size=count),
                {"dataset": name, "sha256": {f"{split}.bin": "8e2e"}})
        for split, count, name in (("train", 10, "CIFAR-10"), ("test", 7, "synthetic"))
    }
    monkeypatch.setattr(dataset, "read", held.__getitem__)
    return held


@pytest.mark.parametrize("split", ["train", "test"])
def test_load_gives_the_files_images_labels_and_origin(read: dict[str, tuple], split: str) -> None:
    loaded, (images, labels, origin) = data.load(split), read[split]
    assert loaded.images.dtype == torch.uint8 and np.array_equal(loaded.images, images)
    assert loaded.labels.dtype == torch.int64 and np.array_equal(loaded.labels, labels)
    assert loaded.origin == origin and len(loaded) == len(labels)


def test_only_the_official_images_are_real(read: dict[str, tuple]) -> None:
    assert data.load("train").is_real and not data.load("test").is_real


def test_official_images_are_real_and_in_the_official_order(cifar10: object) -> None:
    test = data.load("test")
    assert test.is_real and test.images.shape == (10_000, 3, 32, 32)
    assert test.labels[:5].tolist() == [3, 8, 8, 0, 6] and test.images[0, 0, 0, :3].tolist() == [158, 159, 165]


def test_first_keeps_images_and_labels_together(read: dict[str, tuple]) -> None:
    test = data.load("test")
    assert len(test.first(5)) == 5 and test.first(5).origin == test.origin
    assert torch.equal(test.first(5).images, test.images[:5]) and torch.equal(test.first(5).labels, test.labels[:5])


def test_last_images_are_those_at_the_end() -> None:
    split = Split(torch.arange(10), torch.arange(10), {"dataset": "CIFAR-10", "sha256": {}})
    assert split.last(3).labels.tolist() == [7, 8, 9] and len(split.last(0)) == 0


# ---- augmentation and batches


def slow_augment(
    images: np.ndarray, random: torch.Generator, pad: int, cutout: int, border: str = "constant", flip: list | None = None
) -> np.ndarray:
    """What `data.augment` promises, one image at a time."""
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
    [
        (60, 32, 32, 4, 8),
        (1, 32, 32, 4, 8),
        (20, 8, 8, 2, 3),
        (20, 10, 14, 3, 5),
        (20, 32, 32, 0, 8),
        (20, 32, 32, 4, 0),
    ],
)
def test_augment_does_what_slow_code_does(count: int, height: int, width: int, pad: int, cutout: int) -> None:
    images = some_images(count, height, width)
    fast = data.augment(images, torch.Generator().manual_seed(5), pad, cutout)
    slow = slow_augment(images.numpy(), torch.Generator().manual_seed(5), pad, cutout)
    assert np.array_equal(fast.numpy(), slow)


@pytest.mark.parametrize(("height", "width", "pad"), [(32, 32, 4), (9, 5, 4), (32, 32, 0)])
def test_augment_mirrors_at_the_border_and_flips_the_images_asked_for(height: int, width: int, pad: int) -> None:
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


def test_augment_pads_by_4_and_cuts_out_8_by_default() -> None:
    images = some_images(30)
    fast = data.augment(images, torch.Generator().manual_seed(5))
    assert np.array_equal(fast.numpy(), slow_augment(images.numpy(), torch.Generator().manual_seed(5), 4, 8))


def test_augment_leaves_its_input_alone() -> None:
    images = some_images(10)
    data.augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, some_images(10))


def test_augment_gives_bytes_in_channels_last_memory() -> None:
    augmented = data.augment(some_images(5), torch.Generator().manual_seed(0))
    assert augmented.dtype == torch.uint8
    assert augmented.is_contiguous(memory_format=torch.channels_last)


def test_normalise_is_the_originals_formula_for_every_byte() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    expected = (np.arange(256) / 255 - 0.5) / 0.25
    assert data.normalise(pixels).dtype == torch.float32
    assert np.allclose(data.normalise(pixels).numpy(), expected, rtol=0, atol=1e-6)


@pytest.fixture
def plain_split() -> Split:
    """150 images of one colour each: image i has label i and pixels i + 1, so it is known again when augmented."""
    labels = torch.arange(150)
    images = (labels + 1).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    return Split(images, labels, {"dataset": "CIFAR-10", "sha256": {}})


def epoch(split: Split, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*data.training_batches(split, 64, random))
    return torch.cat(images), torch.cat(labels)


def test_every_epoch_shows_each_image_once(plain_split: Split) -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(2):
        assert sorted(epoch(plain_split, random)[1].tolist()) == list(range(150))


def test_every_image_comes_with_its_own_label(plain_split: Split) -> None:
    images, labels = epoch(plain_split, torch.Generator().manual_seed(0))
    colours = ((images.amax((1, 2, 3)) * 0.25 + 0.5) * 255).round()
    assert torch.equal(colours, labels + 1.0)


def test_epochs_differ_in_order(plain_split: Split) -> None:
    random = torch.Generator().manual_seed(0)
    assert not torch.equal(epoch(plain_split, random)[1], epoch(plain_split, random)[1])


@pytest.mark.parametrize("padding", [0, 2, 4])
def test_batches_are_cropped_with_the_padding_asked_for(plain_split: Split, padding: int) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.cat([images for images, _ in data.training_batches(plain_split, 64, random, padding, cutout=0)])
    black = images[:, 0] == data.normalise(torch.zeros(1, dtype=torch.uint8))  # no image has black of its own
    assert black.all(2).sum(1).max() == black.all(1).sum(1).max() == padding


def test_the_last_batch_may_be_smaller(plain_split: Split) -> None:
    sizes = [len(labels) for _, labels in data.training_batches(plain_split, 64, torch.Generator().manual_seed(0))]
    assert sizes == [64, 64, 22]


def test_the_same_seed_gives_the_same_batches(plain_split: Split) -> None:
    one, other = (epoch(plain_split, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_another_seed_gives_other_batches(plain_split: Split) -> None:
    one, other = (epoch(plain_split, torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert not torch.equal(one[1], other[1])


# ---- what is trained on, and what is kept aside


def test_what_is_kept_aside_is_no_training_image(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    images = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 3, 32, 32)
    monkeypatch.setattr(data, "load", lambda _: Split(images, torch.arange(10), {}))
    train, kept_aside = data.divide(7, 3)
    assert (train.labels.tolist(), kept_aside.labels.tolist()) == ([*range(7)], [7, 8, 9])
    assert len(data.divide(10, 0)[1]) == 0
    with refused("train_images and held_out must be 10 at most together"):
        data.divide(8, 3)
