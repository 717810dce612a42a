// Cameras of DRIVE through NvSIPL: NV12 pictures of the first ISP output, in NvSciBuf buffers of ours that the host maps once.
//
// SIPL starts all cameras of a platform at once, so that the first camera that is opened sets up every camera of the mask, and the
// last that is stopped stops them. A buffer stays with us from the completion queue until it is released, so nothing is copied.
// Written against DRIVE OS 6.0.
//
// The platform is what the vehicle has, not what a rig says: it comes from the environment, or from keys of the same names in small
// letters in `exporter:/path/libcatseye_sipl.so?config=...`.
//   CATSEYE_SIPL_PLATFORM  the name of the platform configuration, as nvsipl_camera lists them
//   CATSEYE_SIPL_MASK      link masks, one for each deserializer, as for nvsipl_camera: "0x0001 0 0 0"; all where it is not given
//   CATSEYE_SIPL_NITO      the folder of the cameras' .nito files; /usr/share/camera where it is not given
#include <atomic>
#include <cctype>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include <NvSIPLCamera.hpp>
#include <NvSIPLClient.hpp>
#include <NvSIPLPipelineMgr.hpp>
#include <NvSIPLQuery.hpp>
#include <nvscibuf.h>
#include <nvscisync.h>

#include "../shell.hpp"

namespace {

using namespace nvsipl;
using catseye::Config;
using catseye::Gone;
using Output = INvSIPLClient::ConsumerDesc::OutputType;

constexpr uint32_t CAPTURE_BUFFERS = 6;
constexpr uint64_t FENCE_TIMEOUT_US = 200000;

void check(SIPLStatus status, const char *what) {
    if (status != NVSIPL_STATUS_OK) throw std::runtime_error(std::string(what) + ": SIPL status " + std::to_string(status));
}

void check(NvSciError error, const char *what) {
    if (error != NvSciError_Success) throw std::runtime_error(std::string(what) + ": NvSci error " + std::to_string(error));
}

// A handle of NvSci and what frees it.
template <class Handle, void (*FREE)(Handle)> class Owned {
public:
    Owned() = default;
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() {
        if (handle_) FREE(handle_);
    }
    Handle get() const { return handle_; }
    Handle *put() { return &handle_; }

private:
    Handle handle_ = nullptr;
};

using BufModule = Owned<NvSciBufModule, NvSciBufModuleClose>;
using BufAttributes = Owned<NvSciBufAttrList, NvSciBufAttrListFree>;
using BufObject = Owned<NvSciBufObj, NvSciBufObjFree>;
using SyncModule = Owned<NvSciSyncModule, NvSciSyncModuleClose>;
using SyncAttributes = Owned<NvSciSyncAttrList, NvSciSyncAttrListFree>;
using SyncObject = Owned<NvSciSyncObj, NvSciSyncObjFree>;
using WaitContext = Owned<NvSciSyncCpuWaitContext, NvSciSyncCpuWaitContextFree>;

// The modules of NvSci; they live as long as any buffer.
struct Modules {
    BufModule buf;
    SyncModule sync;
    Modules() {
        check(NvSciBufModuleOpen(buf.put()), "NvSciBuf");
        check(NvSciSyncModuleOpen(sync.put()), "NvSciSync");
    }
};

// How the planes of a buffer lie, which is the same for all that were made of one list of attributes.
struct Layout {
    uint64_t bytes = 0;
    uint32_t plane_count = 0;
    uint32_t pitch[CATSEYE_MAX_PLANES] = {};
    uint32_t height[CATSEYE_MAX_PLANES] = {};
    uint64_t offset[CATSEYE_MAX_PLANES] = {};

