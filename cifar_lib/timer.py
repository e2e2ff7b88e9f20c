"""Times one image after another, and nothing else.

Timed is what an engine's `classify` does: from a normalised float32 image in host memory to the class number there.
Reading and normalising stay outside; the next image starts when the last is done.
"""

import gc
import resource
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import psutil
import torch

from cifar_lib.data import Split, normalise

IMAGES_WITH_LOGITS = 200  # the first ones, which is enough to see how far an engine's logits are off


class Classifier(Protocol):
    """What can be timed."""

    def classify(self, image: torch.Tensor) -> int:
        """The class of a normalised image, float32 1×3×32×32."""

    def logits(self, image: torch.Tensor) -> torch.Tensor | np.ndarray:
        """Its logits, 1×10."""


def time_images(classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Classify one image after another; return nanoseconds (int64 N) and classes (uint8 N), nothing left out."""
    ns, classes = np.zeros(len(images), np.int64), np.zeros(len(images), np.uint8)
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        for number, image in enumerate(images):
            start = clock()
            predicted = classify(image)
            ns[number] = clock() - start
            classes[number] = predicted
    finally:
        gc.enable()
    return ns, classes


def separate_images(split: Split) -> list[torch.Tensor]:
    """The split's images normalised, float32 1×3×32×32, each in memory of its own."""
    return [image.clone() for image in normalise(split.images).split(1)]


def warm_up(classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor], count: int) -> np.ndarray:
    """The times (ns) of `count` images, taken from the first on and around again."""
    return time_images(classify, (list(images) * (count // len(images) + 1))[:count])[0]


def time_engine(engine: Classifier, images: Sequence[torch.Tensor], warmup: int) -> dict[str, np.ndarray | int]:
    """Warm an engine up and time it, in this process.

    Returns `warmup_ns` and `ns` (int64, an entry for each image), `classes` (uint8), `logits` (float32, N×10 of the first
    images), and of the time meanwhile `involuntary_switches`, how often the system took the processor away, and
    `others_share`, the share of all cores' time that other programs used.
    """
    warmup_ns = warm_up(engine.classify, images, warmup)
    others, switches = Others(), _involuntary_switches()
    ns, classes = time_images(engine.classify, images)
    others_share, switches = others.share(), _involuntary_switches() - switches
    logits = [torch.as_tensor(engine.logits(image)).to("cpu", torch.float32, copy=True)
              for image in images[:IMAGES_WITH_LOGITS]]
    return {"ns": ns, "classes": classes, "logits": torch.cat(logits).numpy(), "warmup_ns": warmup_ns,
            "involuntary_switches": switches, "others_share": others_share}


def _involuntary_switches() -> int:
    """How often the system took the processor away from any thread of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class Others:
    """What other programs use of the processors, from the moment at which this is made."""

    def __init__(self) -> None:
        self.before = psutil.cpu_times(), self._own_seconds()

    def share(self) -> float:
        """The share of all cores' time since then; NaN where the system counts none."""
        used, passed = used_and_passed(self.before[0], psutil.cpu_times())
        return (used - (self._own_seconds() - self.before[1])) / passed if passed else np.nan

    def _own_seconds(self) -> float:
        return sum(psutil.Process().cpu_times()[:4])  # of the user and the system, of this process and its finished children


def used_and_passed(before: tuple[float, ...], after: tuple[float, ...]) -> tuple[float, float]:
    """Seconds that all cores were busy and seconds that they had, between two readings of psutil.cpu_times.

    Waiting for input or output is idle time; what virtual machines' guests used is among the user's already.
    """
    change = {name: getattr(after, name) - getattr(before, name) for name in after._fields if not name.startswith("guest")}
    passed = sum(change.values())
    return passed - change["idle"] - change.get("iowait", 0), passed
