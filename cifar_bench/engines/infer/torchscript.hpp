// A TorchScript program, the original's format, run by PyTorch.
#pragma once

#include <set>
#include <string>

#include <torch/types.h>

#include "openvino.hpp"

// `options` are any of frozen, optimize_for_inference and channels-last. Throws where the file cannot be loaded.
Network load_torchscript(const std::string& path, torch::Device device, torch::Dtype precision,
                         const std::set<std::string>& options);
