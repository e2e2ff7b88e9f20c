"""Engines of known latency."""

import itertools
import os
import signal
import subprocess
import time

import numpy as np
import torch

from cifar_bench.engines.base import PythonEngine, Setup

MEDIAN_NS, SIGMA = 5e5, 0.3  # of a log-normal distribution
IMAGES = 400
TIMES_NS = np.random.default_rng(0).lognormal(np.log(MEDIAN_NS), SIGMA, IMAGES).astype(int)
LOGITS = torch.eye(10)[3:4]


def spin(ns: int) -> None:
    end = time.perf_counter_ns() + ns
    while time.perf_counter_ns() < end:
        pass


class Spin(PythonEngine):
    """Spins for a known time."""

    name = "spin"
    option_sets = ("none",)
    times_ns = TIMES_NS

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.times = itertools.cycle(self.times_ns.tolist())

    def wait(self, ns: int) -> None:
        spin(ns)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return LOGITS

    def classify(self, image: torch.Tensor) -> int:
        self.wait(next(self.times))
        return 3  # as in LOGITS, without an argmax, which takes 5 to 40 µs


class SpinLonger(Spin):
    """Takes 2% longer."""

    name = "spin-longer"
    times_ns = (1.02 * TIMES_NS).astype(int)


class SpinAlike(Spin):
    """Spins equally long for every image, so long that LoadGen's own calls (some 40 µs) are half a percent of it."""

    name = "spin-alike"
    times_ns = np.array([8_000_000])


class Stopped(Spin):
    """Is stopped for a second at an image, as by Ctrl-Z or a paused container."""

    name = "stopped"
    images = itertools.count()

    def wait(self, ns: int) -> None:
        if next(self.images) == IMAGES // 2:
            subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {os.getpid()}"])
            os.kill(os.getpid(), signal.SIGSTOP)
        super().wait(ns)


class Sleep(Spin):
    """Sleeps for a known time, much longer than the 60 µs or so by which the system wakes it late."""

    name = "sleep"
    times_ns = 4 * TIMES_NS[:100]

    def wait(self, ns: int) -> None:
        time.sleep(ns / 1e9)


BY_NAME = {engine.name: engine for engine in (Spin, SpinLonger, SpinAlike, Stopped, Sleep)}
