// Cameras of Jetson's ISP through libargus: NV12 pictures in NvBufSurface buffers of ours, which are DMA-BUFs that the host maps once.
//
// Argus fills the buffers of an output stream of type BUFFER; one that was acquired stays with us until it is released, so nothing
// is copied. Written against Argus 0.97 and newer and NvBufSurface of JetPack 5 and newer.
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <Argus/Argus.h>
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <nvbufsurface.h>

#include "../shell.hpp"

namespace {

using catseye::Config;
using catseye::Gone;

void check(Argus::Status status, const char *what) {
    if (status != Argus::STATUS_OK) throw std::runtime_error(std::string(what) + ": Argus status " + std::to_string(status));
}

template <class Interface, class Object> Interface &interface_of(Object *object, const char *what) {
    auto *found = Argus::interface_cast<Interface>(object);
    if (!found) throw std::runtime_error(std::string("Argus gives no ") + what);
    return *found;
}

// The connection to Argus, one for all cameras of the process.
class Provider {
public:
    static std::shared_ptr<Provider> get() {
        static std::mutex mutex;
        static std::weak_ptr<Provider> shared;
        const std::lock_guard<std::mutex> lock(mutex);
        auto provider = shared.lock();
        if (!provider) shared = provider = std::make_shared<Provider>();
        return provider;
    }

    Provider() : provider_(Argus::CameraProvider::create()) {
        interface_of<Argus::ICameraProvider>(provider_.get(), "CameraProvider: does nvargus-daemon run?");
        display_ = eglGetDisplay(EGL_DEFAULT_DISPLAY);
        if (display_ == EGL_NO_DISPLAY || !eglInitialize(display_, nullptr, nullptr)) {
            throw std::runtime_error("no EGL display can be initialised");
        }
    }

    Argus::ICameraProvider &interface() { return interface_of<Argus::ICameraProvider>(provider_.get(), "CameraProvider"); }
    EGLDisplay display() const { return display_; }

private:
    Argus::UniqueObj<Argus::CameraProvider> provider_;
    EGLDisplay display_ = EGL_NO_DISPLAY;
};

// A buffer of ours: memory, its mapping, and what Argus knows it by.
class Surface {
public:
    explicit Surface(const Config &config) {
        NvBufSurfaceAllocateParams params{};
        params.params.width = config.width_px;
        params.params.height = config.height_px;
        params.params.layout = NVBUF_LAYOUT_PITCH;
        params.params.colorFormat = config.full_range ? NVBUF_COLOR_FORMAT_NV12_ER : NVBUF_COLOR_FORMAT_NV12;
        params.params.memType = NVBUF_MEM_SURFACE_ARRAY;
        params.memtag = NvBufSurfaceTag_CAMERA;
        if (NvBufSurfaceAllocate(&surface_, 1, &params) != 0) throw std::runtime_error("NvBufSurfaceAllocate failed");
        surface_->numFilled = 1;
        if (NvBufSurfaceMap(surface_, 0, -1, NVBUF_MAP_READ) != 0 || NvBufSurfaceMapEglImage(surface_, 0) != 0) {
            NvBufSurfaceDestroy(surface_);
            throw std::runtime_error("a buffer cannot be mapped");
        }
    }

    Surface(const Surface &) = delete;
    Surface &operator=(const Surface &) = delete;

    ~Surface() {
        NvBufSurfaceUnMapEglImage(surface_, 0);
        NvBufSurfaceUnMap(surface_, 0, -1);
        NvBufSurfaceDestroy(surface_);
    }

    EGLImageKHR image() const { return surface_->surfaceList[0].mappedAddr.eglImage; }

    // Puts caches in order and tells where the picture lies.
    void describe(CatseyeFrame &frame) {
        if (NvBufSurfaceSyncForCpu(surface_, 0, -1) != 0) throw std::runtime_error("NvBufSurfaceSyncForCpu failed");
        const NvBufSurfaceParams &params = surface_->surfaceList[0];
        frame.fourcc = CATSEYE_FOURCC('N', 'V', '1', '2');
        frame.width_px = params.width;
        frame.height_px = params.height;
        frame.plane_count = params.planeParams.num_planes;
        for (uint32_t plane = 0; plane < frame.plane_count && plane < CATSEYE_MAX_PLANES; plane++) {
            frame.planes[plane].data = static_cast<const uint8_t *>(params.mappedAddr.addr[plane]);
            frame.planes[plane].bytes = params.planeParams.psize[plane];
            frame.planes[plane].offset_bytes = params.planeParams.offset[plane];
            frame.planes[plane].stride_bytes = params.planeParams.pitch[plane];
        }
        frame.memory_kind = CATSEYE_MEMORY_DMA_BUF;
        frame.handle = static_cast<uint64_t>(params.bufferDesc);
        frame.memory_bytes = params.dataSize;
    }

