// What the exporter shells share: reading a configuration, telling errors over a C boundary, and clocks.
//
// A shell is a class with the operations of catseye_exporter.h that throws std::exception; `exporter_api<Shell>` makes the table of
// functions of it, past which nothing is thrown.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <time.h>

#include "catseye_exporter.h"

namespace catseye {

// The camera has gone: whoever catches this opens it again later.
struct Gone : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Config {
    std::string camera;
    uint32_t width_px = 0;
    uint32_t height_px = 0;
    double rate_hz = 0;
    uint32_t buffers = 0;
    // whether luma is to span 0 to 255, and not 16 to 235
    bool full_range = false;
    // of the GPU that reads the pictures, 32 hexadecimal digits; empty where none does
    std::string gpu_uuid;
    // keys of this library alone
    std::map<std::string, std::string> own;

    // Reads `key=value;key=value`. `own_keys` are known besides catseye's.
    static Config parse(const std::string &text, const std::map<std::string, std::string> &own_keys) {
        Config config;
        config.own = own_keys;
        for (size_t from = 0; from < text.size();) {
            const size_t end = std::min(text.find(';', from), text.size());
            const std::string pair = text.substr(from, end - from);
            from = end + 1;
            const size_t equals = pair.find('=');
            if (equals == std::string::npos) throw std::runtime_error("expected key=value, found " + pair);
            config.set(pair.substr(0, equals), pair.substr(equals + 1));
        }
        if (config.width_px == 0 || config.height_px == 0) throw std::runtime_error("expected width_px and height_px, found none");
        if (!(config.rate_hz > 0)) throw std::runtime_error("expected rate_hz above 0, found none");
        // a camera needs two to fill while one is read
        config.buffers = std::min(std::max(config.buffers, 4u), uint32_t(CATSEYE_MAX_BUFFERS));
        return config;
    }

    uint32_t camera_number() const { return number("camera", camera); }

private:
    static uint32_t number(const std::string &key, const std::string &text) {
        char *end = nullptr;
        const unsigned long value = std::strtoul(text.c_str(), &end, 10);
        if (text.empty() || *end != 0 || text[0] == '-' || value > 0xFFFFFFFFul) {
            throw std::runtime_error(key + ": expected a whole number, found " + text);
        }
        return static_cast<uint32_t>(value);
    }

    void set(const std::string &key, const std::string &value) {
        if (key == "camera") camera = value;
        else if (key == "width_px") width_px = number(key, value);
        else if (key == "height_px") height_px = number(key, value);
        else if (key == "buffers") buffers = number(key, value);
        else if (key == "full_range") full_range = number(key, value) != 0;
        else if (key == "gpu_uuid") {
            if (value.size() != 32 || value.find_first_not_of("0123456789abcdef") != std::string::npos) {
                throw std::runtime_error("gpu_uuid: expected 32 hexadecimal digits, found " + value);
            }
            gpu_uuid = value;
        } else if (key == "rate_hz") rate_hz = std::strtod(value.c_str(), nullptr);
        else if (key == "fourcc") {
            if (value != "NV12") throw std::runtime_error("fourcc: expected NV12, found " + value);
        } else {
            const auto found = own.find(key);
            if (found == own.end()) throw std::runtime_error(key + ": no such key");
            found->second = value;
        }
    }
};

inline int64_t monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t(now.tv_sec) * 1000000000 + now.tv_nsec;
}

