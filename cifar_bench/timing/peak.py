"""The peak FLOP/s of the hardware, measured with large matrix products and convolutions, and the FLOP that a network needs."""

import copy
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.nn.functional import conv2d
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from cifar_bench.engines.base import PRECISIONS
from cifar_bench.records.environment import cores
from cifar_bench.timing.machine import measurement_lock
from cifar_lib.model import ResNet9

SECONDS, REPEATS = 0.05, 5  # of measuring each point, and in how many repeats
MATRICES = [2**power for power in range(8, 14)]  # rows and columns
CONVOLVED = [2**power for power in range(8)]  # images of 256×32×32, by 256 filters of 3×3
PRODUCT_TIMEOUT_S = 0.03  # where a product takes longer, no larger one is tried


@torch.inference_mode()
def flop_without_padding(network: ResNet9) -> int:
    """The FLOP of one image's forward pass; a multiplication and an addition are 2.

    Products with the zero padding around an image, which libraries skip, do not count: they would be 31% for the smallest
    images, 4×4.
    """
    flop = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ones = copy.deepcopy(module).double()  # with ones only, the outputs' sum is the number of products that are not zero
        for values in ones.parameters():
            values.fill_(values.ndim > 1)  # biases, of one dimension, become 0
        flop.append(2 * int(ones.forward(torch.ones_like(inputs[0], dtype=torch.float64)).sum()))

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    network(torch.zeros(1, 3, 32, 32, device=network.linear.weight.device))
    for hook in hooks:
        hook.remove()
    return sum(flop)


@measurement_lock()
def measure_all(precisions: Sequence[str], device: str, threads: int = 0) -> list[dict]:
    """The result of `measure` for each precision; 0 threads means all cores."""
    return [measure(precision, device, threads or cores())
            for precision in tqdm(precisions, desc="peak FLOP/s", unit="precision")]


@torch.inference_mode()
def measure(precision: str, device: str, threads: int) -> dict:
    """The peak of a precision with so many CPU threads: `peak_flop_per_s`, the best of the `products` (FLOP/s of each kind)."""
    dtype = PRECISIONS[precision]
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    products = _products(dtype, device)
    return {"precision": precision, "threads": threads, "products": products, "peak_flop_per_s": max(products.values())}


def _products(dtype: torch.dtype, device: str) -> dict[str, float]:
    """The peak FLOP/s of each kind of large product; PyTorch has no convolution of integers."""
    matrices = ((2 * side**3, (side, side), (side, side)) for side in MATRICES)
    if not dtype.is_floating_point:
        return {"matrix product": _peak_flop_per_s(torch._int_mm, matrices, dtype, device)}
    images = ((2 * count * 30 * 30 * 256 * 256 * 3 * 3, (count, 256, 32, 32), (256, 256, 3, 3)) for count in CONVOLVED)
    return {"matrix product": _peak_flop_per_s(torch.matmul, matrices, dtype, device),
            "convolution": _peak_flop_per_s(conv2d, images, dtype, device)}


def _peak_flop_per_s(
    work: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], sizes: Iterable[tuple[int, tuple[int, ...], tuple[int, ...]]],
    dtype: torch.dtype, device: str,
) -> float:
    """The peak FLOP/s of `work` on two arrays; `sizes` are its FLOP and their shapes, and grow."""
    rates = []
    for flop, *shapes in sizes:
        first, second = (_channels_last(torch.randn(shape, device=device).to(dtype)) for shape in shapes)
        seconds = min(_seconds(lambda a=first, b=second: work(a, b), device))
        rates.append(flop / seconds)
        if seconds > PRODUCT_TIMEOUT_S:
            break
    return max(rates)


def _channels_last(array: torch.Tensor) -> torch.Tensor:
    return array.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else array


def gpu_ns(classify: Callable[[torch.Tensor], int], image: torch.Tensor, images: int = 100) -> float:
    """The time (ns) that a GPU computes or copies for one image; the rest of the latency is launching and waiting."""
    for _ in range(10):  # the first images also capture, compile or tune
        classify(image)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(images):
            classify(image)
    on_gpu = [kind.self_device_time_total for kind in profiled.key_averages() if kind.device_type == DeviceType.CUDA]
    return 1e3 * sum(on_gpu) / images


def _seconds(work: Callable[[], object], device: str) -> list[float]:
    """The time of `work`, run back to back, in each of REPEATS repeats, which share SECONDS."""

    def passed(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    passed(1)  # warms up
    repeats = max(1, int(SECONDS / REPEATS / passed(1)))
    return [passed(repeats) for _ in range(REPEATS)]
