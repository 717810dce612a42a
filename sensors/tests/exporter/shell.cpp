// A shell without a camera, for what `exporters/shell.hpp` makes of one. `own=MODE` says what goes wrong.
#include <thread>
#include <vector>

#include "../../exporters/shell.hpp"

namespace {

class Blank {
public:
    explicit Blank(const std::string &text) : config_(catseye::Config::parse(text, {{"mode", ""}})) {
        if (config_.own.at("mode") == "throw") throw 5;
        buffers_.assign(config_.buffers, std::vector<uint8_t>(size_t(config_.width_px) * config_.height_px * 3 / 2));
        is_lent_.assign(config_.buffers, false);
    }

    uint32_t buffer_count() const { return config_.buffers; }

    bool next(uint64_t timeout_ns, CatseyeFrame &frame) {
        const std::string &mode = config_.own.at("mode");
        if (sequence_ == 2 && mode == "gone") throw catseye::Gone("camera " + std::to_string(config_.camera_number()) + " is gone");
        if (sequence_ == 2 && mode == "fail") throw std::runtime_error("it broke");
        if (sequence_ == 2 && mode == "odd") throw 5;
        const auto free = std::find(is_lent_.begin(), is_lent_.end(), false);
        if (free == is_lent_.end()) {
            std::this_thread::sleep_for(std::chrono::nanoseconds(timeout_ns));
            return false;
        }
        frame.buffer = static_cast<uint32_t>(free - is_lent_.begin());
        *free = true;
        auto &bytes = buffers_[frame.buffer];
        std::fill(bytes.begin(), bytes.end(), static_cast<uint8_t>(sequence_));
        const uint64_t luma = uint64_t(config_.width_px) * config_.height_px;
        frame.fourcc = CATSEYE_FOURCC('N', 'V', '1', '2');
        frame.width_px = config_.width_px;
        frame.height_px = config_.height_px;
        frame.plane_count = 2;
        frame.planes[0] = {bytes.data(), luma, 0, config_.width_px, 0};
        frame.planes[1] = {bytes.data() + luma, luma / 2, luma, config_.width_px, 0};
        frame.sequence = sequence_++;
        const catseye::Stamp stamp = catseye::stamp_of_either(catseye::monotonic_ns() - 1000000);
        frame.stamp_ns = stamp.ns;
        frame.clock = stamp.clock;
        return true;
    }

    void release(uint32_t buffer) { is_lent_.at(buffer) = false; }
    void stop() {}

private:
    catseye::Config config_;
    std::vector<std::vector<uint8_t>> buffers_;
    std::vector<bool> is_lent_;
    uint64_t sequence_ = 0;
};

} // namespace

extern "C" const CatseyeExporterApi *catseye_exporter_api(void) {
    static const CatseyeExporterApi api = catseye::exporter_api<Blank>("blank 1");
    return &api;
}
