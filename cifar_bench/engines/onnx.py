"""The engines that run the ONNX file, in float32 or int8-quantized."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from cifar_bench.engines import export, quantization
from cifar_bench.engines.base import PythonEngine, Setup, import_library, reason_of_failure
from cifar_bench.engines.models import INT8_FILE
from cifar_lib import InputError


class ONNXEngine(PythonEngine):
    """The base of engines that run model.onnx, or int8-quantized model-int8.onnx, which `compile` makes where it is missing."""

    file = "model.onnx"
    precisions = ("float32", "int8")
    devices = ("cpu",)
    quantizer = "onnxruntime"

    @classmethod
    def model_file(cls, setup: Setup) -> Path:
        if setup.precision != "int8":
            return super().model_file(setup)
        exported = setup.exported / INT8_FILE
        return exported if exported.exists() else setup.cache / INT8_FILE

    @classmethod
    def compile(cls, setup: Setup) -> None:
        if setup.precision == "int8" and cls.model_file(setup).exists():
            return
        export.make_missing(setup.exported, cls.file)
        if setup.precision == "int8":
            images = quantization.calibration_images()
            with reason_of_failure("ONNX Runtime cannot quantize the network"):
                quantization.by_onnxruntime(setup.exported / cls.file, images, cls.model_file(setup))


class ONNXRuntime(ONNXEngine):
    """Microsoft's ONNX Runtime."""

    name = "onnxruntime"
    option_sets = ("all graph optimizations, batch size fixed",)
    library = "onnxruntime"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        onnxruntime = import_library("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setup.threads
        options.add_free_dimension_override_by_name("batch", setup.batch_size)
        self.session = onnxruntime.InferenceSession(self.model_file(setup), options, ["CPUExecutionProvider"])

    def logits(self, image: torch.Tensor) -> np.ndarray:
        return self.session.run(None, {"images": image.numpy()})[0]


class OpenVINO(ONNXEngine):
    """Intel's OpenVINO."""

    name = "openvino"
    option_sets = ("latency hint, batch size fixed, the request's own tensors",)
    library = "openvino"
    precisions = ("float32", "float16", "bfloat16", "int8")
    HINTS: ClassVar = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}
    CAPABILITIES: ClassVar = {"float16": "FP16", "bfloat16": "BF16"}  # without it OpenVINO computes in float32 silently

    @classmethod
    def check(cls, setup: Setup) -> None:
        super().check(setup)
        needed = cls.CAPABILITIES.get(setup.precision)
        if needed and needed not in import_library("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(f"openvino computes in {setup.precision} only where the processor does, which this one does not.")

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        core = import_library("openvino").Core()
        properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.HINTS[setup.precision]}
        if setup.threads:
            properties["INFERENCE_NUM_THREADS"] = setup.threads
        network = core.read_model(self.model_file(setup))
        network.reshape([setup.batch_size, 3, 32, 32])
        self.request = core.compile_model(network, "CPU", properties).create_infer_request()
        self.input, self.output = self.request.get_input_tensor().data, self.request.get_output_tensor().data

    def logits(self, image: torch.Tensor) -> np.ndarray:
        self.input[:] = image.numpy()  # 0.1 ms faster than a new input tensor for each call
        self.request.infer(share_outputs=True)
        return self.output
