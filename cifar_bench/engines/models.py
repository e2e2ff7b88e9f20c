"""Trained and exported networks: found by the names of their runs, and loaded from their files."""

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from cifar_bench import RUN_NAME, records
from cifar_lib import InputError
from cifar_lib.model import ResNet9, network_from

INT8_FILE = "model-int8.onnx"  # the int8-quantized network among the exported files


def trained_network(run: str, seed: int) -> tuple[ResNet9, str]:
    """The network that 1_train of `run` trained with `seed`, and the SHA-256 of its weights.pt.

    Raises InputError.
    """
    path = trained_file(run, seed)
    if path.name == "weights.pt":
        return load_weights(path), records.sha256(path)
    return load_exported(path), records.read(path.parent)["measurements"]["weights_sha256"]


def trained_file(run: str, seed: int) -> Path:
    """The weights.pt that 1_train of `run` wrote with `seed`, or the model.pt that was made of it, as in the shipped run.

    Raises InputError where neither is there.
    """
    training, exported = (records.step_folder(run, step) for step in (f"train/seed{seed}", "export"))
    weights, model = training / "weights.pt", exported / "model.pt"
    if weights.is_file():
        return weights
    if model.is_file() and (training / "record.json").is_file():
        export, of_training = (records.read(folder)["measurements"] for folder in (exported, training))
        if (export["weights_sha256"], export["formats"]["model.pt"]["sha256"]) == (
                of_training["weights_sha256"], records.sha256(model)):
            return model
    raise InputError(f"there are no weights at {weights}: run 1_train with run={run} and seed={seed} first.")


def teacher(name: str) -> tuple[ResNet9, str]:
    """The `trained_network` that `name` names by its run and seed: "shipped/0", say. Raises InputError."""
    run, _, seed = name.rpartition("/") if isinstance(name, str) else ("", "", "")
    if not RUN_NAME.fullmatch(run) or not seed.isdecimal():
        raise InputError(f"{name!r} names no training run: give its run and its seed, as in 'shipped/0'.")
    return trained_network(run, int(seed))


def load_weights(path: Path) -> ResNet9:
    """The network with the weights in `path`, in eval mode. Raises InputError."""
    return _loaded(path, "1_train", lambda: network_from(torch.load(path, map_location="cpu", weights_only=True)))


def load_exported(path: Path) -> ResNet9:
    """The network of the TorchScript program in `path`, in eval mode, by its weights alone. Raises InputError.

    They are read from the file itself, since a version of PyTorch may no longer load the program.
    """
    def weights() -> dict[str, torch.Tensor]:
        with zipfile.ZipFile(path) as archive:
            return dict(_tensors(_Weights(archive).load()))

    return _loaded(path, "2_export", lambda: network_from(weights()))


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """The program in `path`, on the CPU. Raises InputError."""
    try:
        return _loaded(path, "2_export", lambda: torch.jit.load(path, map_location="cpu"))
    except InputError as error:
        load_exported(path)  # raises where the file is at fault
        raise InputError(f"PyTorch {torch.__version__} cannot load {path}: does it still have TorchScript?") from error


def load_exported_program(path: Path) -> torch.export.ExportedProgram:
    """The program in `path`, on the CPU. Raises InputError."""
    return _loaded(path, "2_export", lambda: torch.export.load(path))


def exists(path: Path, notebook: str = "2_export") -> None:
    """Raises InputError where there is no file at `path`, which the notebook writes."""
    if not path.is_file():
        raise InputError(f"{path} is not there: run {notebook} first.")


def _tensor(values: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> torch.Tensor:
    return values.as_strided(size, stride, offset)


PICKLED = {("torch", "FloatStorage"): torch.float32, ("torch", "LongStorage"): torch.int64,
           ("torch._utils", "_rebuild_tensor_v2"): _tensor, ("collections", "OrderedDict"): OrderedDict}


class _Weights(pickle.Unpickler):
    """Reads the modules of a TorchScript program as objects whose attributes are modules, tensors and plain values."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.files = {name.partition("/")[2]: name for name in archive.namelist()}  # all are in one folder
        self.archive = archive
        super().__init__(archive.open(self.files["data.pkl"]))

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (), {}) if module.startswith("__torch__.") else PICKLED[module, name]

    def persistent_load(self, pid: tuple) -> torch.Tensor:
        _, dtype, key, *_ = pid
        return torch.frombuffer(bytearray(self.archive.read(self.files[f"data/{key}"])), dtype=dtype)


def _tensors(module: object, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a module and of those within it, by their names in a state dictionary."""
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        elif hasattr(value, "__dict__"):
            yield from _tensors(value, f"{prefix}{name}.")


def _loaded(path: Path, notebook: str, load: Callable[[], Any]) -> Any:
    exists(path, notebook)
    try:
        with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
            return load()
    except Exception as error:  # PyTorch raises exceptions of many types on a damaged file
        raise InputError(f"{path} cannot be loaded: use a {path.name} that {notebook} wrote.") from error
