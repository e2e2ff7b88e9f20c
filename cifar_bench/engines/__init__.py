"""Engines: each turns an exported model into `classify(image) -> class`, with the same timed region for all.

A new engine is a subclass of PythonEngine (base.py), listed in ENGINES here.
onnx.py shows all that an engine needs.
"""

from dataclasses import replace

import numpy as np
import torch

from cifar_bench.engines.base import Engine, Setup
from cifar_bench.engines.cpp import (
    AOTInductorCpp,
    CppEngine,
    ExecuTorchCpp,
    OneDNN,
    OpenVINOCpp,
    TorchScriptCpp,
    TorchScriptPlain,
)
from cifar_bench.engines.executorch import ExecuTorch
from cifar_bench.engines.onnx import ONNXRuntime, OpenVINO
from cifar_bench.engines.pytorch import AOTInductor, Compiled, Eager, EagerCUDAGraph, TorchScript, TorchScriptCUDAGraph
from cifar_lib.data import Split, normalize

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (Eager, TorchScript, TorchScriptCpp, TorchScriptPlain, Compiled, AOTInductor, AOTInductorCpp, ONNXRuntime,
                   OpenVINO, OpenVINOCpp, ExecuTorch, ExecuTorchCpp, OneDNN, EagerCUDAGraph, TorchScriptCUDAGraph)
}


def predict(name: str, setup: Setup, images: torch.Tensor, batch_size: int = 100) -> np.ndarray:
    """The logits (float32 N×10) that an engine computes for `images` (uint8 N×3×32×32), in batches.

    A C++ engine's Python twin, which runs the same file, computes them in its place. An engine that compiles a file for one
    batch size keeps the batch size of `setup`: the timed file is scored, not another.
    """
    name = ENGINES[name].tuned_as or name
    if ENGINES[name].model_file(setup) != ENGINES[name].model_file(replace(setup, batch_size=batch_size)):
        batch_size = setup.batch_size
    setup = replace(setup, batch_size=batch_size)
    ENGINES[name].compile(setup)
    engine = ENGINES[name](setup)
    if isinstance(engine, CppEngine):  # without a twin: it takes one image at a time
        split = Split(images, torch.zeros(len(images), dtype=torch.int64), {})
        return engine.measure(split, 0, len(split))["logits"]
    padded = torch.cat([images, images[:1].expand(-len(images) % batch_size, -1, -1, -1)])  # engines take whole batches only
    logits = [torch.as_tensor(engine.logits(batch)).to("cpu", torch.float32, copy=True)
              for batch in normalize(padded).contiguous().split(batch_size)]
    return torch.cat(logits)[: len(images)].numpy()
