// Copies of many parts by one kernel: pictures from the host's page-locked memory to the device's, results from there to the host's.
//
// A copy engine would do as well, but each of its copies is a call of the host's thread, or a node of a graph whose addresses are
// fixed. What a table tells may change without either.
#include "catseye.h"

// Words that a thread has on their way at once: the bus is long.
#define AT_ONCE 4

extern "C" __global__ void __launch_bounds__(CATSEYE_COPY_THREADS) catseye_copy(const CATSEYE_PARAM CatseyeCopyParams p) {
    const CatseyePart part = ((const CatseyePart *)p.parts)[blockIdx.y];
    const uint64_t first = (uint64_t)blockIdx.x * CATSEYE_COPY_THREADS + threadIdx.x;
    const uint64_t stride = (uint64_t)gridDim.x * CATSEYE_COPY_THREADS;
    const bool is_aligned = (part.source | part.target) % sizeof(uint4) == 0;
    const uint64_t words = is_aligned ? part.bytes / sizeof(uint4) : 0;
    const uint4 *source_words = (const uint4 *)part.source;
    uint4 *target_words = (uint4 *)part.target;
    uint64_t word = first;
    for (; word + (AT_ONCE - 1) * stride < words; word += AT_ONCE * stride) {
        uint4 some[AT_ONCE];
#pragma unroll
        for (uint32_t k = 0; k < AT_ONCE; ++k) some[k] = source_words[word + k * stride];
#pragma unroll
        for (uint32_t k = 0; k < AT_ONCE; ++k) target_words[word + k * stride] = some[k];
    }
    for (; word < words; word += stride) target_words[word] = source_words[word];
    const uint8_t *source = (const uint8_t *)part.source;
    uint8_t *target = (uint8_t *)part.target;
    for (uint64_t i = words * sizeof(uint4) + first; i < part.bytes; i += stride) target[i] = source[i];
}