    static Layout of(NvSciBufObj object) {
        NvSciBufAttrList attributes = nullptr;
        check(NvSciBufObjGetAttrList(object, &attributes), "attributes of a buffer");
        NvSciBufAttrKeyValuePair values[] = {
            {NvSciBufImageAttrKey_PlaneCount, nullptr, 0},
            {NvSciBufImageAttrKey_PlanePitch, nullptr, 0},
            {NvSciBufImageAttrKey_PlaneHeight, nullptr, 0},
            {NvSciBufImageAttrKey_PlaneOffset, nullptr, 0},
            {NvSciBufImageAttrKey_Size, nullptr, 0},
        };
        check(NvSciBufAttrListGetAttrs(attributes, values, 5), "layout of a buffer");
        Layout layout;
        copy(&layout.plane_count, values[0], 1);
        if (layout.plane_count < 1 || layout.plane_count > CATSEYE_MAX_PLANES) throw std::runtime_error("a buffer of too many planes");
        copy(layout.pitch, values[1], layout.plane_count);
        copy(layout.height, values[2], layout.plane_count);
        copy(layout.offset, values[3], layout.plane_count);
        copy(&layout.bytes, values[4], 1);
        return layout;
    }

private:
    template <class T> static void copy(T *to, const NvSciBufAttrKeyValuePair &value, size_t count) {
        if (value.value == nullptr || value.len < count * sizeof(T)) throw std::runtime_error("a buffer without a layout");
        std::memcpy(to, value.value, count * sizeof(T));
    }
};

// The buffers of one output of one camera.
class Pool {
public:
    Pool(const std::shared_ptr<Modules> &modules, INvSIPLCamera &camera, uint32_t sensor, Output output, uint32_t count,
         const std::string &gpu_uuid = "")
        : modules_(modules), objects_(count), is_read_(output == Output::ISP0) {
        BufAttributes wanted, agreed, conflict;
        check(NvSciBufAttrListCreate(modules->buf.get(), wanted.put()), "attributes");
        is_read_ ? want_nv12(wanted.get()) : want_any(wanted.get());
        if (!gpu_uuid.empty()) want_gpu(wanted.get(), gpu_uuid);
        check(camera.GetImageAttributes(sensor, output, *wanted.put()), "attributes of the camera");
        NvSciBufAttrList lists[] = {wanted.get()};
        check(NvSciBufAttrListReconcile(lists, 1, agreed.put(), conflict.put()), "attributes that camera and host can agree on");
        std::vector<NvSciBufObj> objects;
        for (BufObject &object : objects_) {
            check(NvSciBufObjAlloc(agreed.get(), object.put()), "a buffer");
            objects.push_back(object.get());
        }
        check(camera.RegisterImages(sensor, output, objects), "buffers for the camera");
        if (!is_read_) return;
        layout_ = Layout::of(objects[0]);
        for (NvSciBufObj object : objects) {
            const void *address = nullptr;
            check(NvSciBufObjGetConstCpuPtr(object, &address), "the host's address of a buffer");
            addresses_.push_back(static_cast<const uint8_t *>(address));
        }
    }

    uint32_t count() const { return static_cast<uint32_t>(objects_.size()); }

    uint32_t number_of(NvSciBufObj object) const {
        for (uint32_t number = 0; number < count(); number++) {
            if (objects_[number].get() == object) return number;
        }
        throw std::runtime_error("SIPL gave a buffer that is not ours");
    }

    // Puts caches in order and tells where the picture lies.
    void describe(uint32_t number, CatseyeFrame &frame) const {
        // does nothing where the hardware does it
        check(NvSciBufObjFlushCpuCacheRange(objects_[number].get(), 0, layout_.bytes), "caches of a buffer");
        frame.buffer = number;
        frame.fourcc = CATSEYE_FOURCC('N', 'V', '1', '2');
        frame.plane_count = layout_.plane_count;
        for (uint32_t plane = 0; plane < layout_.plane_count; plane++) {
            frame.planes[plane].data = addresses_[number] + layout_.offset[plane];
            frame.planes[plane].bytes = uint64_t(layout_.pitch[plane]) * layout_.height[plane];
            frame.planes[plane].offset_bytes = layout_.offset[plane];
            frame.planes[plane].stride_bytes = layout_.pitch[plane];
        }
        frame.memory_kind = CATSEYE_MEMORY_NVSCIBUF;
        frame.handle = reinterpret_cast<uint64_t>(objects_[number].get());
        frame.memory_bytes = layout_.bytes;
    }

private:
    static void want_any(NvSciBufAttrList list) {
        const NvSciBufType type = NvSciBufType_Image;
        const NvSciBufAttrValAccessPerm access = NvSciBufAccessPerm_Readonly;
        NvSciBufAttrKeyValuePair values[] = {
            {NvSciBufGeneralAttrKey_Types, &type, sizeof type},
            {NvSciBufGeneralAttrKey_RequiredPerm, &access, sizeof access},
        };
        check(NvSciBufAttrListSetAttrs(list, values, 2), "attributes of raw pictures");
    }

