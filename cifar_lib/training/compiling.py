"""What is tried before a training begins: does the compiler work here, and what do deterministic algorithms cost?"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from cifar_lib import own_sentence
from cifar_lib.model import ResNet9
from cifar_lib.records.environment import cpu_features

Forward = Callable[[torch.Tensor], torch.Tensor]


def compiled_or_eager(network: ResNet9, batch_size: int) -> tuple[Forward, str | None]:
    """The network compiled for batches of that size; or as it is, with the compiler's error in a line."""
    try:
        compiled = torch.compile(network, dynamic=False)
        with _unchanged(network):
            _seconds(compiled, network, batch_size, passes=1)
    except Exception as error:  # any compiler trouble: PyTorch has no common class for it
        reason = f"{type(error).__name__}: {own_sentence(str(error))}"
        print(f"going on without torch.compile ({reason})")
        return network, reason
    return compiled, None


def deterministic_cost(forward: Forward, network: ResNet9, batch_size: int) -> float:
    """How many times as long a forward and backward pass takes on a GPU with deterministic algorithms."""
    times: dict[bool, list[float]] = {False: [], True: []}
    with _unchanged(network):
        for mode in 10 * [False, True]:
            torch.use_deterministic_algorithms(mode)
            times[mode].append(_seconds(forward, network, batch_size, passes=20))
    return statistics.median(times[True]) / statistics.median(times[False])


def computes_in_bfloat16(device: str) -> bool:
    """Whether the device multiplies in bfloat16 itself: where it does not, mixed precision only costs accuracy and time."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(cpu_features())


def _seconds(forward: Forward, network: ResNet9, batch_size: int, passes: int) -> float:
    """The time of so many forward and backward passes, after one that does not count."""
    device = network.linear.weight.device
    example = torch.zeros(batch_size, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    for number in range(passes + 1):
        if number == 1:
            began = time.perf_counter()
        forward(example).float().sum().backward()
        network.linear.weight.grad.sum().item()  # waits for a GPU to be done
    return time.perf_counter() - began


@contextmanager
def _unchanged(network: ResNet9) -> Iterator[None]:
    """Put the weights and statistics back afterwards, and drop the gradients."""
    before = copy.deepcopy(network.state_dict())
    try:
        yield
    finally:
        network.load_state_dict(before)
        network.zero_grad()
