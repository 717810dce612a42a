// From candidates to detections: one block per camera sorts them and drops boxes that repeat a stronger one.
//
// The keys are different from each other, so that sorting has one outcome. Suppression is the greedy one of
// src/stages/decode/nms.rs: from the strongest down, a candidate stays unless it overlaps a kept one of its class.
#include "math.cuh"

// Keys that are sorted in shared memory at a time.
#define CHUNK_KEYS 4096
#define THREADS CATSEYE_NMS_THREADS
#define WARPS (THREADS / 32)
#define NO_KEY 0xffffffffffffffffull

struct Kept {
    float box[4];
    uint32_t class_index;
};

__device__ inline float box_area(const float* box) {
    float width = box[2] - box[0], height = box[3] - box[1];
    return (width > 0.0f ? width : 0.0f) * (height > 0.0f ? height : 0.0f);
}

// Intersection over union, as BoxPx::iou; both boxes are sound.
__device__ inline float box_iou(const float* stronger, const float* box) {
    float right = stronger[2] < box[2] ? stronger[2] : box[2], left = stronger[0] > box[0] ? stronger[0] : box[0];
    float bottom = stronger[3] < box[3] ? stronger[3] : box[3], top = stronger[1] > box[1] ? stronger[1] : box[1];
    float width = right - left, height = bottom - top;
    if (!(width > 0.0f && height > 0.0f)) return 0.0f;
    float inside = width * height;
    return inside / (box_area(stronger) + box_area(box) - inside);
}

__device__ inline bool repeats(const Kept& stronger, const CatseyeCandidate& candidate, float iou_threshold) {
    return stronger.class_index == candidate.class_index && box_iou(stronger.box, candidate.box) > iou_threshold;
}

// Turns counts into the places where each block's keys begin, in order, with the sum behind them; gives the sum.
__device__ uint32_t scan_counts(uint32_t* counts, uint32_t blocks) {
    __shared__ uint32_t warp_sums[WARPS];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t sum = 0;
    for (uint32_t start = 0; start < blocks; start += THREADS) {
        uint32_t index = start + threadIdx.x;
        uint32_t count = index < blocks ? counts[index] : 0;
        uint32_t upto = count;
        for (uint32_t step = 1; step < 32; step *= 2) {
            uint32_t left = __shfl_up_sync(0xffffffffu, upto, step);
            if (lane >= step) upto += left;
        }
        if (lane == 31) warp_sums[warp] = upto;
        __syncthreads();
        uint32_t before = sum;
        for (uint32_t other = 0; other < WARPS; ++other) {
            if (other < warp) before += warp_sums[other];
            sum += warp_sums[other];
        }
        if (index < blocks) counts[index] = before + upto - count;
        __syncthreads();
    }
    if (threadIdx.x == 0) counts[blocks] = sum;
    __syncthreads();
    return sum;
}

// Puts the keys of all blocks one behind the other and fills up to `padded`.
__device__ void gather_keys(const CatseyeNmsParams& p, uint32_t row, uint32_t total, uint32_t padded, uint64_t* out) {
    const uint32_t* places = reinterpret_cast<const uint32_t*>(p.counts) + (uint64_t)row * (p.blocks + 1);
    const uint64_t* keys = reinterpret_cast<const uint64_t*>(p.keys) + (uint64_t)row * p.blocks * CATSEYE_DECODE_THREADS;
    for (uint32_t block = threadIdx.x / 32; block < p.blocks; block += WARPS) {
        uint32_t first = places[block], count = places[block + 1] - first;
        for (uint32_t index = threadIdx.x % 32; index < count; index += 32) {
            out[first + index] = keys[(uint64_t)block * CATSEYE_DECODE_THREADS + index];
        }
    }
    for (uint32_t index = total + threadIdx.x; index < padded; index += THREADS) out[index] = NO_KEY;
    __syncthreads();
}

// One step of the bitonic network over `count` keys, whose first has the number `first` among all.
__device__ void bitonic_step(uint64_t* keys, uint32_t count, uint32_t first, uint32_t size, uint32_t stride) {
    for (uint32_t index = threadIdx.x; index < count / 2; index += THREADS) {
        uint32_t low = 2 * index - (index & (stride - 1));
        uint32_t high = low + stride;
        bool rising = ((first + low) & size) == 0;
        uint64_t a = keys[low], b = keys[high];
        if ((a > b) == rising) {
            keys[low] = b;
            keys[high] = a;
        }
    }
    __syncthreads();
}

// Sorts the keys in `chunk`, so that pieces of `CHUNK_KEYS` keys can be merged.
__device__ void sort_chunk(uint64_t* chunk, uint32_t count, uint32_t first) {
    for (uint32_t size = 2; size <= count; size *= 2) {
        for (uint32_t stride = size / 2; stride > 0; stride /= 2) bitonic_step(chunk, count, first, size, stride);
    }
}

__device__ void copy_keys(uint64_t* out, const uint64_t* keys) {
    for (uint32_t index = threadIdx.x; index < CHUNK_KEYS; index += THREADS) out[index] = keys[index];
    __syncthreads();
}

