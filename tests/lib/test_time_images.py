"""Every image is timed once, over the whole of `classify`, and its predicted class is kept."""

import gc
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import number_of

from cifar_lib import timer
from cifar_lib.data import Split, normalize
from cifar_lib.timer import time_images


def test_images_are_classified_once_each_and_in_order(numbered: list[torch.Tensor]) -> None:
    seen = []

    def classify(image: torch.Tensor) -> int:
        seen.append(number_of(image))
        return 100 + seen[-1]

    _, predicted = time_images(classify, numbered)
    assert seen == list(range(50))
    assert predicted.dtype == np.uint8 and predicted.tolist() == list(range(100, 150))


@pytest.mark.measures
def test_latencies_cover_classify_and_sum_to_no_more_than_what_passed(numbered: list[torch.Tensor]) -> None:
    inside = []

    def classify(image: torch.Tensor) -> int:
        start = time.perf_counter_ns()
        number = number_of(image)
        inside.append(time.perf_counter_ns() - start)
        return number

    start = time.perf_counter_ns()
    ns, _ = time_images(classify, numbered)
    passed = time.perf_counter_ns() - start
    assert ns.dtype == np.int64 and (ns >= inside).all() and 0 < ns.sum() <= passed


def test_garbage_is_not_collected_while_timing_and_is_again_after_an_error(numbered: list[torch.Tensor]) -> None:
    collecting = []

    def classify(image: torch.Tensor) -> int:
        collecting.append(gc.isenabled())
        if len(collecting) == 5:
            raise RuntimeError("it broke")
        return 0

    with pytest.raises(RuntimeError):
        time_images(classify, numbered)
    assert not any(collecting) and gc.isenabled()


def test_a_latency_is_that_of_its_image_and_of_nothing_else(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fetched(list):
        def __iter__(self):
            for image in super().__iter__():
                takes(10_000)  # fetching an image is not timed
                yield image

    def classify(image: torch.Tensor) -> int:
        takes(100 + number_of(image))
        return 0

    monkeypatch.setattr(gc, "collect", lambda: takes(1_000_000))
    ns, _ = time_images(classify, Fetched(numbered))
    assert ns.tolist() == [100 + number for number in range(50)]


def test_separate_images_are_normalized_and_share_no_memory() -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    separate = timer.separate_images(Split(images, torch.zeros(5, dtype=torch.int64), {}))
    assert torch.equal(torch.cat(separate), normalize(images)) and all(image.shape == (1, 3, 32, 32) for image in separate)
    assert all(image.storage_offset() == 0 and image.untyped_storage().nbytes() == 4 * 3072 for image in separate)
    assert len({image.data_ptr() for image in separate}) == 5
