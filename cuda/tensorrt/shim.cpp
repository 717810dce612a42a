// Implements shim.h over the headers of one TensorRT version. Compiled once for each version: namespaces and handles are renamed
// so that several of them live in one program without their inline functions being taken for one another.
#include "NvInferVersion.h"

#define CATSEYE_JOIN_(before, major, minor, after) before##major##_##minor##after
#define CATSEYE_JOIN(before, major, minor, after) CATSEYE_JOIN_(before, major, minor, after)
#define CATSEYE_NAME(before, after) CATSEYE_JOIN(before, NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, after)
#define nvinfer1 CATSEYE_NAME(catseye_nvinfer, )
#define nvonnxparser CATSEYE_NAME(catseye_nvonnxparser, )
#include "NvInfer.h"
#include "NvOnnxParser.h"

#define CatseyeTrtLibrary CATSEYE_NAME(CatseyeTrt, Library)
#define CatseyeTrtBuilder CATSEYE_NAME(CatseyeTrt, Builder)
#define CatseyeTrtRuntime CATSEYE_NAME(CatseyeTrt, Runtime)
#define CatseyeTrtEngine CATSEYE_NAME(CatseyeTrt, Engine)
#define CatseyeTrtContext CATSEYE_NAME(CatseyeTrt, Context)
#define CatseyeTrtBlob CATSEYE_NAME(CatseyeTrt, Blob)
#include "shim.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#define CATSEYE_TRT_FROM(major, minor) \
    (NV_TENSORRT_MAJOR > (major) || (NV_TENSORRT_MAJOR == (major) && NV_TENSORRT_MINOR >= (minor)))
#define CATSEYE_TRT_HAS_CALIBRATION (NV_TENSORRT_MAJOR <= 10)
#define CATSEYE_TRT_WEAKLY_TYPED (NV_TENSORRT_MAJOR <= 10)

namespace nv = nvinfer1;

namespace {

static_assert(nv::Dims::MAX_DIMS == CATSEYE_TRT_MAX_DIMS, "a tensor of TensorRT has at most eight dimensions");

// Passes messages on and counts errors: some of TensorRT's functions report a failure only in the log.
class Log final : public nv::ILogger {
public:
    Log(CatseyeTrtLogFn sink, void *user) : sink_(sink), user_(user) {}

    void log(Severity severity, char const *message) noexcept override {
        if (severity <= Severity::kERROR) {
            errors_.fetch_add(1, std::memory_order_relaxed);
        }
        if (sink_ != nullptr) {
            sink_(user_, static_cast<int32_t>(severity), message == nullptr ? "" : message);
        }
    }

    void error(std::string const &message) noexcept { log(Severity::kERROR, message.c_str()); }
    uint64_t errors() const noexcept { return errors_.load(std::memory_order_relaxed); }

private:
    CatseyeTrtLogFn sink_;
    void *user_;
    std::atomic<uint64_t> errors_{0};
};

struct CloseLibrary {
    void operator()(void *handle) const noexcept { dlclose(handle); }
};
using SharedLibrary = std::unique_ptr<void, CloseLibrary>;

using CreateFn = void *(*)(void *, int32_t);
using CreateParserFn = void *(*)(void *, void *, int);
using VersionFn = int32_t (*)();
using InitPluginsFn = bool (*)(void *, char const *);

struct Version {
    int32_t major, minor, patch;
};

// Before version 10 the number is major * 1000 + minor * 100 + patch, and major * 10000 + minor * 100 + patch after.
Version decode_version(int32_t number) noexcept {
    if (number < 10000) {
        return {number / 1000, number / 100 % 10, number % 100};
    }
    return {number / 10000, number / 100 % 100, number % 100};
}

SharedLibrary open_library(char const *path, Log &log) {
    SharedLibrary library(dlopen(path, RTLD_NOW | RTLD_LOCAL));
    if (!library) {
        char const *reason = dlerror();
        log.error(reason == nullptr ? "dlopen failed" : reason);
    }
    return library;
}

template <typename Fn> Fn symbol(SharedLibrary const &library, char const *name, Log &log) {
    void *address = dlsym(library.get(), name);
    if (address == nullptr) {
        log.error(std::string("the library lacks ") + name);
    }
    return reinterpret_cast<Fn>(address);
}

// Bytes of one element, or 0 for types that share a byte between elements.
uint64_t element_bytes(nv::DataType type) noexcept {
    switch (static_cast<int32_t>(type)) {
    case CATSEYE_TRT_F32:
    case CATSEYE_TRT_I32: return 4;
    case CATSEYE_TRT_F16:
    case CATSEYE_TRT_BF16: return 2;
    case CATSEYE_TRT_I8:
    case CATSEYE_TRT_BOOL:
    case CATSEYE_TRT_U8:
    case CATSEYE_TRT_F8: return 1;
    case CATSEYE_TRT_I64: return 8;
    default: return 0;
    }
}

CatseyeTrtTensor describe(char const *name, int32_t mode, nv::DataType type, nv::Dims const &dims) noexcept {
    CatseyeTrtTensor tensor{};
    tensor.name = name;
    tensor.mode = mode;
    tensor.type = static_cast<int32_t>(type);
    tensor.rank = dims.nbDims;
    tensor.bytes = dims.nbDims < 0 ? 0 : element_bytes(type);
    for (int32_t axis = 0; axis < dims.nbDims && axis < CATSEYE_TRT_MAX_DIMS; ++axis) {
        tensor.dims[axis] = dims.d[axis];
        tensor.bytes = dims.d[axis] < 0 ? 0 : tensor.bytes * static_cast<uint64_t>(dims.d[axis]);
    }
    return tensor;
}

// Runs `body` and turns every exception into a status, with its words in the log.
template <typename Body> CatseyeTrtStatus guarded(Log &log, Body body) noexcept {
    try {
        return body();
    } catch (std::exception const &exception) {
        log.error(exception.what());
    } catch (...) {
        log.error("an exception that is no std::exception");
    }
    return CATSEYE_TRT_EXCEPTION;
}

// The destructor's place in the parser's table differs between 8.6.0 and 8.6.1; that of the function for it does not.
struct DestroyParser {
    void operator()(nvonnxparser::IParser *parser) const noexcept {
#if NV_TENSORRT_MAJOR == 8
        parser->destroy();
#else
        delete parser;
#endif
    }
};

} // namespace

struct CatseyeTrtLibrary {
    CatseyeTrtLibrary(CatseyeTrtLogFn sink, void *user) : log(sink, user) {}

    Log log;
    Version version{};
    SharedLibrary nvinfer, plugin, parser;
    CreateFn create_builder = nullptr;
    CreateFn create_runtime = nullptr;
    CreateParserFn create_parser = nullptr;
};

struct CatseyeTrtBlob {
    std::unique_ptr<nv::IHostMemory> memory;
    std::string text;
};

struct CatseyeTrtBuilder {
    explicit CatseyeTrtBuilder(CatseyeTrtLibrary &library) : library(library) {}

