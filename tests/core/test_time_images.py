"""Every image is timed once, with all that classifying it takes, and its class is kept."""

import gc
import time
from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cifar_lib import timer
from cifar_lib.data import Split, normalise
from cifar_lib.timer import time_images


def number_of(image: torch.Tensor) -> int:
    return int(image[0, 0, 0, 0])


@pytest.fixture
def numbered() -> list[torch.Tensor]:
    """50 images, number n filled with n."""
    return [torch.full((1, 3, 32, 32), float(number)) for number in range(50)]


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`takes(ns)` moves the clock on, which stands still otherwise."""
    now = [1_000_000]

    def pass_by(ns: int) -> None:
        now[0] += ns

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now[0])
    return pass_by


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


# ---- one engine in this process


class Engine:
    """Takes 1 µs for each image that it has seen, gives the number of an image as its class, and counts."""

    def __init__(self, takes: Callable[[int], None]) -> None:
        self.takes, self.seen = takes, []

    def classify(self, image: torch.Tensor) -> int:
        self.seen.append(number_of(image))
        self.takes(1000 * len(self.seen))
        return number_of(image)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 10), float(number_of(image)), dtype=torch.float16)


def test_an_engine_is_warmed_up_first_and_both_series_are_kept(
    numbered: list[torch.Tensor], takes: Callable[[int], None]
) -> None:
    engine = Engine(takes)
    measured = timer.time_engine(engine, numbered, warmup=70)
    assert engine.seen == [*range(50), *range(20), *range(50)]
    assert measured["warmup_ns"].tolist() == [1000 * number for number in range(1, 71)]
    assert measured["ns"].tolist() == [1000 * number for number in range(71, 121)]
    assert measured["classes"].tolist() == list(range(50))


def test_an_engine_without_a_warm_up_is_timed_from_the_first_image(
    numbered: list[torch.Tensor], takes: Callable[[int], None]
) -> None:
    measured = timer.time_engine(Engine(takes), numbered, warmup=0)
    assert len(measured["warmup_ns"]) == 0 and measured["ns"][0] == 1000


def test_logits_are_those_of_the_first_images_in_float32(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timer, "IMAGES_WITH_LOGITS", 3)
    logits = timer.time_engine(Engine(takes), numbered, warmup=0)["logits"]
    assert logits.dtype == np.float32 and logits.tolist() == [[float(number)] * 10 for number in range(3)]


Times = namedtuple("Times", "user system idle iowait steal guest")  # as psutil's


class Process:
    """What psutil says of this process: 20 ms of each core for each image that `engine` has seen."""

    engine: Engine

    def cpu_times(self) -> tuple[float, float]:
        return 1 + 0.02 * len(self.engine.seen), 0.02 * len(self.engine.seen)


def test_what_the_system_did_is_told_of_the_time_while_timing(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    Process.engine = engine = Engine(takes)
    monkeypatch.setattr(timer.psutil, "Process", Process)
    monkeypatch.setattr(timer.resource, "getrusage", lambda who: SimpleNamespace(ru_nivcsw=7 + len(engine.seen)))
    # a machine of four cores, of which others use a half and the host a tenth, for 0.02 s an image
    monkeypatch.setattr(timer.psutil, "cpu_times", lambda: Times(*(
        9 + 0.02 * len(engine.seen) * cores for cores in (2 + 0.5, 0, 1.2, 0.2, 0.1, 0.5))))
    measured = timer.time_engine(engine, numbered, warmup=30)
    assert measured["involuntary_switches"] == 50
    assert measured["others_share"] == pytest.approx(0.6 / 4)


def test_where_the_system_counts_nothing_the_others_share_is_not_known(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timer.psutil, "cpu_times", lambda: Times(1, 1, 1, 1, 1, 1))
    assert np.isnan(timer.time_engine(Engine(takes), numbered, warmup=0)["others_share"])


def test_images_are_normalised_and_each_in_memory_of_its_own() -> None:
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    separate = timer.separate_images(Split(images, torch.zeros(5, dtype=torch.int64), {}))
    assert torch.equal(torch.cat(separate), normalise(images)) and all(image.shape == (1, 3, 32, 32) for image in separate)
    assert all(image.storage_offset() == 0 and image.untyped_storage().nbytes() == 4 * 3072 for image in separate)
    assert len({image.data_ptr() for image in separate}) == 5
