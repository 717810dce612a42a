/*
 * Raw pictures of Bayer sensors become the network's input: src/stages/preprocess/raw.rs and all of preprocess.cu in one pass. Only
 * the pixels that are looked at are developed.
 */
#include "fitting.cuh"

/*
 * Four pixels that are developed have a window of 4 x 4 samples around them, each of which is read and balanced once. It is read
 * turned in x and y so that its second sample of the second row is red, whatever the mosaic and the place are:
 *
 *     blue  green  blue  green
 *     green RED    GREEN red         the four pixels in capitals
 *     blue  GREEN  BLUE  green
 *     green red    green red
 *
 * Balanced samples are floats of 2^23 and more, whose lowest bits are the whole number: integers have but half as many lanes.
 */

/* Four neighbouring samples of a row, as they came: two in each word. */
struct Samples {
    uint32_t words[2];
};

/* 10 or 12 bits in 16. */
template <uint32_t BITS>
struct Words {
    static constexpr bool HAS_FOUR = true;
    static constexpr int32_t MAX_SAMPLE = (1 << BITS) - 1;

    static __device__ __forceinline__ uint32_t sample(const uint8_t *row, uint32_t x) {
        return __ldg(row + 2 * x) | __ldg(row + 2 * x + 1) << 8;
    }

    /* Those from x on, or the last one first. Up to three bytes on either side are read too. */
    static __device__ __forceinline__ Samples four(const uint8_t *row, uint32_t x, bool is_turned) {
        const uint64_t first = (uint64_t)(row + 2 * x);
        const uint32_t *words = (const uint32_t *)(first & ~(uint64_t)3);
        const uint32_t bits = 8 * ((uint32_t)first & 3);
        const uint32_t middle = __ldg(words + 1);
        const uint32_t left = __funnelshift_r(__ldg(words), middle, bits);
        const uint32_t right = __funnelshift_r(middle, bits == 0 ? 0 : __ldg(words + 2), bits);
        const uint32_t turn = is_turned ? 0x1032 : 0x3210;
        return {{__byte_perm(is_turned ? right : left, 0, turn), __byte_perm(is_turned ? left : right, 0, turn)}};
    }
};

struct Raw10Packed {
    static constexpr bool HAS_FOUR = false;
    static constexpr int32_t MAX_SAMPLE = 1023;

    static __device__ __forceinline__ uint32_t sample(const uint8_t *row, uint32_t x) {
        const uint8_t *group = row + (x >> 2) * 5;
        const uint32_t place = x & 3;
        return __ldg(group + place) << 2 | (__ldg(group + 4) >> 2 * place & 3);
    }
};

struct Raw12Packed {
    static constexpr bool HAS_FOUR = false;
    static constexpr int32_t MAX_SAMPLE = 4095;

    static __device__ __forceinline__ uint32_t sample(const uint8_t *row, uint32_t x) {
        const uint8_t *group = row + (x >> 1) * 3;
        const uint32_t place = x & 1;
        return __ldg(group + place) << 4 | (__ldg(group + 2) >> 4 * place & 15);
    }
};

/* A place that is at most one outside, mirrored about the outermost pixels; one that is further outside becomes any inside. */
static __device__ __forceinline__ uint32_t mirrored(int32_t place, uint32_t length) {
    const int32_t last = length - 1;
    const int32_t inside = abs(place);
    return max(min(inside, 2 * last - inside), 0);
}

/* The camera's settings as the kernels use them: sums and factors of samples in 1/4096. */
struct Development {
    float black;
    /* of red, green and blue */
    float gain[3];
    int32_t matrix[9];
};

template <class Format>
static __device__ __forceinline__ Development development_of(const CatseyeIsp *isp) {
    Development of;
    /* with the one that `balanced` adds to a sample */
    of.black = (float)(__ldg(&isp->black_level) + 4096 / (Format::MAX_SAMPLE + 1)) / 4096.0f;
#pragma unroll
    for (uint32_t colour = 0; colour < 3; ++colour) {
        of.gain[colour] = (float)__ldg(isp->gains + colour) / 256.0f;
    }
#pragma unroll
    for (uint32_t place = 0; place < 9; ++place) {
        of.matrix[place] = __ldg(isp->matrix + place);
    }
    return of;
}

/* min((max(min(sample, MAX_SAMPLE) in 12 bits - black, 0) * gain) >> 8, 4095), both on top of 2^23. The bounds cost nothing, since floats
 * can be held between 0 and 1: a sample and one never is more than 1, and the product is held below 4096 by a factor that is a
 * little less. No step but the last one rounds: products are whole numbers of 2^-20, and half of that is added to make up for the
 * factor. */