    // Argus' side of it, until the camera is stopped.
    Argus::UniqueObj<Argus::Buffer> buffer;

private:
    NvBufSurface *surface_ = nullptr;
};

// The smallest mode from which the ISP can scale down to the size that is asked for, without cutting anything off.
Argus::SensorMode *choose_mode(Argus::CameraDevice *device, const Config &config) {
    std::vector<Argus::SensorMode *> modes;
    auto &properties = interface_of<Argus::ICameraProperties>(device, "CameraProperties");
    check(properties.getBasicSensorModes(&modes), "sensor modes");
    Argus::SensorMode *best = nullptr;
    uint64_t best_pixels = 0;
    std::string found;
    for (Argus::SensorMode *mode : modes) {
        auto &interface = interface_of<Argus::ISensorMode>(mode, "SensorMode");
        const uint64_t width = interface.getResolution().width(), height = interface.getResolution().height();
        const double most_hz = 1e9 / double(interface.getFrameDurationRange().min());
        found += (found.empty() ? "" : ", ") + std::to_string(width) + "x" + std::to_string(height) + " at " + std::to_string(most_hz);
        const bool has_size = width >= config.width_px && height >= config.height_px && width * config.height_px == height * config.width_px;
        // rates like 29.97 are told as 30
        if (!has_size || most_hz < config.rate_hz * 0.99) continue;
        if (!best || width * height < best_pixels) {
            best = mode;
            best_pixels = width * height;
        }
    }
    if (!best) {
        throw std::runtime_error("expected a mode for " + std::to_string(config.width_px) + "x" + std::to_string(config.height_px) +
                                 " at " + std::to_string(config.rate_hz) + " Hz of the same proportions, found " + found);
    }
    return best;
}

class ArgusCamera {
public:
    explicit ArgusCamera(const std::string &text) : config_(Config::parse(text, {})), provider_(Provider::get()) {
        std::vector<Argus::CameraDevice *> devices;
        check(provider_->interface().getCameraDevices(&devices), "cameras");
        const uint32_t number = config_.camera_number();
        if (number >= devices.size()) {
            throw std::runtime_error("camera: expected a number below " + std::to_string(devices.size()) + ", found " + config_.camera);
        }
        Argus::CameraDevice *device = devices[number];
        Argus::SensorMode *mode = choose_mode(device, config_);

        Argus::Status status = Argus::STATUS_OK;
        session_.reset(provider_->interface().createCaptureSession(device, &status));
        check(status, "capture session (is the camera in use?)");
        errors_.reset(interface_of<Argus::IEventProvider>(session_.get(), "EventProvider")
                          .createEventQueue({Argus::EVENT_TYPE_ERROR}, &status));
        check(status, "event queue");
        make_stream();
        make_buffers();

        request_.reset(session().createRequest(Argus::CAPTURE_INTENT_VIDEO_RECORD, &status));
        check(status, "request");
        check(interface_of<Argus::IRequest>(request_.get(), "Request").enableOutputStream(stream_.get()), "output stream");
        auto &source = interface_of<Argus::ISourceSettings>(request_.get(), "SourceSettings");
        check(source.setSensorMode(mode), "sensor mode");
        // a mode that is told as 30 Hz may have a shortest frame of a little more than a thirtieth of a second
        const uint64_t shortest_ns = interface_of<Argus::ISensorMode>(mode, "SensorMode").getFrameDurationRange().min();
        const uint64_t period_ns = std::max(static_cast<uint64_t>(1e9 / config_.rate_hz), shortest_ns);
        check(source.setFrameDurationRange(Argus::Range<uint64_t>(period_ns)), "frame duration");
        check(session().repeat(request_.get()), "start");
    }

    ~ArgusCamera() { stop(); }

    uint32_t buffer_count() const { return static_cast<uint32_t>(surfaces_.size()); }

    bool next(uint64_t timeout_ns, CatseyeFrame &frame) {
        Argus::Status status = Argus::STATUS_OK;
        Argus::Buffer *buffer = stream().acquireBuffer(timeout_ns, &status);
        if (!buffer) return nothing(status);
        auto &interface = interface_of<Argus::IBuffer>(buffer, "Buffer");
        frame.buffer = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(interface.getClientData()));
        if (frame.buffer >= surfaces_.size()) throw std::runtime_error("Argus gave a buffer that is not ours");
        surfaces_[frame.buffer]->describe(frame);
        frame.stamp_kind = CATSEYE_STAMP_EXPOSURE_START;
        const auto *metadata = Argus::interface_cast<const Argus::ICaptureMetadata>(interface.getMetadata());
        if (!metadata) {
            // what Argus gives for a capture that failed
            frame.flags = CATSEYE_FRAME_TORN;
            frame.sequence = ++sequence_;
            return true;
        }
        // numbers of captures have 32 bits
        sequence_ += static_cast<uint32_t>(metadata->getCaptureId() - static_cast<uint32_t>(sequence_));
        frame.sequence = sequence_;
        // "the time that the first data from this capture arrives from the sensor"
        const catseye::Stamp stamp = catseye::stamp_of_either(static_cast<int64_t>(metadata->getSensorTimestamp()));
        frame.stamp_ns = stamp.ns;
        frame.clock = stamp.clock;
        return true;
    }

