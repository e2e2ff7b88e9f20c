// Classifies CIFAR-10 images one at a time with an exported network, and times each of them, as the original's C++ program
// did. `infer` without arguments says how it is used.
//
// Timed is what `classify` does: from a normalised float32 image in host memory to the class number there. Reading and
// normalising stay outside; the next image starts when the last is done.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
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
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/types.h>

#include "npy.hpp"
#include "onednn.hpp"
#include "openvino.hpp"
#include "torchscript.hpp"

namespace {

constexpr auto kUsage =
    "usage: infer --model model.pt --data test_batch.bin [--images 10000] [--warmup 0] [--threads 0] [--device cpu]\n"
    "             [--precision float32] [--options frozen,channels-last] [--logits 200] [--out folder]\n"
    "\n"
    "--model      a TorchScript program (.pt), an AOTInductor package (.pt2), an ONNX file, which OpenVINO runs (.onnx), or\n"
    "             the layers of one, which oneDNN runs (.layers)\n"
    "--data       CIFAR-10's binary format: one byte of label and 3,072 of pixels an image\n"
    "--warmup     images classified before timing starts\n"
    "--threads    CPU threads (0 leaves the library's default)\n"
    "--device     cpu or cuda\n"
    "--precision  float32, float16 or bfloat16 (a package has its own), or int8, where the file is in 8 bits\n"
    "--options   any of frozen, optimize_for_inference and channels-last, with commas between them\n"
    "--logits     how many images' scores are written, too\n"
    "--out        folder for ns.npy and warmup_ns.npy (each image's time in ns), classes.npy, logits.npy, load_ns.npy,\n"
    "             involuntary_switches.npy and background_load.npy (the share of the machine's processor time that others used\n"
    "             while images were timed)\n";
constexpr int64_t kPixels = 3 * 32 * 32;

using Clock = std::chrono::steady_clock;
using Settings = std::map<std::string, std::string>;

int64_t nanoseconds_since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

Settings read_settings(int count, char** words) {
    Settings options{{"model", ""}, {"data", ""},       {"images", "10000"},      {"warmup", "0"}, {"threads", "0"},
                      {"out", ""},   {"device", "cpu"}, {"precision", "float32"},  {"options", "frozen,channels-last"},
                      {"logits", "200"}};
    for (int i = 1; i < count; i += 2) {
        const std::string word = words[i];
        if (word == "--help") {
            std::cout << kUsage;
            std::exit(0);
        }
        const std::string name = word.substr(0, 2) == "--" ? word.substr(2) : "";
        if (!options.count(name)) throw std::invalid_argument("unknown argument " + word + ".\n\n" + kUsage);
        if (i + 1 == count) throw std::invalid_argument(word + " needs a value.\n\n" + kUsage);
        options[name] = words[i + 1];
    }
    for (const auto* name : {"model", "data"})
        if (options[name].empty()) throw std::invalid_argument(std::string("--") + name + " is needed.\n\n" + kUsage);
    return options;
}

int64_t number(const Settings& options, const std::string& name, int64_t least) {
    const auto& text = options.at(name);
    const bool digits = !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stoll(text) < least)
        throw std::invalid_argument("--" + name + " must be a whole number of at least " + std::to_string(least) + ", not " +
                                    text + ".");
    return std::stoll(text);
}

torch::Dtype dtype(const std::string& precision) {
    if (precision == "float32") return torch::kFloat32;
    if (precision == "float16") return torch::kFloat16;
    if (precision == "bfloat16") return torch::kBFloat16;
    throw std::invalid_argument("--precision must be float32, float16 or bfloat16, not " + precision + ".");
}

std::set<std::string> words(const std::string& options) {
    std::set<std::string> read;
    std::istringstream stream(options);
    for (std::string word; std::getline(stream, word, ',');) {
        if (word != "frozen" && word != "optimize_for_inference" && word != "channels-last")
            throw std::invalid_argument("--options must be of frozen, optimize_for_inference and channels-last, not " + word + ".");
        read.insert(word);
    }
    return read;
}

// Normalised images (float32 1×3×32×32 each, as the network takes them) and their labels.
struct Images {
    std::vector<torch::Tensor> images;
    std::vector<uint8_t> labels;
};

Images read_images(const std::string& path, int64_t count) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::invalid_argument("there is no data file at " + path + ".");
    Images read;
    std::vector<uint8_t> record(1 + kPixels);
    for (int64_t i = 0; i < count; ++i) {
        if (!file.read(reinterpret_cast<char*>(record.data()), static_cast<std::streamsize>(record.size())))
            throw std::invalid_argument(path + " holds " + std::to_string(i) + " images, fewer than the " +
                                        std::to_string(count) + " asked for.");
        if (record[0] > 9)
            throw std::invalid_argument(path + " is not in CIFAR-10's binary format (a label is " + std::to_string(record[0]) +
                                        "): name a batch file, as the archive holds them.");
        const auto pixels = torch::from_blob(record.data() + 1, {1, 3, 32, 32}, torch::kUInt8).to(torch::kFloat32);
        read.images.push_back((pixels / 255 - 0.5) / 0.25);
        read.labels.push_back(record[0]);
    }
    return read;
}

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The layers that Python wrote with torch.save, on oneDNN's primitives.
Network load_layers(const std::string& path, const std::string& precision) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    Arrays arrays;
    for (const auto& entry : torch::jit::pickle_load(bytes).toGenericDict()) {
        const auto array = entry.value().toTensor().to(torch::kFloat32).contiguous();
        arrays[entry.key().toStringRef()] = {array.sizes().vec(), {array.data_ptr<float>(), array.data_ptr<float>() + array.numel()}};
    }
    const auto scores = torch::empty({1, 10});
    return [classifier = make_with_onednn(arrays, precision), scores](const torch::Tensor& image) {
        classifier(image.data_ptr<float>(), scores.data_ptr<float>());
        return scores;
    };
}

