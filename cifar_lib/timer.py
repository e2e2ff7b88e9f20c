"""Times one image after another, and nothing else.

The timed region is one call of `classify`: from a normalized float32 image in host memory to its predicted class there.
Reading and normalizing stay outside; the next image starts when the last is done.
"""

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from cifar_lib.data import Split, normalize


def time_images(classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Classify one image after another; return the latency (ns, int64 N) and predicted class (uint8 N) of every image."""
    ns, predicted = np.zeros(len(images), np.int64), np.zeros(len(images), np.uint8)
    clock = time.perf_counter_ns
    gc.collect()
    gc.disable()
    try:
        for number, image in enumerate(images):
            start = clock()
            label = classify(image)
            ns[number] = clock() - start
            predicted[number] = label
    finally:
        gc.enable()
    return ns, predicted


def separate_images(split: Split) -> list[torch.Tensor]:
    """The split's images, normalized (float32 1×3×32×32), each in its own memory."""
    return [image.clone() for image in normalize(split.images).split(1)]


def warm_up(classify: Callable[[torch.Tensor], int], images: Sequence[torch.Tensor], count: int) -> np.ndarray:
    """Classify `count` images before timing, cycling through `images`; return their latencies (ns, int64 count)."""
    return time_images(classify, (list(images) * (count // len(images) + 1))[:count])[0]
