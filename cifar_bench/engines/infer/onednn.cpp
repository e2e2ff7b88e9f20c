#include "onednn.hpp"

#include <stdexcept>

#ifdef WITH_ONEDNN
#include <algorithm>
#include <memory>
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>

namespace {

using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;
using Layout = memory::format_tag;
using Type = memory::data_type;

template <typename Primitive, typename... Parts>
auto describe(const dnnl::engine& engine, const dnnl::primitive_attr& attributes, const Parts&... parts) {
    return typename Primitive::primitive_desc(engine, dnnl::prop_kind::forward_inference, parts..., attributes);
}

// The activations of one image and, in int8, their scale.
struct Activations {
    memory data;
    Type type;
    int64_t channels, size;  // size×size pixels
    float scale = 1;

    memory::dims shape() const { return {1, channels, size, size}; }
};

class Network {
public:
    Network(const Arrays& arrays, const std::string& precision)
        : arrays_(arrays), int8_(precision == "int8"),
          type_(int8_ ? Type::u8 : precision == "bfloat16" ? Type::bf16 : Type::f32),
          image_({{1, 3, 32, 32}, Type::f32, Layout::nchw}, engine_) {
        if (!int8_ && arrays.count("input_scale")) throw std::invalid_argument("its weights are int8-quantized.");
        Activations x{image_, Type::f32, 3, 32};
        if (int8_)
            x = converted(x, Type::s8, array("input_scale").values.at(0));
        else if (type_ == Type::bf16)
            x = converted(x, Type::bf16, 1);
        x = pool(convolution(convolution(x)), 2);
        x = convolution(convolution(x), &x);
        x = pool(convolution(x), 2);
        x = pool(convolution(x), 2);
        x = convolution(convolution(x), &x);
        linear(pool(x, 4));
    }

    void run(const float* image, float* logits) {
        image_.set_data_handle(const_cast<float*>(image));
        logits_.set_data_handle(logits);
        for (const auto& step : steps_) step.primitive.execute(stream_, step.arguments);
        stream_.wait();
    }

private:
    struct Step {
        dnnl::primitive primitive;
        Arguments arguments;
    };

    const Arrays& arrays_;  // only read while this is made
    const bool int8_;
    const Type type_;       // of all activations but the image
    int convolutions_ = 0;  // number of those added
    dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream_{engine_};
    memory image_, logits_;
    std::vector<Step> steps_;

    const Array& array(const std::string& name) const {
        if (!arrays_.count(name)) throw std::invalid_argument("it has no " + name + ".");
        return arrays_.at(name);
    }

    void add(const dnnl::primitive& primitive, Arguments arguments) { steps_.push_back({primitive, std::move(arguments)}); }

    // Channels last; in float32 the layout that oneDNN chooses (blocks of channels), which is faster.
    memory::desc layout(const memory::dims& shape, Type type) const {
        return {shape, type, type == Type::f32 ? Layout::any : Layout::nhwc};
    }

    memory copied(const std::vector<float>& values, const memory::dims& shape, Layout layout) const {
        memory copy({shape, Type::f32, layout}, engine_);
        std::copy(values.begin(), values.end(), static_cast<float*>(copy.get_data_handle()));
        return copy;
    }

    memory copied(const std::vector<float>& values) const {
        return copied(values, {static_cast<int64_t>(values.size())}, Layout::a);
    }

    // The weights of that name in a primitive's layout, converted once.
    memory weights(const std::string& name, Layout layout, const memory::desc& description) {
        auto plain = copied(array(name).values, array(name).shape, layout);
        memory converted(description, engine_);
        dnnl::reorder(plain, converted).execute(stream_, plain, converted);
        stream_.wait();
        return converted;
    }

    // Scale a primitive's products by `factors`: a single one, or one per output channel of a convolution.
    void multiply(const std::vector<float>& factors, int argument, dnnl::primitive_attr& attributes, Arguments& arguments) const {
        attributes.set_scales_mask(argument, factors.size() > 1 ? 1 << 0 : 0);
        arguments[DNNL_ARG_ATTR_SCALES | argument] = copied(factors);
    }

