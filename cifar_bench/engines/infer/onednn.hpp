// The network on primitives of oneDNN, made once and executed one after the other: what a library of kernels gives with
// nothing above it.
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

// `precision` is float32, bfloat16 or int8. Throws what oneDNN throws, or where oneDNN was not there when this was built.
Classifier make_with_onednn(const Arrays& arrays, const std::string& precision);
