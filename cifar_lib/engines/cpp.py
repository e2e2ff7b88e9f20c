"""The engines that a C++ program calls (infer/)."""

from pathlib import Path

import numpy as np

from cifar_lib.data import Split
from cifar_lib.engines import infer
from cifar_lib.engines.base import Engine, Setup
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
        return infer.run(self.model_file(setup), test, warmup, setup.threads, setup.device, setup.precision)


class TorchScriptCpp(CppEngine):
    """The original's own way: its kind of program, by libtorch."""

    name = "torchscript-cpp"
    settings = "libtorch, " + TorchScript.settings


class AOTInductorCpp(CppEngine):
    """The package of AOTInductor, by libtorch."""

    name = "aotinductor-cpp"
    settings = "libtorch, " + AOTInductor.settings
    file = AOTInductor.file

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        super().prepare(setup)
        AOTInductor.prepare(setup)

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return AOTInductor.model_file(setup)
