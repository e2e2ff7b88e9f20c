"""What engines share: their setup, their interface, the cache of compiled files, and errors of one sentence.

The image is a normalized float32 tensor 1×3×32×32 in ordinary host memory, the predicted class an int there; what happens in
between (copy in, conversion to the precision, forward pass, argmax, copy out) is the timed region.
"""

import hashlib
import importlib
import io
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from cifar_bench import error_summary, records
from cifar_bench.engines.models import INT8_FILE, exists
from cifar_bench.records.environment import compiler, cpu_features, hardware, require_compiler
from cifar_lib import ROOT, InputError, cifar10

LIBRARIES = ("torch", "onnx", "onnxruntime", "executorch", "torchao")  # that compile or quantize
LOGGED_IMAGES = 200  # the first images, whose logits are compared with PyTorch's

# Each precision and the PyTorch type of the network's parameters: TensorFloat-32 rounds float32 only when it multiplies.
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
              "int8": torch.int8}


@dataclass(frozen=True)
class Setup:
    """What an engine runs, and how."""

    exported: Path  # the folder with 2_export's files
    cache: Path  # the folder for the files that `compile` makes of them
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 0  # on the CPU; 0 is the library's default
    batch_size: int = 1
    options: str = ""  # one of the engine's `candidate_options`; "" is the first


class Engine:
    """What every engine declares, and its setup. Raises InputError where the engine cannot run on this machine."""

    name: str
    option_sets: tuple[str, ...] = ("default options",)  # alternatives, each a list of options in words
    tuned_as: str | None = None  # the engine whose fastest options and threads this engine uses, too
    library = "torch"  # the package or module whose version is recorded
    file = "model.pt"  # the exported file that it runs
    quantizer: str | None = None  # the engine whose int8 quantization it runs
    precisions = ("float32", "tf32", "float16", "bfloat16")
    devices = ("cpu", "cuda")
    needs_compiler = False

    def __init__(self, setup: Setup) -> None:
        self.check(setup)
        exists(self.model_file(setup))
        self.setup = setup
        self.options = (setup.options or self.candidate_options(setup.device)[0]).split(", ")

    @classmethod
    def check(cls, setup: Setup) -> None:
        """Raises InputError where the engine cannot compute in this setup on this machine."""
        for wanted, offered in ((setup.precision, cls.precisions), (setup.device, cls.devices)):
            if wanted not in offered:
                raise InputError(f"{cls.name} is not set up for {wanted} here, only for {', '.join(offered)}.")
        if setup.precision == "tf32" and (setup.device == "cpu" or torch.cuda.get_device_capability() < (8, 0)):
            raise InputError("tf32 needs an NVIDIA GPU of compute capability 8.0 or higher.")
        if cls.needs_compiler:
            require_compiler()

    @classmethod
    def candidate_options(cls, device: str) -> tuple[str, ...]:
        """The option sets that may be the fastest on a device: autotuning tries them all."""
        return cls.option_sets

    @classmethod
    def compile(cls, setup: Setup) -> None:
        """Make the files that the engine loads, once and before timing."""

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        """The file that the engine loads."""
        return setup.exported / cls.file

    @classmethod
    def version(cls) -> str:
        """The library's version; the module tells where its package has another name, as onnxruntime-gpu."""
        return _version(cls.library) or import_library(cls.library).__version__


class PythonEngine(Engine, ABC):
    """An engine called from Python."""

    @abstractmethod
    def logits(self, image: torch.Tensor) -> torch.Tensor | np.ndarray:
        """The logits of an image, 1×10 (or batch size×10), wherever the engine leaves them."""

    def classify(self, image: torch.Tensor) -> int:
        return int(self.logits(image).argmax())

    def classes(self, images: torch.Tensor) -> np.ndarray:
        """The predicted classes of a batch, N×3×32×32, in host memory."""
        return torch.as_tensor(self.logits(images)).argmax(1).cpu().numpy()


def cache_folder(exported: Path) -> Path:
    """The folder under build/ for the files that engines compile or quantize from an exported model, so that it is done once.

    It depends on the model, the hardware, the C++ compiler, the calibration data, the versions of the libraries and the code of
    the engines. Variables that would change what is compiled are dropped (see cifar_bench).
    """
    exists(exported / "model.pt")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    data = "synthetic" if cifar10.location() == cifar10.SYNTHETIC else "CIFAR-10"
    names = [*map(hardware, devices), *cpu_features(), str(compiler()), data, *map(_version, LIBRARIES)]
    files = [exported / "model.pt", *exported.glob(INT8_FILE), *sorted(Path(__file__).parent.glob("*.py"))]
    key = hashlib.sha256(b"".join([*map(str.encode, names), *map(Path.read_bytes, files)])).hexdigest()[:16]
    folder = ROOT / "build" / "compiled" / key
    with records.scratch_folder(folder):  # fail now where nothing can be written
        return folder


def _version(library: str) -> str:
    """The version of a package; empty where no package of that name is installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def import_library(library: str) -> ModuleType:
    """The module of that name. Raises InputError where it is missing."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise InputError(f"{library} cannot be imported ({error}): pip install {library}.") from error


@contextmanager
def reason_of_failure(what: str) -> Iterator[None]:
    """Turn a library's exception into an InputError of one sentence: `what` failed, and the exception's summary."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what} ({error_summary(str(error)).rstrip('.') or type(error).__name__}).") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what libraries print: progress bars, warnings, advice, and ExecuTorch's log."""
    logging.disable(logging.WARNING)
    nowhere = io.StringIO()
    try:
        with redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