Network load(const std::string& path, torch::Device device, const std::string& precision, int threads,
             const std::set<std::string>& options) {
    if (!std::filesystem::is_regular_file(path)) throw std::invalid_argument("there is no model at " + path + ".");
    try {
        if (ends_with(path, ".onnx")) return load_with_openvino(path, precision, threads);
        if (ends_with(path, ".layers")) return load_layers(path, precision);
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

int64_t involuntary_switches() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nivcsw;
}

// Seconds of processor time: what all programs used, this one among them, and what all cores had.
struct ProcessorTime {
    double used = 0, own = 0, all = 0;

    static ProcessorTime now() {
        ProcessorTime time;
        std::ifstream file("/proc/stat");  // Linux: user, nice, system, idle, iowait, irq, softirq, steal
        std::string word;
        file >> word;
        const double tick = 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
        for (int i = 0; i < 8; ++i) {
            double ticks = 0;
            if (!(file >> ticks)) ticks = std::nan("");  // where it cannot be read nothing is known
            time.all += ticks * tick;
            if (i != 3 && i != 4) time.used += ticks * tick;
        }
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        for (const auto& part : {usage.ru_utime, usage.ru_stime})
            time.own += static_cast<double>(part.tv_sec) + 1e-6 * static_cast<double>(part.tv_usec);
        return time;
    }

    double background_load_since(const ProcessorTime& before) const {
        return (used - before.used - (own - before.own)) / (all - before.all);
    }
};

void run(const Settings& options) {
    const c10::InferenceMode no_gradients;
    const int64_t count = number(options, "images", 1), warmup = number(options, "warmup", 0);
    const int64_t with_logits = std::min(count, number(options, "logits", 0));
    const auto& model = options.at("model");
    const bool contiguous = ends_with(model, ".onnx") || ends_with(model, ".layers");
    const bool converts = contiguous || (ends_with(model, ".pt2") && options.at("precision") == "int8");
    const auto precision = converts ? torch::kFloat32 : dtype(options.at("precision"));  // of what the network is given
    const auto threads = static_cast<int>(number(options, "threads", 0));
    if (threads) at::set_num_threads(threads);
    if (options.at("device") != "cpu" && options.at("device") != "cuda")
        throw std::invalid_argument("--device must be cpu or cuda, not " + options.at("device") + ".");
    const torch::Device device(options.at("device"));
    at::globalContext().setAllowTF32CuDNN(false);  // float32 means float32
    at::globalContext().setBenchmarkCuDNN(true);
    const auto wanted = words(options.at("options"));
    const bool last = wanted.count("channels-last") && !contiguous;
    const auto layout = last ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
    const auto test = read_images(options.at("data"), count);

    const auto started = Clock::now();
    const auto network = load(model, device, options.at("precision"), threads, wanted);
    const int64_t load_ns = nanoseconds_since(started);

    const auto logits = [&](const torch::Tensor& image) {
        return network(image.to(device, precision, false, false, layout));
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
    const int64_t switches = involuntary_switches();
    const auto before = ProcessorTime::now();
    for (int64_t i = 0; i < count; ++i) {
        const auto start = Clock::now();
        const auto predicted = classify(test.images[i]);
        ns[i] = nanoseconds_since(start);
        classes[i] = predicted;
    }
    const int64_t switched = involuntary_switches() - switches;
    const double background_load = ProcessorTime::now().background_load_since(before);

    int64_t right = 0;
    for (int64_t i = 0; i < count; ++i) right += classes[i] == test.labels[i];
    const double mean_ns = std::accumulate(ns.begin(), ns.end(), 0.0) / static_cast<double>(count);
    std::cout << "accuracy: " << 100.0 * static_cast<double>(right) / static_cast<double>(count) << "%\n"
              << "time: " << mean_ns / 1e3 << " µs per image\n";
    if (const std::filesystem::path out = options.at("out"); !out.empty()) {
        std::vector<float> scores;
        for (int64_t i = 0; i < with_logits; ++i) {
            const auto ten = logits(test.images[i]).to(torch::kCPU, torch::kFloat32).contiguous();
            scores.insert(scores.end(), ten.data_ptr<float>(), ten.data_ptr<float>() + ten.numel());
        }
        std::filesystem::create_directories(out);
        save(out / "ns.npy", "<i8", ns);
        save(out / "warmup_ns.npy", "<i8", warmup_ns);
        save(out / "classes.npy", "|u1", classes);
        save(out / "logits.npy", "<f4", scores);
        save(out / "load_ns.npy", "<i8", std::vector<int64_t>{load_ns});
        save(out / "involuntary_switches.npy", "<i8", std::vector<int64_t>{switched});
        save(out / "background_load.npy", "<f8", std::vector<double>{background_load});
    }
}

}  // namespace

int main(int count, char** words) {
    try {
        run(read_settings(count, words));
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 0;
}
