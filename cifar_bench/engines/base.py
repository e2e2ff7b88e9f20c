"""What engines share: what each is told (`Setup`), what each must say and do, and how one that cannot run gives its reason.

The image is a normalised float32 tensor 1×3×32×32 in ordinary host memory, the class an int there; what happens in
between (copy in, conversion to the precision, forward pass, argmax, copy out) is what the timer times.
"""

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from cifar_bench import error_summary
from cifar_bench.engines.models import exists
from cifar_bench.records.environment import hardware
from cifar_lib import ROOT, InputError, cifar10

LOGGED_IMAGES = 200  # the first ones, whose logits are kept: enough to see how far an engine's are off

# Numbers of the network and what PyTorch calls them: TensorFloat-32 rounds float32 as it multiplies.
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
              "int8": torch.int8}
# What a CPU must offer, one of these, to compute in a precision by itself (x86, then Arm). Without it, 16 bits are converted
# to float32 and back, and 8-bit integers multiplied by instructions made for something else.
CPU_FEATURES = {"tf32": set(), "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
                "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
                "int8": {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}}


@dataclass(frozen=True)
class Setup:
    """What an engine is to run, and how."""

    exported: Path  # the folder with 2_export's files
    cache: Path  # a folder for what `compile` makes of them
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 0  # on the CPU; 0 leaves the library's default
    batch: int = 1  # images at once
    options: str = ""  # one of the engine's `candidate_options`; "" is the first


class Engine:
    """What every engine says of itself, and how it is set up. Raises InputError where it cannot run here."""

    name: str
    options: tuple[str, ...] = ("the library's own",)  # what can be set for low latency, in words that decide what is set
    tuned_as: str | None = None  # the engine whose fastest options and threads suit this one, too
    library = "torch"  # the package or module whose version counts
    file = "model.pt"  # which of the exported files it runs
    precisions = ("float32", "tf32", "float16", "bfloat16")
    devices = ("cpu", "cuda")

    def __init__(self, setup: Setup) -> None:
        self.check(setup)
        exists(self.model_file(setup))
        self.setup = setup
        self.options = (setup.options or self.candidate_options(setup.device)[0]).split(", ")

    @classmethod
    def check(cls, setup: Setup) -> None:
        """Whether the engine can compute so on this machine; InputError says why not."""
        for wanted, offered in ((setup.precision, cls.precisions), (setup.device, cls.devices)):
            if wanted not in offered:
                raise InputError(f"{cls.name} is not set up for {wanted} here, only for {', '.join(offered)}.")
        if setup.precision == "tf32" and (setup.device == "cpu" or torch.cuda.get_device_capability() < (8, 0)):
            raise InputError("tf32 is what NVIDIA's GPUs multiply in, from compute capability 8.0 on: here there is none.")

    @classmethod
    def candidate_options(cls, device: str) -> tuple[str, ...]:
        """The options that may suit a machine best: all are tried, and the fastest is measured."""
        return cls.options

    @classmethod
    def compile(cls, setup: Setup) -> None:
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
            return import_library(cls.library).__version__


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


def cache_folder(exported: Path) -> Path:
    """Where what engines make of an exported model is kept, so that it is made once.

    A folder under build/ for each model, hardware, data to calibrate with, version of the libraries and of the code that
    prepares.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    exists(exported / "model.pt")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    data = "synthetic" if cifar10.location() == cifar10.SYNTHETIC else "CIFAR-10"
    words = [*map(hardware, devices), data, *map(_version, ("torch", "onnx", "onnxruntime", "torchao"))]
    parts = [(exported / "model.pt").read_bytes(), *map(str.encode, words), *(path.read_bytes() for path in sources)]
    folder = ROOT / "build" / "compiled" / hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _version(library: str) -> str:
    """The version of a library; nothing where it is not installed, or by a package of another name."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def native_support(precision: str, environment: dict) -> str:
    """Whether the machine of a record's `environment` computes in `precision` itself: "native", or how else."""
    if precision == "float32":
        return "native"
    if environment["gpu"]:
        # CUDA C++ Programming Guide, arithmetic throughput: 6.1 has float16, at a 64th of float32's rate
        capability = environment["gpu"]["compute_capability"]
        least = {"tf32": [8, 0], "float16": [5, 3], "bfloat16": [8, 0], "int8": [6, 1]}[precision]
        return "native" if capability >= least and (precision, capability) != ("float16", [6, 1]) else "emulated"
    if CPU_FEATURES[precision] & set(environment["cpu"]["features"]):
        return "native"
    return "without VNNI" if precision == "int8" else "emulated"


def import_library(library: str) -> ModuleType:
    """The module of that name. Raises InputError where it is missing."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise InputError(f"{library} cannot be imported ({error}): pip install {library}.") from error


@contextmanager
def reason_of_failure(what: str) -> Iterator[None]:
    """Make an engine's own exception an InputError of one sentence."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what} ({error_summary(str(error)).rstrip('.') or type(error).__name__}).") from error
