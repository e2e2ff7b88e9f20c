"""Int8 quantization of the exported network after training, by ONNX Runtime's tool or by PyTorch's torchao.

Training images calibrate the range of the activations; weights have a scale per output channel. On a CPU without VNNI weights
use 7 of their 8 bits: it adds pairs of products in 16 bits, which would overflow (ONNX Runtime's documentation, "Quantize ONNX
models").
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import torch

from cifar_bench import records
from cifar_bench.engines.base import import_library
from cifar_bench.records.environment import cpu_features
from cifar_lib import data

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}  # CPU features, x86 then Arm, that add products in 32 bits
CALIBRATION_IMAGES = 500  # of the training images
QUANTIZED = ["Conv", "Relu", "Add", "MaxPool"]  # not the last layer: it is a thousandth of the FLOP and yields the logits
PERCENTILE = 99.999  # of the activations lie within the quantized range; the few beyond it are clipped


def by_onnxruntime(model: Path, images: torch.Tensor, path: Path) -> None:
    """Write `model` (ONNX) to `path` with int8 convolutions; the last layer, input and output stay float32.

    `images` are those of `calibration_images`.
    """
    from onnxruntime import quantization

    batches = ({"images": image.numpy()} for image in images.contiguous().split(1))
    reader = SimpleNamespace(get_next=lambda: next(batches, None))  # a CalibrationDataReader needs no more
    with records.replacing(path) as scratch, _quiet():
        quantization.quantize_static(
            model, scratch, reader, quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=QUANTIZED,
            per_channel=True, reduce_range=not _has_vnni(), activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE})


def by_torchao(network: torch.nn.Module, images: torch.Tensor, example: torch.Tensor) -> torch.export.ExportedProgram:
    """`network`, a module of `torch.export`, int8-quantized for TorchInductor: float32 in and out, batches like `example`.

    `images` are those of `calibration_images`. Raises InputError without torchao.
    """
    with _quiet():
        import_library("torchao")
        from torchao.quantization.pt2e import quantize_pt2e
        from torchao.quantization.pt2e.quantizer import QuantizationAnnotation
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        config = x86.get_default_x86_inductor_quantization_config(reduce_range=not _has_vnni())

        class Quantizer(x86.X86InductorQuantizer):
            """Quantizes both inputs of a shortcut's addition: in float32 TorchInductor fails to fuse it with the ReLU."""

            def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
                super().annotate(model)
                for node in model.graph.nodes:
                    if node.target is torch.ops.aten.add.Tensor:
                        inputs = dict.fromkeys(node.args, config.input_activation)
                        node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
                return model

        observed = quantize_pt2e.prepare_pt2e(network, Quantizer().set_global(config))
        batches = -(-len(images) // len(example))
        repeated = images[torch.arange(batches * len(example)) % len(images)]  # it takes whole batches only
        for batch in repeated.contiguous(memory_format=torch.channels_last).split(len(example)):
            observed(batch)
        return torch.export.export(quantize_pt2e.convert_pt2e(observed), (example,))


def calibration_images() -> torch.Tensor:
    """Normalised training images that calibrate the range of the activations, float32 N×3×32×32."""
    return data.normalise(data.load("train").first(CALIBRATION_IMAGES).images)


def _has_vnni() -> bool:
    return not VNNI.isdisjoint(cpu_features())


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the tools' progress bars, warnings and advice."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
