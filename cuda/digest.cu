// Digests of tensors and other values: the tree of src/runtime/digest.rs.
//
// Each block of 4096 bytes is a leaf, and four threads run the four accumulators of its xxHash64; the root is one
// xxHash64 over the leaves. Many values are digested by one launch. Floats are digested with one NaN, halves as floats.
#include "math.cuh"

#define PRIME_1 0x9e3779b185ebca87ull
#define PRIME_2 0xc2b2ae3d27d4eb4full
#define PRIME_3 0x165667b19e3779f9ull
#define PRIME_4 0x85ebca77c2b2ae63ull
#define PRIME_5 0x27d4eb2f165667c5ull
// "catseye1"
#define ROOT_SEED 0x3165796573746163ull
#define BLOCK_WORDS (CATSEYE_DIGEST_BLOCK_BYTES / 8)
#define ALL_LANES 0xffffffffu

__device__ inline uint64_t rotate(uint64_t value, uint32_t left) { return value << left | value >> (64 - left); }

__device__ inline uint64_t round_of(uint64_t accumulator, uint64_t word) {
    return rotate(accumulator + word * PRIME_2, 31) * PRIME_1;
}

// How accumulator 0 to 3 begins.
__device__ inline uint64_t start_of(uint32_t accumulator, uint64_t seed) {
    switch (accumulator) {
        case 0: return seed + PRIME_1 + PRIME_2;
        case 1: return seed + PRIME_2;
        case 2: return seed;
        default: return seed - PRIME_1;
    }
}

// Joins the accumulators; `mine` is that of this thread, and the four threads' lanes begin at a multiple of four.
__device__ inline uint64_t join(uint64_t mine) {
    uint32_t first = threadIdx.x % 32 & ~3u;
    uint64_t all[4];
    for (uint32_t index = 0; index < 4; ++index) all[index] = __shfl_sync(ALL_LANES, mine, first + index);
    uint64_t hash = rotate(all[0], 1) + rotate(all[1], 7) + rotate(all[2], 12) + rotate(all[3], 18);
    for (uint32_t index = 0; index < 4; ++index) hash = (hash ^ round_of(0, all[index])) * PRIME_1 + PRIME_4;
    return hash;
}

__device__ inline uint64_t add_word(uint64_t hash, uint64_t word) {
    return rotate(hash ^ round_of(0, word), 27) * PRIME_1 + PRIME_4;
}

__device__ inline uint64_t add_half_word(uint64_t hash, uint32_t word) {
    return rotate(hash ^ word * PRIME_1, 23) * PRIME_2 + PRIME_3;
}

__device__ inline uint64_t add_byte(uint64_t hash, uint8_t byte) { return rotate(hash ^ byte * PRIME_5, 11) * PRIME_1; }

__device__ inline uint64_t avalanche(uint64_t hash) {
    hash = (hash ^ hash >> 33) * PRIME_2;
    hash = (hash ^ hash >> 29) * PRIME_3;
    return hash ^ hash >> 32;
}

__device__ inline uint32_t canonical(uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits; }

__device__ inline uint32_t canonical_half(uint32_t half) { return canonical(bits_of(float_of_half(half))); }

// Four bytes of what is digested, from byte 4 * index on.
__device__ inline uint32_t half_word(const CatseyeDigestItem& item, uint64_t index) {
    if (item.kind == CATSEYE_DIGEST_F16) return canonical_half(reinterpret_cast<const uint16_t*>(item.address)[index]);
    uint32_t bits = reinterpret_cast<const uint32_t*>(item.address)[index];
    return item.kind == CATSEYE_DIGEST_F32 ? canonical(bits) : bits;
}

