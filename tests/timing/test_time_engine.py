"""An engine is warmed up and timed in one process, and the interference meanwhile is recorded."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import number_of

from cifar_bench.timing import latency
from cifar_bench.timing.latency import time_engine


class Engine:
    """Takes 1 µs for each image that it has seen, predicts the number of an image as its class, and counts."""

    def __init__(self, takes: Callable[[int], None]) -> None:
        self.takes, self.seen = takes, []

    def classify(self, image: torch.Tensor) -> int:
        self.seen.append(number_of(image))
        self.takes(1000 * len(self.seen))
        return number_of(image)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 10), float(number_of(image)), dtype=torch.float16)


def test_an_engine_is_warmed_up_and_both_series_are_kept(numbered: list[torch.Tensor], takes: Callable[[int], None]) -> None:
    engine = Engine(takes)
    measured = time_engine(engine, numbered, warmup=70)
    assert engine.seen == [*range(50), *range(20), *range(50)]
    assert measured["warmup_ns"].tolist() == [1000 * number for number in range(1, 71)]
    assert measured["ns"].tolist() == [1000 * number for number in range(71, 121)]
    assert measured["classes"].tolist() == list(range(50))


def test_without_a_warm_up_timing_starts_with_the_first_image(
    numbered: list[torch.Tensor], takes: Callable[[int], None]
) -> None:
    measured = time_engine(Engine(takes), numbered, warmup=0)
    assert len(measured["warmup_ns"]) == 0 and measured["ns"][0] == 1000


def test_logits_are_those_of_the_first_images_in_float32(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "LOGGED_IMAGES", 3)
    logits = time_engine(Engine(takes), numbered, warmup=0)["logits"]
    assert logits.dtype == np.float32 and logits.tolist() == [[float(number)] * 10 for number in range(3)]


def test_interference_is_measured_while_timing_only(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(takes)

    class Images:
        """The images that are classified, in place of the processor time of other processes."""

        def __init__(self) -> None:
            self.before = len(engine.seen)

        def read(self) -> dict[str, int]:
            return {"background_cores": len(engine.seen) - self.before}

    monkeypatch.setattr(latency, "BackgroundLoad", Images)
    assert time_engine(engine, numbered, warmup=30)["background_cores"] == 50
