"""An engine is warmed up and timed in one process, and what else the machine did meanwhile is kept."""

from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import number_of

from cifar_bench.timing import latency, machine
from cifar_bench.timing.latency import time_engine


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
    measured = time_engine(engine, numbered, warmup=70)
    assert engine.seen == [*range(50), *range(20), *range(50)]
    assert measured["warmup_ns"].tolist() == [1000 * number for number in range(1, 71)]
    assert measured["ns"].tolist() == [1000 * number for number in range(71, 121)]
    assert measured["classes"].tolist() == list(range(50))


def test_an_engine_without_a_warm_up_is_timed_from_the_first_image(
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
    monkeypatch.setattr(machine.psutil, "Process", Process)
    monkeypatch.setattr(latency.resource, "getrusage", lambda who: SimpleNamespace(ru_nivcsw=7 + len(engine.seen)))
    # a machine of four cores, of which others use a half and the host a tenth, for 0.02 s an image
    monkeypatch.setattr(machine.psutil, "cpu_times", lambda: Times(*(
        9 + 0.02 * len(engine.seen) * cores for cores in (2 + 0.5, 0, 1.2, 0.2, 0.1, 0.5))))
    measured = time_engine(engine, numbered, warmup=30)
    assert measured["involuntary_switches"] == 50
    assert measured["background_load"] == pytest.approx(0.6 / 4)


def test_where_the_system_counts_nothing_the_others_share_is_not_known(
    numbered: list[torch.Tensor], takes: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.psutil, "cpu_times", lambda: Times(1, 1, 1, 1, 1, 1))
    assert np.isnan(time_engine(Engine(takes), numbered, warmup=0)["background_load"])


