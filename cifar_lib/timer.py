"""Times one image after another, and nothing else.

Timed is what an engine's `classify` does: from a normalised float32 image in host memory to the predicted class there.
Reading and normalising stay outside; the next image starts when the last is done.
"""

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from cifar_lib.data import Split, normalise


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
