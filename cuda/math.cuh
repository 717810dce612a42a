// Elementary functions that give the bits of the CPU's: src/math.rs, and tanhf and powf of the libm crate.
//
// The same additions, multiplications, divisions and bit moves in the same order, each rounded by itself; so everything
// here must be compiled without fused multiply-add, with IEEE division and without flushing subnormal numbers.
#ifndef CATSEYE_MATH_CUH
#define CATSEYE_MATH_CUH

#include "catseye.h"

__device__ inline uint32_t bits_of(float value) { return __float_as_uint(value); }

__device__ inline float float_of(uint32_t bits) { return __uint_as_float(bits); }

__device__ inline bool is_nan(float value) { return (bits_of(value) & 0x7fffffffu) > 0x7f800000u; }

__device__ inline bool is_finite(float value) { return (bits_of(value) & 0x7f800000u) != 0x7f800000u; }

__device__ inline float infinity() { return float_of(0x7f800000u); }

__device__ inline float not_a_number() { return float_of(0x7fc00000u); }

__device__ inline float absolute(float value) { return float_of(bits_of(value) & 0x7fffffffu); }

// 2^exponent for exponents from -126 to 127.
__device__ inline float power_of_two(int32_t exponent) { return float_of((uint32_t)(exponent + 127) << 23); }

// e^x.
__device__ inline float exp_f32(float x) {
    if (is_nan(x)) return x;
    if (x > 88.72283f) return infinity();
    if (x < -87.33654f) return 0.0f;
    const float round = 12582912.0f;  // 1.5 * 2^23
    const float log2_e = float_of(0x3fb8aa3bu);
    float exponent = (x * log2_e + round) - round;
    float reduced = (x - exponent * 0.6933594f) - exponent * -2.1219444e-4f;
    float tail = 1.9875691e-4f;
    tail = tail * reduced + 1.3981999e-3f;
    tail = tail * reduced + 8.333452e-3f;
    tail = tail * reduced + 4.1665796e-2f;
    tail = tail * reduced + 1.6666666e-1f;
    tail = tail * reduced + 0.5f;
    float fraction = (tail * (reduced * reduced) + reduced) + 1.0f;
    // 2^128 is no f32, so the scaling goes in two steps; both are exact
    int32_t whole = (int32_t)exponent;
    int32_t half = whole >> 1;
    return fraction * power_of_two(half) * power_of_two(whole - half);
}

// 1 / (1 + e^-x).
__device__ inline float sigmoid_f32(float x) {
    float small = exp_f32(-absolute(x));
    return x < 0.0f ? small / (1.0f + small) : 1.0f / (1.0f + small);
}

// The mean of the numbers of the bins under the softmax of their values.
__device__ inline float mean_bin(const float* values, uint32_t bins) {
    float largest = -infinity();
    for (uint32_t bin = 0; bin < bins; ++bin) largest = values[bin] > largest ? values[bin] : largest;
    float shares[CATSEYE_MAX_BINS];
    float sum = 0.0f;
    for (uint32_t bin = 0; bin < bins; ++bin) {
        shares[bin] = exp_f32(values[bin] - largest);
        sum += shares[bin];
    }
    float mean = 0.0f;
    for (uint32_t bin = 0; bin < bins; ++bin) mean += (float)bin * (shares[bin] / sum);
    return mean;
}

// e^x - 1 for x from -88 to 88, after FreeBSD's s_expm1f.c, as in libm::expm1f.
//
// Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems, Inc.
// business. Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice
// is preserved.
__device__ inline float expm1_f32(float x) {
    const float ln2_high = float_of(0x3f317180u), ln2_low = float_of(0x3717f7d1u), inverse_ln2 = float_of(0x3fb8aa3bu);
    const float q1 = -3.3333212137e-2f, q2 = 1.5807170421e-3f;
    uint32_t magnitude = bits_of(x) & 0x7fffffffu;
    bool negative = (bits_of(x) >> 31) != 0;
    int32_t k = 0;
    float correction = 0.0f;
    if (magnitude > 0x3eb17218u) {
        float high, low;
        if (magnitude < 0x3f851592u) {
            k = negative ? -1 : 1;
            high = negative ? x + ln2_high : x - ln2_high;
            low = negative ? -ln2_low : ln2_low;
        } else {
            k = (int32_t)(inverse_ln2 * x + (negative ? -0.5f : 0.5f));
            float t = (float)k;
            high = x - t * ln2_high;
            low = t * ln2_low;
        }
        x = high - low;
        correction = (high - x) - low;
    } else if (magnitude < 0x33000000u) {
        return x;
    }
    float half = 0.5f * x;
    float square = x * half;
    float r1 = 1.0f + square * (q1 + square * q2);
    float t = 3.0f - r1 * half;
    float e = square * ((r1 - t) / (6.0f - x * t));
    if (k == 0) return x - (x * e - square);
    e = x * (e - correction) - correction;
    e -= square;
    if (k == -1) return 0.5f * (x - e) - 0.5f;
    if (k == 1) return x < -0.25f ? -2.0f * (e - (x + 0.5f)) : 1.0f + 2.0f * (x - e);
    float scale = power_of_two(k);
    if (k < 0 || k > 56) return (x - e + 1.0f) * scale - 1.0f;
    float unit = power_of_two(-k);
    return k < 23 ? (x - e + (1.0f - unit)) * scale : (x - (e + unit) + 1.0f) * scale;
}

