/* The pictures of all cameras become the network's input: colour, size, border and number range in one pass. */
#include "sampling.cuh"

static __device__ __forceinline__ void resize_pixel(const CatseyePicture &picture, const CatseyeLine &line, uint32_t left,
                                                    uint32_t weights, uint32_t pad, uint32_t *pixel) {
    if (left == CATSEYE_BORDER) {
        pixel[0] = pixel[1] = pixel[2] = pad;
        return;
    }
    const Quad quad = read_quad(picture, {left, left + 1, line.upper, line.lower});
#pragma unroll
    for (uint32_t colour = 0; colour < 3; ++colour) {
        pixel[colour] = resized(quad.colour[colour], weights, line.upper_weight, line.lower_weight);
    }
}

extern "C" __global__ void catseye_resize(const CATSEYE_PARAM CatseyeResizeParams p) {
    const uint32_t pair = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t pairs = (p.batch.width + 1) / 2;
    const uint32_t y = blockIdx.y;
    if (pair >= pairs) {
        return;
    }
    const uint32_t camera = p.cameras[blockIdx.z];
    const CatseyePicture picture = ((const CatseyePicture *)p.pictures)[camera];
    if (picture.kind == CATSEYE_PICTURE_ABSENT) {
        store_nothing(p.batch, camera, 2 * pair, y);
        return;
    }
    const CatseyeLine line = ((const CatseyeLine *)p.lines)[(uint64_t)blockIdx.z * p.batch.height + y];
    const CatseyeColumn *columns = (const CatseyeColumn *)p.columns + ((uint64_t)blockIdx.z * pairs + pair) * 2;
    const uint4 both = *(const uint4 *)columns;
    const bool is_border = line.upper == CATSEYE_BORDER;
    PixelPair pixels;
    resize_pixel(picture, line, is_border ? CATSEYE_BORDER : both.x, both.y, p.batch.pad, pixels.first);
    resize_pixel(picture, line, is_border ? CATSEYE_BORDER : both.z, both.w, p.batch.pad, pixels.second);
    store_pixels(p.batch, camera, 2 * pair, y, pixels);
}

/* 0xff where a corner is in the picture, in the order of a quad. */
static __device__ __forceinline__ uint32_t inside(bool left, bool right, bool upper, bool lower) {
    const uint32_t columns = (left ? 0x00ff00ffu : 0) | (right ? 0xff00ff00u : 0);
    const uint32_t rows = (upper ? 0x0000ffffu : 0) | (lower ? 0xffff0000u : 0);
    return columns & rows;
}

static __device__ __forceinline__ uint32_t into(int32_t place, uint32_t length) {
    return place < 0 ? 0 : (uint32_t)place < length ? (uint32_t)place : length - 1;
}

static __device__ __forceinline__ void remap_pixel(const CatseyePicture &picture, int32_t x, int32_t y, uint32_t pad,
                                                   uint32_t *pixel) {
    if (x == CATSEYE_NOWHERE) {
        pixel[0] = pixel[1] = pixel[2] = pad;
        return;
    }
    const int32_t left = x >> 5;
    const int32_t top = y >> 5;
    const uint32_t to_right = x & 31;
    const uint32_t to_bottom = y & 31;
    /* the weights of the left and of the right pixels, in the two halves of a word */
    const uint32_t across = (32 - to_right) | to_right << 16;
    const Quad quad = read_quad(picture, {into(left, picture.width), into(left + 1, picture.width),
                                          into(top, picture.height), into(top + 1, picture.height)});
    const uint32_t shown = inside((uint32_t)left < picture.width, (uint32_t)(left + 1) < picture.width,
                                  (uint32_t)top < picture.height, (uint32_t)(top + 1) < picture.height);
    const uint32_t border = pad * 0x01010101u & ~shown;
#pragma unroll
    for (uint32_t colour = 0; colour < 3; ++colour) {
        pixel[colour] = remapped((quad.colour[colour] & shown) | border, across * (32 - to_bottom), across * to_bottom);
    }
}

extern "C" __global__ void catseye_remap(const CATSEYE_PARAM CatseyeResizeParams p) {
    const uint32_t pair = blockIdx.x * blockDim.x + threadIdx.x;
    const uint32_t pairs = (p.batch.width + 1) / 2;
    const uint32_t y = blockIdx.y;
    if (pair >= pairs) {
        return;
    }
    const uint32_t camera = p.cameras[blockIdx.z];
    const CatseyePicture picture = ((const CatseyePicture *)p.pictures)[camera];
    if (picture.kind == CATSEYE_PICTURE_ABSENT) {
        store_nothing(p.batch, camera, 2 * pair, y);
        return;
    }
    const uint64_t row = (uint64_t)blockIdx.z * p.batch.height + y;
    const int4 both = *(const int4 *)((const CatseyePlace *)p.places + (row * pairs + pair) * 2);
    PixelPair pixels;
    remap_pixel(picture, both.x, both.y, p.batch.pad, pixels.first);
    remap_pixel(picture, both.z, both.w, p.batch.pad, pixels.second);
    store_pixels(p.batch, camera, 2 * pair, y, pixels);
}
