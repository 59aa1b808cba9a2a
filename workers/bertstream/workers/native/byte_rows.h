// By which instructions bytes are multiplied here, and how rows of states become bytes for them.

#pragma once

#if defined(CPU_CAPABILITY_AVX2) && __has_include(<avxvnniintrin.h>)
#define BERTSTREAM_AVX_VNNI
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "amx.h"
#include "instructions.h"
#include "panels.h"

namespace bertstream {
namespace {

enum class ByteInstructions {
  kNone,   // one number after the other
  kPairs,  // vpmaddubsw, of AVX2 or AVX-512, which adds two products in 16 bits
  kVnni,   // vpdpbusd, which adds four in 32 bits
  kDots,   // sdot of ARM, which adds four in 32 bits
  kTiles,  // AMX
};

#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
#define BERTSTREAM_BYTE_VECTORS

// Of the instructions for vectors of 256 bits the processor has one or the other, if any: they differ in their code.
inline bool has_avx_vnni() {
#ifdef BERTSTREAM_AVX_VNNI
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
#else
  return false;
#endif
}

inline bool has_avx512_vnni() { return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl"); }

inline bool has_vnni() {
  static const bool found = may_use("vnni") && (has_avx512_vnni() || has_avx_vnni());
  return found;
}
#else
inline bool has_vnni() { return false; }
#endif

// ARM's products of bytes, which came with ARMv8.2.
inline bool has_dots() {
#if defined(__aarch64__) && defined(__linux__)
  static const bool found = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
  return found;
#elif defined(__aarch64__) && defined(__APPLE__)
  return true;  // all that run macOS have them
#else
  return false;
#endif
}

inline ByteInstructions find_byte_instructions() {
  if (has_amx()) return ByteInstructions::kTiles;
#ifdef BERTSTREAM_BYTE_VECTORS
  return has_vnni() ? ByteInstructions::kVnni : ByteInstructions::kPairs;
#else
  return has_dots() ? ByteInstructions::kDots : ByteInstructions::kNone;
#endif
}

inline ByteInstructions byte_instructions() {
  static const ByteInstructions found = find_byte_instructions();
  return found;
}

// Two weights are at least -127, so with states that make no more than this together their products fit 16 bits.
constexpr float kMostPair = 258.f;

// The vector's lanes, each with its neighbour's number: 1, 0, 3, 2 and so on.
#if defined(CPU_CAPABILITY_AVX512)
inline Vec neighbours(Vec values) { return Vec(_mm512_permute_ps(values, 0b10110001)); }
#elif defined(CPU_CAPABILITY_AVX2)
inline Vec neighbours(Vec values) { return Vec(_mm256_permute_ps(values, 0b10110001)); }
#endif

// A row's numbers, the least of them, and their range; the least is NaN if a number is NaN or infinite.
struct Range {
  float least, spread;
};

// x, times `factors` where there are any, goes to `row`.
template <typename scalar_t>
inline Range take_row(const scalar_t* x, const float* factors, int64_t size, float* row) {
  // Two chains of each, since every comparison waits for the one before.
  Vec most[2] = {Vec(-INFINITY), Vec(-INFINITY)}, fewest[2] = {Vec(INFINITY), Vec(INFINITY)};
  Vec zero[2] = {Vec(0.f), Vec(0.f)};  // a NaN after one or an infinity, which comparing forgets
  const auto take = [&](int64_t i, auto n, int64_t chain) {
    const Vec values = factors == nullptr ? load(x + i, n) : load(x + i, n) * load(factors + i, n);
    values.store(row + i);
    zero[chain] = at::vec::fmadd(values, Vec(0.f), zero[chain]);
    most[chain] = larger(most[chain], first_lanes(values, n, -INFINITY));
    fewest[chain] = smaller(fewest[chain], first_lanes(values, n, INFINITY));
  };
  int64_t i = 0;
  for (; i + 2 * kLanes <= size; i += 2 * kLanes) {
    take(i, kWhole, 0);
    take(i + kLanes, kWhole, 1);
  }
  for (; i < size; i += kLanes) take(i, std::min(kLanes, size - i), 0);
  const float least = -largest(Vec(0.f) - smaller(fewest[0], fewest[1]));
  return {least + total(zero[0] + zero[1]), largest(larger(most[0], most[1])) - least};
}

#ifdef BERTSTREAM_BYTE_VECTORS
// The greatest sum of two numbers that are multiplied in one step, both above the row's least.
inline float greatest_pair(const float* row, int64_t size, float least) {
  const Vec from(least);
  return largest(folded(size, 0.f, Larger(), [&](int64_t i, auto n) {
    const Vec above = Vec::loadu(row + i) - from;
    return first_lanes(above + neighbours(above), n - n % 2, 0.f);  // what is after the last one meets a weight of 0
  }));
}
#endif

// x, times `factors` where there are any, = scale * q + least with q from 0 to 255: the whole range is used, wherever
// it lies. A signed byte is q - 128, with a `least` that is 128 steps more. Where products are added in pairs, two q that
// are added may be too much together; the row's steps are larger then, at most twice as large. `row` has room for it.
// A row of equal numbers has steps of 0, since 128 of any others would cost its number digits.
template <typename scalar_t>
inline void lay_out_row(Bytes, const scalar_t* x, const float* factors, int64_t size, float* row, const Place& place) {
  const Range range = take_row(x, factors, size, row);
  float scale = range.spread / 255.f;
#ifdef BERTSTREAM_BYTE_VECTORS
  if (byte_instructions() == ByteInstructions::kPairs)
    scale = std::max(scale, greatest_pair(row, size, range.least) / (kMostPair - 1.f));  // each may be rounded up
#endif
  *place.scale = scale > 0.f ? scale : 0.f;
  *place.least = range.least - kLeastByte * *place.scale;
  const Vec from(range.least), factor(scale > 0.f ? 1.f / scale : 1.f);
  char* to = place.to;
  // What is after the row, up to a slice, is any number at all: it meets weights of 0.
  for (int64_t k = 0; k < size; k += Bytes::kDepth, to += kSliceBytes<Bytes>)
#pragma GCC unroll 8
    for (int64_t i = 0; i < Bytes::kDepth; i += kLanes) store_bytes(to + i, (Vec::loadu(row + k + i) - from) * factor);
}

}  // namespace
}  // namespace bertstream
