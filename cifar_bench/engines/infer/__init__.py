"""The C++ programs, built from the installed PyTorch with CMake and Ninja: `infer` times images, `probe` the machine.

    python -m cifar_bench.engines.infer     # builds it and prints its path; it runs without Python, see its --help
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from cifar_bench import error_summary, records
from cifar_bench.records.environment import compiler, hardware, require_compiler
from cifar_bench.records.state import interference
from cifar_lib import ROOT, InputError
from cifar_lib.data import Split

SOURCES = Path(__file__).parent
ONEDNN = Path(os.environ.get("DNNLROOT") or sys.prefix)  # where pip and conda install oneDNN
VERSION_HEADER = ONEDNN / "include/oneapi/dnnl/dnnl_version.h"
OPTIONS = {"frozen", "optimize_for_inference", "channels-last"}  # those that the program knows


def build(name: str = "infer") -> Path:
    """The program of this name, built unless it exists; about half a minute. Raises InputError where it cannot be built."""
    libraries = {"TORCH": Path(torch.__file__).parent}
    for library in ("openvino", "executorch"):
        if spec := importlib.util.find_spec(library):
            libraries[library.upper()] = Path(spec.submodule_search_locations[0])
    versions = [metadata.version(name.lower()) for name in libraries]
    if version := onednn_version():
        libraries["ONEDNN"] = ONEDNN
        versions.append(version)
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in {".cpp", ".hpp", ".txt"})
    sources = [path.read_text(encoding="utf-8") for path in files]
    # Only the probe is compiled for this processor; describing that takes a second, which no timed program should wait for.
    parts = [*libraries.values(), *versions, *sources, compiler(), *([hardware("cpu")] if name == "probe" else [])]
    key = hashlib.sha256("".join(map(str, parts)).encode()).hexdigest()[:16]
    program = ROOT / "build" / f"{name}-{key}"
    if program.is_file():
        return program
    require_compiler()
    with records.scratch_folder(program.parent) as folder:
        call(_tool("cmake"), "-G", "Ninja", "-S", SOURCES, "-B", folder, "-DCMAKE_BUILD_TYPE=Release",
             f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}", *(f"-D{library}={path}" for library, path in libraries.items()))
        call(_tool("cmake"), "--build", folder, "--target", name)
        with records.replacing(program) as scratch:
            shutil.copy2(Path(folder) / name, scratch)
    return program


def onednn_version() -> str:
    """The version of the installed oneDNN; empty where it or its headers are missing."""
    if not VERSION_HEADER.is_file():
        return ""
    header = VERSION_HEADER.read_text(encoding="utf-8")
    return ".".join(re.search(rf"DNNL_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))


def run(
    model_file: Path, test: Split, logits: int, warmup: int = 0, threads: int = 0, device: str = "cpu",
    precision: str = "float32", options: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Classify the images of `test` one at a time with the program and those of `options` that it knows.

    Returns `ns` and `warmup_ns` (int64, one entry per image), `classes` (uint8), `logits` (float32 N×10, of the first `logits`
    images), `load_ns`, `background_cores` and `stopped_cores`. Raises InputError with the program's error message.
    """
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder) / "images.bin", Path(folder) / "out.pt"
        np.concatenate([test.labels.numpy()[:, None].astype(np.uint8), test.images.flatten(1).numpy()], 1).tofile(images)
        call(build(), "--model", model_file, "--data", images, "--images", len(test), "--warmup", warmup, "--threads", threads,
             "--device", device, "--precision", precision, "--options", ",".join(OPTIONS & set(options)), "--logits", logits,
             "--parent", os.getpid(), "--out", out)
        measured = {name: values.numpy() for name, values in torch.load(out, weights_only=False).items()}
    used, own = measured.pop("processor_s")
    seconds = measured["ns"].sum() / 1e9
    return {**measured, **interference(max((used - own) / seconds, 0.0), own / seconds)}


def _tool(name: str) -> str:
    """The path of CMake or Ninja: that of this Python's environment, if it has one."""
    tool = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if not tool:
        raise InputError(f"{name} was not found: pip install {name}.")
    return tool


def call(*command: object) -> str:
    """What a command prints. Raises InputError where it fails."""
    process = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", errors="replace")
    if process.returncode:
        lines = (process.stderr + process.stdout).splitlines()
        reasons = [line for line in lines if re.search("error: |No space left", line, re.IGNORECASE)] + [
            line for line in lines if "error" in line.lower()] + lines
        reason = error_summary("\n".join(reasons)) or f"status {process.returncode}"
        raise InputError(f"{Path(str(command[0])).name} failed ({reason}).")
    return process.stdout
