/* The pictures of all cameras become the network's input: colour, size, border and number range in one pass. */
#include "fitting.cuh"

struct Formats {
    static constexpr bool SKIPS = true;
    static constexpr bool FLAT_BLOCKS = true;
    static constexpr uint32_t RESIZE_ROWS = CATSEYE_RESIZE_ROWS;

    template <class Work>
    static __device__ __forceinline__ void run(const Work &work, const CatseyePicture &picture, PixelPair &pixels) {
        if (picture.kind == CATSEYE_PICTURE_COLOURS) {
            return work.template run<Colours<3>>(picture, pixels);
        }
        if (picture.kind == CATSEYE_PICTURE_GREY) {
            return work.template run<Grey>(picture, pixels);
        }
        picture.full_range ? run_chroma<true>(work, picture, pixels) : run_chroma<false>(work, picture, pixels);
    }

    template <bool FULL_RANGE, class Work>
    static __device__ __forceinline__ void run_chroma(const Work &work, const CatseyePicture &picture, PixelPair &pixels) {
        switch (picture.kind) {
        case CATSEYE_PICTURE_NV12:
            return work.template run<Chroma<FULL_RANGE, 1, 2, 1, true>>(picture, pixels);
        case CATSEYE_PICTURE_NV12_ODD:
            return work.template run<Chroma<FULL_RANGE, 1, 2, 1, false>>(picture, pixels);
        case CATSEYE_PICTURE_I420:
            return work.template run<Chroma<FULL_RANGE, 1, 1, 1, false>>(picture, pixels);
        default:
            return work.template run<Chroma<FULL_RANGE, 2, 4, 0, false>>(picture, pixels);
        }
    }
};

/* The bounds leave 40 registers and 48: so many that hardly any is spilled, so few that enough warps are there. */
extern "C" __global__ void __launch_bounds__(CATSEYE_RESIZE_THREADS, 6) catseye_resize(const CATSEYE_PARAM CatseyeResizeParams p) {
    resize_cameras<Formats>(p);
}

extern "C" __global__ void __launch_bounds__(CATSEYE_RESIZE_THREADS, 5) catseye_remap(const CATSEYE_PARAM CatseyeResizeParams p) {
    remap_cameras<Formats>(p);
}