    // CUDA imports only what was made for its GPU.
    static void want_gpu(NvSciBufAttrList list, const std::string &uuid) {
        NvSciRmGpuId gpu{};
        for (size_t byte = 0; byte < sizeof gpu.bytes; byte++) {
            gpu.bytes[byte] = static_cast<uint8_t>(std::stoul(uuid.substr(2 * byte, 2), nullptr, 16));
        }
        NvSciBufAttrKeyValuePair values[] = {{NvSciBufGeneralAttrKey_GpuId, &gpu, sizeof gpu}};
        check(NvSciBufAttrListSetAttrs(list, values, 1), "attributes of a GPU");
    }

    static void want_nv12(NvSciBufAttrList list) {
        const NvSciBufType type = NvSciBufType_Image;
        const NvSciBufAttrValAccessPerm access = NvSciBufAccessPerm_Readonly;
        const bool is_read = true;
        const NvSciBufAttrValImageLayoutType layout = NvSciBufImage_PitchLinearType;
        const NvSciBufSurfType surface = NvSciSurfType_YUV;
        const NvSciBufSurfBPC depth = NvSciSurfBPC_8;
        const NvSciBufSurfMemLayout planes = NvSciSurfMemLayout_SemiPlanar;
        const NvSciBufSurfSampleType sampling = NvSciSurfSampleType_420;
        const NvSciBufSurfComponentOrder order = NvSciSurfComponentOrder_YUV;
        // the only range that SIPL gives in this layout
        const NvSciBufAttrValColorStd colours[] = {NvSciColorStd_REC709_ER};
        NvSciBufAttrKeyValuePair values[] = {
            {NvSciBufGeneralAttrKey_Types, &type, sizeof type},
            {NvSciBufGeneralAttrKey_RequiredPerm, &access, sizeof access},
            {NvSciBufGeneralAttrKey_NeedCpuAccess, &is_read, sizeof is_read},
            {NvSciBufGeneralAttrKey_EnableCpuCache, &is_read, sizeof is_read},
            {NvSciBufImageAttrKey_Layout, &layout, sizeof layout},
            {NvSciBufImageAttrKey_SurfType, &surface, sizeof surface},
            {NvSciBufImageAttrKey_SurfBPC, &depth, sizeof depth},
            {NvSciBufImageAttrKey_SurfMemLayout, &planes, sizeof planes},
            {NvSciBufImageAttrKey_SurfSampleType, &sampling, sizeof sampling},
            {NvSciBufImageAttrKey_SurfComponentOrder, &order, sizeof order},
            {NvSciBufImageAttrKey_SurfColorStd, colours, sizeof colours},
        };
        check(NvSciBufAttrListSetAttrs(list, values, sizeof values / sizeof values[0]), "attributes of NV12 pictures");
    }

    std::shared_ptr<Modules> modules_;
    std::vector<BufObject> objects_;
    bool is_read_;
    Layout layout_;
    std::vector<const uint8_t *> addresses_;
};

// One camera of the platform.
struct Sensor {
    uint32_t id = 0;
    std::string name;
    uint32_t width_px = 0;
    uint32_t height_px = 0;
    double rate_hz = 0;
    std::atomic<bool> is_open{false};
    NvSIPLPipelineQueues queues{};
    std::shared_ptr<Pool> raw, pictures;
    SyncObject end_of_frame;
};

std::string setting(const Config &config, const char *key, const char *variable, const char *otherwise) {
    const auto found = config.own.find(key);
    if (found != config.own.end() && !found->second.empty()) return found->second;
    const char *value = std::getenv(variable);
    return value && *value ? value : otherwise;
}

// What has to be ended of a camera system, however far it came.
class Running {
public:
    explicit Running(INvSIPLCamera &camera) : camera_(camera) {}
    ~Running() {
        if (is_started_) camera_.Stop();
        if (is_initialised_) camera_.Deinit();
    }
    void init() {
        check(camera_.Init(), "init");
        is_initialised_ = true;
    }
    void start() {
        check(camera_.Start(), "start");
        is_started_ = true;
    }

private:
    INvSIPLCamera &camera_;
    bool is_initialised_ = false;
    bool is_started_ = false;
};

// All cameras of the platform, set up and started together.
class Platform {
public:
    // The platform of this process: made by the first camera that is opened, gone with the last.
    static std::shared_ptr<Platform> get(const Config &config) {
        static std::mutex mutex;
        static std::weak_ptr<Platform> shared;
        const std::lock_guard<std::mutex> lock(mutex);
        auto platform = shared.lock();
        if (!platform) shared = platform = std::make_shared<Platform>(config);
        return platform;
    }

