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

/* ---- [decode] --------------------------------------------------------------------------------------------------- */

/* ---- [digest] --------------------------------------------------------------------------------------------------- */

#endif