    CatseyeTrtLibrary &library;
    std::unique_ptr<nv::IBuilder> builder;
    std::unique_ptr<nv::INetworkDefinition> network;
    std::unique_ptr<nvonnxparser::IParser, DestroyParser> parser; // holds the weights that the network points to
    std::list<std::vector<char>> constants;                       // those that were changed, which it points to as well
};

struct CatseyeTrtRuntime {
    explicit CatseyeTrtRuntime(CatseyeTrtLibrary &library) : library(library) {}

    CatseyeTrtLibrary &library;
    std::unique_ptr<nv::IRuntime> runtime;
};

struct CatseyeTrtEngine {
    explicit CatseyeTrtEngine(CatseyeTrtLibrary &library) : library(library) {}

    CatseyeTrtLibrary &library;
    std::unique_ptr<nv::ICudaEngine> engine;
};

struct CatseyeTrtContext {
    explicit CatseyeTrtContext(CatseyeTrtLibrary &library) : library(library) {}

    CatseyeTrtLibrary &library;
    std::unique_ptr<nv::IExecutionContext> context;
};

namespace {

// ---------------------------------------------------------------------------------------------------------- library

CatseyeTrtStatus check_version(Version found, Log &log) {
    char text[160];
    std::snprintf(text, sizeof text, "TensorRT %d.%d.%d was found, and this program was built for %d.%d", found.major,
                  found.minor, found.patch, NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR);
    if (found.major != NV_TENSORRT_MAJOR) {
        log.error(text);
        return CATSEYE_TRT_OTHER_MAJOR;
    }
    // Tables only grow within a major: a newer library has all that older headers name.
    if (found.minor < NV_TENSORRT_MINOR) {
        log.error(text);
        return CATSEYE_TRT_TOO_OLD;
    }
    return CATSEYE_TRT_OK;
}

CatseyeTrtStatus open_parser(CatseyeTrtLibrary &library, char const *path) {
    library.parser = open_library(path, library.log);
    if (!library.parser) {
        return CATSEYE_TRT_NOT_FOUND;
    }
    library.create_parser = symbol<CreateParserFn>(library.parser, "createNvOnnxParser_INTERNAL", library.log);
    return library.create_parser == nullptr ? CATSEYE_TRT_NO_SYMBOL : CATSEYE_TRT_OK;
}

CatseyeTrtStatus library_probe(char const *nvinfer, CatseyeTrtLogFn sink, void *user, int32_t *major, int32_t *minor,
                               int32_t *patch) {
    Log log(sink, user);
    return guarded(log, [&] {
        SharedLibrary library = open_library(nvinfer, log);
        if (!library) {
            return CATSEYE_TRT_NOT_FOUND;
        }
        auto version = symbol<VersionFn>(library, "getInferLibVersion", log);
        if (version == nullptr) {
            return CATSEYE_TRT_NO_SYMBOL;
        }
        Version const found = decode_version(version());
        *major = found.major;
        *minor = found.minor;
        *patch = found.patch;
        // it is opened again at once, and loading it takes long
        static_cast<void>(library.release());
        return CATSEYE_TRT_OK;
    });
}

CatseyeTrtStatus open_all(CatseyeTrtLibrary &library, char const *nvinfer, char const *parser, char const *plugin) {
    library.nvinfer = open_library(nvinfer, library.log);
    if (!library.nvinfer) {
        return CATSEYE_TRT_NOT_FOUND;
    }
    auto version = symbol<VersionFn>(library.nvinfer, "getInferLibVersion", library.log);
    library.create_builder = symbol<CreateFn>(library.nvinfer, "createInferBuilder_INTERNAL", library.log);
    library.create_runtime = symbol<CreateFn>(library.nvinfer, "createInferRuntime_INTERNAL", library.log);
    if (version == nullptr || library.create_builder == nullptr || library.create_runtime == nullptr) {
        return CATSEYE_TRT_NO_SYMBOL;
    }
    library.version = decode_version(version());
    CatseyeTrtStatus const status = check_version(library.version, library.log);
    if (status != CATSEYE_TRT_OK) {
        return status;
    }
    // Plugins come first: the parser links to them.
    if (plugin != nullptr) {
        library.plugin = open_library(plugin, library.log);
        if (!library.plugin) {
            return CATSEYE_TRT_NOT_FOUND;
        }
    }
    return parser == nullptr ? CATSEYE_TRT_OK : open_parser(library, parser);
}

CatseyeTrtStatus init_plugins(CatseyeTrtLibrary &library) {
    auto init = symbol<InitPluginsFn>(library.plugin, "initLibNvInferPlugins", library.log);
    if (init == nullptr) {
        return CATSEYE_TRT_NO_SYMBOL;
    }
    return init(&library.log, "") ? CATSEYE_TRT_OK : CATSEYE_TRT_REFUSED;
}

CatseyeTrtStatus library_open(char const *nvinfer, char const *parser, char const *plugin, CatseyeTrtLogFn sink,
                              void *user, CatseyeTrtLibrary **out) {
    Log log(sink, user);
    return guarded(log, [&] {
        std::unique_ptr<CatseyeTrtLibrary> opened(new CatseyeTrtLibrary(sink, user));
        CatseyeTrtStatus const status = open_all(*opened, nvinfer, parser, plugin);
        if (status != CATSEYE_TRT_OK) {
            return status;
        }
        // From here on TensorRT holds pointers between its libraries and to the log, so none of them goes away.
        CatseyeTrtLibrary &library = *opened.release();
        CatseyeTrtStatus const ready = library.plugin ? init_plugins(library) : CATSEYE_TRT_OK;
        *out = ready == CATSEYE_TRT_OK ? &library : nullptr;
        return ready;
    });
}

void library_version(CatseyeTrtLibrary const *library, int32_t *major, int32_t *minor, int32_t *patch) {
    *major = library->version.major;
    *minor = library->version.minor;
    *patch = library->version.patch;
}

// ---------------------------------------------------------------------------------------------------------- builder

CatseyeTrtStatus builder_create(CatseyeTrtLibrary *library, CatseyeTrtBuilder **out) {
    return guarded(library->log, [&] {
        std::unique_ptr<CatseyeTrtBuilder> builder(new CatseyeTrtBuilder(*library));
        uint64_t const errors = library->log.errors();
        auto *made = static_cast<nv::IBuilder *>(library->create_builder(&library->log, NV_TENSORRT_VERSION));
        // Without a device the pointer may be garbage, so a logged error is a failure and the pointer is not touched.
        if (made == nullptr || library->log.errors() != errors) {
            return CATSEYE_TRT_REFUSED;
        }
        builder->builder.reset(made);
#if CATSEYE_TRT_WEAKLY_TYPED && !CATSEYE_TRT_FROM(10, 0)
        uint32_t const flags = 1U << static_cast<uint32_t>(nv::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#else
        uint32_t const flags = 0;
#endif
        builder->network.reset(made->createNetworkV2(flags));
        if (!builder->network) {
            return CATSEYE_TRT_REFUSED;
        }
        *out = builder.release();
        return CATSEYE_TRT_OK;
    });
}

CatseyeTrtStatus builder_parse(CatseyeTrtBuilder *builder, void const *onnx, size_t bytes, char const *path) {
    CatseyeTrtLibrary &library = builder->library;
    return guarded(library.log, [&] {
        if (library.create_parser == nullptr) {
            return CATSEYE_TRT_NO_PARSER;
        }
        auto *made = library.create_parser(builder->network.get(), &library.log, NV_ONNX_PARSER_VERSION);
        builder->parser.reset(static_cast<nvonnxparser::IParser *>(made));
        if (!builder->parser) {
            return CATSEYE_TRT_REFUSED;
        }
        if (builder->parser->parse(onnx, bytes, path)) {
            return CATSEYE_TRT_OK;
        }
        for (int32_t index = 0; index < builder->parser->getNbErrors(); ++index) {
            auto const *error = builder->parser->getError(index);
            library.log.error("node " + std::to_string(error->node()) + ": " + error->desc());
        }
        return CATSEYE_TRT_BAD_MODEL;
    });
}

int32_t builder_tensor_count(CatseyeTrtBuilder const *builder, int32_t mode) {
    return mode == CATSEYE_TRT_INPUT ? builder->network->getNbInputs() : builder->network->getNbOutputs();
}

nv::ITensor *network_tensor(CatseyeTrtBuilder const *builder, int32_t mode, int32_t index) noexcept {
    if (index < 0 || index >= builder_tensor_count(builder, mode)) {
        return nullptr;
    }
    return mode == CATSEYE_TRT_INPUT ? builder->network->getInput(index) : builder->network->getOutput(index);
}

CatseyeTrtStatus builder_tensor(CatseyeTrtBuilder const *builder, int32_t mode, int32_t index, CatseyeTrtTensor *out) {
    nv::ITensor const *tensor = network_tensor(builder, mode, index);
    if (tensor == nullptr) {
        return CATSEYE_TRT_NO_TENSOR;
    }
    *out = describe(tensor->getName(), mode, tensor->getType(), tensor->getDimensions());
    return CATSEYE_TRT_OK;
}

// Fixes the network's own dimensions in place of a profile that says min = opt = max: the engine's tensors then have
// plain shapes, and the builder has no shape arithmetic left to keep.
CatseyeTrtStatus builder_fix_shape(CatseyeTrtBuilder *builder, char const *input, int64_t const *dims, int32_t rank) {
    if (rank < 0 || rank > CATSEYE_TRT_MAX_DIMS) {
        return CATSEYE_TRT_REFUSED;
    }
    for (int32_t index = 0; index < builder->network->getNbInputs(); ++index) {
        nv::ITensor *tensor = builder->network->getInput(index);
        if (std::strcmp(tensor->getName(), input) != 0) {
            continue;
        }
        nv::Dims shape{};
        shape.nbDims = rank;
        for (int32_t axis = 0; axis < rank; ++axis) {
            shape.d[axis] = static_cast<decltype(+shape.d[0])>(dims[axis]);
        }
        tensor->setDimensions(shape);
        return CATSEYE_TRT_OK;
    }
    return CATSEYE_TRT_NO_TENSOR;
}

// Layers whose dimensions the exporter wrote down for one picture, with the batch in front.
void set_leading_one(nv::ILayer &layer, int32_t batch) {
    auto const has_leading_one = [](nv::Dims const &dims) { return dims.nbDims > 1 && dims.d[0] == 1; };
    bool const is_static = layer.getNbInputs() == 1;
    if (layer.getType() == nv::LayerType::kSHUFFLE && is_static) {
        auto &shuffle = static_cast<nv::IShuffleLayer &>(layer);
        nv::Dims dims = shuffle.getReshapeDimensions();
        if (has_leading_one(dims)) {
            dims.d[0] = batch;
            shuffle.setReshapeDimensions(dims);
        }
    } else if (layer.getType() == nv::LayerType::kSLICE && is_static) {
        auto &slice = static_cast<nv::ISliceLayer &>(layer);
        nv::Dims dims = slice.getSize();
        if (has_leading_one(dims) && slice.getStart().d[0] == 0) {
            dims.d[0] = batch;
            slice.setSize(dims);
        }
    }
}

// The layer that makes a tensor.
nv::ILayer *maker_of(nv::INetworkDefinition &network, nv::ITensor const *tensor) {
    for (int32_t index = 0; index < network.getNbLayers(); ++index) {
        nv::ILayer *layer = network.getLayer(index);
        if (layer->getNbOutputs() > 0 && layer->getOutput(0) == tensor) {
            return layer;
        }
    }
    return nullptr;
}

// Dimensions that a layer reads from a constant: those of a padded picture, or of a reshape. The constant may serve others too, so
// the layer gets one of its own.
template <typename Number>
void set_leading_one_of(CatseyeTrtBuilder &builder, nv::ILayer &layer, int32_t input, nv::Weights const &weights,
                        Number batch) {
    auto const *values = static_cast<Number const *>(weights.values);
    if (weights.count < 2 || values == nullptr || values[0] != 1) {
        return;
    }
    auto const *bytes = static_cast<char const *>(weights.values);
    builder.constants.emplace_back(bytes, bytes + weights.count * static_cast<int64_t>(sizeof(Number)));
    std::vector<char> &own = builder.constants.back();
    std::memcpy(own.data(), &batch, sizeof(batch));
    nv::Dims dims{};
    dims.nbDims = 1;
    dims.d[0] = static_cast<decltype(+dims.d[0])>(weights.count);
    nv::Weights const changed{weights.type, own.data(), weights.count};
    nv::IConstantLayer *constant = builder.network->addConstant(dims, changed);
    if (constant != nullptr) {
        layer.setInput(input, *constant->getOutput(0));
    }
}

void set_leading_one_of_input(CatseyeTrtBuilder &builder, nv::ILayer &layer, int32_t input, int32_t batch) {
    if (layer.getNbInputs() <= input || layer.getInput(input) == nullptr) {
        return;
    }
    nv::ILayer *maker = maker_of(*builder.network, layer.getInput(input));
    if (maker == nullptr) {
        return;
    }
    if (maker->getType() == nv::LayerType::kELEMENTWISE) {
        // the parser makes the size of a padded picture so: the picture's size and what is added to it, both constants
        if (static_cast<nv::IElementWiseLayer *>(maker)->getOperation() == nv::ElementWiseOperation::kSUM) {
            set_leading_one_of_input(builder, *maker, 0, batch);
            set_leading_one_of_input(builder, *maker, 1, batch);
        }
        return;
    }
    if (maker->getType() != nv::LayerType::kCONSTANT) {
        return;
    }
    nv::Weights const weights = static_cast<nv::IConstantLayer *>(maker)->getWeights();
    if (weights.type == nv::DataType::kINT32) {
        set_leading_one_of<int32_t>(builder, layer, input, weights, batch);
    }
#if CATSEYE_TRT_FROM(10, 0)
    if (weights.type == nv::DataType::kINT64) {
        set_leading_one_of<int64_t>(builder, layer, input, weights, batch);
    }
#endif
}

// Follows the pictures through the network, but not constants, and not what is computed of shapes.
CatseyeTrtStatus set_batch(CatseyeTrtBuilder &builder, int32_t batch) {
    nv::INetworkDefinition &network = *builder.network;
    std::set<nv::ITensor const *> carriers;
    for (int32_t index = 0; index < network.getNbInputs(); ++index) {
        nv::ITensor *input = network.getInput(index);
        nv::Dims dims = input->getDimensions();
        if (dims.nbDims < 1) {
            return CATSEYE_TRT_REFUSED;
        }
        dims.d[0] = batch;
        input->setDimensions(dims);
        carriers.insert(input);
    }
    // constants are added on the way, behind these
    int32_t const layers = network.getNbLayers();
    for (int32_t index = 0; index < layers; ++index) {
        nv::ILayer &layer = *network.getLayer(index);
        bool carries = false;
        for (int32_t input = 0; input < layer.getNbInputs(); ++input) {
            carries |= carriers.count(layer.getInput(input)) != 0;
        }
        if (!carries || layer.getType() == nv::LayerType::kSHAPE) {
            continue;
        }
        set_leading_one(layer, batch);
        if (layer.getType() == nv::LayerType::kSHUFFLE) {
            set_leading_one_of_input(builder, layer, 1, batch);
        } else if (layer.getType() == nv::LayerType::kSLICE) {
            set_leading_one_of_input(builder, layer, 2, batch);
        }
        for (int32_t output = 0; output < layer.getNbOutputs(); ++output) {
            carriers.insert(layer.getOutput(output));
        }
    }
    for (int32_t index = 0; index < network.getNbOutputs(); ++index) {
        nv::ITensor const *output = network.getOutput(index);
        nv::Dims const dims = output->getDimensions();
        if (dims.nbDims < 1 || dims.d[0] != batch) {
            builder.library.log.error(std::string(output->getName()) + " does not begin with the batch");
            return CATSEYE_TRT_REFUSED;
        }
    }
    return CATSEYE_TRT_OK;
}

CatseyeTrtStatus builder_set_batch(CatseyeTrtBuilder *builder, int32_t batch) {
    return guarded(builder->library.log, [&] { return set_batch(*builder, batch); });
}

#if CATSEYE_TRT_HAS_CALIBRATION
// TensorRT asks for batches until there are none, unless it is given a table of ranges. What it makes of them is the base's.
template <typename Base> class Calibrator final : public Base {
public:
    Calibrator(CatseyeTrtBuildOptions const &options, int32_t batch, std::string &table)
        : options_(options), batch_(batch), table_(table) {}

    int32_t getBatchSize() const noexcept override { return batch_; }

    bool getBatch(void *addresses[], char const *names[], int32_t count) noexcept override {
        return options_.batch != nullptr && options_.batch(options_.user, names, addresses, count) != 0;
    }

    void const *readCalibrationCache(size_t &bytes) noexcept override {
        bytes = table_.size();
        return table_.empty() ? nullptr : table_.data();
    }

    // also called with a table that was read
    void writeCalibrationCache(void const *table, size_t bytes) noexcept override {
        try {
            if (table_.empty()) {
                table_.assign(static_cast<char const *>(table), bytes);
            }
        } catch (...) {
        }
    }

private:
    CatseyeTrtBuildOptions const &options_;
    int32_t batch_;
    std::string &table_;
};

// Reads the table and, where it is empty, writes it.
std::unique_ptr<nv::IInt8Calibrator> calibrator(CatseyeTrtBuilder const &builder, CatseyeTrtBuildOptions const &options,
                                                std::string &table) {
    nv::INetworkDefinition &network = *builder.network;
    int32_t const batch = network.getNbInputs() > 0 ? static_cast<int32_t>(network.getInput(0)->getDimensions().d[0]) : 1;
    if (options.ranges == CATSEYE_TRT_RANGES_ENTROPY) {
        return std::unique_ptr<nv::IInt8Calibrator>(new Calibrator<nv::IInt8EntropyCalibrator2>(options, batch, table));
    }
    return std::unique_ptr<nv::IInt8Calibrator>(new Calibrator<nv::IInt8MinMaxCalibrator>(options, batch, table));
}

bool has_weights(nv::ILayer const &layer) noexcept {
    nv::LayerType const type = layer.getType();
    return type == nv::LayerType::kCONVOLUTION || type == nv::LayerType::kDECONVOLUTION ||
           type == nv::LayerType::kMATRIX_MULTIPLY;
}

// Tensors that eight bits spoil: those of the first convolutions, whose errors reach all others, and all from the last convolutions on,
// where scores below one stand beside coordinates in the hundreds.
std::set<std::string> sensitive_tensors(nv::INetworkDefinition &network) {
    constexpr int32_t FIRST_CONVOLUTIONS = 3;
    std::set<std::string> found;
    auto const add = [&](nv::ILayer const &layer) {
        for (int32_t output = 0; output < layer.getNbOutputs(); ++output) {
            found.insert(layer.getOutput(output)->getName());
        }
    };
    // convolutions before a tensor, for those that hang on an input; layers stand in the order in which they work
    std::map<nv::ITensor const *, int32_t> depths;
    for (int32_t index = 0; index < network.getNbInputs(); ++index) {
        depths[network.getInput(index)] = 0;
        found.insert(network.getInput(index)->getName());
    }
    for (int32_t index = 0; index < network.getNbLayers(); ++index) {
        nv::ILayer &layer = *network.getLayer(index);
        int32_t depth = -1;
        for (int32_t input = 0; input < layer.getNbInputs(); ++input) {
            auto const before = depths.find(layer.getInput(input));
            depth = before == depths.end() ? depth : std::max(depth, before->second);
        }
        if (depth < 0) {
            continue;
        }
        depth += has_weights(layer) ? 1 : 0;
        for (int32_t output = 0; output < layer.getNbOutputs(); ++output) {
            depths[layer.getOutput(output)] = depth;
        }
        if (depth <= FIRST_CONVOLUTIONS) {
            add(layer);
        }
    }
    std::set<nv::ITensor const *> wanted;
    for (int32_t index = 0; index < network.getNbOutputs(); ++index) {
        wanted.insert(network.getOutput(index));
    }
    for (int32_t index = network.getNbLayers(); index-- > 0;) {
        nv::ILayer &layer = *network.getLayer(index);
        bool is_wanted = false;
        for (int32_t output = 0; output < layer.getNbOutputs(); ++output) {
            is_wanted |= wanted.count(layer.getOutput(output)) != 0;
        }
        if (!is_wanted) {
            continue;
        }
        add(layer);
        for (int32_t input = 0; input < layer.getNbInputs() && !has_weights(layer); ++input) {
            wanted.insert(layer.getInput(input));
        }
    }
    return found;
}

// A table has a line for each tensor: its name, a colon and the bits of its scale in hexadecimal digits. The first line names the way.
std::string name_of(std::string const &line) { return line.substr(0, line.rfind(": ")); }

std::string without(std::string const &table, std::set<std::string> const &tensors) {
    std::istringstream lines(table);
    std::string kept;
    for (std::string line; std::getline(lines, line);) {
        if (tensors.count(name_of(line)) == 0) {
            kept += line + '\n';
        }
    }
    return kept;
}

std::map<std::string, float> scales_of(std::string const &table) {
    std::istringstream lines(table);
    std::map<std::string, float> scales;
    for (std::string line; std::getline(lines, line);) {
        std::string const name = name_of(line);
        if (name.size() == line.size()) {
            continue;
        }
        auto const bits = static_cast<uint32_t>(std::strtoul(line.c_str() + name.size() + 2, nullptr, 16));
        float scale = 0.0F;
        std::memcpy(&scale, &bits, sizeof(scale));
        if (std::isnormal(scale) && scale > 0.0F) {
            scales[name] = scale;
        }
    }
    return scales;
}

// Gives convolutions eight bits where they do little harm, by pairs of Q and DQ at their inputs and weights. With ranges alone TensorRT
// takes eight bits wherever there is a kernel, and fuses layers as if there always were one. What stays as it is: sensitive tensors and
// the convolutions that read or write them, and convolutions in groups, whose channels have few weights each and differ much in size,
// for little work.
class Quantizer {
public:
    Quantizer(CatseyeTrtBuilder &builder, std::string const &table)
        : builder_(builder), network_(*builder.network), scales_(scales_of(table)),
          sensitive_(sensitive_tensors(*builder.network)) {}

    CatseyeTrtStatus run() {
        int32_t const layers = network_.getNbLayers();
        std::vector<nv::IConvolutionLayer *> wanted;
        size_t without_scale = 0;
        for (int32_t index = 0; index < layers; ++index) {
            nv::ILayer &layer = *network_.getLayer(index);
            if (layer.getType() != nv::LayerType::kCONVOLUTION) {
                continue;
            }
            auto &convolution = static_cast<nv::IConvolutionLayer &>(layer);
            if (!is_wanted(convolution)) {
                continue;
            }
            if (scales_.count(convolution.getInput(0)->getName()) == 0) {
                ++without_scale;
            } else {
                wanted.push_back(&convolution);
            }
        }
        // a tensor may have no range, as one that is always zero; a table of another network knows hardly any
        if (wanted.size() <= without_scale) {
            builder_.library.log.error(
                wanted.empty() && without_scale == 0
                    ? std::string("no convolution of this network can have 8 bits: all are in groups, among the first four or the "
                                  "last, or not in 32 bits")
                    : "the table has scales for " + std::to_string(wanted.size()) + " of " +
                          std::to_string(wanted.size() + without_scale) + " convolutions: is it of another model?");
            return CATSEYE_TRT_REFUSED;
        }
        for (nv::IConvolutionLayer *convolution : wanted) {
            nv::IConvolutionLayer *quantized = quantize(*convolution);
            if (quantized == nullptr) {
                return CATSEYE_TRT_REFUSED;
            }
            replace(*convolution, *quantized, layers);
        }
        return CATSEYE_TRT_OK;
    }

private:
    bool is_wanted(nv::IConvolutionLayer const &convolution) const {
        // weights that are computed are an input of their own
        if (convolution.getNbInputs() != 1 || convolution.getNbGroups() != 1 ||
            convolution.getKernelWeights().type != nv::DataType::kFLOAT) {
            return false;
        }
        nv::ITensor const &input = *convolution.getInput(0);
        return input.getType() == nv::DataType::kFLOAT && sensitive_.count(input.getName()) == 0 &&
               sensitive_.count(convolution.getOutput(0)->getName()) == 0;
    }

    // The same convolution with its input and weights in eight bits. Weights that a layer was made with cannot be taken from it.
    nv::IConvolutionLayer *quantize(nv::IConvolutionLayer const &convolution) {
        nv::ITensor *input = input_in_eight_bits(*convolution.getInput(0));
        nv::ITensor *weights = weights_in_eight_bits(convolution);
        if (input == nullptr || weights == nullptr) {
            return nullptr;
        }
        nv::Weights const none{nv::DataType::kFLOAT, nullptr, 0};
        nv::IConvolutionLayer *quantized =
            network_.addConvolutionNd(*input, convolution.getNbOutputMaps(), convolution.getKernelSizeNd(), none,
                                      convolution.getBiasWeights());
        if (quantized == nullptr) {
            return nullptr;
        }
        quantized->setInput(1, *weights);
        quantized->setStrideNd(convolution.getStrideNd());
        quantized->setDilationNd(convolution.getDilationNd());
        quantized->setPrePadding(convolution.getPrePadding());
        quantized->setPostPadding(convolution.getPostPadding());
        quantized->setPaddingMode(convolution.getPaddingMode());
        return quantized;
    }

    // Whoever read the first reads the second, which has its names too. TensorRT leaves out what nobody reads.
    void replace(nv::IConvolutionLayer &first, nv::IConvolutionLayer &second, int32_t layers) {
        nv::ITensor &before = *first.getOutput(0);
        nv::ITensor &after = *second.getOutput(0);
        for (int32_t index = 0; index < layers; ++index) {
            nv::ILayer &layer = *network_.getLayer(index);
            for (int32_t input = 0; input < layer.getNbInputs(); ++input) {
                if (layer.getInput(input) == &before) {
                    layer.setInput(input, after);
                }
            }
        }
        std::string const name = first.getName(), tensor = before.getName();
        first.setName((name + " before it was replaced").c_str());
        before.setName((tensor + " before it was replaced").c_str());
        second.setName(name.c_str());
        after.setName(tensor.c_str());
    }

    // One pair serves all convolutions that read a tensor.
    nv::ITensor *input_in_eight_bits(nv::ITensor &input) {
        nv::ITensor *&found = inputs_[&input];
        if (found == nullptr) {
            nv::ITensor *scale = constant(nv::Dims{}, {scales_.at(input.getName())});
            found = in_eight_bits(input, scale, input.getName());
        }
        return found;
    }

    // A scale for each output channel.
    nv::ITensor *weights_in_eight_bits(nv::IConvolutionLayer const &convolution) {
        constexpr float LARGEST = 127.0F;
        // weights of a channel that was pruned: a scale as small as they are would have no reciprocal
        constexpr float PRUNED = 1e-20F;
        nv::Weights const weights = convolution.getKernelWeights();
        auto const *values = static_cast<float const *>(weights.values);
        nv::Dims const kernel = convolution.getKernelSizeNd();
        int64_t const channels = convolution.getNbOutputMaps();
        int64_t const row = channels > 0 ? weights.count / channels : 0;
        int64_t positions = 1;
        for (int32_t axis = 0; axis < kernel.nbDims; ++axis) {
            positions *= kernel.d[axis];
        }
        if (values == nullptr || row <= 0 || positions <= 0 || kernel.nbDims + 2 > nv::Dims::MAX_DIMS) {
            builder_.library.log.error(std::string(convolution.getName()) + ": its weights cannot be read");
            return nullptr;
        }
        std::vector<float> scales;
        for (int64_t channel = 0; channel < channels; ++channel) {
            float largest = 0.0F;
            for (int64_t index = channel * row; index < (channel + 1) * row; ++index) {
                if (!std::isfinite(values[index])) {
                    builder_.library.log.error(std::string(convolution.getName()) + ": a weight is no finite number");
                    return nullptr;
                }
                largest = std::max(largest, std::fabs(values[index]));
            }
            scales.push_back(largest > PRUNED ? largest / LARGEST : 1.0F);
        }
        nv::Dims dims{};
        dims.nbDims = kernel.nbDims + 2;
        set(dims, 0, channels);
        set(dims, 1, row / positions);
        for (int32_t axis = 0; axis < kernel.nbDims; ++axis) {
            set(dims, axis + 2, kernel.d[axis]);
        }
        nv::Dims one_each{};
        one_each.nbDims = 1;
        set(one_each, 0, channels);
        nv::IConstantLayer *layer = network_.addConstant(dims, weights);
        nv::ITensor *scale = constant(one_each, scales);
        std::string const name = std::string("weights of ") + convolution.getName();
        return layer == nullptr ? nullptr : in_eight_bits(*layer->getOutput(0), scale, name);
    }

    static void set(nv::Dims &dims, int32_t axis, int64_t size) {
        dims.d[axis] = static_cast<std::remove_reference_t<decltype(dims.d[axis])>>(size);
    }

    nv::ITensor *constant(nv::Dims const &dims, std::vector<float> const &values) {
        auto const *bytes = reinterpret_cast<char const *>(values.data());
        builder_.constants.emplace_back(bytes, bytes + values.size() * sizeof(float));
        nv::Weights const weights{nv::DataType::kFLOAT, builder_.constants.back().data(),
                                  static_cast<int64_t>(values.size())};
        nv::IConstantLayer *layer = network_.addConstant(dims, weights);
        return layer == nullptr ? nullptr : layer->getOutput(0);
    }

    // With one scale, or one for each index of the first axis.
    nv::ITensor *in_eight_bits(nv::ITensor &tensor, nv::ITensor *scale, std::string const &name) {
        if (scale == nullptr) {
            return nullptr;
        }
#if CATSEYE_TRT_FROM(10, 0)
        nv::IQuantizeLayer *to = network_.addQuantize(tensor, *scale, nv::DataType::kINT8);
#else
        nv::IQuantizeLayer *to = network_.addQuantize(tensor, *scale);
#endif
        if (to == nullptr) {
            return nullptr;
        }
#if CATSEYE_TRT_FROM(10, 0)
        nv::IDequantizeLayer *back = network_.addDequantize(*to->getOutput(0), *scale, nv::DataType::kFLOAT);
#else
        nv::IDequantizeLayer *back = network_.addDequantize(*to->getOutput(0), *scale);
#endif
        if (back == nullptr) {
            return nullptr;
        }
        if (scale->getDimensions().nbDims > 0) {
            to->setAxis(0);
            back->setAxis(0);
        }
        to->setName(("Q " + name).c_str());
        back->setName(("DQ " + name).c_str());
        return back->getOutput(0);
    }

    CatseyeTrtBuilder &builder_;
    nv::INetworkDefinition &network_;
    std::map<std::string, float> const scales_;
    std::set<std::string> const sensitive_;
    std::map<nv::ITensor const *, nv::ITensor *> inputs_;
};
#endif

#if CATSEYE_TRT_FROM(10, 0)
// TensorRT calls from several threads and names a phase only by its name, so the open ones are kept here.
class Progress final : public nv::IProgressMonitor {
public:
    explicit Progress(CatseyeTrtBuildOptions const &options) : options_(options) {}

    void phaseStart(char const *phase, char const *parent, int32_t steps) noexcept override {
        try {
            std::lock_guard<std::mutex> lock(mutex_);
            open_.push_back({phase, parent == nullptr ? "" : parent, steps});
            tell(open_.back(), 0);
        } catch (...) {
        }
    }

    bool stepComplete(char const *phase, int32_t step) noexcept override {
        std::lock_guard<std::mutex> lock(mutex_);
        for (Phase const &each : open_) {
            if (each.name == phase) {
                tell(each, step + 1 < each.steps ? step + 1 : each.steps - 1);
            }
        }
        return running_;
    }

    void phaseFinish(char const *phase) noexcept override {
        std::lock_guard<std::mutex> lock(mutex_);
        for (size_t index = open_.size(); index-- > 0;) {
            if (open_[index].name == phase) {
                tell(open_[index], open_[index].steps);
                open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(index));
                return;
            }
        }
    }

private:
    struct Phase {
        std::string name, parent;
        int32_t steps;
    };

    void tell(Phase const &phase, int32_t step) noexcept {
        if (options_.progress(options_.user, phase.name.c_str(), phase.parent.c_str(), step, phase.steps) == 0) {
            running_ = false;
        }
    }

    CatseyeTrtBuildOptions const &options_;
    std::mutex mutex_;
    std::vector<Phase> open_;
    bool running_ = true;
};
#endif

CatseyeTrtStatus set_precision(nv::IBuilderConfig &config, CatseyeTrtBuildOptions const &options, Log &log) {
    if ((options.flags & CATSEYE_TRT_FLAG_TF32) == 0) {
        config.clearFlag(nv::BuilderFlag::kTF32);
    }
    uint32_t const lower = options.flags & (CATSEYE_TRT_FLAG_FP16 | CATSEYE_TRT_FLAG_INT8);
#if CATSEYE_TRT_WEAKLY_TYPED
    if ((lower & CATSEYE_TRT_FLAG_FP16) != 0) {
        config.setFlag(nv::BuilderFlag::kFP16);
    }
    if ((lower & CATSEYE_TRT_FLAG_INT8) != 0) {
        config.setFlag(nv::BuilderFlag::kINT8);
    }
#else
    if (lower != 0) {
        log.error("this TensorRT takes precisions from the model alone: give a model in FP16, or one with Q and DQ nodes");
        return CATSEYE_TRT_UNSUPPORTED;
    }
#endif
    static_cast<void>(log);
    return CATSEYE_TRT_OK;
}

CatseyeTrtStatus set_device(nv::IBuilderConfig &config, nv::IBuilder const &builder,
                            CatseyeTrtBuildOptions const &options, Log &log) {
    if (options.dla_core < 0) {
        return CATSEYE_TRT_OK;
    }
#if CATSEYE_TRT_WEAKLY_TYPED
    if (options.dla_core >= builder.getNbDLACores()) {
        log.error("this device has " + std::to_string(builder.getNbDLACores()) + " DLA cores");
        return CATSEYE_TRT_UNSUPPORTED;
    }
    config.setDefaultDeviceType(nv::DeviceType::kDLA);
    config.setDLACore(options.dla_core);
    if ((options.flags & CATSEYE_TRT_FLAG_GPU_FALLBACK) != 0) {
        config.setFlag(nv::BuilderFlag::kGPU_FALLBACK);
    }
    return CATSEYE_TRT_OK;
#else
    static_cast<void>(config);
    static_cast<void>(builder);
    log.error("this TensorRT builds nothing for a DLA");
    return CATSEYE_TRT_UNSUPPORTED;
#endif
}

CatseyeTrtStatus set_effort(nv::IBuilderConfig &config, CatseyeTrtBuildOptions const &options, Log &log) {
    if (options.workspace_bytes != 0) {
        config.setMemoryPoolLimit(nv::MemoryPoolType::kWORKSPACE, options.workspace_bytes);
    }
    config.setProfilingVerbosity(nv::ProfilingVerbosity::kDETAILED);
#if NV_TENSORRT_MAJOR == 8
    // cuBLAS and cuDNN are large, and need not be there at all. Later versions leave them out by themselves.
    config.setTacticSources(1U << static_cast<uint32_t>(nv::TacticSource::kEDGE_MASK_CONVOLUTIONS) |
                            1U << static_cast<uint32_t>(nv::TacticSource::kJIT_CONVOLUTIONS));
#endif
#if CATSEYE_TRT_FROM(8, 6)
    // One stream: the engines of a tick run beside each other, so that no engine needs streams of its own.
    config.setMaxAuxStreams(0);
    if (options.level >= 0) {
        config.setBuilderOptimizationLevel(options.level);
    }
#else
    if (options.level >= 0) {
        log.error("builder optimisation levels need a catseye that was compiled with headers of TensorRT 8.6 or newer");
        return CATSEYE_TRT_UNSUPPORTED;
    }
#endif
    static_cast<void>(log);
    return CATSEYE_TRT_OK;
}

CatseyeTrtStatus configure(CatseyeTrtBuilder const &builder, CatseyeTrtBuildOptions const &options,
                           std::unique_ptr<nv::IBuilderConfig> &config) {
    Log &log = builder.library.log;
    config.reset(builder.builder->createBuilderConfig());
    if (!config) {
        return CATSEYE_TRT_REFUSED;
    }
    CatseyeTrtStatus status = set_precision(*config, options, log);
    if (status == CATSEYE_TRT_OK) {
        status = set_device(*config, *builder.builder, options, log);
    }
    return status == CATSEYE_TRT_OK ? set_effort(*config, options, log) : status;
}

#if CATSEYE_TRT_HAS_CALIBRATION
// The ranges of all tensors. TensorRT tells them in the course of a build, so that one build is for them alone.
CatseyeTrtStatus calibrate(CatseyeTrtBuilder &builder, CatseyeTrtBuildOptions const &options, std::string &table) {
    for (int32_t index = 0; index < builder.network->getNbLayers(); ++index) {
        if (builder.network->getLayer(index)->getType() == nv::LayerType::kQUANTIZE) {
            builder.library.log.error("the model has Q and DQ nodes: build it without calibration");
            return CATSEYE_TRT_REFUSED;
        }
    }
    CatseyeTrtBuildOptions first = options;
#if CATSEYE_TRT_FROM(8, 6)
    first.level = 0;
#endif
    std::unique_ptr<nv::IBuilderConfig> config;
    CatseyeTrtStatus const status = configure(builder, first, config);
    if (status != CATSEYE_TRT_OK) {
        return status;
    }
    auto const ranges = calibrator(builder, options, table);
    config->setInt8Calibrator(ranges.get());
    std::unique_ptr<nv::IHostMemory> plan(builder.builder->buildSerializedNetwork(*builder.network, *config));
    if (!plan) {
        return CATSEYE_TRT_REFUSED;
    }
    if (table.empty()) {
        builder.library.log.error("TensorRT has made no table of ranges");
        return CATSEYE_TRT_REFUSED;
    }
    if (options.table != nullptr) {
        options.table(options.user, table.data(), table.size());
    }
    return CATSEYE_TRT_OK;
}
#endif

CatseyeTrtStatus build(CatseyeTrtBuilder &builder, CatseyeTrtBuildOptions const &options, CatseyeTrtBlob **plan_out,
                       CatseyeTrtBlob **cache_out) {
#if CATSEYE_TRT_HAS_CALIBRATION
    std::string table;
    if (options.calibration_table != nullptr) {
        table.assign(static_cast<char const *>(options.calibration_table), options.calibration_table_bytes);
    }
    std::unique_ptr<nv::IInt8Calibrator> ranges;
    if ((options.flags & CATSEYE_TRT_FLAG_INT8) != 0 && (options.batch != nullptr || !table.empty())) {
        CatseyeTrtStatus calibrated = table.empty() ? calibrate(builder, options, table) : CATSEYE_TRT_OK;
        if (calibrated == CATSEYE_TRT_OK && options.dla_core < 0) {
            calibrated = Quantizer(builder, table).run();
        }
        if (calibrated != CATSEYE_TRT_OK) {
            return calibrated;
        }
        if (options.dla_core >= 0) {
            // a DLA takes ranges, and no Q and DQ
            table = without(table, sensitive_tensors(*builder.network));
            ranges = calibrator(builder, options, table);
        }
    }
#endif
    std::unique_ptr<nv::IBuilderConfig> config;
    CatseyeTrtStatus const status = configure(builder, options, config);
    if (status != CATSEYE_TRT_OK) {
        return status;
    }
#if CATSEYE_TRT_HAS_CALIBRATION
    if (ranges) {
        config->setInt8Calibrator(ranges.get());
    }
#endif
#if CATSEYE_TRT_FROM(10, 0)
    Progress progress(options);
    if (options.progress != nullptr) {
        config->setProgressMonitor(&progress);
    }
#endif

    // A cache of another device or version is no error: what it holds is measured anew.
    std::unique_ptr<nv::ITimingCache> cache(config->createTimingCache(options.timing_cache, options.timing_cache_bytes));
    if (!cache && options.timing_cache_bytes != 0) {
        cache.reset(config->createTimingCache(nullptr, 0));
    }
    bool const cached = cache && config->setTimingCache(*cache, false);

    std::unique_ptr<nv::IHostMemory> plan(builder.builder->buildSerializedNetwork(*builder.network, *config));
    if (!plan) {
        return CATSEYE_TRT_REFUSED;
    }
    std::unique_ptr<nv::IHostMemory> timings(cached && cache_out != nullptr ? cache->serialize() : nullptr);
    std::unique_ptr<CatseyeTrtBlob> plan_blob(new CatseyeTrtBlob);
    plan_blob->memory = std::move(plan);
    if (timings) {
        std::unique_ptr<CatseyeTrtBlob> cache_blob(new CatseyeTrtBlob);
        cache_blob->memory = std::move(timings);
        *cache_out = cache_blob.release();
    }
    *plan_out = plan_blob.release();
    return CATSEYE_TRT_OK;
}

CatseyeTrtStatus builder_build(CatseyeTrtBuilder *builder, CatseyeTrtBuildOptions const *options, CatseyeTrtBlob **plan,
                               CatseyeTrtBlob **timing_cache) {
    return guarded(builder->library.log, [&] { return build(*builder, *options, plan, timing_cache); });
}

int32_t builder_dla_cores(CatseyeTrtBuilder const *builder) {
#if CATSEYE_TRT_WEAKLY_TYPED
    return builder->builder->getNbDLACores();
#else
    static_cast<void>(builder);
    return 0;
#endif
}

void builder_destroy(CatseyeTrtBuilder *builder) { delete builder; }

// ------------------------------------------------------------------------------------------------------------- blob

void const *blob_data(CatseyeTrtBlob const *blob) { return blob->memory ? blob->memory->data() : blob->text.data(); }

size_t blob_bytes(CatseyeTrtBlob const *blob) { return blob->memory ? blob->memory->size() : blob->text.size(); }

void blob_destroy(CatseyeTrtBlob *blob) { delete blob; }

// ---------------------------------------------------------------------------------------------------------- runtime

CatseyeTrtStatus runtime_create(CatseyeTrtLibrary *library, int32_t dla_core, CatseyeTrtRuntime **out) {
    return guarded(library->log, [&] {
        std::unique_ptr<CatseyeTrtRuntime> runtime(new CatseyeTrtRuntime(*library));
        uint64_t const errors = library->log.errors();
        auto *made = static_cast<nv::IRuntime *>(library->create_runtime(&library->log, NV_TENSORRT_VERSION));
        // As for the builder: after a logged error the pointer is not touched.
        if (made == nullptr || library->log.errors() != errors) {
            return CATSEYE_TRT_REFUSED;
        }
        runtime->runtime.reset(made);
        if (dla_core >= 0) {
#if CATSEYE_TRT_WEAKLY_TYPED
            made->setDLACore(dla_core);
#else
            return CATSEYE_TRT_UNSUPPORTED;
#endif
        }
        *out = runtime.release();
        return CATSEYE_TRT_OK;
    });
}

void runtime_destroy(CatseyeTrtRuntime *runtime) { delete runtime; }

// ----------------------------------------------------------------------------------------------------------- engine

CatseyeTrtStatus engine_create(CatseyeTrtRuntime *runtime, void const *plan, size_t bytes, CatseyeTrtEngine **out) {
    CatseyeTrtLibrary &library = runtime->library;
    return guarded(library.log, [&] {
        std::unique_ptr<CatseyeTrtEngine> engine(new CatseyeTrtEngine(library));
        engine->engine.reset(runtime->runtime->deserializeCudaEngine(plan, bytes));
        if (!engine->engine) {
            return CATSEYE_TRT_REFUSED;
        }
        *out = engine.release();
        return CATSEYE_TRT_OK;
    });
}

int32_t engine_tensor_count(CatseyeTrtEngine const *engine) { return engine->engine->getNbIOTensors(); }

CatseyeTrtStatus engine_tensor(CatseyeTrtEngine const *handle, int32_t index, CatseyeTrtTensor *out) {
    nv::ICudaEngine const &engine = *handle->engine;
    if (index < 0 || index >= engine.getNbIOTensors()) {
        return CATSEYE_TRT_NO_TENSOR;
    }
    char const *name = engine.getIOTensorName(index);
    if (name == nullptr) {
        return CATSEYE_TRT_NO_TENSOR;
    }
    bool const input = engine.getTensorIOMode(name) == nv::TensorIOMode::kINPUT;
    *out = describe(name, input ? CATSEYE_TRT_INPUT : CATSEYE_TRT_OUTPUT, engine.getTensorDataType(name),
                    engine.getTensorShape(name));
    return out->bytes == 0 ? CATSEYE_TRT_DYNAMIC : CATSEYE_TRT_OK;
}

uint64_t engine_workspace(CatseyeTrtEngine const *engine) {
#if CATSEYE_TRT_FROM(10, 1)
    int64_t const bytes = engine->engine->getDeviceMemorySizeV2();
    return bytes < 0 ? 0 : static_cast<uint64_t>(bytes);
#else
    return engine->engine->getDeviceMemorySize();
#endif
}

CatseyeTrtStatus engine_layers(CatseyeTrtEngine const *engine, CatseyeTrtBlob **out) {
    return guarded(engine->library.log, [&] {
        std::unique_ptr<nv::IEngineInspector> inspector(engine->engine->createEngineInspector());
        if (!inspector) {
            return CATSEYE_TRT_REFUSED;
        }
        char const *text = inspector->getEngineInformation(nv::LayerInformationFormat::kJSON);
        if (text == nullptr) {
            return CATSEYE_TRT_REFUSED;
        }
        std::unique_ptr<CatseyeTrtBlob> blob(new CatseyeTrtBlob);
        blob->text = text;
        *out = blob.release();
        return CATSEYE_TRT_OK;
    });
}

void engine_destroy(CatseyeTrtEngine *engine) { delete engine; }

// ---------------------------------------------------------------------------------------------------------- context

CatseyeTrtStatus context_create(CatseyeTrtEngine *engine, uint64_t workspace, uint64_t bytes, CatseyeTrtContext **out) {
    CatseyeTrtLibrary &library = engine->library;
    return guarded(library.log, [&] {
        std::unique_ptr<CatseyeTrtContext> context(new CatseyeTrtContext(library));
        if (bytes < engine_workspace(engine)) {
            library.log.error("the workspace is smaller than the engine asks for");
            return CATSEYE_TRT_REFUSED;
        }
#if CATSEYE_TRT_FROM(10, 1)
        context->context.reset(
            engine->engine->createExecutionContext(nv::ExecutionContextAllocationStrategy::kUSER_MANAGED));
#else
        context->context.reset(engine->engine->createExecutionContextWithoutDeviceMemory());
#endif
        if (!context->context) {
            return CATSEYE_TRT_REFUSED;
        }
        void *memory = reinterpret_cast<void *>(static_cast<uintptr_t>(workspace));
#if CATSEYE_TRT_FROM(10, 1)
        context->context->setDeviceMemoryV2(memory, static_cast<int64_t>(bytes));
#else
        context->context->setDeviceMemory(memory);
#endif
        *out = context.release();
        return CATSEYE_TRT_OK;
    });
}

CatseyeTrtStatus context_set_address(CatseyeTrtContext *context, char const *tensor, uint64_t address) {
    void *memory = reinterpret_cast<void *>(static_cast<uintptr_t>(address));
    return context->context->setTensorAddress(tensor, memory) ? CATSEYE_TRT_OK : CATSEYE_TRT_REFUSED;
}

CatseyeTrtStatus context_enqueue(CatseyeTrtContext *context, void *stream) {
    bool const enqueued = context->context->enqueueV3(static_cast<cudaStream_t>(stream));
    return enqueued ? CATSEYE_TRT_OK : CATSEYE_TRT_REFUSED;
}

void context_destroy(CatseyeTrtContext *context) { delete context; }

CatseyeTrtApi const API = {
    NV_TENSORRT_MAJOR,
    NV_TENSORRT_MINOR,
    NV_TENSORRT_PATCH,
    0,
    library_probe,
    library_open,
    library_version,
    builder_create,
    builder_parse,
    builder_tensor_count,
    builder_tensor,
    builder_fix_shape,
    builder_set_batch,
    builder_build,
    builder_dla_cores,
    builder_destroy,
    blob_data,
    blob_bytes,
    blob_destroy,
    runtime_create,
    runtime_destroy,
    engine_create,
    engine_tensor_count,
    engine_tensor,
    engine_workspace,
    engine_layers,
    engine_destroy,
    context_create,
    context_set_address,
    context_enqueue,
    context_destroy,
};

} // namespace

extern "C" CatseyeTrtApi const *CATSEYE_NAME(catseye_trt, _api)(void) { return &API; }
