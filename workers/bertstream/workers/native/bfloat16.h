// Whether vectors of bfloat16 can be multiplied: 32 pairs of numbers in one instruction, whose sums are float32.

#pragma once

#include <cstdint>

#include "instructions.h"
#include "vectors.h"

#if defined(CPU_CAPABILITY_AVX512) && __has_include(<avx512bf16intrin.h>)
#define BERTSTREAM_BFLOAT16

#include <cpuid.h>
#include <immintrin.h>

namespace bertstream {
namespace {

#define BERTSTREAM_BFLOAT16_TARGET __attribute__((target("avx512bf16")))

// Whether this machine has the instructions, which a virtual one may hide even where it has AMX, and they may be used.
inline bool has_bfloat16() {
  static const bool found = [] {
    constexpr unsigned kBfloat16 = 1u << 5;
    unsigned a, b, c, d;
    return may_use("bf16") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kBfloat16);
  }();
  return found;
}

// A pair of numbers, in each of 16 lanes.
BERTSTREAM_BFLOAT16_TARGET inline __m512 add_pairs(__m512 sums, __m512i left, __m512i right) {
  return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(left), reinterpret_cast<__m512bh>(right));
}

// The low and the high half's numbers in turns of 16, rounded.
BERTSTREAM_BFLOAT16_TARGET inline __m512i rounded(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

}  // namespace
}  // namespace bertstream

#else

namespace bertstream {
namespace {

inline bool has_bfloat16() { return false; }

}  // namespace
}  // namespace bertstream

#endif
