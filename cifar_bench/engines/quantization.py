"""8-bit integers: the exported network, quantized after training by ONNX Runtime's tool, or by torchao, PyTorch's own.

Training images show how large activations become; weights have a scale for each channel. On a CPU without VNNI weights use 7 of
their 8 bits: it adds products in pairs of 16 bits, which would overflow (ONNX Runtime's documentation, "Quantize ONNX models").
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch

from cifar_bench import records
from cifar_bench.engines.base import CPU_FEATURES, import_library
from cifar_bench.records.environment import cpu_features
from cifar_lib import data

CALIBRATION_IMAGES = 500  # of the training images
QUANTIZED = ["Conv", "Relu", "Add", "MaxPool"]  # all but the last layer: a thousandth of the work, and it is the logits
LARGEST = 99.999  # % of the activations are within the range that 8 bits are spread over; the few beyond it are cut


def by_onnxruntime(model: Path, images: torch.Tensor, path: Path) -> None:
    """Write the network of `model` (ONNX) to `path`, convolutions in 8 bits, the last layer in float32, as are in and out.

    `images` are those of `calibration_images`.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[torch.Tensor] = iter(images.contiguous().split(1))

        def get_next(self) -> dict | None:
            image = next(self.left, None)
            return None if image is None else {"images": image.numpy()}

    with records.replacing(path) as scratch, _quiet():
        quantization.quantize_static(
            model, scratch, Reader(), quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=QUANTIZED,
            per_channel=True, reduce_range=not _has_vnni(), activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": LARGEST})


def by_torchao(network: torch.nn.Module, images: torch.Tensor, example: torch.Tensor) -> torch.export.ExportedProgram:
    """`network`, a module that `torch.export` made, in 8 bits for TorchInductor: float32 in and out, images like `example`.

    `images` are those of `calibration_images`. Raises InputError without torchao.
    """
    with _quiet():
        import_library("torchao")
        from torchao.quantization.pt2e import quantize_pt2e
        from torchao.quantization.pt2e.quantizer import QuantizationAnnotation
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        options = x86.get_default_x86_inductor_quantization_config(reduce_range=not _has_vnni())

        class Quantizer(x86.X86InductorQuantizer):
            """With both sides of a shortcut's addition in 8 bits: in float32 TorchInductor fails to fuse it with the ReLU."""

            def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
                super().annotate(model)
                for node in model.graph.nodes:
                    if node.target is torch.ops.aten.add.Tensor:
                        sides = dict.fromkeys(node.args, options.input_activation)
                        node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=sides, _annotated=True)
                return model

        prepared = quantize_pt2e.prepare_pt2e(network, Quantizer().set_global(options))
        batches = -(-len(images) // len(example))
        repeated = images[torch.arange(batches * len(example)) % len(images)]  # it takes whole batches, however large
        for batch in repeated.contiguous(memory_format=torch.channels_last).split(len(example)):
            prepared(batch)
        return torch.export.export(quantize_pt2e.convert_pt2e(prepared), (example,))


def calibration_images() -> torch.Tensor:
    """Normalised training images that show how large activations become, float32 N×3×32×32."""
    return data.normalise(data.load("train").first(CALIBRATION_IMAGES).images)


def _has_vnni() -> bool:
    return not CPU_FEATURES["int8"].isdisjoint(cpu_features())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tools' progress and warnings, and without advice to fold what the exporter has folded."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
