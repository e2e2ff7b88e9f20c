"""Engines: each turns an exported model into `classify(image) -> class`, with the same boundary for all.

The image is a normalised float32 tensor 1×3×32×32 in ordinary host memory, the class an int there; what happens in
between (copy in, conversion to the precision, forward pass, argmax, copy out) is what the timer times. A new engine is
a subclass of PythonEngine here, listed in ENGINES; ONNXRuntime and its parent show all that one needs.
"""

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch

from cifar_lib import InputError, cpp, data, quantise, records
from cifar_lib.data import Split, normalise
from cifar_lib.model import network_from

# Numbers of the network and what PyTorch calls them: TensorFloat-32 rounds float32 as it multiplies; 8-bit integers are for
# the engines that run ONNX files.
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
              "int8": torch.int8}
# What a CPU must offer to compute in a precision by itself. Without it, 16 bits are converted to float32 and back, and
# 8-bit integers multiplied by instructions made for something else.
CPU_FEATURES = {"tf32": set(), "float16": {"avx512_fp16", "amx_fp16"}, "bfloat16": {"avx512_bf16", "amx_bf16"},
                "int8": {"avx512_vnni", "avx_vnni", "amx_int8"}}


@dataclass(frozen=True)
class Setup:
    """What an engine is to run, and how."""

    exported: Path  # the folder with 2_export's files
    prepared: Path  # a folder for what `prepare` makes of them
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 0  # on the CPU; 0 leaves the library's default
    batch: int = 1  # images at once


class Engine:
    """What every engine says of itself, and how it is set up. Raises InputError where it cannot run here."""

    name: str
    settings = "the library's own"  # in words: what was set for low latency
    library = "torch"  # the package or module whose version counts
    file = "model.pt"  # which of the exported files it runs
    precisions = ("float32", "tf32", "float16", "bfloat16")
    devices = ("cpu", "cuda")

    def __init__(self, setup: Setup) -> None:
        self.check(setup)
        _exists(self.model_file(setup))
        self.setup = setup

    @classmethod
    def check(cls, setup: Setup) -> None:
        """Whether the engine can compute so on this machine; InputError says why not."""
        for wanted, offered in ((setup.precision, cls.precisions), (setup.device, cls.devices)):
            if wanted not in offered:
                raise InputError(f"{cls.name} is not set up for {wanted} here, only for {', '.join(offered)}.")
        if setup.precision == "tf32" and (setup.device == "cpu" or torch.cuda.get_device_capability() < (8, 0)):
            raise InputError("tf32 is what NVIDIA's GPUs multiply in, from compute capability 8.0 on: here there is none.")

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        """Do once what no timed process should do: compile."""

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        """What is loaded when the engine is made."""
        return setup.exported / cls.file

    @classmethod
    def version(cls) -> str:
        try:
            return metadata.version(cls.library)
        except metadata.PackageNotFoundError:  # the module may come from a package of another name, as onnxruntime-gpu
            return _imported(cls.library).__version__


class PythonEngine(Engine, ABC):
    """An engine that Python calls."""

    @abstractmethod
    def logits(self, image: torch.Tensor) -> torch.Tensor | np.ndarray:
        """The scores of an image, 1×10 (or of as many as the setup's batch), wherever the engine leaves them."""

    def classify(self, image: torch.Tensor) -> int:
        return int(self.logits(image).argmax())

    def classes(self, images: torch.Tensor) -> np.ndarray:
        """The classes of as many images as the setup's batch, N×3×32×32, in host memory."""
        return torch.as_tensor(self.logits(images)).argmax(1).cpu().numpy()


class PyTorchEngine(PythonEngine):
    """What the engines share that PyTorch runs: subclasses say how the network is loaded."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.dtype = PRECISIONS[setup.precision]
        if setup.threads:
            torch.set_num_threads(setup.threads)
        torch.backends.cudnn.benchmark = True
        for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
            backend.allow_tf32 = setup.precision == "tf32"  # float32 means float32
        with torch.inference_mode():
            self.network = self.load()

    @abstractmethod
    def load(self) -> torch.nn.Module:
        """The network that `logits` calls, on the device and in the precision."""

    @torch.inference_mode()
    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image.to(self.setup.device, self.dtype, memory_format=torch.channels_last))

    def exported_network(self) -> torch.nn.Module:
        """The network of model.pt as a module of Python, channels-last."""
        network = network_from(load_torchscript(self.model_file(self.setup)).state_dict())
        return network.to(self.setup.device, self.dtype, memory_format=torch.channels_last).requires_grad_(False)


class Eager(PyTorchEngine):
    """PyTorch as it comes, an operation at a time, with the weights of the exported model."""

    name = "eager"
    settings = "inference mode, channels-last"

    def load(self) -> torch.nn.Module:
        return self.exported_network()


class TorchScript(PyTorchEngine):
    """The exported program, frozen and optimised by PyTorch's own passes after it is loaded."""

    name = "torchscript"
    settings = "inference mode, frozen, optimize_for_inference, channels-last"

    def load(self) -> torch.nn.Module:
        network = load_torchscript(self.model_file(self.setup)).eval()
        network = network.to(self.setup.device, self.dtype, memory_format=torch.channels_last)
        with warnings.catch_warnings(action="ignore"):
            return torch.jit.optimize_for_inference(torch.jit.freeze(network))


