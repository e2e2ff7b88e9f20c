"""Every image is timed once, with all that classifying it takes, and its class is kept."""

import gc
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import number_of

from cifar_lib import timer
from cifar_lib.data import Split, normalise
from cifar_lib.timer import time_images

# ---- the clock


def test_images_are_classified_once_each_and_in_order(numbered: list[torch.Tensor]) -> None:
    seen = []

    def classify(image: torch.Tensor) -> int:
        seen.append(number_of(image))
        return 0

    time_images(classify, numbered)
    assert seen == list(range(50))


def test_the_classes_are_those_that_classify_gave(numbered: list[torch.Tensor]) -> None:
    _, classes = time_images(number_of, numbered)
    assert classes.dtype == np.uint8
    assert classes.tolist() == list(range(50))


@pytest.mark.measures
def test_times_are_positive_and_sum_to_no_more_than_what_passed(numbered: list[torch.Tensor]) -> None:
    start = time.perf_counter_ns()
    ns, _ = time_images(number_of, numbered)
    passed = time.perf_counter_ns() - start
    assert ns.shape == (50,) and ns.dtype == np.int64
    assert (ns > 0).all()
    assert ns.sum() <= passed


@pytest.mark.measures
def test_a_time_holds_all_that_classify_does(numbered: list[torch.Tensor]) -> None:
    inside = []

    def classify(image: torch.Tensor) -> int:
        start = time.perf_counter_ns()
        predicted = number_of(image)
        inside.append(time.perf_counter_ns() - start)
        return predicted

    ns, _ = time_images(classify, numbered)
    assert (ns >= inside).all()


def test_garbage_is_not_collected_while_timing_and_is_after(numbered: list[torch.Tensor]) -> None:
    _, collecting = time_images(lambda _: gc.isenabled(), numbered)
    assert not collecting.any()
    assert gc.isenabled()


def test_garbage_is_collected_again_after_an_error(numbered: list[torch.Tensor]) -> None:
    def classify(image: torch.Tensor) -> int:
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError):
        time_images(classify, numbered)
    assert gc.isenabled()


def test_a_time_is_that_of_its_image_and_of_nothing_else(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fetched(list):
        def __iter__(self):
            for image in super().__iter__():
                takes(10_000)  # to fetch an image is not to classify it
                yield image

    def classify(image: torch.Tensor) -> int:
        takes(100 + number_of(image))
        return 0

    monkeypatch.setattr(gc, "collect", lambda: takes(1_000_000))
    ns, _ = time_images(classify, Fetched(numbered))
    assert ns.tolist() == [100 + number for number in range(50)]


def test_images_are_normalised_and_each_in_memory_of_its_own() -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    separate = timer.separate_images(Split(images, torch.zeros(5, dtype=torch.int64), {}))
    assert torch.equal(torch.cat(separate), normalise(images)) and all(image.shape == (1, 3, 32, 32) for image in separate)
    assert all(image.storage_offset() == 0 and image.untyped_storage().nbytes() == 4 * 3072 for image in separate)
    assert len({image.data_ptr() for image in separate}) == 5
