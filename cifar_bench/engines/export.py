"""Exports a network to files that run without this project: the same bytes for the same network, on any machine.

PyTorch adds the source line of each operation for its error messages. These are paths of the machine and would give the files
another hash in every folder, so they are removed.
"""

import io
import logging
import warnings
import zipfile
from pathlib import Path

import torch

from cifar_bench import records
from cifar_bench.engines import layers
from cifar_bench.engines.base import reason_of_failure
from cifar_bench.engines.models import INT8_FILE, exists, load_exported

EXAMPLE = torch.zeros(2, 3, 32, 32)  # with a batch size of 1, PyTorch would fix the batch size


def torchscript(network: torch.nn.Module, path: Path) -> None:
    """Write a TorchScript program: float32 images N×3×32×32 in, logits N×10 out, as in all of these files."""
    whole = io.BytesIO()
    # Tracing records these flags in the program: PyTorch's defaults, not those of this process.
    defaults = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True)
    with warnings.catch_warnings(action="ignore"), defaults:  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(network, EXAMPLE), whole)
    with zipfile.ZipFile(whole) as read, records.replacing(path) as scratch, zipfile.ZipFile(scratch, "w") as written:
        for entry in read.infolist():
            if not entry.filename.endswith((".debug_pkl", "/serialization_id")):  # the id is a hash of the paths, too
                written.writestr(entry, read.read(entry))


def exported_program(network: torch.nn.Module, path: Path) -> None:
    """Write a program of `torch.export`."""
    program = torch.export.export(network, (EXAMPLE,), dynamic_shapes=_any_batch())
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    with records.replacing(path) as scratch, scratch.open("wb") as file:
        torch.export.save(program, file)


def onnx(network: torch.nn.Module, path: Path) -> None:
    """Write an ONNX file with input `images` and output `logits`."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing, which it does not need
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(network, (EXAMPLE,), dynamic_shapes=_any_batch(), dynamo=True, verbose=False,
                                    input_names=["images"], output_names=["logits"])
    for node in program.model.graph:
        node.metadata_props.clear()
    with records.replacing(path) as scratch:
        program.save(scratch)


FORMATS = {"model.pt": torchscript, "model.pt2": exported_program, "model.onnx": onnx}


def make_missing(folder: Path, name: str) -> None:
    """Make the file `name` of FORMATS in `folder` from model.pt, unless it exists. Raises InputError.

    model.pt itself is made where only the int8-quantized network is there: its weights are then those of 8 bits.
    """
    if (folder / name).is_file():
        return
    source, load = "model.pt", load_exported
    if name == source and (folder / INT8_FILE).is_file():
        source, load = INT8_FILE, layers.network
    exists(folder / source)
    with reason_of_failure(f"{name} cannot be made from {source}"):
        FORMATS[name](load(folder / source), folder / name)


def _any_batch() -> tuple[dict]:
    """Dynamic shapes that leave the batch size open; a function, as making them takes a third of a second."""
    return ({0: torch.export.Dim("batch")},)
