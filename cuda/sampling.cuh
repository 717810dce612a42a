/*
 * From four pixels of a picture to a value of the network's input, the whole numbers of src/stages/preprocess.
 *
 * The bytes of four neighbouring pixels travel in one word per colour: upper left in the lowest byte, then upper right, lower
 * left, lower right. So one instruction packs two bytes, and one weighs a pair.
 */
#ifndef CATSEYE_SAMPLING_CUH
#define CATSEYE_SAMPLING_CUH

#include "catseye.h"

/* Red, green and blue of four pixels. */
struct Quad {
    uint32_t colour[3];
};

/* The rows of four pixels, their left column, and how far the right one is from it: 1, or 0 at an edge. All in the picture. */
struct Corners {
    uint32_t left;
    uint32_t across;
    uint32_t upper;
    uint32_t lower;
};

/* Both numbers, held between 0 and 255, in the lowest bytes; the low half of `above` in the upper half. */
static __device__ __forceinline__ uint32_t pack_bytes(int32_t low, int32_t high, uint32_t above) {
    uint32_t packed;
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(packed) : "r"(high), "r"(low), "r"(above));
    return packed;
}

/* `sum`, and the lowest two bytes of a quad, each times a half of `weights`. */
static __device__ __forceinline__ uint32_t weigh_upper(uint32_t weights, uint32_t quad, uint32_t sum) {
    uint32_t weighed;
    asm("dp2a.lo.u32.u32 %0, %1, %2, %3;" : "=r"(weighed) : "r"(weights), "r"(quad), "r"(sum));
    return weighed;
}

/* `sum`, and the highest two bytes of a quad, each times a half of `weights`. */
static __device__ __forceinline__ uint32_t weigh_lower(uint32_t weights, uint32_t quad, uint32_t sum) {
    uint32_t weighed;
    asm("dp2a.hi.u32.u32 %0, %1, %2, %3;" : "=r"(weighed) : "r"(weights), "r"(quad), "r"(sum));
    return weighed;
}

static __device__ __forceinline__ uint32_t pack_quad(uint32_t upper_left, uint32_t upper_right, uint32_t lower_left,
                                                     uint32_t lower_right) {
    return upper_left | upper_right << 8 | lower_left << 16 | lower_right << 24;
}

