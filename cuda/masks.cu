// From the logits of a segmentation network to masks, and from masks to the little that lanes and free space need.
//
// A pixel is foreground where its logit is strictly the greater; NaN is background. Of the lane mask each row's runs go
// home, of the drivable mask the top of each followed column's free run, as LaneFinder and FreeSpaceFinder read them.
#include "math.cuh"

#define ALL_LANES 0xffffffffu
// Rows of a column that are loaded before they are followed.
#define COLUMN_BATCH 16

// Adds the starts and ends of runs among 32 pixels to a row's runs. `previous` tells of the pixel to the left.
__device__ inline void add_edges(CatseyeRowRuns& out, uint32_t pixels, uint32_t previous, uint32_t base, uint32_t& starts,
                                 uint32_t& ends) {
    uint32_t lane = threadIdx.x % 32;
    uint32_t left = pixels << 1 | previous;
    uint32_t start_bits = pixels & ~left, end_bits = ~pixels & left;
    uint32_t before = (1u << lane) - 1;
    if (start_bits >> lane & 1) {
        uint32_t run = starts + __popc(start_bits & before);
        if (run < CATSEYE_MAX_RUNS) out.runs[run].first = (uint16_t)(base + lane);
    }
    if (end_bits >> lane & 1) {
        uint32_t run = ends + __popc(end_bits & before);
        if (run < CATSEYE_MAX_RUNS) out.runs[run].end = (uint16_t)(base + lane);
    }
    starts += __popc(start_bits);
    ends += __popc(end_bits);
}

extern "C" __global__ void __launch_bounds__(CATSEYE_MASK_THREADS) catseye_masks(const CATSEYE_PARAM CatseyeMaskParams p) {
    uint32_t lane = threadIdx.x % 32;
    uint32_t v = blockIdx.x * (CATSEYE_MASK_THREADS / 32) + threadIdx.x / 32;
    uint32_t row = blockIdx.y;
    bool is_lanes = blockIdx.z == 1;
    // the whole warp leaves
    if (v >= p.height) return;
    uint64_t pixels = (uint64_t)p.width * p.height, line = (uint64_t)v * p.width;
    const float* background =
        reinterpret_cast<const float*>(is_lanes ? p.lane_logits : p.drivable_logits) + row * pixels * 2 + line;
    const float* foreground = background + pixels;
    uint8_t* mask = reinterpret_cast<uint8_t*>(is_lanes ? p.lane_masks : p.drivable_masks) + row * pixels + line;
    CatseyeRowRuns* all_runs = reinterpret_cast<CatseyeRowRuns*>(p.lane_runs);
    CatseyeRowRuns& runs = all_runs[(uint64_t)row * p.height + v];
    uint32_t starts = 0, ends = 0, previous = 0;
    // one column more than there are, so that a run at the border ends
    for (uint32_t base = 0; base <= p.width; base += 32) {
        uint32_t u = base + lane;
        bool seen = u < p.width && foreground[u] > background[u];
        if (u < p.width) mask[u] = seen ? 1 : 0;
        if (is_lanes) {
            uint32_t bits = __ballot_sync(ALL_LANES, seen);
            add_edges(runs, bits, previous, base, starts, ends);
            previous = bits >> 31;
        }
    }
    if (!is_lanes) return;
    __syncwarp();
    uint32_t count = starts <= CATSEYE_MAX_RUNS ? starts : 0;
    if (lane == 0) runs.count = count;
    if (lane >= count && lane < CATSEYE_MAX_RUNS) runs.runs[lane] = {0, 0};
}

// The pixels of a column in the rows from `bottom` up, as bits from the lowest on; rows above the mask are 0.
__device__ inline uint32_t column_bits(const uint8_t* column, uint32_t width, uint32_t bottom) {
    uint32_t bits = 0;
#pragma unroll
    for (uint32_t up = 0; up < COLUMN_BATCH; ++up) {
        if (up <= bottom && column[(uint64_t)(bottom - up) * width] != 0) bits |= 1u << up;
    }
    return bits;
}

__device__ int32_t top_of_free_run(const CatseyeMaskParams& p, const uint8_t* column) {
    int32_t top = -1;
    uint32_t gap = 0;
    for (uint32_t above = p.height; above > 0;) {
        uint32_t bits = column_bits(column, p.width, above - 1);
        for (uint32_t up = 0; up < COLUMN_BATCH && above > 0; ++up) {
            --above;
            if (bits >> up & 1) {
                top = (int32_t)above;
                gap = 0;
                continue;
            }
            ++gap;
            if (gap > (top >= 0 ? p.max_gap_rows : p.max_bonnet_rows)) return top;
        }
    }
    return top;
}

extern "C" __global__ void __launch_bounds__(CATSEYE_MASK_THREADS) catseye_free_tops(const CATSEYE_PARAM CatseyeMaskParams p) {
    uint32_t index = blockIdx.x * CATSEYE_MASK_THREADS + threadIdx.x;
    uint32_t row = blockIdx.y;
    if (index >= p.tops) return;
    const uint8_t* mask = reinterpret_cast<const uint8_t*>(p.drivable_masks) + (uint64_t)row * p.width * p.height;
    int32_t* tops = reinterpret_cast<int32_t*>(p.free_tops);
    tops[(uint64_t)row * p.tops + index] = top_of_free_run(p, mask + index * p.column_step);
}
