"""torch.compile with a fallback to eager, and whether the device computes natively in bfloat16."""

import copy
from collections.abc import Callable

import torch

from cifar_lib.model import ResNet9


def compiled_or_eager(network: ResNet9, batch_size: int) -> tuple[Callable, str | None]:
    """The network compiled for this batch size, and None; if that fails, the network itself and the error in one line."""
    before = copy.deepcopy(network.state_dict())
    try:
        compiled = torch.compile(network, dynamic=False)
        example = torch.zeros(batch_size, 3, 32, 32, device=network.linear.weight.device)
        compiled(example.to(memory_format=torch.channels_last)).float().sum().backward()
    except Exception as error:  # PyTorch has no common class for compiler errors
        reason, *_ = f"{type(error).__name__}: {error}".splitlines()
        print(f"training without torch.compile ({reason})")
        return network, reason
    finally:  # discard the batch-norm statistics and gradients of this pass
        network.load_state_dict(before)
        network.zero_grad()
    return compiled, None


def has_native_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 arithmetic; elsewhere mixed precision only costs accuracy and time."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    from cpuinfo import get_cpu_info  # here: it takes a second

    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(get_cpu_info().get("flags", []))
