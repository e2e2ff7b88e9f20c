"""Engines: each turns an exported model into `classify(image) -> class`, with the same boundary for all.

The image is a normalised float32 tensor 1×3×32×32 in ordinary host memory, the class an int there; what happens in
between (copy in, conversion to the precision, forward pass, argmax, copy out) is what the timer times.
"""

import warnings
from abc import ABC, abstractmethod
from pathlib import Path

import torch

from cifar_lib import InputError
from cifar_lib.model import network_from

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# What a CPU must offer to compute in a precision; without it, PyTorch converts to float32 and back.
CPU_FEATURES = {"float16": {"avx512_fp16", "amx_fp16"}, "bfloat16": {"avx512_bf16", "amx_bf16"}}


class Engine(ABC):
    """What the PyTorch engines share. `settings` says in words what was set for low latency."""

    name: str
    settings: str

    def __init__(self, model_file: Path, precision: str, device: str) -> None:
        self.dtype, self.device = PRECISIONS[precision], device
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        self.network = self.load(load_torchscript(model_file)).eval()

    @abstractmethod
    def load(self, exported: torch.jit.ScriptModule) -> torch.nn.Module:
        """The network that `classify` calls, on the device and in the precision."""

    @torch.inference_mode()
    def classify(self, image: torch.Tensor) -> int:
        image = image.to(self.device, self.dtype, memory_format=torch.channels_last)
        return int(self.network(image).argmax(1).item())


class Eager(Engine):
    """PyTorch as it comes, an operation at a time, with the weights of the exported model."""

    name = "eager"
    settings = "inference mode, channels-last"

    def load(self, exported: torch.jit.ScriptModule) -> torch.nn.Module:
        network = network_from(exported.state_dict())
        return network.to(self.device, self.dtype, memory_format=torch.channels_last)


class TorchScript(Engine):
    """The exported program, frozen and optimised by PyTorch's own passes after it is loaded."""

    name = "torchscript"
    settings = "inference mode, frozen, optimize_for_inference, channels-last"

    def load(self, exported: torch.jit.ScriptModule) -> torch.nn.Module:
        network = exported.eval().to(self.device, self.dtype, memory_format=torch.channels_last)
        with warnings.catch_warnings(action="ignore"):
            return torch.jit.optimize_for_inference(torch.jit.freeze(network))


ENGINES = {engine.name: engine for engine in (Eager, TorchScript)}


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """The program in `path`, on the CPU. Raises InputError where it is missing or no TorchScript."""
    if not path.is_file():
        raise InputError(f"there is no model at {path}: run 2_export first.")
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return torch.jit.load(path, map_location="cpu")
    except RuntimeError as error:
        raise InputError(f"{path} is not a TorchScript model: use a model.pt that 2_export wrote.") from error


def native_support(precision: str, environment: dict) -> str:
    """Whether the machine of a record's `environment` computes in `precision` itself: "native" or "emulated"."""
    if precision == "float32":
        return "native"
    if environment["gpu"]:
        least = {"float16": [5, 3], "bfloat16": [8, 0]}[precision]  # CUDA C++ Programming Guide, arithmetic throughput
        return "native" if environment["gpu"]["compute_capability"] >= least else "emulated"
    return "native" if CPU_FEATURES[precision] & set(environment["cpu"]["features"]) else "emulated"