    memory reorder(memory from, const memory::desc& description, float factor = 1) {
        memory to(description, engine_);
        dnnl::primitive_attr attributes;
        Arguments arguments{{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
        if (factor != 1) multiply({factor}, DNNL_ARG_FROM, attributes, arguments);
        add(dnnl::reorder(dnnl::reorder::primitive_desc(from, to, attributes)), arguments);
        return to;
    }

    Activations converted(const Activations& x, Type type, float scale) {
        return {reorder(x.data, {x.shape(), type, Layout::nhwc}, 1 / scale), type, x.channels, x.size, scale};
    }

    // The next 3×3 convolution with its ReLU. A shortcut's activations are added to the output, which overwrites them.
    Activations convolution(const Activations& x, const Activations* shortcut = nullptr) {
        const auto which = std::to_string(convolutions_++);
        const auto& shape = array("weight" + which).shape;
        auto bias = array("bias" + which).values;
        Activations y{{}, type_, shape[0], x.size};
        dnnl::primitive_attr attributes;
        dnnl::post_ops after;
        Arguments arguments;
        after.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
        if (int8_) {
            y.scale = array("output_scale" + which).values.at(0);
            auto factors = array("product_scale" + which).values;
            for (size_t channel = 0; channel < bias.size(); ++channel) {
                bias[channel] /= y.scale;
                factors[channel] /= y.scale;
            }
            multiply(factors, DNNL_ARG_WEIGHTS, attributes, arguments);
        }
        if (shortcut) after.append_sum(shortcut->scale / y.scale);
        attributes.set_post_ops(after);
        const memory::dims one{1, 1};
        const auto description = describe<dnnl::convolution_forward>(
            engine_, attributes, dnnl::algorithm::convolution_direct, layout(x.shape(), x.type),
            memory::desc(shape, int8_ ? Type::s8 : type_, Layout::any), memory::desc({shape[0]}, Type::f32, Layout::a),
            shortcut ? shortcut->data.get_desc() : layout(y.shape(), type_), one, one, one);
        const bool fits = description.src_desc() == x.data.get_desc();
        y.data = shortcut ? shortcut->data : memory(description.dst_desc(), engine_);
        arguments[DNNL_ARG_SRC] = fits ? x.data : reorder(x.data, description.src_desc());
        arguments[DNNL_ARG_WEIGHTS] = weights("weight" + which, Layout::oihw, description.weights_desc());
        arguments[DNNL_ARG_BIAS] = copied(bias);
        arguments[DNNL_ARG_DST] = y.data;
        add(dnnl::convolution_forward(description), arguments);
        return y;
    }

    Activations pool(const Activations& x, int64_t window) {
        Activations y{{}, type_, x.channels, x.size / window, x.scale};
        const memory::dims none{0, 0}, side{window, window};
        const auto description = describe<dnnl::pooling_forward>(engine_, {}, dnnl::algorithm::pooling_max, x.data.get_desc(),
                                                   layout(y.shape(), type_), side, side, none, none, none);
        y.data = memory(description.dst_desc(), engine_);
        add(dnnl::pooling_forward(description), {{DNNL_ARG_SRC, x.data}, {DNNL_ARG_DST, y.data}});
        return y;
    }

    // The last layer, in float32 whatever the precision.
    void linear(const Activations& x) {
        const memory::desc flat({1, x.channels}, Type::f32, Layout::nc), ten({1, 10}, Type::f32, Layout::nc);
        const auto description = describe<dnnl::inner_product_forward>(
            engine_, {}, flat, memory::desc({10, x.channels}, Type::f32, Layout::any), ten);
        const auto features = reorder(x.data, {x.shape(), Type::f32, Layout::nchw}, x.scale);
        logits_ = memory(ten, engine_);
        add(dnnl::inner_product_forward(description),
            {{DNNL_ARG_SRC, memory(flat, engine_, features.get_data_handle())},
             {DNNL_ARG_WEIGHTS, weights("linear", Layout::oi, description.weights_desc())}, {DNNL_ARG_DST, logits_}});
    }
};

}  // namespace

Classifier make_with_onednn(const Arrays& arrays, const std::string& precision) {
    if (precision != "float32" && precision != "bfloat16" && precision != "int8")
        throw std::invalid_argument("--precision must be float32, bfloat16 or int8, not " + precision + ".");
    const auto network = std::make_shared<Network>(arrays, precision);
    return [network](const float* image, float* logits) { network->run(image, logits); };
}
#else
Classifier make_with_onednn(const Arrays&, const std::string&) {
    throw std::invalid_argument("it needs oneDNN, which was missing when this program was built.");
}
#endif
