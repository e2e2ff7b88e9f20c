"""The engines that a C++ program calls (infer/)."""

from pathlib import Path

import numpy as np

from cifar_lib.data import Split
from cifar_lib.engines import infer
from cifar_lib.engines.base import Engine, PythonEngine, Setup
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


class CppTwin(CppEngine):
    """An engine of Python's, called from C++: the same file, with the settings and threads that are fastest from Python."""

    twin: type[PythonEngine]

    def __init_subclass__(cls, twin: type[PythonEngine]) -> None:
        super().__init_subclass__()
        cls.twin, cls.tuned_as = twin, twin.name
        cls.settings, cls.library, cls.file, cls.devices = twin.settings, twin.library, twin.file, twin.devices

    @classmethod
    def check(cls, setup: Setup) -> None:
        super().check(setup)
        cls.twin.check(setup)

    @classmethod
    def choices(cls, device: str) -> tuple[str, ...]:
        return cls.twin.choices(device)

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        super().prepare(setup)
        cls.twin.prepare(setup)

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return cls.twin.model_file(setup)


class TorchScriptCpp(CppTwin, twin=TorchScript):
    """The exported program by libtorch."""

    name = "torchscript-cpp"


class AOTInductorCpp(CppTwin, twin=AOTInductor):
    """The package of AOTInductor, by libtorch."""

    name = "aotinductor-cpp"


class OpenVINOCpp(CppTwin, twin=OpenVINO):
    """The ONNX file by OpenVINO."""

    name = "openvino-cpp"
    precisions = OpenVINO.precisions


class TorchScriptPlain(CppEngine):
    """The original's own way: the exported program as libtorch loads it, and one image to warm up."""

    name = "torchscript-plain"
    settings = ("as loaded, contiguous, one image to warm up",)

    def measure(self, test: Split, warmup: int) -> dict[str, np.ndarray]:
        return super().measure(test, warmup=1)