/* Two halves that are nearest to two floats, ties to even; `low` in the lower half. */
static __device__ __forceinline__ uint32_t pack_halves(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/* The whole number from -128 to 127 that is nearest, ties to even. */
static __device__ __forceinline__ uint32_t to_int8(float value) {
    const float nearest = rintf(value);
    return (uint32_t)(int32_t)(nearest < -128.0f ? -128.0f : nearest > 127.0f ? 127.0f : nearest) & 0xff;
}

/* The bits of 2^23 as a float. A whole number below 2^23 on top of them is the float 2^23 + number, without a conversion. */
#define CATSEYE_FLOAT_ZERO 0x4b000000u

/* The number without its lowest `BITS` bits, times 2^-BITS; on top of CATSEYE_FLOAT_ZERO. The pipe of floats has time for it, that of
 * whole numbers has none. */
template <uint32_t BITS>
static __device__ __forceinline__ float shifted_down(uint32_t number) {
    const float unit = 1.0f / (1u << BITS);
    return __fmaf_rd(__uint_as_float(number), unit, 8388608.0f - 8388608.0f * unit) - 8388608.0f;
}

/* cv2.resize: across, then down. The shifts are part of the result. `border` is added, a byte. */
static __device__ __forceinline__ float resized(uint32_t quad, uint32_t weights, const CatseyeLine &line, uint32_t border) {
    const uint32_t upper = weigh_upper(weights, quad, 0u) & ~15u;
    const uint32_t lower = weigh_lower(weights, quad, 0u) & ~15u;
    const uint32_t rounded = CATSEYE_FLOAT_ZERO + 2 + 4 * border;
    /* the upper word of a product with 2^12 times the weight: 4 of the bits are those that are cleared above */
    return shifted_down<2>(__umulhi(upper, line.upper_weight << 12) + (__umulhi(lower, line.lower_weight << 12) + rounded));
}

/* cv2.remap: four weights that add up to 1024. */
static __device__ __forceinline__ float remapped(uint32_t quad, uint32_t upper_weights, uint32_t lower_weights) {
    const uint32_t rounded = CATSEYE_FLOAT_ZERO + 512;
    return shifted_down<10>(weigh_lower(lower_weights, quad, weigh_upper(upper_weights, quad, rounded)));
}

/* Where a row of a plane begins. */
static __device__ __forceinline__ const uint8_t *row_of(uint64_t plane, uint32_t row, uint32_t row_bytes) {
    return (const uint8_t *)(plane + (uint64_t)row * row_bytes);
}

/* Pixels of `STEP` bytes, with red, green and blue at bytes of their own. */
template <uint32_t STEP>
struct Colours {
    static __device__ __forceinline__ Quad read(const CatseyePicture &picture, const Corners &at) {
        Quad quad;
#pragma unroll
        for (uint32_t colour = 0; colour < 3; ++colour) {
            const uint8_t *upper = row_of(picture.planes[colour], at.upper, picture.row_bytes[0]) + at.left * STEP;
            const uint8_t *lower = row_of(picture.planes[colour], at.lower, picture.row_bytes[0]) + at.left * STEP;
            const uint32_t right = at.across * STEP;
            quad.colour[colour] = pack_quad(__ldg(upper), __ldg(upper + right), __ldg(lower), __ldg(lower + right));
        }
        return quad;
    }
};

/* Pixels of one byte. */
struct Grey {
    static __device__ __forceinline__ Quad read(const CatseyePicture &picture, const Corners &at) {
        const uint8_t *upper = row_of(picture.planes[0], at.upper, picture.row_bytes[0]) + at.left;
        const uint8_t *lower = row_of(picture.planes[0], at.lower, picture.row_bytes[0]) + at.left;
        const uint32_t grey = pack_quad(__ldg(upper), __ldg(upper + at.across), __ldg(lower), __ldg(lower + at.across));
        return {{grey, grey, grey}};
    }
};

/* BT.601 in 1/65536, of sensors/src/picture/convert.rs: a colour is its luma gain * Y plus chroma, shifted by 16. */
template <bool FULL_RANGE>
struct Bt601 {
    static constexpr int32_t LUMA_GAIN = FULL_RANGE ? 65536 : 76309;
    static constexpr int32_t RED_FROM_V = FULL_RANGE ? 91881 : 104597;
    static constexpr int32_t GREEN_FROM_U = FULL_RANGE ? -22553 : -25675;
    static constexpr int32_t GREEN_FROM_V = FULL_RANGE ? -46802 : -53279;
    static constexpr int32_t BLUE_FROM_U = FULL_RANGE ? 116130 : 132201;
    /* the half that rounds, and the offset of luma */
    static constexpr int32_t BASE = 32768 - (FULL_RANGE ? 0 : 16) * LUMA_GAIN;
};

/* What chroma adds to red, green and blue, with the half that rounds and without the offset of luma. */
struct Tint {
    int32_t colour[3];
};

template <class Matrix>
static __device__ __forceinline__ Tint tint_of(int32_t u, int32_t v) {
    Tint tint;
    tint.colour[0] = Matrix::RED_FROM_V * v + (Matrix::BASE - 128 * Matrix::RED_FROM_V);
    tint.colour[1] = Matrix::GREEN_FROM_U * u + (Matrix::GREEN_FROM_V * v +
                                                 (Matrix::BASE - 128 * (Matrix::GREEN_FROM_U + Matrix::GREEN_FROM_V)));
    tint.colour[2] = Matrix::BLUE_FROM_U * u + (Matrix::BASE - 128 * Matrix::BLUE_FROM_U);
    return tint;
}

/* Chroma of the left and the right pixels of a row. */
struct TintPair {
    Tint left;
    Tint right;
};

/* Luma and chroma, whose samples are `LUMA_STEP` and `CHROMA_STEP` bytes apart. A row of chroma serves `1 << ROW_SHIFT` rows. `PAIRED`
 * where V is the byte behind U, at an even address. */
template <bool FULL_RANGE, uint32_t LUMA_STEP, uint32_t CHROMA_STEP, uint32_t ROW_SHIFT, bool PAIRED>
struct Chroma {
    using Matrix = Bt601<FULL_RANGE>;

    static __device__ __forceinline__ TintPair tints(const CatseyePicture &picture, uint32_t row, const Corners &at) {
        const uint32_t left = (at.left >> 1) * CHROMA_STEP;
        const uint32_t right = ((at.left + at.across) >> 1) * CHROMA_STEP;
        const uint8_t *u = row_of(picture.planes[1], row, picture.row_bytes[1]);
        if constexpr (PAIRED) {
            const uint32_t left_pair = __ldg((const uint16_t *)(u + left));
            const uint32_t right_pair = __ldg((const uint16_t *)(u + right));
            return {tint_of<Matrix>(left_pair & 0xff, left_pair >> 8), tint_of<Matrix>(right_pair & 0xff, right_pair >> 8)};
        } else {
            const uint8_t *v = row_of(picture.planes[2], row, picture.row_bytes[1]);
            return {tint_of<Matrix>(__ldg(u + left), __ldg(v + left)), tint_of<Matrix>(__ldg(u + right), __ldg(v + right))};
        }
    }

    /* Both rows of chroma are read, also where they are one: that costs less than to ask. */
    static __device__ __forceinline__ Quad read(const CatseyePicture &picture, const Corners &at) {
        const uint8_t *upper = row_of(picture.planes[0], at.upper, picture.row_bytes[0]) + at.left * LUMA_STEP;
        const uint8_t *lower = row_of(picture.planes[0], at.lower, picture.row_bytes[0]) + at.left * LUMA_STEP;
        const uint32_t right = at.across * LUMA_STEP;
        const int32_t upper_left = __ldg(upper) * Matrix::LUMA_GAIN;
        const int32_t upper_right = __ldg(upper + right) * Matrix::LUMA_GAIN;
        const int32_t lower_left = __ldg(lower) * Matrix::LUMA_GAIN;
        const int32_t lower_right = __ldg(lower + right) * Matrix::LUMA_GAIN;
        const TintPair above = tints(picture, at.upper >> ROW_SHIFT, at);
        const TintPair below = tints(picture, at.lower >> ROW_SHIFT, at);
        Quad quad;
#pragma unroll
        for (uint32_t colour = 0; colour < 3; ++colour) {
            const uint32_t packed = pack_bytes((lower_left + below.left.colour[colour]) >> 16,
                                               (lower_right + below.right.colour[colour]) >> 16, 0);
            quad.colour[colour] = pack_bytes((upper_left + above.left.colour[colour]) >> 16,
                                             (upper_right + above.right.colour[colour]) >> 16, packed);
        }
        return quad;
    }
};

/* Writes the values of two neighbouring pixels of a plane; `second` only if it is in the row. */
static __device__ __forceinline__ void store_pair(const CatseyeBatch &batch, uint64_t index, bool has_second, float first,
                                                  float second) {
    /* then pairs lie at even places of an aligned batch */
    const bool whole = (batch.width & 1) == 0;
    if (batch.element == CATSEYE_ELEMENT_F32) {
        float *out = (float *)batch.address + index;
        if (whole) {
            *(float2 *)out = make_float2(first, second);
            return;
        }
        out[0] = first;
        if (has_second) out[1] = second;
    } else if (batch.element == CATSEYE_ELEMENT_F16) {
        uint16_t *out = (uint16_t *)batch.address + index;
        const uint32_t halves = pack_halves(first, second);
        if (whole) {
            *(uint32_t *)out = halves;
            return;
        }
        out[0] = (uint16_t)halves;
        if (has_second) out[1] = (uint16_t)(halves >> 16);
    } else {
        uint8_t *out = (uint8_t *)batch.address + index;
        const uint32_t bytes = to_int8(first * batch.inverse_scale) | to_int8(second * batch.inverse_scale) << 8;
        if (whole) {
            *(uint16_t *)out = (uint16_t)bytes;
            return;
        }
        out[0] = (uint8_t)bytes;
        if (has_second) out[1] = (uint8_t)(bytes >> 8);
    }
}

/* Red, green and blue of two neighbouring network pixels, 0 to 255. */
struct PixelPair {
    float first[3];
    float second[3];
};

static __device__ __forceinline__ PixelPair all_pixels(uint32_t byte) {
    const float value = __uint_as_float(CATSEYE_FLOAT_ZERO | byte) - 8388608.0f;
    return {{value, value, value}, {value, value, value}};
}

/* Brings two pixels into the network's number range and its planes. */
static __device__ __forceinline__ void store_pixels(const CatseyeBatch &batch, uint32_t camera, uint32_t x, uint32_t y,
                                                    const PixelPair &pixels) {
    const uint64_t area = (uint64_t)batch.width * batch.height;
    const uint64_t start = camera * 3 * area + (uint64_t)y * batch.width + x;
#pragma unroll
    for (uint32_t colour = 0; colour < 3; ++colour) {
        const float first = pixels.first[colour] * batch.scale[colour] + batch.bias[colour];
        const float second = pixels.second[colour] * batch.scale[colour] + batch.bias[colour];
        store_pair(batch, start + batch.plane[colour] * area, x + 1 < batch.width, first, second);
    }
}

/* A camera without a picture: all bits are zero. */
static __device__ __forceinline__ void store_nothing(const CatseyeBatch &batch, uint32_t camera, uint32_t x, uint32_t y) {
    const uint64_t area = (uint64_t)batch.width * batch.height;
    const uint64_t start = camera * 3 * area + (uint64_t)y * batch.width + x;
#pragma unroll
    for (uint32_t plane = 0; plane < 3; ++plane) {
        store_pair(batch, start + plane * area, x + 1 < batch.width, 0.0f, 0.0f);
    }
}

#endif
