// Rows of float32 or bfloat16 as vectors of float32.

#pragma once

#include <ATen/cpu/vec/vec.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <type_traits>

namespace bertstream {
namespace {

using Vec = at::vec::Vectorized<float>;
constexpr int64_t kLanes = Vec::size();

// Whether the vectors are AVX-512's or AVX2's. Those of other processors have not been measured.
inline bool has_vectors() {
#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
  return true;
#else
  return false;
#endif
}

constexpr std::integral_constant<int64_t, kLanes> kWhole;  // as a lane count that the compiler sees

// f(i, lane count) for all elements; f gets full vectors, then one shorter one.
template <typename Step>
inline void for_each_vector(int64_t size, const Step& step) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) step(i, kWhole);
  if (i < size) step(i, size - i);
}

// n elements, from 1 to kLanes, as float32; lanes after them are 0.
inline Vec load(const float* from, int64_t n) { return n == kLanes ? Vec::loadu(from) : Vec::loadu(from, n); }

inline Vec load(const c10::BFloat16* from, int64_t n) {
#if defined(CPU_CAPABILITY_AVX512)
  const __m256i halves = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), from);
  return Vec(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)));
#else
#if defined(CPU_CAPABILITY_AVX2)
  if (n == kLanes) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return Vec(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16)));
  }
#endif
  float values[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) values[i] = from[i];
  return Vec::loadu(values);
#endif
}

// Whole numbers.
inline Vec load(const int32_t* from, int64_t n) {
#if defined(CPU_CAPABILITY_AVX512)
  return Vec(_mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << n) - 1), from)));
#else
#if defined(CPU_CAPABILITY_AVX2)
  if (n == kLanes) return Vec(_mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#endif
  float values[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) values[i] = static_cast<float>(from[i]);
  return Vec::loadu(values);
#endif
}

inline void store(float* to, Vec values, int64_t n) { n == kLanes ? values.store(to) : values.store(to, n); }

inline void store(c10::BFloat16* to, Vec values, int64_t n) {
#if defined(CPU_CAPABILITY_AVX512)
  _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1u << n) - 1), at::vec::cvtfp32_bf16(values));
#else
#if defined(CPU_CAPABILITY_AVX2)
  if (n == kLanes) return _mm_storeu_si128(reinterpret_cast<__m128i*>(to), at::vec::cvtfp32_bf16(values));
#endif
  float lanes[kLanes];
  values.store(lanes);
  for (int64_t i = 0; i < n; ++i) to[i] = lanes[i];
#endif
}

// Bytes of states for products with signed bytes of weights. ARM multiplies only signed ones with each other.
#ifdef __aarch64__
using StateByte = int8_t;
#else
using StateByte = uint8_t;
#endif
constexpr int kLeastByte = std::numeric_limits<StateByte>::lowest();

// Whole numbers from 0 to 255, after rounding; as signed bytes they are 128 less.
inline void store_bytes(char* to, Vec values) {
#if defined(CPU_CAPABILITY_AVX512)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(values)));
#elif defined(CPU_CAPABILITY_AVX2)
  const __m256i numbers = _mm256_cvtps_epi32(values);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
#else
  float lanes[kLanes];
  values.store(lanes);
  for (int64_t i = 0; i < kLanes; ++i)
    to[i] = static_cast<char>(std::clamp<int>(static_cast<int>(std::nearbyint(lanes[i])), 0, 255) + kLeastByte);
#endif
}

inline float total(Vec values) {
#if defined(CPU_CAPABILITY_AVX512)
  return _mm512_reduce_add_ps(values);
#elif defined(CPU_CAPABILITY_AVX2)
  __m128 sums = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
  return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
#else
  float lanes[kLanes];
  values.store(lanes);
  return std::accumulate(lanes, lanes + kLanes, 0.f);
#endif
}

inline float largest(Vec values) {
#if defined(CPU_CAPABILITY_AVX512)
  return _mm512_reduce_max_ps(values);
#elif defined(CPU_CAPABILITY_AVX2)
  __m128 found = _mm_max_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  found = _mm_max_ps(found, _mm_movehl_ps(found, found));
  return _mm_cvtss_f32(_mm_max_ss(found, _mm_movehdup_ps(found)));
#else
  float lanes[kLanes];
  values.store(lanes);
  return *std::max_element(lanes, lanes + kLanes);
#endif
}

// Of two lanes the larger; of a NaN and a number either.
inline Vec larger(Vec a, Vec b) {
#if defined(CPU_CAPABILITY_AVX512)
  return Vec(_mm512_max_ps(a, b));
#elif defined(CPU_CAPABILITY_AVX2)
  return Vec(_mm256_max_ps(a, b));
#else
  return at::vec::maximum(a, b);
#endif
}

// Of two lanes the smaller; of a NaN and a number either.
inline Vec smaller(Vec a, Vec b) {
#if defined(CPU_CAPABILITY_AVX512)
  return Vec(_mm512_min_ps(a, b));
#elif defined(CPU_CAPABILITY_AVX2)
  return Vec(_mm256_min_ps(a, b));
#else
  return at::vec::minimum(a, b);
#endif
}

// The first n lanes, from none to all, and `other` in the rest.
inline Vec first_lanes(Vec values, int64_t n, float other) {
#if defined(CPU_CAPABILITY_AVX512)
  return Vec(_mm512_mask_mov_ps(_mm512_set1_ps(other), static_cast<__mmask16>((1u << n) - 1), values));
#else
  return n == kLanes ? values : Vec::set(Vec(other), values, n);
#endif
}

