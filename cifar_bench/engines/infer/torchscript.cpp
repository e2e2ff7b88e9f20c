#include "torchscript.hpp"

#include <memory>
#include <stdexcept>

#if __has_include(<torch/script.h>)
#include <torch/csrc/jit/ir/ir.h>
#include <torch/script.h>

namespace {

constexpr size_t kBenchmark = 9, kAllowTF32 = 12;  // among the arguments of aten::_convolution

// See _set_convolutions in engines/pytorch.py. With default options the program's own constant for cuDNN's search stays.
void set_convolutions(const torch::jit::Module& program, bool search) {
    const auto kind = c10::Symbol::fromQualString("aten::_convolution");
    for (const auto& module : program.modules())
        for (const auto& method : module.get_methods()) {
            const auto graph = method.graph();
            for (auto* convolution : torch::jit::findAllNodes(*graph, kind, true)) {
                const torch::jit::WithInsertPoint before(convolution);
                if (search) convolution->replaceInput(kBenchmark, graph->insertConstant(true));
                convolution->replaceInput(kAllowTF32, graph->insertConstant(false));  // float32 means float32
            }
        }
}

}  // namespace

Network load_torchscript(const std::string& path, torch::Device device, torch::Dtype precision,
                         const std::set<std::string>& options) {
    auto program = torch::jit::load(path, torch::kCPU);
    program.eval();
    set_convolutions(program, options.count("frozen"));
    program.to(device, precision);
    if (options.count("channels-last"))
        for (const auto& weights : program.parameters())
            if (weights.dim() == 4) weights.set_data(weights.contiguous(torch::MemoryFormat::ChannelsLast));
    if (options.count("frozen")) program = torch::jit::freeze(program);
    if (options.count("optimize_for_inference")) program = torch::jit::optimize_for_inference(program);
    auto network = std::make_shared<torch::jit::Module>(program);
    return [network](const torch::Tensor& image) { return network->forward({image}).toTensor(); };
}
#else
Network load_torchscript(const std::string&, torch::Device, torch::Dtype, const std::set<std::string>&) {
    throw std::invalid_argument("it needs TorchScript, which this version of PyTorch lacks.");
}
#endif
