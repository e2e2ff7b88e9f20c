#include "executorch.hpp"

#include <stdexcept>

#ifdef WITH_EXECUTORCH
#include <algorithm>
#include <cstdint>
#include <memory>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/platform.h>

namespace executorch::extension::threadpool {
// Its header is not in ExecuTorch's package; the library is.
class ThreadPool {
public:
    bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

using namespace executorch::extension;
using namespace executorch::runtime;

namespace {

void log_nothing(et_timestamp_t, et_pal_log_level_t, const char*, const char*, size_t, const char*, size_t) {}

}  // namespace

Classifier load_with_executorch(const std::string& path, int threads) {
    register_pal(PalImpl::create(log_nothing, __FILE__));
    if (threads) threadpool::get_threadpool()->_unsafe_reset_threadpool(threads);  // unsafe only while a network runs
    const auto program = std::make_shared<Module>(path);
    if (program->load_forward() != Error::Ok) throw std::invalid_argument("ExecuTorch cannot load it.");
    return [program](const float* image, float* logits) {
        const auto input = from_blob(const_cast<float*>(image), {1, 3, 32, 32});
        const auto output = program->forward(input);
        if (!output.ok()) throw std::runtime_error("ExecuTorch cannot run it.");
        std::copy_n(output->at(0).toTensor().const_data_ptr<float>(), 10, logits);
    };
}
#else
Classifier load_with_executorch(const std::string&, int) {
    throw std::invalid_argument("it needs ExecuTorch, which was missing when this program was built.");
}
#endif
