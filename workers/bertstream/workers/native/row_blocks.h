// The product of up to 32 rows of states and 32 outputs' weights, both laid out as panels.h says, by vectors: four bytes
// of a row, as often as there are lanes, meet four of each output, by an instruction that adds their products up.

#pragma once

#include "panels.h"
#include "vectors.h"

#if defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2) || defined(__aarch64__)
#define BERTSTREAM_ROW_BLOCKS

namespace bertstream {
namespace {

#if defined(CPU_CAPABILITY_AVX512)
using Integers = __m512i;
constexpr int kMostRows = 8;  // at a time: sums, weights and states all stay in registers

inline Integers load_integers(const char* from) { return _mm512_loadu_si512(from); }
inline void store_integers(int32_t* to, Integers sums) { _mm512_storeu_si512(to, sums); }
inline Integers no_integers() { return _mm512_setzero_si512(); }
inline Integers repeated(int32_t four) { return _mm512_set1_epi32(four); }
#elif defined(CPU_CAPABILITY_AVX2)
using Integers = __m256i;
constexpr int kMostRows = 4;

inline Integers load_integers(const char* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void store_integers(int32_t* to, Integers sums) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sums); }
inline Integers no_integers() { return _mm256_setzero_si256(); }
inline Integers repeated(int32_t four) { return _mm256_set1_epi32(four); }
#else
using Integers = int32x4_t;
constexpr int kMostRows = 8;

inline Integers load_integers(const char* from) { return vld1q_s32(reinterpret_cast<const int32_t*>(from)); }
inline void store_integers(int32_t* to, Integers sums) { vst1q_s32(to, sums); }
inline Integers no_integers() { return vdupq_n_s32(0); }
inline Integers repeated(int32_t four) { return vdupq_n_s32(four); }
#endif

constexpr int64_t kLanesOfSums = sizeof(Integers) / sizeof(int32_t);

// Add, which is one instruction or a few: the Sum of each lane, Sums of a vector, none(), add(sums, states, weights) and
// store(to, sums).

// Two vectors of outputs, whose weights lie `beside` bytes apart.
template <typename Add, int Rows>
inline void multiply_rows(const char* states, const char* weights, int64_t beside, int64_t slices,
                          typename Add::Sum* sums) {
  typename Add::Sums found[Rows][2];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) found[r][0] = found[r][1] = Add::none();
  for (int64_t slice = 0; slice < slices; ++slice, states += 16 * kRowBytes, weights += 16 * kRowBytes)
    for (int64_t p = 0; p < 16; ++p) {
      const Integers left = load_integers(weights + p * kRowBytes);
      const Integers right = load_integers(weights + beside + p * kRowBytes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const Integers four = repeated(*reinterpret_cast<const int32_t*>(states + r * kRowBytes + 4 * p));
        found[r][0] = Add::add(found[r][0], four, left);
        found[r][1] = Add::add(found[r][1], four, right);
      }
    }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    Add::store(sums + r * kBlock, found[r][0]);
    Add::store(sums + r * kBlock + kLanesOfSums, found[r][1]);
  }
}

// Rows are multiplied by eights, or fours, and the last ones by as few as there are: one row alone takes no more time
// than its weights do to come from memory. A row after the last is multiplied in vain.
template <typename Add>
inline void multiply_all_rows(const Factors& factors, int64_t rows, typename Add::Sum* sums) {
  constexpr int64_t kPass = 2 * kLanesOfSums;  // outputs
  const int64_t beside = kPass == kBlock ? factors.weights_beside : 4 * kLanesOfSums;
  for (int64_t output = 0; output < kBlock; output += kPass) {
    const char* weights = factors.weights + output / 16 * factors.weights_beside + output % 16 * 4;
    for (int64_t row = 0, some; row < rows; row += some) {
      const char* states = factors.states + row / 16 * factors.states_below + row % 16 * kRowBytes;
      typename Add::Sum* to = sums + row * kBlock + output;
      const auto multiply = [&]<int Rows>(std::integral_constant<int, Rows>) {
        multiply_rows<Add, Rows>(states, weights, beside, factors.slices, to);
        some = Rows;
      };
      if (rows - row > 4) {
        multiply(std::integral_constant<int, kMostRows>());
      } else if (rows - row > 2) {
        multiply(std::integral_constant<int, 4>());
      } else if (rows - row == 2) {
        multiply(std::integral_constant<int, 2>());
      } else {
        multiply(std::integral_constant<int, 1>());
      }
    }
  }
}

}  // namespace
}  // namespace bertstream
#endif
