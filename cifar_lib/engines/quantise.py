"""8-bit integers: the exported network, quantised after training by ONNX Runtime's tool."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch

from cifar_lib import records
from cifar_lib.data import normalise

CALIBRATION_IMAGES = 500  # of the training images; they show how large activations become
QUANTISED = ["Conv", "Relu", "Add", "MaxPool"]  # all but the last layer: a thousandth of the work, and it is the logits
LARGEST = 99.999  # % of the activations are within the range that 8 bits are spread over; the few beyond it are cut


def int8(model: Path, images: torch.Tensor, path: Path, vnni: bool) -> None:
    """Write the network of `model` (ONNX) to `path`, convolutions in 8 bits, the last layer in float32, as are in and out.

    `images` (uint8 N×3×32×32, training images) show how large activations become. Weights have a scale for each channel.
    Without `vnni` they use 7 of their 8 bits: such processors add products in pairs of 16 bits, which would overflow (ONNX
    Runtime's documentation, "Quantize ONNX models").
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[torch.Tensor] = iter(normalise(images).contiguous().split(1))

        def get_next(self) -> dict | None:
            image = next(self.left, None)
            return None if image is None else {"images": image.numpy()}

    with records.replacing(path) as scratch, _quiet():
        quantization.quantize_static(
            model, scratch, Reader(), quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=QUANTISED,
            per_channel=True, reduce_range=not vnni, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": LARGEST})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tool's progress, and its advice to fold what the exporter has folded."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
