// Classifies CIFAR-10 images one at a time with an exported network and times each of them, as the original's C++ program did.
// The timed region is `classify`: from a normalized float32 image in host memory to the predicted class there. Reading and
// normalizing stay outside; the next image starts when the last is done. `infer --help` prints the usage.

#include <sys/resource.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/serialize.h>
#include <torch/types.h>

#include "onednn.hpp"
#include "openvino.hpp"
#include "torchscript.hpp"

namespace {

constexpr auto kUsage =
    "usage: infer --model model.pt --data test_batch.bin [--images 10000] [--warmup 0] [--threads 0] [--device cpu]\n"
    "             [--precision float32] [--options frozen,channels-last] [--logits 200] [--parent 0]\n"
    "             [--out file]\n\n"
    "--model      a TorchScript program (.pt), an AOTInductor package (.pt2), an ExecuTorch program (.pte), an ONNX file\n"
    "             for OpenVINO (.onnx), or its layers for oneDNN (.layers)\n"
    "--data       a file in CIFAR-10's binary format: 1 byte of label and 3,072 bytes of pixels per image\n"
    "--images     number of images to classify\n"
    "--warmup     number of images classified before timing starts\n"
    "--threads    CPU threads (0: the library's default)\n"
    "--device     cpu or cuda\n"
    "--precision  float32, float16, bfloat16 (a package has its own), or int8, where the file is int8-quantized\n"
    "--options    any of frozen, optimize_for_inference and channels-last, separated by commas\n"
    "--logits     number of images whose logits are written\n"
    "--parent     the parent process, with which this one ends (0: it runs on; Linux only)\n"
    "--out        file for torch.load: a dictionary of ns and warmup_ns (latency of each image), classes, logits, load_ns and\n"
    "             processor_s (seconds of processor time while images were timed: of all processes, and of this one)\n";

using Clock = std::chrono::steady_clock;
using Arguments = std::map<std::string, std::string>;

int64_t nanoseconds_since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

Arguments read_arguments(int argc, char** argv) {
    Arguments arguments{{"model", ""}, {"data", ""},      {"images", "10000"},      {"warmup", "0"}, {"threads", "0"},
                        {"out", ""},   {"device", "cpu"}, {"precision", "float32"}, {"options", "frozen,channels-last"},
                        {"logits", "200"}, {"parent", "0"}};
    for (int i = 1; i < argc; i += 2) {
        const std::string flag = argv[i];
        if (flag == "--help") {
            std::cout << kUsage;
            std::exit(0);
        }
        const std::string name = flag.substr(0, 2) == "--" ? flag.substr(2) : "";
        if (!arguments.count(name)) throw std::invalid_argument("unknown argument " + flag + ".\n\n" + kUsage);
        if (i + 1 == argc) throw std::invalid_argument(flag + " needs a value.\n\n" + kUsage);
        arguments[name] = argv[i + 1];
    }
    for (const auto* name : {"model", "data"})
        if (arguments[name].empty()) throw std::invalid_argument(std::string("--") + name + " is needed.\n\n" + kUsage);
    return arguments;
}

int64_t integer(const Arguments& arguments, const std::string& name, int64_t minimum) {
    const auto& text = arguments.at(name);
    const bool digits = !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
    const auto allowed = "an integer of at least " + std::to_string(minimum);
    if (!digits || std::stoll(text) < minimum)
        throw std::invalid_argument("--" + name + " must be " + allowed + ", not " + text + ".");
    return std::stoll(text);
}

torch::Dtype dtype(const std::string& precision) {
    if (precision == "float32") return torch::kFloat32;
    if (precision == "float16") return torch::kFloat16;
    if (precision == "bfloat16") return torch::kBFloat16;
    throw std::invalid_argument("--precision must be float32, float16 or bfloat16, not " + precision + ".");
}

std::set<std::string> read_options(const std::string& text) {
    std::set<std::string> options;
    std::istringstream stream(text);
    for (std::string option; std::getline(stream, option, ',');) {
        if (option != "frozen" && option != "optimize_for_inference" && option != "channels-last")
            throw std::invalid_argument("--options are frozen, optimize_for_inference and channels-last, not " + option + ".");
        options.insert(option);
    }
    return options;
}

// Normalized images (float32 1×3×32×32 each, as the network takes them) and their labels.
struct Images {
    std::vector<torch::Tensor> images;
    std::vector<uint8_t> labels;
};

Images read_images(const std::string& path, int64_t count) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::invalid_argument("there is no data file at " + path + ".");
    Images read;
    std::vector<uint8_t> record(1 + 3 * 32 * 32);
    for (int64_t i = 0; i < count; ++i) {
        if (!file.read(reinterpret_cast<char*>(record.data()), static_cast<std::streamsize>(record.size())))
            throw std::invalid_argument(path + " has only " + std::to_string(i) + " of " + std::to_string(count) + " images.");
        if (record[0] > 9)
            throw std::invalid_argument(path + " is not in CIFAR-10's binary format (a label is " + std::to_string(record[0]) +
                                        "): name a batch file of the archive.");
        const auto pixels = torch::from_blob(record.data() + 1, {1, 3, 32, 32}, torch::kUInt8).to(torch::kFloat32);
        read.images.push_back((pixels / 255 - 0.5) / 0.25);
        read.labels.push_back(record[0]);
    }
    return read;
}

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Network as_network(const Classifier& classify) {
    return [classify, logits = torch::empty({1, 10})](const torch::Tensor& image) {
        classify(image.data_ptr<float>(), logits.data_ptr<float>());
        return logits;
    };
}