    explicit Platform(const Config &config) : modules_(std::make_shared<Modules>()) {
        const std::string name = setting(config, "platform", "CATSEYE_SIPL_PLATFORM", "");
        if (name.empty()) throw std::runtime_error("expected the platform's name in CATSEYE_SIPL_PLATFORM, found none");
        auto query = INvSIPLQuery::GetInstance();
        if (!query) throw std::runtime_error("SIPL gives no query");
        check(query->ParseDatabase(), "database of platforms");
        check(query->GetPlatformCfg(name, platform_), ("platform " + name).c_str());
        const std::string mask = setting(config, "mask", "CATSEYE_SIPL_MASK", "");
        if (!mask.empty()) check(query->ApplyMask(platform_, masks(mask)), "link masks");
        camera_ = INvSIPLCamera::GetInstance();
        if (!camera_) throw std::runtime_error("SIPL gives no camera");
        running_ = std::make_unique<Running>(*camera_);
        check(camera_->SetPlatformCfg(&platform_, device_queues_), "platform configuration");
        find_sensors();
        check(NvSciSyncCpuWaitContextAlloc(modules_->sync.get(), waiter_.put()), "wait context");
        set_up(config);
        running_->start();
    }

    // A camera by its number in the platform, or by its name.
    Sensor &sensor(const std::string &wanted) {
        std::string found;
        for (auto &sensor : sensors_) {
            if (std::to_string(sensor->id) == wanted || sensor->name == wanted) return *sensor;
            found += (found.empty() ? "" : ", ") + std::to_string(sensor->id) + " (" + sensor->name + ")";
        }
        throw std::runtime_error("camera: expected one of " + found + ", found " + wanted);
    }

    NvSciSyncCpuWaitContext waiter() const { return waiter_.get(); }

private:
    static std::vector<uint32_t> masks(const std::string &text) {
        std::istringstream words(text);
        std::vector<uint32_t> masks;
        for (std::string word; words >> word;) masks.push_back(static_cast<uint32_t>(std::stoul(word, nullptr, 0)));
        return masks;
    }

    void find_sensors() {
        for (uint32_t block = 0; block < platform_.numDeviceBlocks; block++) {
            const auto &devices = platform_.deviceBlockList[block];
            for (uint32_t module = 0; module < devices.numCameraModules; module++) {
                const auto &info = devices.cameraModuleInfoList[module];
                auto sensor = std::make_unique<Sensor>();
                sensor->id = info.sensorInfo.id;
                sensor->name = info.name;
                sensor->width_px = info.sensorInfo.vcInfo.resolution.width;
                sensor->height_px = info.sensorInfo.vcInfo.resolution.height;
                sensor->rate_hz = info.sensorInfo.vcInfo.fps;
                sensors_.push_back(std::move(sensor));
            }
        }
        if (sensors_.empty()) throw std::runtime_error("no camera is left of this platform with these link masks");
    }

    // In the order that SIPL demands: pipelines, Init, buffers, auto control.
    void set_up(const Config &config) {
        NvSIPLPipelineConfiguration pipeline{};
        // the raw output has to be emptied where it is made, even if nobody wants it
        pipeline.captureOutputRequested = true;
        pipeline.isp0OutputRequested = true;
        for (auto &sensor : sensors_) check(camera_->SetPipelineCfg(sensor->id, pipeline, sensor->queues), "pipeline");
        running_->init();
        const std::string folder = setting(config, "nito", "CATSEYE_SIPL_NITO", "/usr/share/camera");
        for (auto &sensor : sensors_) {
            sensor->raw = std::make_shared<Pool>(modules_, *camera_, sensor->id, Output::ICP, CAPTURE_BUFFERS);
            sensor->pictures = std::make_shared<Pool>(modules_, *camera_, sensor->id, Output::ISP0, config.buffers, config.gpu_uuid);
            register_fence(*sensor);
            std::vector<uint8_t> settings = read_nito(folder, sensor->name);
            check(camera_->RegisterAutoControlPlugin(sensor->id, NV_PLUGIN, nullptr, settings), "auto control");
        }
    }

