"""Int8 quantization of the exported network after training, by ONNX Runtime's tool or by PyTorch's.

Training images calibrate the range of the activations; weights have a scale per output channel. ONNX Runtime's weights use 7 of
their 8 bits, so that one file is right on any processor: without VNNI a CPU adds pairs of products in 16 bits, which would
overflow (ONNX Runtime's documentation, "Quantize ONNX models"). XNNPACK's use all 8: it adds in 32 bits everywhere.
"""

from pathlib import Path
from types import SimpleNamespace

import torch

from cifar_bench import records
from cifar_bench.engines.base import quiet
from cifar_lib import data

CALIBRATION_IMAGES = 500  # of the training images
QUANTIZED = ["Conv", "Relu", "Add", "MaxPool"]  # not the last layer: it is 1/40,000 of the FLOP and yields the logits
PERCENTILE = 99.999  # of the activations lie within the quantized range; the few beyond it are clipped


def by_onnxruntime(model: Path, images: torch.Tensor, path: Path) -> None:
    """Write `model` (ONNX) to `path` with int8 convolutions; the last layer, input and output stay float32.

    `images` are those of `calibration_images`.
    """
    from onnxruntime import quantization

    batches = ({"images": image.numpy()} for image in images.contiguous().split(1))
    reader = SimpleNamespace(get_next=lambda: next(batches, None))  # a CalibrationDataReader needs no more
    with records.replacing(path) as scratch, quiet():
        quantization.quantize_static(
            model, scratch, reader, quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=QUANTIZED,
            per_channel=True, reduce_range=True, activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE})


def for_xnnpack(network: torch.nn.Module, images: torch.Tensor) -> torch.fx.GraphModule:
    """`network`, a module of `torch.export`, with all layers int8-quantized for XNNPACK; input and output stay float32.

    `images` are those of `calibration_images`.
    """
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e import quantize_pt2e

    config = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = xnnpack_quantizer.XNNPACKQuantizer().set_global(config)
    observed = quantize_pt2e.prepare_pt2e(network, quantizer)
    for batch in images.contiguous().split(100):
        observed(batch)
    return quantize_pt2e.convert_pt2e(observed)


def calibration_images() -> torch.Tensor:
    """Normalized training images that calibrate the range of the activations, float32 N×3×32×32."""
    return data.normalize(data.load("train").first(CALIBRATION_IMAGES).images)
