/*
 * How all cameras' pictures are fitted or mapped into the network's input, whatever their formats are. `Formats::run` does a
 * piece of work for the format that a picture has, and gives what that gives; the format's `read` gives four pixels. Blocks are one
 * row high if `Formats::FLAT_BLOCKS`.
 */
#ifndef CATSEYE_FITTING_CUH
#define CATSEYE_FITTING_CUH

#include "sampling.cuh"

/* The pixel of one column; border has weights of 0, which make 0 of any picture. */
static __device__ __forceinline__ void resize_quad(const Quad &quad, const CatseyeLine &line, uint32_t weights, uint32_t pad,
                                                   float *pixel) {
    const uint32_t border = weights == 0 ? pad : 0;
#pragma unroll
    for (uint32_t colour = 0; colour < 3; ++colour) {
        pixel[colour] = resized(quad.colour[colour], weights, line, border);
    }
}

/* Two neighbouring pixels of a row. `SKIPS` where those without weight need not be read. */
template <bool SKIPS>
struct Resize {
    CatseyeLine line;
    /* left, weights, left, weights */
    uint4 columns;
    uint32_t pad;

    /* Pictures that are an odd number of times as large as the network's input have weight on one pixel alone of a row, or of all
     * four: the others are not looked at. Where a number below is known to be 0, the compiler does the same work but once. */
    template <class Format>
    __device__ __forceinline__ PixelPair run(const CatseyePicture &picture) const {
        if (!SKIPS || __any_sync(__activemask(), (columns.y | columns.w) >> 16)) {
            return mix<Format>(picture, 1, line.lower);
        }
        return line.lower_weight != 0 ? mix<Format>(picture, 0, line.lower) : mix<Format>(picture, 0, line.upper);
    }

    template <class Format>
    __device__ __forceinline__ PixelPair mix(const CatseyePicture &picture, uint32_t across, uint32_t lower) const {
        const Quad first = Format::read(picture, {columns.x, across, line.upper, lower});
        const Quad second = Format::read(picture, {columns.z, across, line.upper, lower});
        PixelPair pixels;
        resize_quad(first, line, columns.y, pad, pixels.first);
        resize_quad(second, line, columns.w, pad, pixels.second);
        return pixels;
    }
};

/* Where the four pixels around a place are, with edges held, and how each counts. */
struct Spot {
    Corners corners;
    /* 0xff where a corner is in the picture, in the order of a quad */
    uint32_t shown;
    /* of the left pixel in the low half, of the right one in the high half */
    uint32_t upper_weights;
    uint32_t lower_weights;
};

static __device__ __forceinline__ Spot spot_of(const CatseyePicture &picture, int32_t x, int32_t y) {
    const int32_t left = x >> 5;
    const int32_t top = y >> 5;
    const int32_t last_column = picture.width - 1;
    const int32_t last_row = picture.height - 1;
    const uint32_t to_right = x & 31;
    const uint32_t to_bottom = y & 31;
    const uint32_t across = (32 - to_right) | to_right << 16;
    const int32_t held_left = min(max(left, 0), last_column);
    const int32_t held_right = min(max(left + 1, 0), last_column);
    Spot spot;
    spot.corners.left = held_left;
    spot.corners.across = held_right - held_left;
    spot.corners.upper = min(max(top, 0), last_row);
    spot.corners.lower = min(max(top + 1, 0), last_row);
    spot.shown = 0xffffffffu;
    if ((uint32_t)left > (uint32_t)last_column) spot.shown &= 0xff00ff00u;
    if ((uint32_t)(left + 1) > (uint32_t)last_column) spot.shown &= 0x00ff00ffu;
    if ((uint32_t)top > (uint32_t)last_row) spot.shown &= 0xffff0000u;
    if ((uint32_t)(top + 1) > (uint32_t)last_row) spot.shown &= 0x0000ffffu;
    spot.upper_weights = across * (32 - to_bottom);
    spot.lower_weights = across * to_bottom;
    return spot;
}

static __device__ __forceinline__ void remap_quad(const Quad &quad, const Spot &spot, uint32_t pad, float *pixel) {
    const uint32_t border = pad * 0x01010101u & ~spot.shown;
#pragma unroll
    for (uint32_t colour = 0; colour < 3; ++colour) {
        pixel[colour] = remapped((quad.colour[colour] & spot.shown) | border, spot.upper_weights, spot.lower_weights);
    }
}

struct Remap {
    /* x, y, x, y */
    int4 places;
    uint32_t pad;

    template <class Format>
    __device__ __forceinline__ PixelPair run(const CatseyePicture &picture) const {
        const Spot first = spot_of(picture, places.x, places.y);
        const Spot second = spot_of(picture, places.z, places.w);
        const Quad first_quad = Format::read(picture, first.corners);
        const Quad second_quad = Format::read(picture, second.corners);
        PixelPair pixels;
        remap_quad(first_quad, first, pad, pixels.first);
        remap_quad(second_quad, second, pad, pixels.second);
        return pixels;
    }
};

