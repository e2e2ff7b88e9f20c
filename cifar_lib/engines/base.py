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

from cifar_lib import ROOT, InputError, own_sentence
from cifar_lib.model import exists, loaded
from cifar_lib.records import cifar10
from cifar_lib.records.environment import hardware

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
    prepared: Path  # a folder for what `prepare` makes of them
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 0  # on the CPU; 0 leaves the library's default
    batch: int = 1  # images at once
    settings: str = ""  # one of the engine's `choices`; "" is the first


class Engine:
    """What every engine says of itself, and how it is set up. Raises InputError where it cannot run here."""

    name: str
    settings: tuple[str, ...] = ("the library's own",)  # what can be set for low latency, in words that decide what is set
    tuned_as: str | None = None  # the engine whose fastest settings and threads suit this one, too
    library = "torch"  # the package or module whose version counts
    file = "model.pt"  # which of the exported files it runs
    precisions = ("float32", "tf32", "float16", "bfloat16")
    devices = ("cpu", "cuda")

    def __init__(self, setup: Setup) -> None:
        self.check(setup)
        exists(self.model_file(setup))
        self.setup = setup
        self.words = (setup.settings or self.choices(setup.device)[0]).split(", ")

    @classmethod
    def check(cls, setup: Setup) -> None:
        """Whether the engine can compute so on this machine; InputError says why not."""
        for wanted, offered in ((setup.precision, cls.precisions), (setup.device, cls.devices)):
            if wanted not in offered:
                raise InputError(f"{cls.name} is not set up for {wanted} here, only for {', '.join(offered)}.")
        if setup.precision == "tf32" and (setup.device == "cpu" or torch.cuda.get_device_capability() < (8, 0)):
            raise InputError("tf32 is what NVIDIA's GPUs multiply in, from compute capability 8.0 on: here there is none.")

    @classmethod
    def choices(cls, device: str) -> tuple[str, ...]:
        """The settings that may suit a machine best: all are tried, and the fastest is measured."""
        return cls.settings

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


def prepared_folder(exported: Path) -> Path:
    """Where what engines make of an exported model is kept, so that it is made once.

    A folder under build/ for each model, hardware, data to calibrate with, version of the libraries and of the code that
    prepares.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    exists(exported / "model.pt")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    data = "stand-in" if cifar10.name_for_child() == cifar10.STAND_IN else "CIFAR-10"
    words = [*map(hardware, devices), data, *map(_version, ("torch", "onnx", "onnxruntime", "torchao"))]
    parts = [(exported / "model.pt").read_bytes(), *map(str.encode, words), *(path.read_bytes() for path in sources)]
    folder = ROOT / "build" / "prepared" / hashlib.sha256(b"".join(parts)).hexdigest()[:16]
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


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """The program in `path`, on the CPU. Raises InputError where it is missing or no TorchScript."""
    return loaded(path, lambda: torch.jit.load(path, map_location="cpu"))


def load_exported_program(path: Path) -> torch.export.ExportedProgram:
    """The program in `path`, on the CPU. Raises InputError where it is missing or no exported program."""
    return loaded(path, lambda: torch.export.load(path))


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
        raise InputError(f"{what} ({own_sentence(str(error)).rstrip('.') or type(error).__name__}).") from error
