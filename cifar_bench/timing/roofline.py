"""What the hardware can do at most, and how near to it the network's layers come.

A layer can be no faster than its operations at the machine's rate of arithmetic, nor than its bytes at the machine's rate
of moving them (Williams, Waterman and Patterson, "Roofline", 2009). Both ceilings are measured here beside the layers: the
one by large matrix products and convolutions, the other by copies, small ones that stay in a cache and large ones that do
not.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.autograd import DeviceType
from torch.nn.functional import conv2d
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from cifar_bench.engines.base import PRECISIONS, import_library
from cifar_bench.records.environment import cores
from cifar_lib.model import ResNet9

SECONDS, REPEATS = 0.05, 5  # of measuring each point, and in how many parts
COPIES = [2**power for power in range(14, 29, 2)]  # bytes, from 16 KiB on
MATRICES = [2**power for power in range(8, 14)]  # rows and columns
CONVOLVED = [2**power for power in range(8)]  # images of 256×32×32, by 256 filters of 3×3
PATIENCE = 0.03  # seconds; where a product takes longer, no larger one is tried


@dataclass(frozen=True)
class Layer:
    """A layer with weights and what an image asks of it at the least.

    An addition and a multiplication count as two operations; those with the zeros around an image, which libraries leave out,
    do not count. Of the smallest images, 4×4, they are three in ten.
    """

    name: str
    flop: int
    weights: int
    activations: int  # numbers in and out

    def bytes(self, batch: int, size: int) -> int:
        """What must be moved for a batch at the least, with numbers of `size` bytes."""
        return size * (self.weights + batch * self.activations)


def layers(network: ResNet9) -> dict[Layer, tuple[nn.Module, tuple[int, ...]]]:
    """The network's convolutions and its linear layer in order, each with its module and the shape of an image's input."""
    layers_seen: dict[Layer, tuple[nn.Module, tuple[int, ...]]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            ones = copy.deepcopy(module).double()  # of ones alone, the outputs add up to how many products are not zero
            for values in ones.parameters():
                values.fill_(values.ndim > 1)  # biases, of one dimension, become zero
            products = int(ones.forward(torch.ones_like(inputs[0], dtype=torch.float64)).sum())
            numbers = inputs[0].numel() + output.numel()
            layers_seen[Layer(name, 2 * products, module.weight.numel(), numbers)] = module, tuple(inputs[0].shape[1:])
        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in network.named_modules()
             if isinstance(module, nn.Conv2d | nn.Linear)]
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32, device=network.linear.weight.device))
    for hook in hooks:
        hook.remove()
    return layers_seen


def measure_all(
    network: ResNet9, precisions: Sequence[str], device: str, batches: Sequence[int], threads: int = 0
) -> list[dict]:
    """What `measure` returns, for each precision; with 0 threads on all cores."""
    return [measure(network, precision, device, batches, threads or cores())
            for precision in tqdm(precisions, desc="ceilings", unit="precision")]


@torch.inference_mode()
def measure(network: ResNet9, precision: str, device: str, batches: Sequence[int], threads: int) -> dict:
    """The ceilings of a precision with so many CPU threads, and every layer's rate at each batch size; of int8 no layers.

    Returns `threads`, `element_bytes`, `peak_flop_per_s` (the best of the `products`, a rate for each kind), `copies` (`bytes` of the
    source and `bytes_per_s`, read and written) and `points`, one for each `layer` and `batch`, with `flop`, `bytes`, `weights`
    (how many) and `seconds` (one for each repeat).
    """
    dtype = PRECISIONS[precision]
    size = torch.empty(0, dtype=dtype).element_size()
    with _settings(precision == "tf32", threads):
        if precision == "int8":  # PyTorch multiplies none: ONNX Runtime does
            products = {"matrix product": _int8_rate(threads)}
            return {"precision": precision, "threads": threads, "element_bytes": size, "peak_flop_per_s": max(products.values()),
                    "products": products, "copies": [_copy(count, device) for count in COPIES], "points": []}
        before, points = _products(dtype, device), []
        for layer, (module, shape) in layers(copy.deepcopy(network).to(device)).items():
            module = module.to(dtype, memory_format=torch.channels_last)
            for batch in batches:
                images = _channels_last(torch.randn(batch, *shape, device=device).to(dtype))
                points.append({"layer": layer.name, "batch": batch, "flop": batch * layer.flop,
                               "bytes": layer.bytes(batch, size), "weights": layer.weights,
                               "seconds": _seconds(lambda a=module, b=images: a(b), device)})
        after = _products(dtype, device)  # once more: the machine may have been slower before
        products = {kind: max(before[kind], after[kind]) for kind in before}
        return {"precision": precision, "threads": threads, "element_bytes": size, "peak_flop_per_s": max(products.values()),
                "products": products, "copies": [_copy(count, device) for count in COPIES], "points": points}


def _products(dtype: torch.dtype, device: str) -> dict[str, float]:
    """The most operations a second of each kind of large product."""
    matrices = (((side, side), (side, side)) for side in MATRICES)
    images = (((count, 256, 32, 32), (256, 256, 3, 3)) for count in CONVOLVED)
    return {"matrix product": _best_rate(torch.matmul, matrices, dtype, device),
            "convolution": _best_rate(conv2d, images, dtype, device)}


def _int8_rate(threads: int) -> float:
    """The most operations a second of ONNX Runtime's product of two matrices of 8-bit integers, on the CPU."""
    onnxruntime, onnx = import_library("onnxruntime"), import_library("onnx")
    TensorProto, helper = onnx.TensorProto, onnx.helper
    options, random, rates = onnxruntime.SessionOptions(), np.random.default_rng(0), []
    options.intra_op_num_threads = threads
    for side in MATRICES:
        weights = onnx.numpy_helper.from_array(random.integers(-64, 64, (side, side), np.int8), "weights")
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["images", "weights"], ["product"])], "product",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, [side, side])],
            [helper.make_tensor_value_info("product", TensorProto.INT32, [side, side])], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        images = {"images": random.integers(0, 256, (side, side), np.uint8)}
        seconds = min(_seconds(lambda a=session, b=images: a.run(None, b), "cpu"))
        rates.append(2 * side**3 / seconds)
        if seconds > PATIENCE:
            break
    return max(rates)