// A network of oneDNN's primitives from the layers that Python wrote with torch.save.
Network load_layers(const std::string& path, const std::string& precision) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    Arrays arrays;
    for (const auto& entry : torch::pickle_load(bytes).toGenericDict()) {
        const auto array = entry.value().toTensor().to(torch::kFloat32).contiguous();
        const auto* values = array.data_ptr<float>();
        arrays[entry.key().toStringRef()] = {array.sizes().vec(), {values, values + array.numel()}};
    }
    return as_network(make_with_onednn(arrays, precision));
}

Network load(const std::string& path, torch::Device device, const std::string& precision, int threads,
             const std::set<std::string>& options) {
    if (!std::filesystem::is_regular_file(path)) throw std::invalid_argument("there is no model at " + path + ".");
    try {
        if (ends_with(path, ".onnx")) return load_with_openvino(path, precision, threads);
        if (ends_with(path, ".layers")) return load_layers(path, precision);
        if (ends_with(path, ".pte")) return as_network(load_with_executorch(path, threads));
        if (ends_with(path, ".pt2")) {
            auto package = std::make_shared<torch::inductor::AOTIModelPackageLoader>(path);
            return [package](const torch::Tensor& image) { return package->run({image}).at(0); };
        }
        return load_torchscript(path, device, dtype(precision), options);
    } catch (const c10::Error& error) {
        throw std::invalid_argument(path + " cannot be loaded as a network: " + error.what_without_backtrace());
    } catch (const std::exception& error) {
        throw std::invalid_argument(path + " cannot be loaded as a network: " + error.what());
    }
}

// Seconds of processor time so far: of all processes, on the cores that this one may use (NaN where unknown), and of this one.
std::array<double, 2> processor_seconds() {
    double all = std::nan(""), own = 0;
#ifdef __linux__
    cpu_set_t allowed;
    if (!sched_getaffinity(0, sizeof allowed, &allowed)) all = 0;
    std::ifstream file("/proc/stat");  // the sum of all cores, then each: cpu0 user nice system idle iowait irq softirq steal
    std::string line, name;
    for (std::getline(file, line); std::getline(file, line) && line.compare(0, 3, "cpu") == 0;) {
        std::array<double, 8> ticks{};
        std::istringstream fields(line);
        fields >> name;
        for (auto& count : ticks) fields >> count;
        if (CPU_ISSET(std::stoi(name.substr(3)), &allowed))
            all += (std::accumulate(ticks.begin(), ticks.end(), -ticks[3]) - ticks[4]) / sysconf(_SC_CLK_TCK);
    }
#endif
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    for (const auto& part : {usage.ru_utime, usage.ru_stime})
        own += static_cast<double>(part.tv_sec) + 1e-6 * static_cast<double>(part.tv_usec);
    return {all, own};
}

