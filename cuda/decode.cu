// From a network's outputs to candidates: one thread per anchor, the arithmetic of src/stages/decode.
//
// An anchor whose score is above the threshold and whose box is sound writes its box at its own place, and a key, by
// which catseye_nms sorts: strongest first, then the lower anchor. The keys of a block stand together in the order of
// its anchors, and the block says how many there are.
#include "math.cuh"

// The class with the largest score so far; the first of equal ones, and NaN never wins.
struct Best {
    uint32_t class_index = 0;
    float score = -infinity();

    __device__ void offer(uint32_t index, float value) {
        if (value > score) {
            score = value;
            class_index = index;
        }
    }
};

struct Box {
    float left, top, right, bottom;
};

struct Cell {
    uint32_t grid;
    // Position in its grid.
    uint32_t index;
    float x, y, stride;
};

__device__ inline Box box_around(float x, float y, float width, float height) {
    float half_width = width / 2.0f, half_height = height / 2.0f;
    return {x - half_width, y - half_height, x + half_width, y + half_height};
}

__device__ inline Box to_picture(Box box, const CatseyeLetterbox& letterbox) {
    return {
        (box.left - letterbox.pad_left) / letterbox.scale_x,
        (box.top - letterbox.pad_top) / letterbox.scale_y,
        (box.right - letterbox.pad_left) / letterbox.scale_x,
        (box.bottom - letterbox.pad_top) / letterbox.scale_y,
    };
}

__device__ inline bool is_sound(Box box) {
    return is_finite(box.left) && is_finite(box.top) && is_finite(box.right) && is_finite(box.bottom) &&
           box.right > box.left && box.bottom > box.top;
}

__device__ inline Cell cell_of(const CatseyeDecodeParams& p, uint32_t anchor) {
    uint32_t grid = 0;
    while (grid + 1 < p.grid_count && anchor >= p.grids[grid + 1].first) ++grid;
    const CatseyeGrid& cells = p.grids[grid];
    uint32_t index = anchor - cells.first;
    return {grid, index, (float)(index % cells.columns), (float)(index / cells.columns), (float)cells.stride};
}

// One row of the batch in an output with so many values per row.
__device__ inline const float* row_of(const CatseyeDecodeParams& p, uint32_t output, uint32_t row, uint64_t values) {
    return reinterpret_cast<const float*>(p.outputs[output]) + row * values;
}

// Objectness times the largest class score.
__device__ inline Best best_joint(const CatseyeDecodeParams& p, float object, const float* classes) {
    Best best;
    // class scores are at most 1, so no product can pass where the objectness does not
    if (!(object > p.score_threshold)) return best;
    for (uint32_t index = 0; index < p.classes; ++index) best.offer(index, object * classes[index]);
    return best;
}

__device__ inline Best best_of(const float* scores, uint32_t classes, uint64_t step) {
    Best best;
    for (uint32_t index = 0; index < classes; ++index) best.offer(index, scores[index * step]);
    return best;
}

__device__ inline bool passes(const CatseyeDecodeParams& p, Best best) {
    return best.score > p.score_threshold && is_finite(best.score);
}

// The heads: each tells whether the anchor's score is above the threshold, and only then makes the box in network pixels.

__device__ bool read_yolox(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    uint64_t width = 5 + p.classes;
    const float* values = row_of(p, 0, row, p.anchors * width) + anchor * width;
    best = best_joint(p, values[4], values + 5);
    if (!passes(p, best)) return false;
    Cell cell = cell_of(p, anchor);
    box = box_around((values[0] + cell.x) * cell.stride, (values[1] + cell.y) * cell.stride,
                     exp_f32(values[2]) * cell.stride, exp_f32(values[3]) * cell.stride);
    return true;
}

__device__ bool read_yolov5(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    uint64_t width = 5 + p.classes;
    const float* values = row_of(p, 0, row, p.anchors * width) + anchor * width;
    best = best_joint(p, values[4], values + 5);
    if (!passes(p, best)) return false;
    box = box_around(values[0], values[1], values[2], values[3]);
    return true;
}

__device__ bool read_yolov8(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    uint64_t plane = p.anchors;
    const float* values = row_of(p, 0, row, plane * (4 + p.classes)) + anchor;
    best = best_of(values + 4 * plane, p.classes, plane);
    if (!passes(p, best)) return false;
    box = box_around(values[0], values[plane], values[2 * plane], values[3 * plane]);
    return true;
}

__device__ bool read_fastestdet(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    uint64_t plane = p.anchors;
    const float* values = row_of(p, 0, row, plane * (5 + p.classes)) + anchor;
    best = best_of(values + 5 * plane, p.classes, plane);
    float object = values[0];
    // the weighted geometric mean of objectness and class score
    bool positive = object > 0.0f && best.score > 0.0f;
    best.score = positive ? pow_f32(object, 0.6f) * pow_f32(best.score, 0.4f) : not_a_number();
    if (!passes(p, best)) return false;
    Cell cell = cell_of(p, anchor);
    const CatseyeGrid& grid = p.grids[0];
    float cell_width = p.network_width / (float)grid.columns;
    float cell_height = p.network_height / (float)(grid.cells / grid.columns);
    box = box_around((cell.x + tanh_f32(values[plane])) * cell_width, (cell.y + tanh_f32(values[2 * plane])) * cell_height,
                     sigmoid_f32(values[3 * plane]) * p.network_width, sigmoid_f32(values[4 * plane]) * p.network_height);
    return true;
}

