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

/* ---- [copy] ------------------------------------------------------------------------------------------------------ */

/* Threads of a block of catseye_copy. */
#define CATSEYE_COPY_THREADS 256

/* Bytes that go from one address to another, in device memory or mapped memory of the host. */
struct CatseyePart {
    uint64_t source;
    uint64_t target;
    uint64_t bytes;
};

/* catseye_copy: copies each part. Grid (any number of blocks, parts), CATSEYE_COPY_THREADS threads. */
struct CatseyeCopyParams {
    /* CatseyePart[parts]. */
    uint64_t parts;
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
/* Luma; U and V in turn, one pair for 2 x 2 pixels. The planes are where the first Y, U and V are, as in all that follow. Every U
 * is at an even address. */
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
/* As NV12, with U at any address. */
#define CATSEYE_PICTURE_NV12_ODD 10

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

/* Most threads of a block of the kernels for other pictures, which are one row high, and rows that a thread of catseye_resize makes. */
#define CATSEYE_RESIZE_THREADS 256
#define CATSEYE_RESIZE_ROWS 2
/* Rows of a block of the kernels for raw pictures, 32 threads each. */
#define CATSEYE_RAW_ROWS 8
/* Values of a tone curve. */
#define CATSEYE_CURVE_VALUES 4096

/* How a raw picture is developed. */
struct CatseyeIsp {
    /* a byte for each of CATSEYE_CURVE_VALUES values, at a multiple of 16 */
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

/* A pixel in units of a place. */
#define CATSEYE_PLACE_ONE 32

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
 * place in the batch with the number cameras[z]. A thread makes two pixels of a row, in catseye_resize of CATSEYE_RESIZE_ROWS rows: x
 * counts pairs, y rows or so many of them, z cameras. Blocks are flat, those of the raw kernels CATSEYE_RAW_ROWS high.
 */
struct CatseyeResizeParams {
    struct CatseyeBatch batch;
    /* CatseyePicture[batch] */
    uint64_t pictures;
    /* CatseyeColumn[z][width, rounded up to even]; unused by remap */
    uint64_t columns;
    /* CatseyeLine[z][height]; unused by remap */
    uint64_t lines;
    /* CatseyePlace[z][height][width, rounded up to even], or the same in a word each; unused by resize */
    uint64_t places;
    uint32_t cameras[CATSEYE_MAX_CAMERAS];
    /* Whether a place is x + CATSEYE_PLACE_ONE in the low half of a word, y + CATSEYE_PLACE_ONE in the high half. */
    uint32_t near_places;
    uint32_t reserved;
};

/* ---- [decode] --------------------------------------------------------------------------------------------------- */


/* Most detections of one camera by one network. */
#define CATSEYE_MAX_DETECTIONS 128
/* Most outputs that a head with boxes reads: scores and distances of four strides. */
#define CATSEYE_MAX_OUTPUTS 8
/* Most grids of a head with boxes. */
#define CATSEYE_MAX_GRIDS 4
/* Most bins of a distance. */
#define CATSEYE_MAX_BINS 32
/* Most runs of marked pixels in a row of a lane mask; a row with more is noise. */
#define CATSEYE_MAX_RUNS 24

/* Anchors that one block decodes. */
#define CATSEYE_DECODE_THREADS 128
/* Threads of the block that suppresses one camera's candidates. */
#define CATSEYE_NMS_THREADS 1024
/* Threads of a block of the mask kernels: four rows with a warp each, or 128 columns. */
#define CATSEYE_MASK_THREADS 128

/* How outputs are read. */
#define CATSEYE_HEAD_YOLOX 0
#define CATSEYE_HEAD_YOLOV5 1
#define CATSEYE_HEAD_YOLOV8 2
#define CATSEYE_HEAD_FASTESTDET 3
#define CATSEYE_HEAD_PICODET 4
#define CATSEYE_HEAD_RTDETR_JOINED 5
#define CATSEYE_HEAD_RTDETR_SPLIT 6

/* Where a picture lies in the network's input. */
struct CatseyeLetterbox {
    /* Network pixels per picture pixel. */
    float scale_x;
    float scale_y;
    /* Network pixels left of the picture and above it. */
    float pad_left;
    float pad_top;
};

/* Cells of one stride. */
struct CatseyeGrid {
    /* Anchor of its first cell. */
    uint32_t first;
    uint32_t columns;
    uint32_t cells;
    /* Network pixels per cell. */
    uint32_t stride;
};

/* An anchor's box, at the anchor's own place; written only where it passed. */
struct CatseyeCandidate {
    /* Left, top, right, bottom in picture pixels. */
    float box[4];
    float score;
    uint32_t class_index;
    uint32_t anchor;
};

/* One object. */
struct CatseyeDetection {
    /* Left, top, right, bottom in picture pixels. */
    float box[4];
    float score;
    uint32_t class_index;
};

/* What one network saw in one picture, strongest first; items from `count` on are zero. */
struct CatseyeDetections {
    uint32_t count;
    /* How many anchors passed before suppression. */
    uint32_t candidates;
    struct CatseyeDetection items[CATSEYE_MAX_DETECTIONS];
};

/* catseye_decode: outputs to candidates. Grid (blocks, rows), CATSEYE_DECODE_THREADS threads. */
struct CatseyeDecodeParams {
    /* float[rows][...] each; which is which is the head's. */
    uint64_t outputs[CATSEYE_MAX_OUTPUTS];
    /* CatseyeLetterbox[rows]. */
    uint64_t letterboxes;
    /* uint32_t[rows], 0 where there is no picture; at address 0: all are there. */
    uint64_t present;
    /* Out: CatseyeCandidate[rows][anchors]. */
    uint64_t candidates;
    /* Out: uint64_t[rows][blocks * CATSEYE_DECODE_THREADS], each block's at its own place, in the order of anchors. */
    uint64_t keys;
    /* Out: uint32_t[rows][blocks + 1], how many keys each block wrote; the last is left alone. */
    uint64_t counts;
    uint32_t head;
    uint32_t rows;
    uint32_t anchors;
    uint32_t blocks;
    uint32_t classes;
    uint32_t bins;
    uint32_t grid_count;
    float score_threshold;
    float network_width;
    float network_height;
    struct CatseyeGrid grids[CATSEYE_MAX_GRIDS];
};

/* catseye_nms: candidates to detections. Grid (rows), CATSEYE_NMS_THREADS threads. */
struct CatseyeNmsParams {
    /* As catseye_decode left them. The counts are turned into the places where each block's keys begin. */
    uint64_t candidates;
    uint64_t keys;
    uint64_t counts;
    /* uint64_t[rows][sorted_stride], room for sorting more keys than shared memory holds. */
    uint64_t sorted;
    /* Out: CatseyeDetections[rows]. */
    uint64_t detections;
    uint32_t rows;
    uint32_t anchors;
    uint32_t blocks;
    /* Power of two, not less than `anchors`. */
    uint32_t sorted_stride;
    /* Most detections, at most CATSEYE_MAX_DETECTIONS. */
    uint32_t limit;
    /* Overlap above which the weaker box of a class is dropped; 1 and more, and NaN, drop none. */
    float iou_threshold;
};

/* A run of marked pixels of a row: columns from `first` up to, but without, `end`. */
struct CatseyeRun {
    uint16_t first;
    uint16_t end;
};

/* The runs of one row, left to right; none when there are more than CATSEYE_MAX_RUNS. Runs from `count` on are zero. */
struct CatseyeRowRuns {
    uint32_t count;
    struct CatseyeRun runs[CATSEYE_MAX_RUNS];
};

/* catseye_masks: logits to masks and runs. Grid (rows of a mask / 4, rounded up, rows, 2), CATSEYE_MASK_THREADS threads;
 * the grid's z is 0 for the drivable area, 1 for lane markings.
 * catseye_free_tops: drivable masks to tops. Grid (tops / CATSEYE_MASK_THREADS, rounded up, rows), as many threads. */
struct CatseyeMaskParams {
    /* float[rows][2][height][width], logits of background and foreground. */
    uint64_t drivable_logits;
    uint64_t lane_logits;
    /* uint8_t[rows][height][width], 1 is foreground. */
    uint64_t drivable_masks;
    uint64_t lane_masks;
    /* CatseyeRowRuns[rows][height]. */
    uint64_t lane_runs;
    /* int32_t[rows][tops]: the highest row of the free run of each followed column, -1 for none. */
    uint64_t free_tops;
    uint32_t rows;
    uint32_t width;
    uint32_t height;
    /* Every so many columns are followed. */
    uint32_t column_step;
    /* Followed columns. */
    uint32_t tops;
    /* Most rows without free pixels that are bridged within a run, and below it. */
    uint32_t max_gap_rows;
    uint32_t max_bonnet_rows;
};

/* What catseye_math computes. */
#define CATSEYE_MATH_EXP 0
#define CATSEYE_MATH_SIGMOID 1
#define CATSEYE_MATH_TANH 2
/* x to the power of 0.6 and 0.4, for positive x. */
#define CATSEYE_MATH_POW_06 3
#define CATSEYE_MATH_POW_04 4

/* catseye_math, for self-tests: target[i] = function of the float whose bits are (first + i * step) mod 2^32. */
struct CatseyeMathParams {
    /* Out: float[count]. */
    uint64_t target;
    uint32_t count;
    uint32_t first;
    uint32_t step;
    uint32_t function;
};

/* ---- [digest] --------------------------------------------------------------------------------------------------- */


/* Most values that one launch digests. */
#define CATSEYE_MAX_DIGESTS 64
/* Bytes of one leaf of the tree. */
#define CATSEYE_DIGEST_BLOCK_BYTES 4096
/* Threads of a block of catseye_digest_leaves; four work on one leaf. */
#define CATSEYE_DIGEST_THREADS 128

/* How a value becomes bytes. */
#define CATSEYE_DIGEST_BYTES 0
#define CATSEYE_DIGEST_F32 1
/* Half precision, digested as f32. */
#define CATSEYE_DIGEST_F16 2

/* One value to digest. */
struct CatseyeDigestItem {
    /* Where it lies, a multiple of 8. */
    uint64_t address;
    /* Bytes that are digested; a multiple of 4 for floats. */
    uint64_t bytes;
    /* uint64_t for each leaf. */
    uint64_t leaves;
    uint32_t leaf_count;
    uint32_t kind;
};

/* catseye_digest_leaves: grid (leaves of the longest item / 32, rounded up, items), CATSEYE_DIGEST_THREADS threads.
 * catseye_digest_root: grid (items), 32 threads. */
struct CatseyeDigestParams {
    struct CatseyeDigestItem items[CATSEYE_MAX_DIGESTS];
    /* Out: uint64_t for each item. */
    uint64_t results;
    uint32_t count;
};

#endif
