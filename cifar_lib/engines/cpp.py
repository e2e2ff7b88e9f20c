"""The engines that a C++ program calls (infer/)."""

from pathlib import Path

import numpy as np

from cifar_lib.data import Split
from cifar_lib.engines import infer
from cifar_lib.engines.base import Engine, Setup
from cifar_lib.engines.onnx import OpenVINO
from cifar_lib.engines.pytorch import AOTInductor, TorchScript


class CppEngine(Engine):
    """An engine that the C++ program calls, in a process of its own, with no Python in it."""

    precisions = ("float32", "float16", "bfloat16")

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        infer.build()

    def measure(self, test: Split, warmup: int) -> dict[str, np.ndarray]:
        """What `timer.time_engine` measures, measured by the program itself."""
        setup = self.setup
        return infer.run(self.model_file(setup), test, warmup, setup.threads, setup.device, setup.precision, self.words)


class TorchScriptCpp(CppEngine):
    """The exported program by libtorch, with the settings and threads that its twin in Python is fastest with."""

    name = "torchscript-cpp"
    tuned_as = TorchScript.name
    settings = TorchScript.settings

    @classmethod
    def choices(cls, device: str) -> tuple[str, ...]:
        return TorchScript.choices(device)


class TorchScriptPlain(CppEngine):
    """The original's own way: the exported program as libtorch loads it, and one image to warm up."""

    name = "torchscript-plain"
    settings = ("as loaded, contiguous, one image to warm up",)

    def measure(self, test: Split, warmup: int) -> dict[str, np.ndarray]:
        return super().measure(test, warmup=1)


class AOTInductorCpp(CppEngine):
    """The package of AOTInductor, by libtorch, with the threads that its twin in Python is fastest with."""

    name = "aotinductor-cpp"
    tuned_as = AOTInductor.name
    settings = AOTInductor.settings
    file = AOTInductor.file

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        super().prepare(setup)
        AOTInductor.prepare(setup)

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return AOTInductor.model_file(setup)


class OpenVINOCpp(CppEngine):
    """OpenVINO, with the threads that its twin in Python is fastest with."""

    name = "openvino-cpp"
    tuned_as = OpenVINO.name
    settings = OpenVINO.settings
    library = OpenVINO.library
    precisions = OpenVINO.precisions
    devices = OpenVINO.devices

    @classmethod
    def check(cls, setup: Setup) -> None:
        super().check(setup)
        OpenVINO.check(setup)

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        super().prepare(setup)
        OpenVINO.prepare(setup)

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return OpenVINO.model_file(setup)
