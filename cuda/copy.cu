// Copies of many parts by one kernel: pictures from the host's page-locked memory to the device's, results from there to the host's.
//
// A copy engine would do as well, but each of its copies is a call of the host's thread, or a node of a graph whose addresses are
// fixed. What a table tells may change without either.
#include "catseye.h"

// Words that a thread has on their way at once: the bus is long.
#define AT_ONCE 4

// Copies what is left of a part behind `done` bytes, as far as it has whole words. Gives the bytes that are done then.
template <typename Word>
__device__ uint64_t copy_words(const CatseyePart &part, uint64_t done, uint64_t first, uint64_t stride) {
    const Word *source = (const Word *)(part.source + done);
    Word *target = (Word *)(part.target + done);
    const uint64_t words = (part.bytes - done) / sizeof(Word);
    uint64_t word = first;
    for (; word + (AT_ONCE - 1) * stride < words; word += AT_ONCE * stride) {
        Word some[AT_ONCE];
#pragma unroll
        for (uint32_t k = 0; k < AT_ONCE; ++k) some[k] = source[word + k * stride];
#pragma unroll
        for (uint32_t k = 0; k < AT_ONCE; ++k) target[word + k * stride] = some[k];
    }
    for (; word < words; word += stride) target[word] = source[word];
    return done + words * sizeof(Word);
}

extern "C" __global__ void __launch_bounds__(CATSEYE_COPY_THREADS) catseye_copy(const CATSEYE_PARAM CatseyeCopyParams p) {
    const CatseyePart part = ((const CatseyePart *)p.parts)[blockIdx.y];
    const uint64_t first = (uint64_t)blockIdx.x * CATSEYE_COPY_THREADS + threadIdx.x;
    const uint64_t stride = (uint64_t)gridDim.x * CATSEYE_COPY_THREADS;
    const uint64_t both = part.source | part.target;
    uint64_t done = 0;
    if (both % sizeof(uint4) == 0) done = copy_words<uint4>(part, done, first, stride);
    if (both % sizeof(uint32_t) == 0) done = copy_words<uint32_t>(part, done, first, stride);
    copy_words<uint8_t>(part, done, first, stride);
}
