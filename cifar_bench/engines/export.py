"""Writes a network as a file that runs without this project: the same bytes for the same network, on any machine.

PyTorch adds, for its error messages, where in Python each operation came from: paths of this machine, which would give
the files another hash in every folder. They are left out.
"""

import io
import logging
import warnings
import zipfile
from pathlib import Path

import torch

from cifar_bench import records
from cifar_bench.engines.base import reason_of_failure
from cifar_bench.engines.models import exists, load_exported

EXAMPLE = torch.zeros(2, 3, 32, 32)  # of a batch of one, PyTorch would write down that it always is one


def torchscript(network: torch.nn.Module, path: Path) -> None:
    """Write what `torch.jit.load` reads: float32 images N×3×32×32 in, logits N×10 out, as in all of these files."""
    whole = io.BytesIO()
    # Tracing writes these options down: PyTorch's defaults, whatever this process has set.
    defaults = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=True)
    with warnings.catch_warnings(action="ignore"), defaults:  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(network, EXAMPLE), whole)
    with zipfile.ZipFile(whole) as read, records.replacing(path) as scratch, zipfile.ZipFile(scratch, "w") as written:
        for entry in read.infolist():
            if not entry.filename.endswith((".debug_pkl", "/serialization_id")):  # the id is made from the paths, too
                written.writestr(entry, read.read(entry))


def exported_program(network: torch.nn.Module, path: Path) -> None:
    """Write what `torch.export.load` reads."""
    program = torch.export.export(network, (EXAMPLE,), dynamic_shapes=_any_batch())
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    with records.replacing(path) as scratch, scratch.open("wb") as file:
        torch.export.save(program, file)


def onnx(network: torch.nn.Module, path: Path) -> None:
    """Write an ONNX file with input `images` and output `logits`."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing, which is not needed
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(network, (EXAMPLE,), dynamic_shapes=_any_batch(), dynamo=True, verbose=False,
                                    input_names=["images"], output_names=["logits"])
    for node in program.model.graph:
        node.metadata_props.clear()
    with records.replacing(path) as scratch:
        program.save(scratch)


FORMATS = {"model.pt": torchscript, "model.pt2": exported_program, "model.onnx": onnx}


def make_missing(folder: Path, name: str) -> None:
    """Make the file `name` of FORMATS in `folder` from model.pt, where it is not there yet. Raises InputError."""
    if (folder / name).is_file():
        return
    exists(folder / "model.pt")
    with reason_of_failure(f"{name} cannot be made from model.pt"):
        FORMATS[name](load_exported(folder / "model.pt"), folder / name)


def _any_batch() -> tuple[dict]:
    """Leaves the number of images open; made when asked for, since it takes a third of a second that no timed process needs."""
    return ({0: torch.export.Dim("batch")},)
