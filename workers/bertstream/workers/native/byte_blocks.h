// The product of up to 32 rows of states as bytes and 32 outputs' weights, both laid out as panels.h says. Its sums are
// exact, so that all instructions make the same of the same bytes.

#pragma once

#include "byte_rows.h"
#include "row_blocks.h"

namespace bertstream {
namespace {

#ifdef BERTSTREAM_ROW_BLOCKS
struct AddIntegers {
  using Sum = int32_t;
  using Sums = Integers;
  static Sums none() { return no_integers(); }
  static void store(Sum* to, Sums sums) { store_integers(to, sums); }
};
#endif

#ifdef BERTSTREAM_BYTE_VECTORS
// Four products of bytes are added to each sum: one state's four bytes, which are unsigned, and those of the weights.
struct AddPairs : AddIntegers {
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

struct AddFours : AddIntegers {
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

struct AddFoursWithoutAvx512 : AddIntegers {
  BERTSTREAM_AVX_VNNI_TARGET static Integers add(Integers sums, Integers states, Integers weights) {
    return _mm256_dpbusd_avx_epi32(sums, states, weights);
  }
};
#endif

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
inline void multiply_bytes_one_by_one(const Factors& factors, int64_t rows, int32_t* sums) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t output = 0; output < kBlock; ++output) {
      const char* states = factors.states + row / 16 * factors.states_below + row % 16 * kRowBytes;
      const char* weights = factors.weights + output / 16 * factors.weights_beside + output % 16 * 4;
      int32_t sum = 0;
      for (int64_t slice = 0; slice < factors.slices; ++slice, states += 1024, weights += 1024)
        for (int64_t k = 0; k < 64; ++k)
          sum += static_cast<int32_t>(static_cast<StateByte>(states[k])) *
              static_cast<int32_t>(static_cast<int8_t>(weights[k / 4 * 64 + k % 4]));
      sums[row * kBlock + output] = sum;
    }
}

#ifdef __aarch64__
#ifdef __clang__
#define BERTSTREAM_DOTS_TARGET __attribute__((target("dotprod")))
#else
#define BERTSTREAM_DOTS_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

// Four products of bytes, both signed, are added to each sum.
struct AddDots : AddIntegers {
  BERTSTREAM_DOTS_TARGET static Integers add(Integers sums, Integers states, Integers weights) {
    return vdotq_s32(sums, vreinterpretq_s8_s32(states), vreinterpretq_s8_s32(weights));
  }
};

BERTSTREAM_DOTS_TARGET __attribute__((flatten)) inline void multiply_bytes_by_dots(
    const Factors& factors, int64_t rows, int32_t* sums) {
  multiply_all_rows<AddDots>(factors, rows, sums);
}
#endif

inline void multiply_bytes(const Factors& factors, int64_t rows, int32_t* sums) {
#ifdef __aarch64__
  if (byte_instructions() == ByteInstructions::kDots) return multiply_bytes_by_dots(factors, rows, sums);
#endif
  multiply_bytes_one_by_one(factors, rows, sums);
}
#endif

}  // namespace
}  // namespace bertstream
