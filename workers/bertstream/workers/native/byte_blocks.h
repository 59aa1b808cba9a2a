// The product of up to 32 rows of states as bytes and 32 outputs' weights, both laid out as panels.h says. Its sums are
// exact, so that all instructions make the same of the same bytes.

#pragma once

#include "byte_rows.h"

namespace bertstream {
namespace {

#ifdef BERTSTREAM_BYTE_VECTORS
#if defined(CPU_CAPABILITY_AVX512)
using Integers = __m512i;
constexpr int kMostRows = 8;  // at a time: sums, weights and states all stay in registers

inline Integers load_integers(const char* from) { return _mm512_loadu_si512(from); }
inline void store_integers(int32_t* to, Integers sums) { _mm512_storeu_si512(to, sums); }
inline Integers no_integers() { return _mm512_setzero_si512(); }
inline Integers repeated(int32_t four) { return _mm512_set1_epi32(four); }
#else
using Integers = __m256i;
constexpr int kMostRows = 4;

inline Integers load_integers(const char* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline void store_integers(int32_t* to, Integers sums) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sums); }
inline Integers no_integers() { return _mm256_setzero_si256(); }
inline Integers repeated(int32_t four) { return _mm256_set1_epi32(four); }
#endif

constexpr int64_t kLanesOfSums = sizeof(Integers) / sizeof(int32_t);

// Four products of bytes are added to each sum: one state's four bytes, which are unsigned, and those of the weights.
struct AddPairs {
  static Integers add(Integers sums, Integers states, Integers weights) {
#if defined(CPU_CAPABILITY_AVX512)
    const Integers pairs = _mm512_maddubs_epi16(states, weights);
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#else
    const Integers pairs = _mm256_maddubs_epi16(states, weights);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }
};

#define BERTSTREAM_VNNI_TARGET __attribute__((target("avx512vnni,avx512vl")))

struct AddFours {
  BERTSTREAM_VNNI_TARGET static Integers add(Integers sums, Integers states, Integers weights) {
#if defined(CPU_CAPABILITY_AVX512)
    return _mm512_dpbusd_epi32(sums, states, weights);
#else
    return _mm256_dpbusd_epi32(sums, states, weights);
#endif
  }
};

#ifdef BERTSTREAM_AVX_VNNI
#define BERTSTREAM_AVX_VNNI_TARGET __attribute__((target("avxvnni")))

struct AddFoursWithoutAvx512 {
  BERTSTREAM_AVX_VNNI_TARGET static Integers add(Integers sums, Integers states, Integers weights) {
    return _mm256_dpbusd_avx_epi32(sums, states, weights);
  }
};
#endif

// Two vectors of outputs, whose weights lie `beside` bytes apart.
template <typename Add, int Rows>
inline void multiply_rows(const char* states, const char* weights, int64_t beside, int64_t slices, int32_t* sums) {
  Integers found[Rows][2];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) found[r][0] = found[r][1] = no_integers();
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
    store_integers(sums + r * kBlock, found[r][0]);
    store_integers(sums + r * kBlock + kLanesOfSums, found[r][1]);
  }
}

// Rows are multiplied by eights, or fours, and the last ones by as few as there are: one row alone takes no more time
// than its weights do to come from memory. A row after the last is multiplied in vain.
template <typename Add>
inline void multiply_all_rows(const Factors& factors, int64_t rows, int32_t* sums) {
  constexpr int64_t kPass = 2 * kLanesOfSums;  // outputs
  const int64_t beside = kPass == kBlock ? factors.weights_beside : 4 * kLanesOfSums;
  for (int64_t output = 0; output < kBlock; output += kPass) {
    const char* weights = factors.weights + output / 16 * factors.weights_beside;
    for (int64_t row = 0, some; row < rows; row += some) {
      const char* states = factors.states + row / 16 * factors.states_below + row % 16 * kRowBytes;
      int32_t* to = sums + row * kBlock + output;
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

// Flattened, since only what is inlined has the instructions that this function's target has.
__attribute__((flatten)) inline void multiply_bytes_by_pairs(const Factors& factors, int64_t rows, int32_t* sums) {
  multiply_all_rows<AddPairs>(factors, rows, sums);
}

BERTSTREAM_VNNI_TARGET __attribute__((flatten)) inline void multiply_bytes_by_fours(
    const Factors& factors, int64_t rows, int32_t* sums) {
  multiply_all_rows<AddFours>(factors, rows, sums);
}

#ifdef BERTSTREAM_AVX_VNNI
BERTSTREAM_AVX_VNNI_TARGET __attribute__((flatten)) inline void multiply_bytes_by_fours_without_avx512(
    const Factors& factors, int64_t rows, int32_t* sums) {
  multiply_all_rows<AddFoursWithoutAvx512>(factors, rows, sums);
}
#endif

inline void multiply_bytes(const Factors& factors, int64_t rows, int32_t* sums) {
  if (byte_instructions() == ByteInstructions::kPairs) return multiply_bytes_by_pairs(factors, rows, sums);
#ifdef BERTSTREAM_AVX_VNNI
  static const bool without_avx512 = !has_avx512_vnni();
  if (without_avx512) return multiply_bytes_by_fours_without_avx512(factors, rows, sums);
#endif
  multiply_bytes_by_fours(factors, rows, sums);
}
#else
inline void multiply_bytes(const Factors& factors, int64_t rows, int32_t* sums) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t output = 0; output < kBlock; ++output) {
      const char* states = factors.states + row / 16 * factors.states_below + row % 16 * kRowBytes;
      const char* weights = factors.weights + output / 16 * factors.weights_beside + output % 16 * 4;
      int32_t sum = 0;
      for (int64_t slice = 0; slice < factors.slices; ++slice, states += 1024, weights += 1024)
        for (int64_t k = 0; k < 64; ++k)
          sum += static_cast<int32_t>(static_cast<uint8_t>(states[k])) *
              static_cast<int32_t>(static_cast<int8_t>(weights[k / 4 * 64 + k % 4]));
      sums[row * kBlock + output] = sum;
    }
}
#endif

}  // namespace
}  // namespace bertstream