class CUDAGraph(PyTorchEngine):
    """Copy in, network, argmax and copy out, captured once as a CUDA graph: one launch replays them all.

    A graph reads and writes the same memory each time, so the image is copied to pinned memory of its own first; that
    copy is timed, too.
    """

    devices = ("cuda",)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        with torch.inference_mode():
            self.image = torch.zeros(setup.batch, 3, 32, 32).pin_memory()
            self.found = torch.zeros(setup.batch, dtype=torch.int64).pin_memory()
            beside = torch.cuda.Stream()  # a graph can be captured of what has run before, on another stream
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(3):
                    self._classify()
            torch.cuda.current_stream().wait_stream(beside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._classify()

    def _classify(self) -> None:
        image = self.image.to("cuda", non_blocking=True).to(self.dtype, memory_format=torch.channels_last)
        self.scores = self.network(image)
        self.found.copy_(self.scores.argmax(1), non_blocking=True)

    @torch.inference_mode()
    def logits(self, image: torch.Tensor) -> torch.Tensor:
        self.image.copy_(image)
        self.graph.replay()
        torch.cuda.synchronize()
        return self.scores

    def classify(self, image: torch.Tensor) -> int:
        self.logits(image)
        return int(self.found)


class EagerCUDAGraph(CUDAGraph, Eager):
    """PyTorch's operations, replayed from a graph."""

    name = "eager-cudagraph"
    settings = Eager.settings + ", CUDA graph"


class TorchScriptCUDAGraph(CUDAGraph, TorchScript):
    """The exported program, replayed from a graph."""

    name = "torchscript-cudagraph"
    settings = TorchScript.settings + ", CUDA graph"


class Compiled(PyTorchEngine):
    """The network of the exported model, compiled by TorchInductor when its first image comes."""

    name = "compile"
    settings = "torch.compile, max-autotune, frozen, static shapes, channels-last"

    def load(self) -> torch.nn.Module:
        torch._inductor.config.freezing = True
        return torch.compile(self.exported_network(), mode="max-autotune", fullgraph=True, dynamic=False)


class AOTInductor(PyTorchEngine):
    """The exported program (model.pt2), compiled ahead of time for this machine."""

    name = "aotinductor"
    settings = "AOTInductor, frozen, static shapes, channels-last"
    file = "model.pt2"

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        kind = f"{setup.device}-{setup.precision}-{setup.threads}-{setup.batch}"
        return setup.prepared / f"aotinductor-{kind}.pt2"

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        if cls.model_file(setup).exists():
            return
        dtype, channels_last = PRECISIONS[setup.precision], torch.channels_last
        network = load_exported_program(setup.exported / cls.file).module().to(setup.device, dtype)
        example = torch.zeros(setup.batch, 3, 32, 32, dtype=dtype, device=setup.device).to(memory_format=channels_last)
        with torch.no_grad(), _reason_of_failure(f"{cls.name} cannot compile the network here"):
            program = torch.export.export(network.to(memory_format=channels_last), (example,))
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(cls.model_file(setup)),
                inductor_configs={"freezing": True, "cpp.threads": setup.threads or -1})  # the number becomes code

    def load(self) -> torch.nn.Module:
        return torch._inductor.aoti_load_package(str(self.model_file(self.setup)))


class ONNXEngine(PythonEngine):
    """What the engines share that run model.onnx, or what `prepare` makes of it in 8 bits."""

    file = "model.onnx"
    precisions = ("float32", "int8")
    devices = ("cpu",)

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return setup.prepared / "model-int8.onnx" if setup.precision == "int8" else super().model_file(setup)

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        _exists(setup.exported / cls.file)
        if setup.precision == "int8" and not cls.model_file(setup).exists():
            images = data.load("train").first(quantise.CALIBRATION_IMAGES).images
            with _reason_of_failure("ONNX Runtime cannot quantise the network"):
                vnni = not CPU_FEATURES["int8"].isdisjoint(records.cpu_features())
                quantise.int8(setup.exported / cls.file, images, cls.model_file(setup), vnni)