// e to the power of x, which is at most 0, 0 where that is not a normal number.
inline Vec exp_negative(Vec x) {
#if defined(CPU_CAPABILITY_AVX512)
  const __m512 least = _mm512_set1_ps(-87.f);  // beyond it, denormal results would take a hundred times as long
  const __mmask16 normal = _mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ);
  const __m512 clamped = _mm512_max_ps(least, x);  // in this order a NaN stays one
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(1.44269504f)), 8);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), clamped);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
  __m512 power = _mm512_set1_ps(0.00828929059f);
  for (float factor : {0.0418978221f, 0.166676521f, 0.499991506f, 0.999999701f, 1.f})
    power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(factor));
  return Vec(_mm512_maskz_scalef_ps(normal, power, n));
#elif defined(CPU_CAPABILITY_AVX2)
  const __m256 least = _mm256_set1_ps(-87.f);  // as above, and so that the exponent stays one
  const __m256 normal = _mm256_cmp_ps(x, least, _CMP_NLT_UQ);
  const __m256 clamped = _mm256_max_ps(least, x);
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(clamped, _mm256_set1_ps(1.44269504f)), 8);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693145752f), clamped);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(1.42860677e-6f), r);
  __m256 power = _mm256_set1_ps(0.00828929059f);
  for (float factor : {0.0418978221f, 0.166676521f, 0.499991506f, 0.999999701f, 1.f})
    power = _mm256_fmadd_ps(power, r, _mm256_set1_ps(factor));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const __m256i scaled = _mm256_add_epi32(_mm256_castps_si256(power), exponent);
  return Vec(_mm256_and_ps(_mm256_castsi256_ps(scaled), normal));
#else
  return x.exp_u20();
#endif
}

#if defined(CPU_CAPABILITY_AVX512)
// 2 to the power of x, which is at most 0, within 1e-4 of it; at least 2^-100, since denormal numbers are slow.
inline Vec rough_power_of_two(Vec x) {
  const __m512 clamped = _mm512_max_ps(_mm512_set1_ps(-100.f), x);  // in this order a NaN stays one
  const __m512 n = _mm512_roundscale_ps(clamped, 8), r = _mm512_sub_ps(clamped, n);
  __m512 power = _mm512_set1_ps(0.0551716703f);
  for (float factor : {0.242611125f, 0.693260985f, 0.999928073f})
    power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(factor));
  return Vec(_mm512_scalef_ps(power, n));
}
#endif

// All vectors of a row joined, four chains at a time, since each joining waits for the one before.
template <typename Join, typename Value>
inline Vec folded(int64_t size, float first, const Join& join, const Value& value) {
  Vec found[4] = {Vec(first), Vec(first), Vec(first), Vec(first)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes)
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; ++j) found[j] = join(found[j], value(i + j * kLanes, kWhole));
  for (; i + kLanes <= size; i += kLanes) found[0] = join(found[0], value(i, kWhole));
  if (i < size) found[1] = join(found[1], value(i, size - i));
  return join(join(found[0], found[1]), join(found[2], found[3]));
}

struct Sum {
  Vec operator()(Vec a, Vec b) const { return a + b; }
};

struct Larger {
  Vec operator()(Vec a, Vec b) const { return larger(a, b); }
};

// rows[i][j] becomes rows[j][i].
inline void transpose(Vec (&rows)[kLanes]) {
#if defined(CPU_CAPABILITY_AVX512)
  __m512 a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 4) {
#pragma GCC unroll 8
    for (int j = 0; j < 2; ++j) {
      const __m512d low = _mm512_castps_pd(a[i + j]), high = _mm512_castps_pd(a[i + j + 2]);
      b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  // Now b[4 i + j] holds columns j, j + 4, j + 8 and j + 12 of rows 4 i to 4 i + 3.
#pragma GCC unroll 8
  for (int j = 0; j < 4; ++j) {
    const __m512 even_above = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88);
    const __m512 odd_above = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
    const __m512 even_below = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
    const __m512 odd_below = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_f32x4(even_above, even_below, 0x88);
    rows[j + 4] = _mm512_shuffle_f32x4(odd_above, odd_below, 0x88);
    rows[j + 8] = _mm512_shuffle_f32x4(even_above, even_below, 0xdd);
    rows[j + 12] = _mm512_shuffle_f32x4(odd_above, odd_below, 0xdd);
  }
#elif defined(CPU_CAPABILITY_AVX2)
  __m256 a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
      b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
    }
  }
  // Now b[4 i + j] holds columns j and j + 4 of rows 4 i to 4 i + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    rows[j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
    rows[j + 4] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
  }
#else
  float from[kLanes][kLanes], to[kLanes][kLanes];
  for (int i = 0; i < kLanes; ++i) rows[i].store(from[i]);
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < kLanes; ++j) to[j][i] = from[i][j];
  for (int i = 0; i < kLanes; ++i) rows[i] = Vec::loadu(to[i]);
#endif
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

template <typename T>
using Scratch = std::unique_ptr<T[], Free>;

// Not initialised, on a cache line's boundary: a vector across two lines takes twice as long to load.
template <typename T>
inline Scratch<T> scratch(int64_t size) {
  void* memory = std::aligned_alloc(64, (std::max<int64_t>(size, 1) * sizeof(T) + 63) / 64 * 64);
  if (memory == nullptr) throw std::bad_alloc();
  return Scratch<T>(static_cast<T*>(memory));
}

}  // namespace
}  // namespace bertstream
