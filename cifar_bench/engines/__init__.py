"""Engines: each turns an exported model into `classify(image) -> class`, with the same boundary for all.

A new engine is a subclass of PythonEngine (base.py), listed in ENGINES here and, for its color, in ENGINES of report/style.py.
ONNXRuntime and its parent (onnx.py) show all that one needs.
"""

from dataclasses import replace

import numpy as np
import torch

from cifar_bench.engines.base import Engine, Setup
from cifar_bench.engines.cpp import AOTInductorCpp, CppEngine, OneDNN, OpenVINOCpp, TorchScriptCpp, TorchScriptPlain
from cifar_bench.engines.onnx import ONNXRuntime, OpenVINO
from cifar_bench.engines.pytorch import AOTInductor, Compiled, Eager, EagerCUDAGraph, TorchScript, TorchScriptCUDAGraph
from cifar_lib.data import Split, normalise

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine
    for engine in (Eager, TorchScript, TorchScriptCpp, TorchScriptPlain, Compiled, AOTInductor, AOTInductorCpp, ONNXRuntime,
                   OpenVINO, OpenVINOCpp, OneDNN, EagerCUDAGraph, TorchScriptCUDAGraph)
}


def predict(name: str, setup: Setup, images: torch.Tensor, batch: int = 100) -> np.ndarray:
    """The logits (float32 N×10) that an engine gives `images` (uint8 N×3×32×32), in batches; a C++ twin gives the same.

    A file that is made for one size of batch keeps it: another file would not be the one that is timed.
    """
    name = ENGINES[name].tuned_as or name
    if ENGINES[name].model_file(setup) != ENGINES[name].model_file(replace(setup, batch=batch)):
        batch = setup.batch
    setup = replace(setup, batch=batch)
    ENGINES[name].compile(setup)
    engine = ENGINES[name](setup)
    if isinstance(engine, CppEngine):  # it has no twin, and takes one image at a time
        split = Split(images, torch.zeros(len(images), dtype=torch.int64), {})
        return engine.measure(split, 0, len(split))["logits"]
    padded = torch.cat([images, images[:1].expand(-len(images) % batch, -1, -1, -1)])  # the engine takes whole batches
    logits = [torch.as_tensor(engine.logits(some)).to("cpu", torch.float32, copy=True)
              for some in normalise(padded).contiguous().split(batch)]
    return torch.cat(logits)[: len(images)].numpy()
