"""The layers of an ONNX file of this network as plain arrays, for a program that computes them one by one (infer/onednn.cpp).

A file of them holds tensors by name, as `torch.save` writes and libtorch reads them: float32, but for weights in 8 bits. For
each convolution n, from 0 in the order of computing: `weight<n>` (outputs×inputs×3×3) and `bias<n>` (outputs), batch
normalisation folded in; `linear` (10×features), the last layer with the factor behind it. In 8 bits the weights are whole
numbers, and besides there are `product_scale<n>` (outputs), what a product of them and an activation stands for,
`output_scale<n>` (1), what one step of the activations behind the convolution stands for, those of the sum where a shortcut is
added, and `input_scale` (1), the image's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cifar_bench import records
from cifar_bench.engines.base import import_library
from cifar_lib import InputError

if TYPE_CHECKING:
    from onnx import NodeProto


def write(model: Path, path: Path) -> None:
    """Write the layers of `model`, an ONNX file of `export` or of `quantization`, to `path`. Raises InputError."""
    graph = _Graph(model)
    arrays: dict[str, np.ndarray] = {}
    for number, convolution in enumerate(graph.nodes_of("Conv")):
        arrays[f"weight{number}"], weight_scale = graph.stored(convolution.input[1])
        bias, bias_scale = graph.stored(convolution.input[2])
        arrays[f"bias{number}"] = bias if bias_scale is None else bias * bias_scale
        if weight_scale is not None:
            input_scale = graph.scale(convolution.input[0])
            if number == 0:
                arrays["input_scale"] = input_scale
            arrays[f"product_scale{number}"] = input_scale * weight_scale
            arrays[f"output_scale{number}"] = graph.scale_behind(convolution)
    linear, factor = graph.nodes_of("Gemm")[0], graph.nodes_of("Mul")[0]
    arrays["linear"] = graph.stored(linear.input[1])[0] * graph.stored(factor.input[1])[0]
    with records.replacing(path) as scratch:
        torch.save({name: torch.from_numpy(np.array(array, np.int8 if array.dtype == np.int8 else np.float32))
                    for name, array in arrays.items()}, scratch)


class _Graph:
    """What the nodes of an ONNX file are made of; in 8 bits, arrays and activations are behind nodes that give their scale."""

    def __init__(self, path: Path) -> None:
        onnx = import_library("onnx")
        graph = onnx.load(path).graph
        self.nodes = graph.node
        self.arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.users: dict[str, list] = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def nodes_of(self, kind: str) -> list["NodeProto"]:
        return [node for node in self.nodes if node.op_type == kind]

    def stored(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """An array of the file, as it is stored, and its scale if it is quantized."""
        if name in self.arrays:
            return self.arrays[name], None
        node = self.maker[name]
        return self.arrays[node.input[0]], self.arrays[node.input[1]]

    def scale(self, name: str) -> np.ndarray:
        """The scale of the activations of that name."""
        return self.arrays[self.maker[name].input[1]]

    def scale_behind(self, node: "NodeProto") -> np.ndarray:
        """The scale of the activations behind a node, of their sum where a shortcut is added. Raises InputError."""
        quantization, = self.users[node.output[0]]
        if self.arrays[quantization.input[2]] != 0:
            raise InputError("activations behind a ReLU are expected to have zero as their least value in 8 bits.")
        dequantised = self.users[quantization.output[0]][0].output[0]
        added = [user for user in self.users[dequantised] if user.op_type == "Add" and user.input[1] == dequantised]
        return self.scale_behind(added[0]) if added else self.arrays[quantization.input[1]]