/* The row of a thread. Where that is the same for all, so is all that follows of it, and is computed but once. */
template <class Formats>
static __device__ __forceinline__ uint32_t thread_row() {
    return Formats::FLAT_BLOCKS ? blockIdx.y : blockIdx.y * blockDim.y + threadIdx.y;
}

static __device__ __forceinline__ CatseyeLine line_of(const CatseyeResizeParams &p, uint32_t y) {
    return ((const CatseyeLine *)p.lines)[(uint64_t)blockIdx.z * p.batch.height + y];
}

static __device__ __forceinline__ bool is_border(const CatseyeLine &line) {
    return (line.upper_weight | line.lower_weight) == 0;
}

/* The same pair of pixels of some rows, written. A thread finds out but once where it is and which format the picture has: with a
 * loop for each format no register is held for another one. */
template <bool SKIPS>
struct ResizeRows {
    const CatseyeResizeParams &p;
    uint32_t camera;
    uint32_t pair;
    uint32_t first_row;
    uint32_t end_row;
    uint4 columns;

    template <class Format>
    __device__ __forceinline__ void run(const CatseyePicture &picture) const {
#pragma unroll 1
        for (uint32_t y = first_row; y < end_row; ++y) {
            const Resize<SKIPS> resize = {line_of(p, y), columns, p.batch.pad};
            const PixelPair pixels = is_border(resize.line) ? all_pixels(p.batch.pad) : resize.template run<Format>(picture);
            store_pixels(p.batch, camera, 2 * pair, y, pixels);
        }
    }
};

/* The kernel for cameras without a map. A thread makes a pair of pixels of `Formats::RESIZE_ROWS` rows. */
template <class Formats>
static __device__ __forceinline__ void resize_cameras(const CatseyeResizeParams &p) {
    const uint32_t pair = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t pairs = (p.batch.width + 1) / 2;
    const uint32_t first_row = thread_row<Formats>() * Formats::RESIZE_ROWS;
    if (pair >= pairs || first_row >= p.batch.height) {
        return;
    }
    const uint32_t camera = p.cameras[blockIdx.z];
    const CatseyePicture picture = ((const CatseyePicture *)p.pictures)[camera];
    const uint4 *columns = (const uint4 *)((const CatseyeColumn *)p.columns + ((uint64_t)blockIdx.z * pairs + pair) * 2);
    const uint32_t end_row = min(first_row + Formats::RESIZE_ROWS, p.batch.height);
    if (picture.kind == CATSEYE_PICTURE_ABSENT) {
        for (uint32_t y = first_row; y < end_row; ++y) {
            store_nothing(p.batch, camera, 2 * pair, y);
        }
    } else if constexpr (Formats::RESIZE_ROWS == 1) {
        const Resize<Formats::SKIPS> resize = {line_of(p, first_row), __ldg(columns), p.batch.pad};
        const PixelPair pixels = is_border(resize.line) ? all_pixels(p.batch.pad) : Formats::run(resize, picture);
        store_pixels(p.batch, camera, 2 * pair, first_row, pixels);
    } else {
        Formats::run(ResizeRows<Formats::SKIPS>{p, camera, pair, first_row, end_row, __ldg(columns)}, picture);
    }
}

/* x, y, x, y of a pair of pixels. */
static __device__ __forceinline__ int4 places_of(const CatseyeResizeParams &p, uint64_t pair) {
    if (p.near_places == 0) {
        return __ldg((const int4 *)p.places + pair);
    }
    const uint2 near = __ldg((const uint2 *)p.places + pair);
    const int32_t one = CATSEYE_PLACE_ONE;
    return make_int4((int32_t)(near.x & 0xffff) - one, (int32_t)(near.x >> 16) - one, (int32_t)(near.y & 0xffff) - one,
                     (int32_t)(near.y >> 16) - one);
}

/* The kernel for cameras with a map. */
template <class Formats>
static __device__ __forceinline__ void remap_cameras(const CatseyeResizeParams &p) {
    const uint32_t pair = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t pairs = (p.batch.width + 1) / 2;
    const uint32_t y = thread_row<Formats>();
    if (pair >= pairs || y >= p.batch.height) {
        return;
    }
    const uint32_t camera = p.cameras[blockIdx.z];
    const CatseyePicture picture = ((const CatseyePicture *)p.pictures)[camera];
    const uint64_t row = (uint64_t)blockIdx.z * p.batch.height + y;
    Remap remap;
    remap.places = places_of(p, row * pairs + pair);
    remap.pad = p.batch.pad;
    if (picture.kind == CATSEYE_PICTURE_ABSENT) {
        store_nothing(p.batch, camera, 2 * pair, y);
        return;
    }
    store_pixels(p.batch, camera, 2 * pair, y, Formats::run(remap, picture));
}

#endif
