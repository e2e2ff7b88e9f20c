// An ExecuTorch program (.pte), run by XNNPACK.
#pragma once

#include <functional>
#include <string>

using Classifier = std::function<void(const float* image, float* logits)>;  // normalized 3×32×32 in, 10 out

// 0 threads is ExecuTorch's default. Throws where the file cannot be loaded, or where ExecuTorch was missing when this was built.
Classifier load_with_executorch(const std::string& path, int threads);