// Eight bytes of what is digested, from byte 8 * index on.
__device__ inline uint64_t word(const CatseyeDigestItem& item, uint64_t index) {
    if (item.kind == CATSEYE_DIGEST_F16) {
        uint32_t pair = reinterpret_cast<const uint32_t*>(item.address)[index];
        return (uint64_t)canonical_half(pair >> 16) << 32 | canonical_half(pair & 0xffffu);
    }
    uint64_t bits = reinterpret_cast<const uint64_t*>(item.address)[index];
    if (item.kind == CATSEYE_DIGEST_BYTES) return bits;
    return (uint64_t)canonical((uint32_t)(bits >> 32)) << 32 | canonical((uint32_t)bits);
}

// Digests what lies behind the last whole stripe of 32 bytes; `at` and `end` are bytes from the value's beginning.
__device__ uint64_t finish_leaf(const CatseyeDigestItem& item, uint64_t hash, uint64_t at, uint64_t end) {
    for (; at + 8 <= end; at += 8) hash = add_word(hash, word(item, at / 8));
    if (at + 4 <= end) {
        hash = add_half_word(hash, half_word(item, at / 4));
        at += 4;
    }
    for (; at < end; ++at) hash = add_byte(hash, reinterpret_cast<const uint8_t*>(item.address)[at]);
    return avalanche(hash);
}

extern "C" __global__ void __launch_bounds__(CATSEYE_DIGEST_THREADS)
catseye_digest_leaves(const CATSEYE_PARAM CatseyeDigestParams p) {
    const CatseyeDigestItem& item = p.items[blockIdx.y];
    uint32_t leaf = blockIdx.x * (CATSEYE_DIGEST_THREADS / 4) + threadIdx.x / 4;
    uint32_t accumulator = threadIdx.x % 4;
    uint64_t begin = (uint64_t)leaf * CATSEYE_DIGEST_BLOCK_BYTES;
    uint64_t left = begin < item.bytes ? item.bytes - begin : 0;
    uint32_t bytes = left < CATSEYE_DIGEST_BLOCK_BYTES ? (uint32_t)left : CATSEYE_DIGEST_BLOCK_BYTES;
    uint32_t stripes = bytes / 32;
    uint64_t first_word = begin / 8 + accumulator;
    uint64_t mine = start_of(accumulator, leaf);
#pragma unroll 8
    for (uint32_t stripe = 0; stripe < stripes; ++stripe) mine = round_of(mine, word(item, first_word + stripe * 4ull));
    // all threads join, those without a leaf too
    uint64_t hash = join(mine);
    if (accumulator != 0 || leaf >= item.leaf_count) return;
    if (stripes == 0) hash = leaf + PRIME_5;
    hash = finish_leaf(item, hash + bytes, begin + stripes * 32, begin + bytes);
    reinterpret_cast<uint64_t*>(item.leaves)[leaf] = hash;
}

extern "C" __global__ void __launch_bounds__(32) catseye_digest_root(const CATSEYE_PARAM CatseyeDigestParams p) {
    const CatseyeDigestItem& item = p.items[blockIdx.x];
    const uint64_t* leaves = reinterpret_cast<const uint64_t*>(item.leaves);
    // the leaves and then the length
    uint64_t words = (uint64_t)item.leaf_count + 1;
    uint64_t stripes = words / 4;
    uint32_t accumulator = threadIdx.x % 4;
    uint64_t mine = start_of(accumulator, ROOT_SEED);
    if (threadIdx.x < 4) {
#pragma unroll 8
        for (uint64_t stripe = 0; stripe < stripes; ++stripe) {
            uint64_t index = stripe * 4 + accumulator;
            mine = round_of(mine, index < item.leaf_count ? leaves[index] : item.bytes);
        }
    }
    __syncwarp();
    uint64_t hash = join(mine);
    if (threadIdx.x != 0) return;
    if (stripes == 0) hash = ROOT_SEED + PRIME_5;
    hash += words * 8;
    for (uint64_t index = stripes * 4; index < words; ++index) {
        hash = add_word(hash, index < item.leaf_count ? leaves[index] : item.bytes);
    }
    reinterpret_cast<uint64_t*>(p.results)[blockIdx.x] = avalanche(hash);
}