// Otherwise it would contend with the next measurement.
void end_with([[maybe_unused]] int64_t parent) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) throw std::runtime_error("its parent process has ended.");
#endif
}

void run(const Arguments& arguments) {
    if (const auto parent = integer(arguments, "parent", 0)) end_with(parent);
    const c10::InferenceMode no_gradients;
    const int64_t count = integer(arguments, "images", 1), warmup = integer(arguments, "warmup", 0);
    const int64_t with_logits = std::min(count, integer(arguments, "logits", 0));
    const auto &model = arguments.at("model"), &precision = arguments.at("precision");
    const bool by_pytorch = ends_with(model, ".pt") || ends_with(model, ".pt2");  // others convert the image themselves
    const auto image_type = by_pytorch ? dtype(precision) : torch::kFloat32;
    const auto threads = static_cast<int>(integer(arguments, "threads", 0));
    if (threads) at::set_num_threads(threads);
    if (arguments.at("device") != "cpu" && arguments.at("device") != "cuda")
        throw std::invalid_argument("--device must be cpu or cuda, not " + arguments.at("device") + ".");
    const torch::Device device(arguments.at("device"));
    at::globalContext().setAllowTF32CuDNN(false);  // float32 means float32
    at::globalContext().setBenchmarkCuDNN(true);
    const auto options = read_options(arguments.at("options"));
    const bool channels_last = options.count("channels-last") && by_pytorch;
    const auto layout = channels_last ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
    const auto test = read_images(arguments.at("data"), count);

    const auto started = Clock::now();
    const auto network = load(model, device, precision, threads, options);
    const int64_t load_ns = nanoseconds_since(started);

    const auto logits = [&](const torch::Tensor& image) {
        return network(image.to(device, image_type, false, false, layout));
    };
    const auto classify = [&](const torch::Tensor& image) {
        return static_cast<uint8_t>(logits(image).argmax().item<int64_t>());
    };
    std::vector<int64_t> warmup_ns(warmup), ns(count);
    std::vector<uint8_t> classes(count);
    for (int64_t i = 0; i < warmup; ++i) {
        const auto start = Clock::now();
        classify(test.images[i % count]);
        warmup_ns[i] = nanoseconds_since(start);
    }
    const auto before = processor_seconds();
    for (int64_t i = 0; i < count; ++i) {
        const auto start = Clock::now();
        const auto predicted = classify(test.images[i]);
        ns[i] = nanoseconds_since(start);
        classes[i] = predicted;
    }
    const auto after = processor_seconds();

    int64_t correct = 0;
    for (int64_t i = 0; i < count; ++i) correct += classes[i] == test.labels[i];
    const double mean_ns = std::accumulate(ns.begin(), ns.end(), 0.0) / static_cast<double>(count);
    std::cout << "accuracy: " << 100.0 * static_cast<double>(correct) / static_cast<double>(count) << "%\n"
              << "time: " << mean_ns / 1e3 << " µs per image\n";
    if (const auto& out = arguments.at("out"); !out.empty()) {
        std::vector<torch::Tensor> logged;
        for (int64_t i = 0; i < with_logits; ++i)  // copies: an engine may use one buffer for all images
            logged.push_back(logits(test.images[i]).to(torch::kCPU, torch::kFloat32, false, true));
        c10::Dict<std::string, torch::Tensor> measured;
        measured.insert("ns", torch::tensor(ns));
        measured.insert("warmup_ns", torch::tensor(warmup_ns));
        measured.insert("classes", torch::tensor(classes));
        measured.insert("logits", logged.empty() ? torch::empty({0, 10}) : torch::cat(logged));
        measured.insert("load_ns", torch::tensor(load_ns));
        measured.insert("processor_s", torch::tensor({after[0] - before[0], after[1] - before[1]}, torch::kFloat64));
        const auto bytes = torch::pickle_save(measured);
        if (!std::ofstream(out, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush())
            throw std::runtime_error(out + " cannot be written.");
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(read_arguments(argc, argv));
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 0;
}