// Sorts more keys than `chunk` holds: steps that reach far go through global memory, the others through `chunk`.
__device__ void sort_large(uint64_t* keys, uint32_t count, uint64_t* chunk) {
    for (uint32_t first = 0; first < count; first += CHUNK_KEYS) {
        copy_keys(chunk, keys + first);
        sort_chunk(chunk, CHUNK_KEYS, first);
        copy_keys(keys + first, chunk);
    }
    for (uint32_t size = 2 * CHUNK_KEYS; size <= count; size *= 2) {
        for (uint32_t stride = size / 2; stride >= CHUNK_KEYS; stride /= 2) bitonic_step(keys, count, 0, size, stride);
        for (uint32_t first = 0; first < count; first += CHUNK_KEYS) {
            copy_keys(chunk, keys + first);
            for (uint32_t stride = CHUNK_KEYS / 2; stride > 0; stride /= 2) {
                bitonic_step(chunk, CHUNK_KEYS, first, size, stride);
            }
            copy_keys(keys + first, chunk);
        }
    }
}

// The first thread of the block for which `flag` holds; THREADS where it holds for none. The caller lets no thread call
// this again before all have left it.
__device__ uint32_t first_thread(bool flag) {
    __shared__ uint32_t warp_bits[WARPS];
    uint32_t bits = __ballot_sync(0xffffffffu, flag);
    if (threadIdx.x % 32 == 0) warp_bits[threadIdx.x / 32] = bits;
    __syncthreads();
    uint32_t warps = __ballot_sync(0xffffffffu, warp_bits[threadIdx.x % 32] != 0);
    if (warps == 0) return THREADS;
    uint32_t warp = __ffs((int)warps) - 1;
    return warp * 32 + __ffs((int)warp_bits[warp]) - 1;
}

__device__ void write_item(CatseyeDetection& item, const CatseyeCandidate& candidate) {
    for (uint32_t side = 0; side < 4; ++side) item.box[side] = candidate.box[side];
    item.score = candidate.score;
    item.class_index = candidate.class_index;
}

// Greedy suppression over sorted keys; gives how many stay.
__device__ uint32_t suppress(const CatseyeNmsParams& p, const uint64_t* sorted, uint32_t total,
                             const CatseyeCandidate* candidates, CatseyeDetection* items, uint32_t limit) {
    __shared__ Kept kept[CATSEYE_MAX_DETECTIONS];
    uint32_t count = 0;
    for (uint32_t start = 0; start < total && count < limit; start += THREADS) {
        uint32_t index = start + threadIdx.x;
        bool alive = index < total;
        CatseyeCandidate candidate = {};
        if (alive) candidate = candidates[(uint32_t)sorted[index]];
        for (uint32_t stronger = 0; alive && stronger < count; ++stronger) {
            alive = !repeats(kept[stronger], candidate, p.iou_threshold);
        }
        while (count < limit) {
            uint32_t first = first_thread(alive);
            if (first == THREADS) break;
            if (threadIdx.x == first) {
                write_item(items[count], candidate);
                for (uint32_t side = 0; side < 4; ++side) kept[count].box[side] = candidate.box[side];
                kept[count].class_index = candidate.class_index;
                alive = false;
            }
            __syncthreads();
            alive = alive && !repeats(kept[count], candidate, p.iou_threshold);
            ++count;
        }
        __syncthreads();
    }
    return count;
}

extern "C" __global__ void __launch_bounds__(CATSEYE_NMS_THREADS) catseye_nms(const CATSEYE_PARAM CatseyeNmsParams p) {
    __shared__ uint64_t chunk[CHUNK_KEYS];
    uint32_t row = blockIdx.x;
    uint32_t total = scan_counts(reinterpret_cast<uint32_t*>(p.counts) + (uint64_t)row * (p.blocks + 1), p.blocks);
    uint32_t padded = 1;
    while (padded < total) padded *= 2;
    uint64_t* sorted = chunk;
    if (padded <= CHUNK_KEYS) {
        gather_keys(p, row, total, padded, chunk);
        sort_chunk(chunk, padded, 0);
    } else {
        sorted = reinterpret_cast<uint64_t*>(p.sorted) + (uint64_t)row * p.sorted_stride;
        gather_keys(p, row, total, padded, sorted);
        sort_large(sorted, padded, chunk);
    }
    const CatseyeCandidate* candidates =
        reinterpret_cast<const CatseyeCandidate*>(p.candidates) + (uint64_t)row * p.anchors;
    CatseyeDetections& out = reinterpret_cast<CatseyeDetections*>(p.detections)[row];
    uint32_t limit = p.limit < CATSEYE_MAX_DETECTIONS ? p.limit : CATSEYE_MAX_DETECTIONS;
    uint32_t count;
    if (p.iou_threshold < 1.0f) {
        count = suppress(p, sorted, total, candidates, out.items, limit);
    } else {
        // no overlap is above 1, so the strongest stay as they are
        count = total < limit ? total : limit;
        if (threadIdx.x < count) write_item(out.items[threadIdx.x], candidates[(uint32_t)sorted[threadIdx.x]]);
    }
    for (uint32_t index = count + threadIdx.x; index < CATSEYE_MAX_DETECTIONS; index += THREADS) {
        write_item(out.items[index], CatseyeCandidate{});
    }
    if (threadIdx.x == 0) {
        out.count = count;
        out.candidates = total;
    }
}
