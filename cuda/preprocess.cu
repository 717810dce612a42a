/* The pictures of all cameras become the network's input: colour, size, border and number range in one pass. */
#include "fitting.cuh"

struct Formats {
    static constexpr bool SKIPS = true;
    static constexpr bool FLAT_BLOCKS = true;
    static constexpr uint32_t RESIZE_ROWS = CATSEYE_RESIZE_ROWS;

    template <class Work>
    static __device__ __forceinline__ auto run(const Work &work, const CatseyePicture &picture) {
        if (picture.kind == CATSEYE_PICTURE_COLOURS) {
            return work.template run<Colours<3>>(picture);
        }
        if (picture.kind == CATSEYE_PICTURE_GREY) {
            return work.template run<Grey>(picture);
        }
        return picture.full_range ? run_chroma<true>(work, picture) : run_chroma<false>(work, picture);
    }

    template <bool FULL_RANGE, class Work>
    static __device__ __forceinline__ auto run_chroma(const Work &work, const CatseyePicture &picture) {
        switch (picture.kind) {
        case CATSEYE_PICTURE_NV12:
            return work.template run<Chroma<FULL_RANGE, 1, 2, 1, true>>(picture);
        case CATSEYE_PICTURE_NV12_ODD:
            return work.template run<Chroma<FULL_RANGE, 1, 2, 1, false>>(picture);
        case CATSEYE_PICTURE_I420:
            return work.template run<Chroma<FULL_RANGE, 1, 1, 1, false>>(picture);
        default:
            return work.template run<Chroma<FULL_RANGE, 2, 4, 0, false>>(picture);
        }
    }
};

/* All threads that a multiprocessor holds find room on it: with 40 registers each on Orin, with 32 on Hopper. */
#if __CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 870 || __CUDA_ARCH__ == 890
#define CATSEYE_FULL_BLOCKS (1536 / CATSEYE_RESIZE_THREADS)
#else
#define CATSEYE_FULL_BLOCKS (2048 / CATSEYE_RESIZE_THREADS)
#endif
extern "C" __global__ void __launch_bounds__(CATSEYE_RESIZE_THREADS, CATSEYE_FULL_BLOCKS)
    catseye_resize(const CATSEYE_PARAM CatseyeResizeParams p) {
    resize_cameras<Formats>(p);
}

/* 48 registers: so many that hardly any is spilled, so few that enough warps are there. */
extern "C" __global__ void __launch_bounds__(CATSEYE_RESIZE_THREADS, 5) catseye_remap(const CATSEYE_PARAM CatseyeResizeParams p) {
    remap_cameras<Formats>(p);
}