// The hyperbolic tangent, as libm::tanhf.
__device__ inline float tanh_f32(float x) {
    uint32_t magnitude = bits_of(x) & 0x7fffffffu;
    float size = float_of(magnitude);
    float result;
    if (magnitude > 0x41200000u) {
        result = 1.0f + 0.0f / size;
    } else if (magnitude > 0x3f0c9f54u) {
        float t = expm1_f32(2.0f * size);
        result = 1.0f - 2.0f / (t + 2.0f);
    } else if (magnitude > 0x3e82c578u) {
        float t = expm1_f32(2.0f * size);
        result = t / (t + 2.0f);
    } else if (magnitude >= 0x00800000u) {
        float t = expm1_f32(-2.0f * size);
        result = -t / (t + 2.0f);
    } else {
        result = size;
    }
    return bits_of(x) >> 31 ? -result : result;
}

__device__ inline float high_part(float value) { return float_of(bits_of(value) & 0xfffff000u); }

// x^y for positive x and y from 0.01 to 0.8, without 0.5, after FreeBSD's e_powf.c, as in libm::powf. With such numbers
// no result leaves the range of normal ones.
//
// Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems, Inc.
// business. Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice
// is preserved.
__device__ inline float pow_f32(float x, float y) {
    int32_t ix = (int32_t)bits_of(x);
    if (ix == 0x3f800000) return 1.0f;
    if (ix >= 0x7f800000) return x;
    // log2(x) in two parts
    int32_t n = 0;
    if (ix < 0x00800000) {
        ix = (int32_t)bits_of(x * 16777216.0f);
        n = -24;
    }
    n += (ix >> 23) - 0x7f;
    int32_t j = ix & 0x007fffff;
    ix = j | 0x3f800000;
    uint32_t k = 0;
    if (j > 0x1cc471 && j < 0x5db3d7) {
        k = 1;
    } else if (j >= 0x5db3d7) {
        n += 1;
        ix -= 0x00800000;
    }
    const float base = k ? 1.5f : 1.0f;
    const float base_log_high = k ? 5.84960938e-01f : 0.0f, base_log_low = k ? 1.56322085e-06f : 0.0f;
    float ax = float_of((uint32_t)ix);
    float u = ax - base;
    float v = 1.0f / (ax + base);
    float s = u * v;
    float s_high = high_part(s);
    float t_high = float_of(((((uint32_t)ix >> 1) & 0xfffff000u) | 0x20000000u) + 0x00400000u + (k << 21));
    float t_low = ax - (t_high - base);
    float s_low = v * ((u - s_high * t_high) - s_high * t_low);
    float s2 = s * s;
    const float l1 = float_of(0x3f19999au), l2 = float_of(0x3edb6db7u), l3 = float_of(0x3eaaaaabu);
    const float l4 = float_of(0x3e8ba305u), l5 = float_of(0x3e6c3255u), l6 = float_of(0x3e53f142u);
    float r = s2 * s2 * (l1 + s2 * (l2 + s2 * (l3 + s2 * (l4 + s2 * (l5 + s2 * l6)))));
    r += s_low * (s_high + s);
    s2 = s_high * s_high;
    t_high = high_part(3.0f + s2 + r);
    t_low = r - ((t_high - 3.0f) - s2);
    u = s_high * t_high;
    v = s_low * t_high + t_low * s;
    float p_high = high_part(u + v);
    float p_low = v - (p_high - u);
    float z_high = float_of(0x3f764000u) * p_high;
    float z_low = float_of(0xb8f623c6u) * p_high + p_low * float_of(0x3f76384fu) + base_log_low;
    float t = (float)n;
    float t1 = high_part(((z_high + z_low) + base_log_high) + t);
    float t2 = z_low - (((t1 - t) - base_log_high) - z_high);
    // y log2(x) in two parts
    float y1 = high_part(y);
    p_low = (y - y1) * t1 + y * t2;
    p_high = y1 * t1;
    float z = p_low + p_high;
    j = (int32_t)bits_of(z);
    int32_t magnitude = j & 0x7fffffff;
    // 2 to that power
    n = 0;
    if (magnitude > 0x3f000000) {
        n = j + (0x00800000 >> ((magnitude >> 23) - 0x7f + 1));
        int32_t shift = ((n & 0x7fffffff) >> 23) - 0x7f;
        t = float_of((uint32_t)n & ~(0x007fffffu >> shift));
        n = ((n & 0x007fffff) | 0x00800000) >> (23 - shift);
        if (j < 0) n = -n;
        p_high -= t;
    }
    t = float_of(bits_of(p_low + p_high) & 0xffff8000u);
    u = t * float_of(0x3f317200u);
    v = (p_low - (t - p_high)) * float_of(0x3f317218u) + t * float_of(0x35bfbe8cu);
    z = u + v;
    float w = v - (z - u);
    t = z * z;
    const float p1 = float_of(0x3e2aaaabu), p2 = float_of(0xbb360b61u), p3 = float_of(0x388ab355u);
    const float p4 = float_of(0xb5ddea0eu), p5 = float_of(0x3331bb4cu);
    t1 = z - t * (p1 + t * (p2 + t * (p3 + t * (p4 + t * p5))));
    r = (z * t1) / (t1 - 2.0f) - (w + z * w);
    z = 1.0f - (r - z);
    return float_of(bits_of(z) + ((uint32_t)n << 23));
}

// A half as float, exactly; NaN becomes some NaN.
__device__ inline float float_of_half(uint32_t half) {
    uint32_t sign = (half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu;
    uint32_t fraction = half & 0x3ffu;
    // subnormal halves are whole multiples of 2^-24
    if (exponent == 0) return float_of(sign | bits_of((float)fraction * float_of(0x33800000u)));
    if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction << 13));
    return float_of(sign | ((exponent + 112u) << 23) | (fraction << 13));
}

#endif
