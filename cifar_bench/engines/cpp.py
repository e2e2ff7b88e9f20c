"""The engines that the C++ program (infer/) runs."""

from pathlib import Path

import numpy as np

from cifar_bench.engines import infer, layers
from cifar_bench.engines.base import LOGGED_IMAGES, Engine, PythonEngine, Setup, reason_of_failure
from cifar_bench.engines.executorch import ExecuTorch
from cifar_bench.engines.onnx import ONNXEngine, OpenVINO
from cifar_bench.engines.pytorch import AOTInductor, TorchScript
from cifar_lib import InputError
from cifar_lib.data import Split


class CppEngine(Engine):
    """An engine that the C++ program runs in a process of its own, without Python."""

    precisions = ("float32", "float16", "bfloat16")
    needs_compiler = True

    @classmethod
    def compile(cls, setup: Setup) -> None:
        infer.build()

    def measure(self, test: Split, warmup: int, logits: int = LOGGED_IMAGES) -> dict[str, np.ndarray]:
        """The measurements of `timing.latency.time_engine`, made by the program itself, with the logits of `logits` images."""
        setup, file = self.setup, self.model_file(self.setup)
        return infer.run(file, test, logits, warmup, setup.threads, setup.device, setup.precision, self.options)


class CppTwin(CppEngine):
    """A Python engine's file, run from C++ with the options and threads that are fastest from Python."""

    twin: type[PythonEngine]

    def __init_subclass__(cls, twin: type[PythonEngine]) -> None:
        super().__init_subclass__()
        cls.twin, cls.tuned_as = twin, twin.name
        cls.option_sets, cls.library, cls.file, cls.devices = twin.option_sets, twin.library, twin.file, twin.devices
        cls.quantizer = twin.quantizer
        cls.precisions = tuple(precision for precision in twin.precisions if precision != "tf32")  # the program never allows it

    @classmethod
    def check(cls, setup: Setup) -> None:
        super().check(setup)
        cls.twin.check(setup)

    @classmethod
    def candidate_options(cls, device: str) -> tuple[str, ...]:
        return cls.twin.candidate_options(device)

    @classmethod
    def compile(cls, setup: Setup) -> None:
        super().compile(setup)
        cls.twin.compile(setup)

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return cls.twin.model_file(setup)


class TorchScriptCpp(CppTwin, twin=TorchScript):
    """The exported program, run by libtorch."""

    name = "torchscript-cpp"


class AOTInductorCpp(CppTwin, twin=AOTInductor):
    """AOTInductor's package, run by libtorch."""

    name = "aotinductor-cpp"


class OpenVINOCpp(CppTwin, twin=OpenVINO):
    """The ONNX file, run by OpenVINO."""

    name = "openvino-cpp"


class ExecuTorchCpp(CppTwin, twin=ExecuTorch):
    """The ExecuTorch program, run from C++."""

    name = "executorch-cpp"


class OneDNN(CppEngine):
    """The layers of the ONNX file, each a primitive of Intel's oneDNN: its kernels alone, with no runtime above them."""

    name = "onednn-cpp"
    option_sets = ("channels last but in float32",)
    library = "onednn"
    file = ONNXEngine.file
    precisions = ("float32", "bfloat16", "int8")
    devices = ONNXEngine.devices
    quantizer = ONNXEngine.quantizer

    @classmethod
    def check(cls, setup: Setup) -> None:
        super().check(setup)
        if int(infer.onednn_version().partition(".")[0] or 0) < 3:
            raise InputError("onednn-cpp needs oneDNN 3 and its headers: pip install onednn-cpu-gomp onednn-devel-cpu-gomp.")

    @classmethod
    def compile(cls, setup: Setup) -> None:
        super().compile(setup)
        ONNXEngine.compile(setup)
        if not cls.model_file(setup).exists():
            with reason_of_failure("the layers of the ONNX file cannot be read"):
                layers.write(ONNXEngine.model_file(setup), cls.model_file(setup))

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return setup.cache / f"{ONNXEngine.model_file(setup).stem}.layers"

    @classmethod
    def version(cls) -> str:
        return infer.onednn_version()


class TorchScriptPlain(CppEngine):
    """The exported program as the original's ran it, with libtorch's default options and one image to warm up.

    Unlike there, the threads are tuned, and TF32 is off.
    """

    name = "torchscript-plain"
    option_sets = ("default options, contiguous, one image to warm up",)

    def measure(self, test: Split, warmup: int, logits: int = LOGGED_IMAGES) -> dict[str, np.ndarray]:
        return super().measure(test, 1, logits)
