"""The engines that PyTorch runs, called from Python."""

import warnings
from abc import abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cifar_bench.engines import export
from cifar_bench.engines.base import PRECISIONS, PythonEngine, Setup, reason_of_failure
from cifar_bench.engines.models import load_exported, load_exported_program, load_torchscript


class PyTorchEngine(PythonEngine):
    """The base of engines that PyTorch runs; subclasses say how the network is loaded."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.dtype = PRECISIONS[setup.precision]
        self.layout = torch.channels_last if "channels-last" in self.options else torch.contiguous_format
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
        return self.network(image.to(self.setup.device, self.dtype, memory_format=self.layout))

    def exported_network(self) -> torch.nn.Module:
        """The network of model.pt as a Python module."""
        network = load_exported(self.model_file(self.setup))
        return network.to(self.setup.device, self.dtype, memory_format=self.layout).requires_grad_(False)


class Eager(PyTorchEngine):
    """PyTorch in its default mode, one operation at a time, with the weights of the exported model."""

    name = "eager"
    option_sets = ("channels-last", "contiguous")

    def load(self) -> torch.nn.Module:
        return self.exported_network()


class TorchScript(PyTorchEngine):
    """The exported program, frozen after it is loaded.

    `optimize_for_inference` is a prototype that makes some networks slower and others faster: on a CPU it computes float32 in
    oneDNN's own layout, and leaves 16-bit precisions as they are.
    """

    name = "torchscript"
    option_sets = ("frozen, channels-last", "frozen, contiguous", "frozen, optimize_for_inference")

    @classmethod
    def candidate_options(cls, device: str) -> tuple[str, ...]:
        more = ("frozen, optimize_for_inference, channels-last",) if device == "cuda" else ()
        return cls.option_sets + more

    def load(self) -> torch.nn.Module:
        network = load_torchscript(self.model_file(self.setup)).eval()
        _set_convolutions(network, tf32=self.setup.precision == "tf32")
        network = network.to(self.setup.device, self.dtype, memory_format=self.layout)
        with warnings.catch_warnings(action="ignore"):
            network = torch.jit.freeze(network)
            return torch.jit.optimize_for_inference(network) if "optimize_for_inference" in self.options else network


class CUDAGraph(PyTorchEngine):
    """Copy in, network, argmax and copy out, captured once as a CUDA graph, which one launch replays.

    A graph reads and writes the same memory each time, so the image is first copied to pinned memory; that copy is timed, too.
    While it waits for the GPU the CPU spins, or sleeps with the option `blocking`.
    """

    devices = ("cuda",)

    @classmethod
    def candidate_options(cls, device: str) -> tuple[str, ...]:
        first, *others = (f"{options}, CUDA graph" for options in super().candidate_options(device))
        return first, *others, f"{first}, blocking"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        with torch.inference_mode():
            self.image = torch.zeros(setup.batch_size, 3, 32, 32).pin_memory()
            self.predicted = torch.zeros(setup.batch_size, dtype=torch.int64).pin_memory()
            side_stream = torch.cuda.Stream()  # work can be captured only after it ran on another stream
            side_stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side_stream):
                for _ in range(3):
                    self._classify()
            torch.cuda.current_stream().wait_stream(side_stream)
            self.done = torch.cuda.Event(blocking="blocking" in self.options)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._classify()

    def _classify(self) -> None:
        image = self.image.to("cuda", non_blocking=True).to(self.dtype, memory_format=self.layout)
        self.scores = self.network(image)
        self.predicted.copy_(self.scores.argmax(1), non_blocking=True)

    @torch.inference_mode()
    def logits(self, image: torch.Tensor) -> torch.Tensor:
        self.image.copy_(image)
        self.graph.replay()
        self.done.record()
        self.done.synchronize()
        return self.scores

    def classify(self, image: torch.Tensor) -> int:
        self.logits(image)
        return int(self.predicted)


class EagerCUDAGraph(CUDAGraph, Eager):
    """PyTorch's operations, replayed from a graph."""

    name = "eager-cudagraph"


class TorchScriptCUDAGraph(CUDAGraph, TorchScript):
    """The exported program, replayed from a graph."""

    name = "torchscript-cudagraph"


class Compiled(PyTorchEngine):
    """The network of the exported model, compiled by TorchInductor at its first image."""

    name = "compile"
    option_sets = ("max-autotune, frozen, static shapes, channels-last",)
    needs_compiler = True

    def load(self) -> torch.nn.Module:
        torch._inductor.config.freezing = True
        return torch.compile(self.exported_network(), mode="max-autotune", fullgraph=True, dynamic=False)


class AOTInductor(PyTorchEngine):
    """The exported program (model.pt2), compiled ahead of time for this machine."""

    name = "aotinductor"
    option_sets = ("frozen, static shapes, channels-last",)
    file = "model.pt2"
    needs_compiler = True

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        kind = f"{setup.device}-{setup.precision}-{setup.threads}-{setup.batch_size}"
        return setup.cache / f"aotinductor-{kind}.pt2"

    @classmethod
    def compile(cls, setup: Setup) -> None:
        if cls.model_file(setup).exists():
            return
        export.make_missing(setup.exported, cls.file)
        dtype, channels_last = PRECISIONS[setup.precision], torch.channels_last
        network = load_exported_program(setup.exported / cls.file).module().to(setup.device, dtype)
        example = torch.zeros(setup.batch_size, 3, 32, 32, dtype=dtype, device=setup.device).to(memory_format=channels_last)
        with torch.no_grad(), reason_of_failure(f"{cls.name} cannot compile the network here"):
            program = torch.export.export(network.to(memory_format=channels_last), (example,))
            with TemporaryDirectory(dir=setup.cache) as scratch:
                package = torch._inductor.aoti_compile_and_package(
                    program, package_path=f"{scratch}/model.pt2",
                    inductor_configs={"freezing": True, "cpp.threads": setup.threads or -1})  # a constant in the compiled code
                Path(package).replace(cls.model_file(setup))

    def load(self) -> torch.nn.Module:
        return torch._inductor.aoti_load_package(str(self.model_file(self.setup)))


def _set_convolutions(network: torch.jit.ScriptModule, tf32: bool) -> None:
    """Let cuDNN search for the fastest algorithm of each convolution, and allow TF32 or not.

    Tracing writes PyTorch's flags into the program as constants (no search, TF32 allowed). They override those of the process
    that runs it, so that float32 would be TF32 on a GPU. On a CPU they change nothing.
    """
    for module in network.modules():
        graph = module.graph
        for convolution in graph.findAllNodes("aten::_convolution"):
            graph.setInsertPoint(convolution)
            for place, value in (9, True), (12, tf32):  # benchmark and allow_tf32 among the operation's arguments
                convolution.replaceInput(place, graph.insertConstant(value))
