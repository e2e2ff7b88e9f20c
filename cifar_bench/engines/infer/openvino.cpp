#include "openvino.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>

#ifdef WITH_OPENVINO
#include <openvino/runtime/core.hpp>

Network load_with_openvino(const std::string& path, const std::string& precision, int threads) {
    const std::map<std::string, ov::element::Type> hints{
        {"float32", ov::element::f32}, {"float16", ov::element::f16},
        {"bfloat16", ov::element::bf16}, {"int8", ov::element::f32}};  // for layers that are not quantized
    if (!hints.count(precision))
        throw std::invalid_argument("--precision must be float32, float16, bfloat16 or int8, not " + precision + ".");
    ov::AnyMap properties{ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                          ov::hint::inference_precision(hints.at(precision))};
    if (threads) properties.insert(ov::inference_num_threads(threads));
    ov::Core core;
    const auto model = core.read_model(path);
    model->reshape(ov::PartialShape{1, 3, 32, 32});
    auto request = core.compile_model(model, "CPU", properties).create_infer_request();
    const auto logits = torch::from_blob(request.get_output_tensor().data<float>(), {1, 10});
    auto* input = request.get_input_tensor().data<float>();
    // The image is copied into the request's own tensor: passing a new tensor each time is slower.
    return [request, logits, input](const torch::Tensor& image) mutable {
        std::copy_n(image.data_ptr<float>(), image.numel(), input);
        request.infer();
        return logits;
    };
}
#else
Network load_with_openvino(const std::string&, const std::string&, int) {
    throw std::invalid_argument("it needs OpenVINO, which was missing when this program was built.");
}
#endif
