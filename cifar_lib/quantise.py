"""8-bit integers: the exported network, quantised after training by ONNX Runtime's tool."""

from collections.abc import Iterator
from pathlib import Path

import torch

from cifar_lib import records
from cifar_lib.data import normalise

CALIBRATION_IMAGES = 500  # of the training images; they show how large activations become


def int8(model: Path, images: torch.Tensor, path: Path) -> None:
    """Write the network of `model` (ONNX) to `path`, its weights and activations in 8 bits; float32 in and out as before.

    `images` (uint8 N×3×32×32, training images) show how large activations become. Weights have a scale for each channel
    and use 7 of their 8 bits: processors without VNNI add products in pairs of 16 bits, which would overflow (ONNX
    Runtime's documentation, "Quantize ONNX models"); where there is VNNI the lost bit costs next to nothing.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[torch.Tensor] = iter(normalise(images).contiguous().split(1))

        def get_next(self) -> dict | None:
            image = next(self.left, None)
            return None if image is None else {"images": image.numpy()}

    with records.replacing(path) as scratch:
        quantization.quantize_static(
            model, scratch, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True, reduce_range=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