    void release(uint32_t buffer) {
        if (is_stopped_ || buffer >= surfaces_.size()) return;
        stream().releaseBuffer(surfaces_[buffer]->buffer.get());
    }

    // The session goes, and with it the camera; the surfaces are ours and stay.
    void stop() {
        if (is_stopped_) return;
        is_stopped_ = true;
        if (auto *session = Argus::interface_cast<Argus::ICaptureSession>(session_.get())) {
            session->stopRepeat();
            session->waitForIdle(2000000000);
        }
        for (auto &surface : surfaces_) surface->buffer.reset();
        request_.reset();
        stream_.reset();
        errors_.reset();
        session_.reset();
    }

private:
    Argus::ICaptureSession &session() { return interface_of<Argus::ICaptureSession>(session_.get(), "CaptureSession"); }
    Argus::IBufferOutputStream &stream() { return interface_of<Argus::IBufferOutputStream>(stream_.get(), "BufferOutputStream"); }

    void make_stream() {
        Argus::Status status = Argus::STATUS_OK;
        Argus::UniqueObj<Argus::OutputStreamSettings> settings(session().createOutputStreamSettings(Argus::STREAM_TYPE_BUFFER, &status));
        check(status, "output stream settings");
        auto &buffers = interface_of<Argus::IBufferOutputStreamSettings>(settings.get(), "BufferOutputStreamSettings");
        check(buffers.setBufferType(Argus::BUFFER_TYPE_EGL_IMAGE), "buffer type");
        buffers.setMetadataEnable(true);
        stream_.reset(session().createOutputStream(settings.get(), &status));
        check(status, "output stream");
    }

    void make_buffers() {
        Argus::Status status = Argus::STATUS_OK;
        Argus::UniqueObj<Argus::BufferSettings> settings(stream().createBufferSettings(&status));
        check(status, "buffer settings");
        auto &image = interface_of<Argus::IEGLImageBufferSettings>(settings.get(), "EGLImageBufferSettings");
        check(image.setEGLDisplay(provider_->display()), "EGL display");
        for (uint32_t number = 0; number < config_.buffers; number++) {
            surfaces_.push_back(std::make_unique<Surface>(config_));
            Surface &surface = *surfaces_.back();
            check(image.setEGLImage(surface.image()), "EGL image");
            surface.buffer.reset(stream().createBuffer(settings.get(), &status));
            check(status, "buffer");
            interface_of<Argus::IBuffer>(surface.buffer.get(), "Buffer").setClientData(reinterpret_cast<void *>(uintptr_t(number)));
            check(stream().releaseBuffer(surface.buffer.get()), "give a buffer to the camera");
        }
    }

    // No picture came: whether one may still come.
    bool nothing(Argus::Status status) {
        if (status == Argus::STATUS_END_OF_STREAM || status == Argus::STATUS_DISCONNECTED) {
            throw Gone("the stream has ended, Argus status " + std::to_string(status));
        }
        if (status != Argus::STATUS_TIMEOUT && status != Argus::STATUS_OK) check(status, "acquire");
        auto &events = interface_of<Argus::IEventProvider>(session_.get(), "EventProvider");
        events.waitForEvents(errors_.get(), 0);
        const Argus::Event *event = interface_of<Argus::IEventQueue>(errors_.get(), "EventQueue").getNextEvent();
        if (const auto *error = Argus::interface_cast<const Argus::IEventError>(event)) {
            throw Gone("Argus tells of an error, status " + std::to_string(error->getStatus()));
        }
        return false;
    }

    Config config_;
    std::shared_ptr<Provider> provider_;
    std::vector<std::unique_ptr<Surface>> surfaces_;
    Argus::UniqueObj<Argus::CaptureSession> session_;
    Argus::UniqueObj<Argus::EventQueue> errors_;
    Argus::UniqueObj<Argus::OutputStream> stream_;
    Argus::UniqueObj<Argus::Request> request_;
    uint64_t sequence_ = 0;
    bool is_stopped_ = false;
};

} // namespace

extern "C" __attribute__((visibility("default"))) const CatseyeExporterApi *catseye_exporter_api(void) {
    static const CatseyeExporterApi api = catseye::exporter_api<ArgusCamera>("argus 2");
    return &api;
}