__device__ bool read_picodet(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    Cell cell = cell_of(p, anchor);
    uint64_t cells = p.grids[cell.grid].cells;
    const float* scores = row_of(p, cell.grid, row, cells * p.classes) + (uint64_t)cell.index * p.classes;
    best = best_of(scores, p.classes, 1);
    if (!passes(p, best)) return false;
    uint64_t width = 4 * p.bins;
    const float* sides = row_of(p, p.grid_count + cell.grid, row, cells * width) + cell.index * width;
    float distances[4];
    for (uint32_t side = 0; side < 4; ++side) distances[side] = mean_bin(sides + side * p.bins, p.bins) * cell.stride;
    float x = (cell.x + 0.5f) * cell.stride, y = (cell.y + 0.5f) * cell.stride;
    box = {x - distances[0], y - distances[1], x + distances[2], y + distances[3]};
    return true;
}

__device__ Box rtdetr_box(const CatseyeDecodeParams& p, const float* corners) {
    return box_around(corners[0] * p.network_width, corners[1] * p.network_height, corners[2] * p.network_width,
                      corners[3] * p.network_height);
}

__device__ bool read_rtdetr_joined(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    uint64_t width = 4 + p.classes;
    const float* values = row_of(p, 0, row, p.anchors * width) + anchor * width;
    best = best_of(values + 4, p.classes, 1);
    if (!passes(p, best)) return false;
    box = rtdetr_box(p, values);
    return true;
}

// Outputs 0 and 1 are logits and boxes.
__device__ bool read_rtdetr_split(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    uint64_t classes = p.classes;
    best = best_of(row_of(p, 0, row, p.anchors * classes) + anchor * classes, p.classes, 1);
    // the sigmoid keeps the order, so that the largest logit is enough; without one nothing was seen
    best.score = is_finite(best.score) ? sigmoid_f32(best.score) : not_a_number();
    if (!passes(p, best)) return false;
    box = rtdetr_box(p, row_of(p, 1, row, (uint64_t)p.anchors * 4) + (uint64_t)anchor * 4);
    return true;
}

__device__ bool read_anchor(const CatseyeDecodeParams& p, uint32_t row, uint32_t anchor, Best& best, Box& box) {
    switch (p.head) {
        case CATSEYE_HEAD_YOLOX: return read_yolox(p, row, anchor, best, box);
        case CATSEYE_HEAD_YOLOV5: return read_yolov5(p, row, anchor, best, box);
        case CATSEYE_HEAD_YOLOV8: return read_yolov8(p, row, anchor, best, box);
        case CATSEYE_HEAD_FASTESTDET: return read_fastestdet(p, row, anchor, best, box);
        case CATSEYE_HEAD_PICODET: return read_picodet(p, row, anchor, best, box);
        case CATSEYE_HEAD_RTDETR_JOINED: return read_rtdetr_joined(p, row, anchor, best, box);
        case CATSEYE_HEAD_RTDETR_SPLIT: return read_rtdetr_split(p, row, anchor, best, box);
        default: return false;
    }
}

// Sorts like `score` descending by total order, then `anchor` ascending; no finite score gives all ones.
__device__ inline uint64_t sort_key(float score, uint32_t anchor) {
    uint32_t bits = bits_of(score);
    uint32_t rising = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)(~rising) << 32 | anchor;
}

extern "C" __global__ void __launch_bounds__(CATSEYE_DECODE_THREADS)
catseye_decode(const CATSEYE_PARAM CatseyeDecodeParams p) {
    uint32_t row = blockIdx.y;
    uint32_t anchor = blockIdx.x * CATSEYE_DECODE_THREADS + threadIdx.x;
    const uint32_t* present = reinterpret_cast<const uint32_t*>(p.present);
    Best best;
    Box box;
    bool found = false;
    if (anchor < p.anchors && (present == nullptr || present[row] != 0) && read_anchor(p, row, anchor, best, box)) {
        box = to_picture(box, reinterpret_cast<const CatseyeLetterbox*>(p.letterboxes)[row]);
        found = is_sound(box);
    }
    if (found) {
        CatseyeCandidate* candidates = reinterpret_cast<CatseyeCandidate*>(p.candidates);
        candidates[(uint64_t)row * p.anchors + anchor] = {
            {box.left, box.top, box.right, box.bottom}, best.score, best.class_index, anchor};
    }
    // keys of the block, in the order of its threads
    __shared__ uint32_t warp_counts[CATSEYE_DECODE_THREADS / 32];
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t found_bits = __ballot_sync(0xffffffffu, found);
    if (lane == 0) warp_counts[warp] = __popc(found_bits);
    __syncthreads();
    uint32_t place = __popc(found_bits & ((1u << lane) - 1));
    uint32_t total = 0;
    for (uint32_t other = 0; other < CATSEYE_DECODE_THREADS / 32; ++other) {
        if (other == warp) place += total;
        total += warp_counts[other];
    }
    uint64_t block = (uint64_t)row * p.blocks + blockIdx.x;
    uint64_t* keys = reinterpret_cast<uint64_t*>(p.keys) + block * CATSEYE_DECODE_THREADS;
    if (found) keys[place] = sort_key(best.score, anchor);
    if (threadIdx.x == 0) reinterpret_cast<uint32_t*>(p.counts)[block + row] = total;
}
