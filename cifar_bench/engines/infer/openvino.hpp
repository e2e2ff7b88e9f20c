// A network in an ONNX file, run by OpenVINO on the CPU.
#pragma once

#include <functional>
#include <string>

#include <torch/types.h>

using Network = std::function<torch::Tensor(const torch::Tensor&)>;  // normalized float32 image 1×3×32×32 in, logits 1×10 out

// `precision` is float32, float16, bfloat16 or int8; 0 threads is OpenVINO's default. Throws where the file cannot be loaded,
// or where OpenVINO was missing when this was built.
Network load_with_openvino(const std::string& path, const std::string& precision, int threads);