    // A fence for the end of each picture on which a processor can wait.
    void register_fence(Sensor &sensor) {
        SyncAttributes ours, theirs, agreed, conflict;
        check(NvSciSyncAttrListCreate(modules_->sync.get(), ours.put()), "attributes of a fence");
        const bool is_cpu = true;
        const NvSciSyncAccessPerm access = NvSciSyncAccessPerm_WaitOnly;
        NvSciSyncAttrKeyValuePair values[] = {
            {NvSciSyncAttrKey_NeedCpuAccess, &is_cpu, sizeof is_cpu},
            {NvSciSyncAttrKey_RequiredPerm, &access, sizeof access},
        };
        check(NvSciSyncAttrListSetAttrs(ours.get(), values, 2), "attributes of a fence");
        check(NvSciSyncAttrListCreate(modules_->sync.get(), theirs.put()), "attributes of a fence");
        check(camera_->FillNvSciSyncAttrList(sensor.id, Output::ISP0, theirs.get(), SIPL_SIGNALER), "fence of the camera");
        NvSciSyncAttrList lists[] = {ours.get(), theirs.get()};
        check(NvSciSyncAttrListReconcile(lists, 2, agreed.put(), conflict.put()), "fence that camera and host can agree on");
        check(NvSciSyncObjAlloc(agreed.get(), sensor.end_of_frame.put()), "fence");
        check(camera_->RegisterNvSciSyncObj(sensor.id, Output::ISP0, NVSIPL_EOFSYNCOBJ, sensor.end_of_frame.get()), "fence for the camera");
    }

    static std::vector<uint8_t> read_nito(const std::string &folder, const std::string &name) {
        std::string small = name;
        for (char &letter : small) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
        for (const std::string &file : {name, small}) {
            std::ifstream in(folder + "/" + file + ".nito", std::ios::binary);
            if (in) return std::vector<uint8_t>(std::istreambuf_iterator<char>(in), {});
        }
        throw std::runtime_error("expected " + folder + "/" + name + ".nito, found none: set CATSEYE_SIPL_NITO");
    }

    std::shared_ptr<Modules> modules_;
    PlatformCfg platform_;
    NvSIPLDeviceBlockQueues device_queues_{};
    WaitContext waiter_;
    std::vector<std::unique_ptr<Sensor>> sensors_;
    // after what they use: they go first
    std::unique_ptr<INvSIPLCamera> camera_;
    std::unique_ptr<Running> running_;
};

class SiplCamera {
public:
    explicit SiplCamera(const std::string &text)
        : config_(Config::parse(text, {{"platform", ""}, {"mask", ""}, {"nito", ""}})), platform_(Platform::get(config_)) {
        if (!config_.full_range) {
            throw std::runtime_error("full_range: expected 1, the only range that SIPL gives, found 0; in the rig: full_range = true");
        }
        Sensor &sensor = platform_->sensor(config_.camera);
        if (sensor.width_px != config_.width_px || sensor.height_px != config_.height_px || sensor.rate_hz < config_.rate_hz * 0.99) {
            throw std::runtime_error("camera " + sensor.name + ": expected " + std::to_string(config_.width_px) + "x" +
                                     std::to_string(config_.height_px) + " at " + std::to_string(config_.rate_hz) + " Hz, found " +
                                     std::to_string(sensor.width_px) + "x" + std::to_string(sensor.height_px) + " at " +
                                     std::to_string(sensor.rate_hz));
        }
        if (sensor.is_open.exchange(true)) throw std::runtime_error("camera " + sensor.name + " is in use");
        sensor_ = &sensor;
        pictures_ = sensor.pictures;
        lent_.resize(pictures_->count(), nullptr);
        empty_queue();
    }

