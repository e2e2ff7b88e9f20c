// The network as oneDNN primitives, created once and executed in order: a library of kernels with no runtime above it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "executorch.hpp"

struct Array {
    std::vector<int64_t> shape;
    std::vector<float> values;
};
using Arrays = std::map<std::string, Array>;  // as cifar_bench/engines/layers.py names them

// `precision` is float32, bfloat16 or int8. Throws what oneDNN throws, or where oneDNN was missing when this was built.
Classifier make_with_onednn(const Arrays& arrays, const std::string& precision);
