"""What is found out before a training run begins: does the compiler work here, and does the processor compute in bfloat16?"""

import copy
from collections.abc import Callable

import torch

from cifar_lib.model import ResNet9

Forward = Callable[[torch.Tensor], torch.Tensor]


def compiled_or_eager(network: ResNet9, batch_size: int) -> tuple[Forward, str | None]:
    """The network compiled for batches of that size; or eager, with the compiler's error in a line."""
    before = copy.deepcopy(network.state_dict())
    try:
        compiled = torch.compile(network, dynamic=False)
        example = torch.zeros(batch_size, 3, 32, 32, device=network.linear.weight.device)
        compiled(example.to(memory_format=torch.channels_last)).float().sum().backward()
    except Exception as error:  # any compiler trouble: PyTorch has no common class for it
        reason, *_ = f"{type(error).__name__}: {error}".splitlines()
        print(f"training without torch.compile ({reason})")
        return network, reason
    finally:  # of the batch-norm statistics and gradients that this pass left
        network.load_state_dict(before)
        network.zero_grad()
    return compiled, None


def computes_in_bfloat16(device: str) -> bool:
    """Whether the device multiplies in bfloat16 natively: elsewhere mixed precision only costs accuracy and time."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    from cpuinfo import get_cpu_info  # here: asking takes a second

    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(get_cpu_info().get("flags", []))
