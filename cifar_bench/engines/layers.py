"""The layers of an ONNX file of this network: as plain arrays, which infer/onednn.cpp computes one by one, or as a network.

A .layers file holds tensors by name, as `torch.save` writes and libtorch reads them: float32, except int8 weights. For each
convolution n, from 0 in the order of execution: `weight<n>` (outputs×inputs×3×3) and `bias<n>` (outputs), with batch
normalization folded in; `linear` (10×features), the last layer multiplied by the factor that follows it. An int8-quantized
network also has `product_scale<n>` (outputs), the scale of the products of weights and activations; `output_scale<n>` (1), the
scale of the convolution's output, or of the sum where a shortcut is added to it; and `input_scale` (1), the image's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cifar_bench import records
from cifar_bench.engines.base import import_library
from cifar_lib import InputError
from cifar_lib.model import ConvBN, ResNet9

if TYPE_CHECKING:
    from onnx import NodeProto


def write(model: Path, path: Path) -> None:
    """Write the layers of `model`, an ONNX file of `export` or of `quantization`, to `path`. Raises InputError."""
    graph = _Graph(model)
    arrays: dict[str, np.ndarray] = {}
    for number, convolution in enumerate(graph.nodes_of("Conv")):
        arrays[f"weight{number}"], weight_scale = graph.stored(convolution.input[1])
        arrays[f"bias{number}"] = graph.in_float32(convolution.input[2])
        if weight_scale is not None:
            input_scale = graph.scale(convolution.input[0])
            if number == 0:
                arrays["input_scale"] = input_scale
            arrays[f"product_scale{number}"] = input_scale * weight_scale
            arrays[f"output_scale{number}"] = graph.output_scale(convolution)
    linear, factor = graph.nodes_of("Gemm")[0], graph.nodes_of("Mul")[0]
    arrays["linear"] = graph.stored(linear.input[1])[0] * graph.stored(factor.input[1])[0]
    with records.replacing(path) as scratch:
        torch.save({name: torch.from_numpy(np.array(array, np.int8 if array.dtype == np.int8 else np.float32))
                    for name, array in arrays.items()}, scratch)


@torch.no_grad()
def network(model: Path) -> ResNet9:
    """The network of an ONNX file in float32, in eval mode; batch normalization, folded into the weights, adds a bias only."""
    graph = _Graph(model)
    convolutions, linear = graph.nodes_of("Conv"), graph.nodes_of("Gemm")[0]
    channels = [len(graph.in_float32(convolution.input[2])) for convolution in convolutions]
    found = ResNet9([channels[first] for first in (0, 1, 4, 5)])  # the first convolution of each stage
    for layer, convolution in zip((layer for layer in found.modules() if isinstance(layer, ConvBN)), convolutions):
        layer[0].weight.copy_(torch.from_numpy(graph.in_float32(convolution.input[1])))
        layer[1].bias.copy_(torch.from_numpy(graph.in_float32(convolution.input[2])))
        layer[1].running_var.fill_(1 - layer[1].eps)  # divides by 1
    found.linear.weight.copy_(torch.from_numpy(graph.in_float32(linear.input[1])))
    return found.eval()


class _Graph:
    """The nodes and arrays of an ONNX file; if quantized, arrays and activations pass through nodes that hold their scale."""

    def __init__(self, path: Path) -> None:
        onnx = import_library("onnx")
        graph = onnx.load(path).graph
        self.nodes = graph.node
        self.arrays = {array.name: onnx.numpy_helper.to_array(array) for array in graph.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.users: dict[str, list] = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def nodes_of(self, kind: str) -> list["NodeProto"]:
        return [node for node in self.nodes if node.op_type == kind]

    def stored(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """An array as stored in the file, and its scale if it is quantized."""
        if name in self.arrays:
            return self.arrays[name], None
        node = self.producer[name]
        return self.arrays[node.input[0]], self.arrays[node.input[1]]

    def in_float32(self, name: str) -> np.ndarray:
        """An array's values; if quantized, each output channel's are multiplied by its scale."""
        array, scale = self.stored(name)
        return np.array(array if scale is None else array * scale.reshape(-1, *[1] * (array.ndim - 1)), np.float32)

    def scale(self, name: str) -> np.ndarray:
        """The scale of the activations of that name."""
        return self.arrays[self.producer[name].input[1]]

    def output_scale(self, node: "NodeProto") -> np.ndarray:
        """The scale of a node's output, or of the sum where a shortcut is added to it. Raises InputError."""
        quantization, = self.users[node.output[0]]
        if self.arrays[quantization.input[2]] != 0:
            raise InputError("the zero point of activations after a ReLU is expected to be 0.")
        dequantized = self.users[quantization.output[0]][0].output[0]
        added = [user for user in self.users[dequantized] if user.op_type == "Add" and user.input[1] == dequantized]
        return self.output_scale(added[0]) if added else self.arrays[quantization.input[1]]