// Tegra's time stamp counter: on arm64 it is the generic timer that programs can read. 0 elsewhere.
inline uint64_t tsc_ticks() {
#if defined(__aarch64__)
    uint64_t ticks;
    asm volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

inline uint64_t tsc_hz() {
#if defined(__aarch64__)
    uint64_t hz;
    asm volatile("mrs %0, cntfrq_el0" : "=r"(hz));
    return hz;
#else
    return 0;
#endif
}

inline int64_t tsc_ticks_to_ns(uint64_t ticks) {
    const uint64_t hz = tsc_hz();
    if (hz == 0) return 0;
    return int64_t(ticks / hz * 1000000000 + ticks % hz * 1000000000 / hz);
}

struct Stamp {
    int64_t ns;
    uint32_t clock;
};

// A stamp of the counter on the host's monotonic clock: both are read now, the counter between two readings of the clock.
inline Stamp stamp_of_tsc(int64_t tsc_ns) {
    if (tsc_hz() == 0) return {tsc_ns, CATSEYE_CLOCK_TSC};
    const int64_t before_ns = monotonic_ns();
    const int64_t now_tsc_ns = tsc_ticks_to_ns(tsc_ticks());
    const int64_t after_ns = monotonic_ns();
    const int64_t middle_ns = before_ns + (after_ns - before_ns) / 2;
    return {middle_ns - (now_tsc_ns - tsc_ns), CATSEYE_CLOCK_HOST_MONOTONIC};
}

// A stamp of which the SDK does not say whether it is on the monotonic clock or the counter. A picture is younger than a second,
// and the counter is ahead of the clock by the seconds that the boot loader took, so that one of the two can be true.
inline Stamp stamp_of_either(int64_t ns) {
    const auto is_recent = [ns](int64_t now_ns) { return ns > 0 && ns <= now_ns && now_ns - ns < 1000000000; };
    if (is_recent(monotonic_ns())) return {ns, CATSEYE_CLOCK_HOST_MONOTONIC};
    if (is_recent(tsc_ticks_to_ns(tsc_ticks()))) return stamp_of_tsc(ns);
    return {ns, CATSEYE_CLOCK_UNKNOWN};
}

// Why the last open on this thread failed.
inline std::string &open_error() {
    thread_local std::string error;
    return error;
}

// A shell has a constructor of (const std::string &config), buffer_count(), next(timeout_ns, frame) which is false where no picture
// came, release(buffer) and stop(). Its destructor frees what is left.
template <class Shell> struct Exported {
    Shell shell;
    std::string error;
    explicit Exported(const std::string &config) : shell(config) {}
};

template <class Shell> int32_t export_open(const char *config, uint32_t *buffer_count, CatseyeExporter **exporter) {
    try {
        auto opened = std::make_unique<Exported<Shell>>(config);
        *buffer_count = opened->shell.buffer_count();
        *exporter = reinterpret_cast<CatseyeExporter *>(opened.release());
        return CATSEYE_OK;
    } catch (const std::exception &error) {
        open_error() = error.what();
    } catch (...) {
        open_error() = "an exception without words";
    }
    return CATSEYE_FAILED;
}

template <class Shell> Exported<Shell> &exported(CatseyeExporter *exporter) {
    return *reinterpret_cast<Exported<Shell> *>(exporter);
}

template <class Shell> int32_t export_next(CatseyeExporter *exporter, uint64_t timeout_ns, CatseyeFrame *frame) {
    auto &self = exported<Shell>(exporter);
    try {
        return self.shell.next(timeout_ns, *frame) ? CATSEYE_OK : CATSEYE_NO_FRAME;
    } catch (const Gone &gone) {
        self.error = gone.what();
        return CATSEYE_GONE;
    } catch (const std::exception &error) {
        self.error = error.what();
    } catch (...) {
        self.error = "an exception without words";
    }
    return CATSEYE_FAILED;
}

// What goes wrong in giving back and stopping shows in the next call, or nowhere: nothing can be done about it.
template <class Shell> void export_release(CatseyeExporter *exporter, uint32_t buffer) {
    try {
        exported<Shell>(exporter).shell.release(buffer);
    } catch (...) {
    }
}

template <class Shell> void export_stop(CatseyeExporter *exporter) {
    try {
        exported<Shell>(exporter).shell.stop();
    } catch (...) {
    }
}

template <class Shell> void export_close(CatseyeExporter *exporter) {
    try {
        delete &exported<Shell>(exporter);
    } catch (...) {
    }
}

template <class Shell> void export_error(const CatseyeExporter *exporter, char *text, size_t text_bytes) {
    if (text_bytes == 0) return;
    const auto *self = reinterpret_cast<const Exported<Shell> *>(exporter);
    std::snprintf(text, text_bytes, "%s", self ? self->error.c_str() : open_error().c_str());
}

template <class Shell> CatseyeExporterApi exporter_api(const char *name) {
    CatseyeExporterApi api{};
    api.abi_version = CATSEYE_EXPORTER_ABI;
    api.api_bytes = sizeof(CatseyeExporterApi);
    api.frame_bytes = sizeof(CatseyeFrame);
    api.name = name;
    api.open = export_open<Shell>;
    api.next_frame = export_next<Shell>;
    api.release = export_release<Shell>;
    api.stop = export_stop<Shell>;
    api.close = export_close<Shell>;
    api.last_error = export_error<Shell>;
    return api;
}

} // namespace catseye