def _copy(count: int, device: str) -> dict[str, float]:
    source = torch.zeros(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {"bytes": count, "bytes_per_s": 2 * count / min(_seconds(lambda: target.copy_(source), device))}


def _best_rate(
    work: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], shapes: Iterable[tuple[tuple[int, ...], tuple[int, ...]]],
    dtype: torch.dtype, device: str,
) -> float:
    """The most operations a second of `work` on two arrays of these shapes, which grow."""
    rates = []
    for shape in shapes:
        first, second = (_channels_last(torch.randn(sides, device=device).to(dtype)) for sides in shape)
        with FlopCounterMode(display=False) as counter:
            work(first, second)
        seconds = _seconds(lambda a=first, b=second: work(a, b), device)
        rates.append(counter.get_total_flops() / min(seconds))
        if min(seconds) > PATIENCE:
            break
    return max(rates)


def _channels_last(array: torch.Tensor) -> torch.Tensor:
    return array.contiguous(memory_format=torch.channels_last) if array.ndim == 4 else array


def gpu_ns(classify: Callable[[torch.Tensor], int], image: torch.Tensor, images: int = 100) -> float:
    """How long (ns) a GPU computes or copies for one image; what else an image takes is launching and waiting."""
    for _ in range(10):  # what is captured, compiled or tuned at the first images is none of the work
        classify(image)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(images):
            classify(image)
    on_gpu = [kind.self_device_time_total for kind in seen.key_averages() if kind.device_type == DeviceType.CUDA]
    return 1e3 * sum(on_gpu) / images


def _seconds(work: Callable[[], object], device: str) -> list[float]:
    """How long `work` takes, back to back, in each of REPEATS parts of the time."""

    def passed(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    passed(1)  # sets up what is set up lazily
    repeats = max(1, int(SECONDS / REPEATS / passed(1)))
    return [passed(repeats) for _ in range(REPEATS)]


@contextmanager
def _settings(tf32: bool, threads: int) -> Iterator[None]:
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before, threads_before = [backend.allow_tf32 for backend in backends], torch.get_num_threads()
    for backend in backends:
        backend.allow_tf32 = tf32
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        for backend, value in zip(backends, before):
            backend.allow_tf32 = value