class ONNXRuntime(ONNXEngine):
    """Microsoft's ONNX Runtime."""

    name = "onnxruntime"
    settings = "all graph optimisations, batch size fixed"
    library = "onnxruntime"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        onnxruntime = _imported("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setup.threads
        options.add_free_dimension_override_by_name("batch", setup.batch)
        with _reason_of_failure(f"ONNX Runtime cannot load {self.model_file(setup)}"):
            self.session = onnxruntime.InferenceSession(self.model_file(setup), options, ["CPUExecutionProvider"])

    def logits(self, image: torch.Tensor) -> np.ndarray:
        return self.session.run(None, {"images": image.numpy()})[0]


class OpenVINO(ONNXEngine):
    """Intel's OpenVINO."""

    name = "openvino"
    settings = "latency hint, batch size fixed, shared memory in and out"
    library = "openvino"
    precisions = ("float32", "float16", "bfloat16", "int8")
    HINTS: ClassVar = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}
    CAPABILITIES: ClassVar = {"float16": "FP16", "bfloat16": "BF16"}  # else it would compute in float32, and not say so

    @classmethod
    def check(cls, setup: Setup) -> None:
        super().check(setup)
        needed = cls.CAPABILITIES.get(setup.precision)
        if needed and needed not in _imported("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(f"openvino computes in {setup.precision} only where the processor does, which this one does not.")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        openvino = _imported("openvino")
        wanted = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.HINTS[setup.precision]}
        if setup.threads:
            wanted["INFERENCE_NUM_THREADS"] = setup.threads
        with _reason_of_failure(f"OpenVINO cannot load {self.model_file(setup)}"):
            core = openvino.Core()
            network = core.read_model(self.model_file(setup))
            network.reshape([setup.batch, 3, 32, 32])
            self.request = core.compile_model(network, "CPU", wanted).create_infer_request()

    def logits(self, image: torch.Tensor) -> np.ndarray:
        return self.request.infer([image.numpy()], share_inputs=True, share_outputs=True)[0]


class CppEngine(Engine):
    """An engine that the C++ program calls, in a process of its own, with no Python in it."""

    precisions = ("float32", "float16", "bfloat16")

    @classmethod
    def prepare(cls, setup: Setup) -> None:
        cpp.build()

    def measure(self, test: Split, warmup: int) -> dict[str, np.ndarray]:
        """What `timer.run` measures, measured by the program itself."""
        setup = self.setup
        return cpp.infer(self.model_file(setup), test, warmup, setup.threads, setup.device, setup.precision)


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


ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (Eager, TorchScript, TorchScriptCpp, Compiled, AOTInductor, AOTInductorCpp, ONNXRuntime, OpenVINO,
                   EagerCUDAGraph, TorchScriptCUDAGraph)
}


def predict(name: str, setup: Setup, images: torch.Tensor, batch: int = 100) -> np.ndarray:
    """The logits (float32 N×10) that an engine gives `images` (uint8 N×3×32×32), in batches; its C++ twin gives the same."""
    setup = replace(setup, batch=batch)
    ENGINES[name].prepare(setup)
    engine = ENGINES[name](setup)
    padded = torch.cat([images, images[:1].expand(-len(images) % batch, -1, -1, -1)])  # the engine takes whole batches
    logits = [torch.as_tensor(engine.logits(some)).to("cpu", torch.float32, copy=True)
              for some in normalise(padded).contiguous().split(batch)]
    return torch.cat(logits)[: len(images)].numpy()


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """The program in `path`, on the CPU. Raises InputError where it is missing or no TorchScript."""
    return _loaded(path, lambda: torch.jit.load(path, map_location="cpu"))


def load_exported_program(path: Path) -> torch.export.ExportedProgram:
    """The program in `path`, on the CPU. Raises InputError where it is missing or no exported program."""
    return _loaded(path, lambda: torch.export.load(path))


def native_support(precision: str, environment: dict) -> str:
    """Whether the machine of a record's `environment` computes in `precision` itself: "native", or how else."""
    if precision == "float32":
        return "native"
    if environment["gpu"]:
        # CUDA C++ Programming Guide, arithmetic throughput
        least = {"tf32": [8, 0], "float16": [5, 3], "bfloat16": [8, 0], "int8": [6, 1]}[precision]
        return "native" if environment["gpu"]["compute_capability"] >= least else "emulated"
    if CPU_FEATURES[precision] & set(environment["cpu"]["features"]):
        return "native"
    return "without VNNI" if precision == "int8" else "emulated"


def _loaded(path: Path, load: Callable[[], Any]) -> Any:
    _exists(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            return load()
    except Exception as error:  # PyTorch raises what it likes on a file that is not its own
        raise InputError(f"{path} cannot be loaded: use a {path.name} that 2_export wrote.") from error


def _exists(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no model at {path}: run 2_export first.")


def _imported(library: str) -> ModuleType:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise InputError(f"{library} cannot be imported ({error}): pip install {library}.") from error


@contextmanager
def _reason_of_failure(what: str) -> Iterator[None]:
    """Make an engine's own exception an InputError of one sentence."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what} ({str(error).splitlines()[0] if str(error) else type(error).__name__}).") from error