template <class Format>
static __device__ __forceinline__ float balanced(float sample, float black, float gain) {
    const float unit = 1.0f / (Format::MAX_SAMPLE + 1);
    const float with_one = __saturatef(__fmaf_rn(sample, unit, (1.0f - 8388608.0f) * unit));
    const float product = __saturatef(__fmaf_rn(with_one - black, gain, 0.5f / 1048576.0f));
    return __fmaf_rd(product, 4096.0f - 1.0f / 4096.0f, 8388608.0f);
}

/* The whole number of a balanced sample or a mean of two. */
static __device__ __forceinline__ int32_t whole(float value) {
    return __float_as_uint(value) & 0xffff;
}

/* (a + b + 1) >> 1: floats from 2^24 on are even. */
static __device__ __forceinline__ int32_t mean(float a, float b) {
    return whole(__fadd_ru(a, b));
}

/* (a + b + c + d + 2) >> 2. */
static __device__ __forceinline__ int32_t mean(float a, float b, float c, float d) {
    const uint32_t sum = __float_as_uint(a) + __float_as_uint(b) + __float_as_uint(c) + __float_as_uint(d);
    return (sum + (2 - 4 * CATSEYE_FLOAT_ZERO)) >> 2;
}

/* The tone curve of the block's camera. */
static __shared__ uint4 curve_words[CATSEYE_CURVE_VALUES / sizeof(uint4)];

/* All threads of a block bring it there, if there is a picture. */
static __device__ __forceinline__ void load_curve(const CatseyeResizeParams &p) {
    const CatseyePicture &picture = ((const CatseyePicture *)p.pictures)[p.cameras[blockIdx.z]];
    if (picture.kind != CATSEYE_PICTURE_ABSENT) {
        const uint4 *curve = (const uint4 *)((const CatseyeIsp *)picture.planes[1])->curve;
        const uint32_t threads = blockDim.x * blockDim.y;
        for (uint32_t at = threadIdx.y * blockDim.x + threadIdx.x; at < CATSEYE_CURVE_VALUES / sizeof(uint4); at += threads) {
            curve_words[at] = __ldg(curve + at);
        }
    }
    __syncthreads();
}

/* Colour matrix and tone curve. */
static __device__ __forceinline__ uint32_t toned(const int32_t *row, int32_t red, int32_t green, int32_t blue) {
    const int32_t value = (row[0] * red + row[1] * green + row[2] * blue + 512) >> 10;
    return ((const uint8_t *)curve_words)[max(min(value, 4095), 0)];
}

template <class Format>
struct Bayer {
    /* The rows of the window. */
    struct Rows {
        const uint8_t *at[4];
    };

    static __device__ __forceinline__ Rows rows_of(const CatseyePicture &picture, int32_t upper, bool is_turned) {
        Rows rows;
#pragma unroll
        for (int32_t line = 0; line < 4; ++line) {
            const uint32_t y = mirrored(upper + (is_turned ? 2 - line : line - 1), picture.height);
            uint64_t start = picture.planes[0] + (uint64_t)y * picture.row_bytes[0];
            /* the same for all pixels of a row of the block, and so kept apart from what is added to it */
            asm("" : "+l"(start));
            rows.at[line] = (const uint8_t *)start;
        }
        return rows;
    }

    /* Samples from x on, or the last one first, wherever they are. */
    static __device__ __forceinline__ Samples each(const uint8_t *row, int32_t x, uint32_t width, bool is_turned) {
        uint32_t samples[4];
#pragma unroll
        for (int32_t place = 0; place < 4; ++place) {
            samples[place] = Format::sample(row, mirrored(x + (is_turned ? 3 - place : place), width));
        }
        return {{samples[0] | samples[1] << 16, samples[2] | samples[3] << 16}};
    }

    /* The same where none is beyond an edge. */
    static __device__ __forceinline__ Samples four(const uint8_t *row, uint32_t x, bool is_turned) {
        if constexpr (Format::HAS_FOUR) {
            return Format::four(row, x, is_turned);
        } else {
            uint32_t samples[4];
#pragma unroll
            for (int32_t place = 0; place < 4; ++place) {
                samples[place] = Format::sample(row, x + (is_turned ? 3 - place : place));
            }
            return {{samples[0] | samples[1] << 16, samples[2] | samples[3] << 16}};
        }
    }

