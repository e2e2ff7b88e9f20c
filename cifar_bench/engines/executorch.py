"""The engine that PyTorch offers for inference without PyTorch: ExecuTorch, with Google's XNNPACK for its kernels."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch

from cifar_bench import records
from cifar_bench.engines import export, quantization
from cifar_bench.engines.base import PythonEngine, Setup, import_library, quiet, reason_of_failure
from cifar_bench.engines.models import load_exported_program


class ExecuTorch(PythonEngine):
    """The exported program (model.pt2), lowered to XNNPACK in float32 or int8-quantized, for one batch size."""

    name = "executorch"
    option_sets = ("XNNPACK, batch size fixed",)
    library = "executorch"
    file = "model.pt2"
    precisions = ("float32", "int8")
    devices = ("cpu",)
    quantizer = "executorch"
    loaded: ClassVar[Callable[[], "ExecuTorch | None"]] = lambda: None

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        return setup.cache / f"executorch-{setup.precision}-{setup.batch_size}.pte"

    @classmethod
    def compile(cls, setup: Setup) -> None:
        if cls.model_file(setup).exists():
            return
        import_library("executorch")
        export.make_missing(setup.exported, cls.file)
        network = load_exported_program(setup.exported / cls.file).module()
        example = (torch.zeros(setup.batch_size, 3, 32, 32),)
        images = quantization.calibration_images() if setup.precision == "int8" else None
        with torch.no_grad(), quiet(), reason_of_failure("ExecuTorch cannot lower the network"):
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            if images is not None:
                network = quantization.for_xnnpack(network, images)
            program = torch.export.export(network, example)
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
            with records.replacing(cls.model_file(setup)) as scratch, scratch.open("wb") as file:
                lowered.write_to_file(file)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._load()

    def _load(self) -> None:
        """Load the program for this engine's threads.

        All networks of a process share one pool of threads. One that was loaded before the pool is reset would crash.
        """
        with quiet():
            pybindings = import_library("executorch.extension.pybindings.portable_lib")
            runtime = import_library("executorch.runtime").Runtime.get()
            if other := ExecuTorch.loaded():
                ExecuTorch.loaded = lambda: None
                del other.network, other.program
            if self.setup.threads:
                pybindings._unsafe_reset_threadpool(self.setup.threads)  # there is no other way
            with reason_of_failure("ExecuTorch cannot load the network"):
                self.program = runtime.load_program(self.model_file(self.setup))
                self.network = self.program.load_method("forward")
            ExecuTorch.loaded = weakref.ref(self)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        if ExecuTorch.loaded() is not self:
            self._load()
        return self.network.execute([image])[0]
