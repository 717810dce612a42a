/*
 * Raw pictures of Bayer sensors become the network's input: src/stages/preprocess/raw.rs and all of preprocess.cu in one pass. Only
 * the pixels that are looked at are developed.
 */
#include "fitting.cuh"

struct Raw10 {
    static __device__ __forceinline__ int32_t sample(const uint8_t *row, uint32_t x) {
        const int32_t word = __ldg(row + 2 * x) | __ldg(row + 2 * x + 1) << 8;
        return min(word, 1023) << 2;
    }
};

struct Raw12 {
    static __device__ __forceinline__ int32_t sample(const uint8_t *row, uint32_t x) {
        const int32_t word = __ldg(row + 2 * x) | __ldg(row + 2 * x + 1) << 8;
        return min(word, 4095);
    }
};

struct Raw10Packed {
    static __device__ __forceinline__ int32_t sample(const uint8_t *row, uint32_t x) {
        const uint8_t *group = row + (x >> 2) * 5;
        const uint32_t place = x & 3;
        return __ldg(group + place) << 4 | (__ldg(group + 4) >> 2 * place & 3) << 2;
    }
};

struct Raw12Packed {
    static __device__ __forceinline__ int32_t sample(const uint8_t *row, uint32_t x) {
        const uint8_t *group = row + (x >> 1) * 3;
        const uint32_t place = x & 1;
        return __ldg(group + place) << 4 | (__ldg(group + 2) >> 4 * place & 15);
    }
};

/* A place that is at most one outside, mirrored about the outermost pixels. */
static __device__ __forceinline__ uint32_t mirrored(int32_t place, uint32_t length) {
    const int32_t last = length - 1;
    return place < 0 ? 1 : place > last ? last - 1 : place;
}

/* The balanced sample of a pixel in the picture; `gains` are those of the row's even and odd columns. */
template <class Samples>
static __device__ __forceinline__ int32_t balanced(const uint8_t *row, uint32_t x, const int32_t *gains, int32_t black) {
    const int32_t above_black = max(Samples::sample(row, x) - black, 0);
    return min((above_black * ((x & 1) ? gains[1] : gains[0])) >> 8, 4095);
}

/* Three neighbouring samples of a row. */
struct Three {
    int32_t left;
    int32_t own;
    int32_t right;
};

template <class Samples>
static __device__ __forceinline__ Three read_three(const CatseyePicture &picture, const CatseyeIsp &isp, int32_t x, int32_t y) {
    const uint32_t held_y = mirrored(y, picture.height);
    const uint8_t *row = row_of(picture.planes[0], held_y, picture.row_bytes[0]);
    /* red and green, or green and blue; the other way round where the first column has the other one */
    const bool red_row = (held_y & 1) == isp.red_y;
    const int32_t at_red = red_row ? isp.gains[0] : isp.gains[1];
    const int32_t beside_red = red_row ? isp.gains[1] : isp.gains[2];
    const int32_t gains[2] = {isp.red_x ? beside_red : at_red, isp.red_x ? at_red : beside_red};
    Three three;
    three.left = balanced<Samples>(row, mirrored(x - 1, picture.width), gains, isp.black_level);
    three.own = balanced<Samples>(row, x, gains, isp.black_level);
    three.right = balanced<Samples>(row, mirrored(x + 1, picture.width), gains, isp.black_level);
    return three;
}

/* One developed pixel: red, green and blue in the lowest bytes. */
template <class Samples>
static __device__ uint32_t develop(const CatseyePicture &picture, const CatseyeIsp &isp, uint32_t x, uint32_t y) {
    const Three above = read_three<Samples>(picture, isp, x, (int32_t)y - 1);
    const Three here = read_three<Samples>(picture, isp, x, y);
    const Three below = read_three<Samples>(picture, isp, x, y + 1);
    const int32_t across = (here.left + here.right + 1) >> 1;
    const int32_t down = (above.own + below.own + 1) >> 1;
    const int32_t beside = (here.left + here.right + above.own + below.own + 2) >> 2;
    const int32_t corners = (above.left + above.right + below.left + below.right + 2) >> 2;
    const bool red_column = (x & 1) == isp.red_x;
    const bool red_row = (y & 1) == isp.red_y;
    const int32_t green = red_column == red_row ? beside : here.own;
    const int32_t red = red_row ? (red_column ? here.own : across) : (red_column ? down : corners);
    const int32_t blue = red_row ? (red_column ? corners : down) : (red_column ? across : here.own);
    const uint8_t *curve = (const uint8_t *)isp.curve;
    uint32_t pixel = 0;
#pragma unroll
    for (uint32_t colour = 0; colour < 3; ++colour) {
        const int32_t *row = isp.matrix + 3 * colour;
        const int32_t value = (row[0] * red + row[1] * green + row[2] * blue + 512) >> 10;
        pixel |= (uint32_t)__ldg(curve + min(max(value, 0), 4095)) << 8 * colour;
    }
    return pixel;
}

template <class Samples>
struct Bayer {
    static __device__ __forceinline__ Quad read(const CatseyePicture &picture, const Corners &at) {
        const CatseyeIsp &isp = *(const CatseyeIsp *)picture.planes[1];
        const uint32_t right = at.left + at.across;
        const uint32_t upper_left = develop<Samples>(picture, isp, at.left, at.upper);
        const uint32_t upper_right = develop<Samples>(picture, isp, right, at.upper);
        const uint32_t lower_left = develop<Samples>(picture, isp, at.left, at.lower);
        const uint32_t lower_right = develop<Samples>(picture, isp, right, at.lower);
        Quad quad;
#pragma unroll
        for (uint32_t colour = 0; colour < 3; ++colour) {
            const uint32_t shift = 8 * colour;
            quad.colour[colour] = pack_quad(upper_left >> shift & 255, upper_right >> shift & 255, lower_left >> shift & 255,
                                            lower_right >> shift & 255);
        }
        return quad;
    }
};

struct Formats {
    template <class Work>
    static __device__ __forceinline__ void run(const Work &work, const CatseyePicture &picture, PixelPair &pixels) {
        switch (picture.kind) {
        case CATSEYE_PICTURE_RAW10:
            return work.template run<Bayer<Raw10>>(picture, pixels);
        case CATSEYE_PICTURE_RAW12:
            return work.template run<Bayer<Raw12>>(picture, pixels);
        case CATSEYE_PICTURE_RAW10_PACKED:
            return work.template run<Bayer<Raw10Packed>>(picture, pixels);
        default:
            return work.template run<Bayer<Raw12Packed>>(picture, pixels);
        }
    }
};

extern "C" __global__ void catseye_raw_resize(const CATSEYE_PARAM CatseyeResizeParams p) {
    resize_cameras<Formats>(p);
}

extern "C" __global__ void catseye_raw_remap(const CATSEYE_PARAM CatseyeResizeParams p) {
    remap_cameras<Formats>(p);
}
