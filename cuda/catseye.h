/*
 * The parameters of all kernels: plain structs that the host fills (through bindgen, `catseye::gpu::abi`) and that a kernel
 * takes by value as its only argument. Device addresses are uint64_t, so that a struct has one layout everywhere.
 * Every struct whose name ends in `Params` may be launched with. It stays below 4096 bytes.
 */
#ifndef CATSEYE_H
#define CATSEYE_H

/* NVRTC has no standard headers, and bindgen shall not need any. */
#if defined(__CUDACC_RTC__) || defined(CATSEYE_BINDGEN)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#endif

/* Lets a kernel take the address of its parameters without a copy per thread; compilers before 11.7 do not know it. */
#if defined(__CUDACC_VER_MAJOR__) && (__CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= 1107)
#define CATSEYE_PARAM __grid_constant__
#else
#define CATSEYE_PARAM
#endif

/* ---- [probe] ---------------------------------------------------------------------------------------------------- */

/* catseye_probe: target[i] = source[i] + pattern + i (mod 256), for i < bytes. Both may be the same memory. */
struct CatseyeProbeParams {
    uint64_t source;
    uint64_t target;
    uint64_t bytes;
    uint32_t pattern;
    uint32_t reserved;
};

/* ---- [preprocess] ----------------------------------------------------------------------------------------------- */

/* Most cameras of one launch. */
#define CATSEYE_MAX_CAMERAS 64

/* How a picture lies in memory. */
#define CATSEYE_PICTURE_ABSENT 0
/* Three bytes a pixel; the planes are where its red, green and blue are in the first pixel. */
#define CATSEYE_PICTURE_COLOURS 1
/* One byte a pixel; the three planes are the same. */
#define CATSEYE_PICTURE_GREY 2
/* Luma; U and V in turn, one pair for 2 x 2 pixels. The planes are where the first Y, U and V are, as in all that follow. */
#define CATSEYE_PICTURE_NV12 3
/* Luma, U and V apart, one pair for 2 x 2 pixels. */
#define CATSEYE_PICTURE_I420 4
/* Four bytes for two pixels of a row, in the order that the planes tell. */
#define CATSEYE_PICTURE_PACKED 5
/* Samples of a Bayer sensor in 16 bits. The first plane is where they begin, the second where the camera's CatseyeIsp is, as in all
 * that follow. */
#define CATSEYE_PICTURE_RAW10 6
#define CATSEYE_PICTURE_RAW12 7
/* Four samples in 5 bytes, two in 3. */
#define CATSEYE_PICTURE_RAW10_PACKED 8
#define CATSEYE_PICTURE_RAW12_PACKED 9

/* Where one camera's picture is in this tick. */
struct CatseyePicture {
    uint64_t planes[3];
    /* from a row to the next, of the first plane and of the two others */
    uint32_t row_bytes[2];
    /* one of CATSEYE_PICTURE_* */
    uint32_t kind;
    /* luma 0 to 255 and not 16 to 235 */
    uint32_t full_range;
    uint32_t width;
    uint32_t height;
};

/* How a raw picture is developed. */
struct CatseyeIsp {
    /* a byte for each of 4096 values */
    uint64_t curve;
    /* column and row of the first red pixel */
    uint32_t red_x;
    uint32_t red_y;
    int32_t black_level;
    /* of red, green and blue in 1/256 */
    int32_t gains[3];
    /* row by row in 1/1024 */
    int32_t matrix[9];
    uint32_t reserved;
};

/* Where a column of the network's input comes from: weight on the left pixel in the low half of `weights`, on the next one in the
 * high half, in 1/2048. Both are 0 where there is border. */
struct CatseyeColumn {
    uint32_t left;
    uint32_t weights;
};

/* Where a row of the network's input comes from, weights in 1/2048. Both are 0 where there is border. */
struct CatseyeLine {
    uint32_t upper;
    uint32_t lower;
    uint32_t upper_weight;
    uint32_t lower_weight;
};

/* Where a pixel of the network's input comes from, in 1/32 pixel of the picture; far outside where there is border. */
struct CatseyePlace {
    int32_t x;
    int32_t y;
};

/* Types of the network's input. */
#define CATSEYE_ELEMENT_F32 0
#define CATSEYE_ELEMENT_F16 1
#define CATSEYE_ELEMENT_I8 2

/* The network's input: [batch][3][height][width]. A colour's value is byte * scale + bias, for I8 times inverse_scale and rounded. */
struct CatseyeBatch {
    uint64_t address;
    uint32_t width;
    uint32_t height;
    uint32_t element;
    /* byte of the border */
    uint32_t pad;
    /* of red, green and blue: */
    uint32_t plane[3];
    float scale[3];
    float bias[3];
    float inverse_scale;
};

/*
 * catseye_resize: bilinear, as cv2.resize. catseye_remap: bilinear, as cv2.remap. catseye_raw_resize and catseye_raw_remap: the
 * same for raw pictures. Camera z of the launch has the picture and the
 * place in the batch with the number cameras[z]. A thread makes two pixels of a row: x counts pairs, y rows, z cameras.
 */
struct CatseyeResizeParams {
    struct CatseyeBatch batch;
    /* CatseyePicture[batch] */
    uint64_t pictures;
    /* CatseyeColumn[z][width, rounded up to even]; unused by remap */
    uint64_t columns;
    /* CatseyeLine[z][height]; unused by remap */
    uint64_t lines;
    /* CatseyePlace[z][height][width, rounded up to even]; unused by resize */
    uint64_t places;
    uint32_t cameras[CATSEYE_MAX_CAMERAS];
};

/* ---- [decode] --------------------------------------------------------------------------------------------------- */

/* ---- [digest] --------------------------------------------------------------------------------------------------- */

#endif
