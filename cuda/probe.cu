/* The kernel of self-tests and of the measurement of mapped against copied memory. */
#include "catseye.h"

extern "C" __global__ void catseye_probe(const CATSEYE_PARAM CatseyeProbeParams p) {
    const uint8_t *source = (const uint8_t *)p.source;
    uint8_t *target = (uint8_t *)p.target;
    const uint64_t stride = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < p.bytes; i += stride) {
        target[i] = (uint8_t)(source[i] + p.pattern + i);
    }
}