    uint32_t buffer_count() const { return pictures_->count(); }

    bool next(uint64_t timeout_ns, CatseyeFrame &frame) {
        drop_raw();
        INvSIPLClient::INvSIPLBuffer *item = nullptr;
        const SIPLStatus status = sensor_->queues.isp0CompletionQueue->Get(item, timeout_ns / 1000);
        if (status == NVSIPL_STATUS_TIMED_OUT) return false;
        if (status == NVSIPL_STATUS_EOF) throw Gone("the pipeline of " + sensor_->name + " has ended");
        check(status, "the next picture");
        auto *buffer = dynamic_cast<INvSIPLClient::INvSIPLNvMBuffer *>(item);
        if (!buffer) {
            if (item) item->Release();
            throw std::runtime_error("SIPL gave a buffer of another kind");
        }
        try {
            take(*buffer, frame);
        } catch (...) {
            buffer->Release();
            throw;
        }
        lent_[frame.buffer] = buffer;
        return true;
    }

    void release(uint32_t buffer) {
        if (buffer >= lent_.size() || !lent_[buffer]) return;
        lent_[buffer]->Release();
        lent_[buffer] = nullptr;
    }

    // The camera can be opened again. The platform stays while a picture of it is lent, whose memory is in its pools: the rest comes
    // with the destructor, when all were given back.
    void stop() { sensor_->is_open = false; }

private:
    void take(INvSIPLClient::INvSIPLNvMBuffer &buffer, CatseyeFrame &frame) {
        NvSciSyncFence fence = NvSciSyncFenceInitializer;
        check(buffer.GetEOFNvSciSyncFence(&fence), "fence of a picture");
        const NvSciError waited = NvSciSyncFenceWait(&fence, platform_->waiter(), FENCE_TIMEOUT_US);
        NvSciSyncFenceClear(&fence);
        check(waited, "the end of a picture");
        pictures_->describe(pictures_->number_of(buffer.GetNvSciBufImage()), frame);
        frame.width_px = sensor_->width_px;
        frame.height_px = sensor_->height_px;
        const INvSIPLClient::ImageMetaData &data = buffer.GetImageData();
        // ticks of the counter, at the end of the frame
        const catseye::Stamp stamp = catseye::stamp_of_tsc(catseye::tsc_ticks_to_ns(data.frameCaptureTSC));
        frame.stamp_ns = stamp.ns;
        frame.clock = stamp.clock;
        frame.stamp_kind = CATSEYE_STAMP_EXPOSURE_END;
        const bool is_numbered = data.frameSeqNumInfo.frameSeqNumValid;
        sequence_ = is_numbered ? data.frameSeqNumInfo.frameSequenceNumber : sequence_ + 1;
        frame.sequence = sequence_;
    }

    // Raw pictures, which nobody wants, and which would fill their queue.
    void drop_raw() {
        INvSIPLClient::INvSIPLBuffer *raw = nullptr;
        while (sensor_->queues.captureCompletionQueue->GetCount() > 0 &&
               sensor_->queues.captureCompletionQueue->Get(raw, 0) == NVSIPL_STATUS_OK) {
            if (raw) raw->Release();
        }
    }

    // Pictures from before it was opened.
    void empty_queue() {
        drop_raw();
        INvSIPLClient::INvSIPLBuffer *old = nullptr;
        while (sensor_->queues.isp0CompletionQueue->GetCount() > 0 &&
               sensor_->queues.isp0CompletionQueue->Get(old, 0) == NVSIPL_STATUS_OK) {
            if (old) old->Release();
        }
    }

    Config config_;
    std::shared_ptr<Pool> pictures_;
    std::shared_ptr<Platform> platform_;
    Sensor *sensor_ = nullptr;
    // by buffer: what SIPL wants back
    std::vector<INvSIPLClient::INvSIPLNvMBuffer *> lent_;
    uint64_t sequence_ = 0;
};

} // namespace

extern "C" __attribute__((visibility("default"))) const CatseyeExporterApi *catseye_exporter_api(void) {
    static const CatseyeExporterApi api = catseye::exporter_api<SiplCamera>("sipl 2");
    return &api;
}
