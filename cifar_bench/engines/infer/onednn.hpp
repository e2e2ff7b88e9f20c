// The network as oneDNN primitives, created once and executed in order: a library of kernels with no runtime above it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

struct Array {
    std::vector<int64_t> shape;
    std::vector<float> values;
};
using Arrays = std::map<std::string, Array>;  // as cifar_bench/engines/layers.py names them
using Classifier = std::function<void(const float* image, float* logits)>;  // normalised 3×32×32 in, 10 out

// `precision` is float32, bfloat16 or int8. Throws what oneDNN throws, or where oneDNN was missing when this was built.
Classifier make_with_onednn(const Arrays& arrays, const std::string& precision);
