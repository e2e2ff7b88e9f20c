"""The rooflines of the hardware, and how close the network's layers come to them.

A layer's FLOP/s are at most the peak, and at most its FLOP/byte times the bandwidth (Williams, Waterman and Patterson,
"Roofline", 2009). Large matrix products and convolutions measure the peak; copies, in cache and beyond, the bandwidth.
"""

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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
COPIES = [2**power for power in range(14, 29, 2)]  # bytes, from 16 KiB on
MATRICES = [2**power for power in range(8, 14)]  # rows and columns
CONVOLVED = [2**power for power in range(8)]  # images of 256×32×32, by 256 filters of 3×3
PRODUCT_TIMEOUT_S = 0.03  # where a product takes longer, no larger one is tried


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and the least FLOP and bytes of one image.

    A multiplication and an addition are 2 FLOP. Products with the zero padding around an image, which libraries skip, do not
    count: they would be 31% for the smallest images, 4×4.
    """

    name: str
    flop: int
    weights: int
    activations: int  # numbers in and out

    def bytes(self, batch: int, size: int) -> int:
        """The bytes that a batch must move at the least, with numbers of `size` bytes."""
        return size * (self.weights + batch * self.activations)


def layers(network: ResNet9) -> dict[Layer, tuple[nn.Module, tuple[int, ...]]]:
    """The network's convolutions and its linear layer in order, each with its module and its input's shape for an image."""
    found: dict[Layer, tuple[nn.Module, tuple[int, ...]]] = {}
    names = {module: name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ones = copy.deepcopy(module).double()  # with ones only, the outputs' sum is the number of products that are not zero
        for values in ones.parameters():
            values.fill_(values.ndim > 1)  # biases, of one dimension, become 0
        products = int(ones.forward(torch.ones_like(inputs[0], dtype=torch.float64)).sum())
        numbers = inputs[0].numel() + output.numel()
        found[Layer(names[module], 2 * products, module.weight.numel(), numbers)] = module, tuple(inputs[0].shape[1:])

    hooks = [module.register_forward_hook(note) for module in names]
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32, device=network.linear.weight.device))
    for hook in hooks:
        hook.remove()
    return found


def flop_without_padding(network: ResNet9) -> int:
    """The FLOP of one image's forward pass without products with the zero padding."""
    return sum(layer.flop for layer in layers(network))


@measurement_lock()
def measure_all(
    network: ResNet9, precisions: Sequence[str], device: str, batch_sizes: Sequence[int], threads: int = 0
) -> list[dict]:
    """The result of `measure` for each precision; 0 threads means all cores."""
    return [measure(network, precision, device, batch_sizes, threads or cores())
            for precision in tqdm(precisions, desc="rooflines", unit="precision")]


@torch.inference_mode()
def measure(network: ResNet9, precision: str, device: str, batch_sizes: Sequence[int], threads: int) -> dict:
    """The roofline of a precision with so many CPU threads, and the time of every layer at each batch size (not in int8).

    Returns `threads`, `element_bytes`, `peak_flop_per_s` (the best of the `products`, FLOP/s of each kind), `copies` (`bytes`
    of the source and `bytes_per_s`, read and written) and `points`, one for each `layer` and `batch` size, with `flop`,
    `bytes`, `weights` (their number) and `seconds` (one for each repeat).
    """
    dtype = PRECISIONS[precision]
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    before = _products(dtype, device)
    points = _points(network, dtype, device, batch_sizes) if dtype.is_floating_point else []
    after = _products(dtype, device)  # again: the machine may have been slower before
    products = {kind: max(before[kind], after[kind]) for kind in before}
    return {"precision": precision, "threads": threads, "element_bytes": dtype.itemsize, "products": products,
            "peak_flop_per_s": max(products.values()), "copies": [_copy(count, device) for count in COPIES], "points": points}


def _points(network: ResNet9, dtype: torch.dtype, device: str, batch_sizes: Sequence[int]) -> list[dict]:
    points = []
    for layer, (module, shape) in layers(copy.deepcopy(network).to(device)).items():
        module = module.to(dtype, memory_format=torch.channels_last)
        for batch in batch_sizes:
            images = _channels_last(torch.randn(batch, *shape, device=device).to(dtype))
            points.append({"layer": layer.name, "batch": batch, "flop": batch * layer.flop,
                           "bytes": layer.bytes(batch, images.element_size()), "weights": layer.weights,
                           "seconds": _seconds(lambda a=module, b=images: a(b), device)})
    return points


def _products(dtype: torch.dtype, device: str) -> dict[str, float]:
    """The peak FLOP/s of each kind of large product; PyTorch has no convolution of integers."""
    matrices = ((2 * side**3, (side, side), (side, side)) for side in MATRICES)
    if not dtype.is_floating_point:
        return {"matrix product": _peak_flop_per_s(torch._int_mm, matrices, dtype, device)}
    images = ((2 * count * 30 * 30 * 256 * 256 * 3 * 3, (count, 256, 32, 32), (256, 256, 3, 3)) for count in CONVOLVED)
    return {"matrix product": _peak_flop_per_s(torch.matmul, matrices, dtype, device),
            "convolution": _peak_flop_per_s(conv2d, images, dtype, device)}


def _copy(count: int, device: str) -> dict[str, float]:
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {"bytes": count, "bytes_per_s": 2 * count / min(_seconds(lambda: target.copy_(source), device))}


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
