/* The pictures of all cameras become the network's input: colour, size, border and number range in one pass. */
#include "fitting.cuh"

struct Formats {
    static constexpr bool SKIPS = true;

    template <class Work>
    static __device__ __forceinline__ void run(const Work &work, const CatseyePicture &picture, PixelPair &pixels) {
        switch (picture.kind) {
        case CATSEYE_PICTURE_COLOURS:
            return work.template run<Colours<3>>(picture, pixels);
        case CATSEYE_PICTURE_GREY:
            return work.template run<Grey>(picture, pixels);
        case CATSEYE_PICTURE_NV12:
            return work.template run<Chroma<1, 2, 1, 1>>(picture, pixels);
        case CATSEYE_PICTURE_I420:
            return work.template run<Chroma<1, 1, 1, 0>>(picture, pixels);
        default:
            return work.template run<Chroma<2, 4, 0, 2>>(picture, pixels);
        }
    }
};

extern "C" __global__ void catseye_resize(const CATSEYE_PARAM CatseyeResizeParams p) {
    resize_cameras<Formats>(p);
}

extern "C" __global__ void catseye_remap(const CATSEYE_PARAM CatseyeResizeParams p) {
    remap_cameras<Formats>(p);
}