    static __device__ __forceinline__ Quad read(const CatseyePicture &picture, const Corners &at) {
        const CatseyeIsp *isp = (const CatseyeIsp *)picture.planes[1];
        const Development of = development_of<Format>(isp);
        const bool turned_x = (at.left & 1) != __ldg(&isp->red_x);
        const bool turned_y = (at.upper & 1) != __ldg(&isp->red_y);
        const Rows rows = rows_of(picture, at.upper, turned_y);
        const int32_t first = (int32_t)at.left - 1;
        Samples samples[4];
        if (first >= 0 && first + 6 <= (int32_t)picture.width) {
#pragma unroll
            for (uint32_t line = 0; line < 4; ++line) {
                samples[line] = four(rows.at[line], first, turned_x);
            }
        } else {
#pragma unroll
            for (uint32_t line = 0; line < 4; ++line) {
                samples[line] = each(rows.at[line], first, picture.width, turned_x);
            }
        }
        float window[4][4];
#pragma unroll
        for (uint32_t line = 0; line < 4; ++line) {
#pragma unroll
            for (uint32_t place = 0; place < 4; ++place) {
                const uint32_t halves = place % 2 == 0 ? 0x7610 : 0x7632;
                const uint32_t sample = __byte_perm(samples[line].words[place / 2], CATSEYE_FLOAT_ZERO, halves);
                const float gain = of.gain[2 - (line & 1) - (place & 1)];
                window[line][place] = balanced<Format>(__uint_as_float(sample), of.black, gain);
            }
        }
        return developed(window, of, at, turned_x, turned_y);
    }

    static __device__ __forceinline__ Quad developed(const float (&w)[4][4], const Development &of, const Corners &at,
                                                     bool turned_x, bool turned_y) {
        /* red, green and blue of the four pixels, row by row */
        const int32_t pixels[4][3] = {
            {whole(w[1][1]), mean(w[1][2], w[2][1], w[0][1], w[1][0]), mean(w[0][0], w[0][2], w[2][0], w[2][2])},
            {mean(w[1][1], w[1][3]), whole(w[1][2]), mean(w[0][2], w[2][2])},
            {mean(w[1][1], w[3][1]), whole(w[2][1]), mean(w[2][0], w[2][2])},
            {mean(w[1][1], w[1][3], w[3][1], w[3][3]), mean(w[1][2], w[2][1], w[3][2], w[2][3]), whole(w[2][2])},
        };
        /* where a row's two bytes are among the four; the lower row and the right column can be the upper and left ones again */
        const uint32_t left = turned_x ? 1 : 0;
        const uint32_t right = at.across == 0 ? left : left ^ 1;
        const uint32_t upper = (left | right << 4) + (turned_y ? 0x44 : 0);
        const uint32_t lower = at.lower == at.upper ? upper : upper ^ 0x44;
        Quad quad;
#pragma unroll
        for (uint32_t colour = 0; colour < 3; ++colour) {
            const int32_t *row = of.matrix + 3 * colour;
            uint32_t byte[4];
#pragma unroll
            for (uint32_t pixel = 0; pixel < 4; ++pixel) {
                byte[pixel] = toned(row, pixels[pixel][0], pixels[pixel][1], pixels[pixel][2]);
            }
            quad.colour[colour] = __byte_perm(byte[0] | byte[1] << 8, byte[2] | byte[3] << 8, upper | lower << 8);
        }
        return quad;
    }
};

struct Formats {
    /* a window is read whole */
    static constexpr bool SKIPS = false;
    static constexpr bool FLAT_BLOCKS = false;
    static constexpr uint32_t RESIZE_ROWS = 1;

    template <class Work>
    static __device__ __forceinline__ auto run(const Work &work, const CatseyePicture &picture) {
        switch (picture.kind) {
        case CATSEYE_PICTURE_RAW10:
            return work.template run<Bayer<Words<10>>>(picture);
        case CATSEYE_PICTURE_RAW12:
            return work.template run<Bayer<Words<12>>>(picture);
        case CATSEYE_PICTURE_RAW10_PACKED:
            return work.template run<Bayer<Raw10Packed>>(picture);
        default:
            return work.template run<Bayer<Raw12Packed>>(picture);
        }
    }
};

extern "C" __global__ void catseye_raw_resize(const CATSEYE_PARAM CatseyeResizeParams p) {
    load_curve(p);
    resize_cameras<Formats>(p);
}

extern "C" __global__ void catseye_raw_remap(const CATSEYE_PARAM CatseyeResizeParams p) {
    load_curve(p);
    remap_cameras<Formats>(p);
}
