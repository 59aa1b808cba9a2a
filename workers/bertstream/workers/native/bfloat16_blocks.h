// The product of up to 32 rows of states in bfloat16 and 32 outputs' weights, by AVX-512. Sums are float32, and each is a
// chain in the order of pairs of inputs, whatever is computed beside it.

#pragma once

#include "bfloat16.h"
#include "row_blocks.h"

#ifdef BERTSTREAM_BFLOAT16

namespace bertstream {
namespace {

struct AddBfloat16Pairs {
  using Sum = float;
  using Sums = __m512;
  static Sums none() { return _mm512_setzero_ps(); }
  static void store(Sum* to, Sums sums) { _mm512_storeu_ps(to, sums); }
  BERTSTREAM_BFLOAT16_TARGET static Sums add(Sums sums, Integers states, Integers weights) {
    return add_pairs(sums, states, weights);
  }
};

// Of 32 outputs' weights, as packed weights have them: of the `outputs` rows [outputs, depth], the rest being zeros. `to`
// has room for `bytes` of each 16 outputs.
inline void lay_out_tiles(
    const c10::BFloat16* rows, int64_t outputs, int64_t depth, char* to, int64_t bytes) {
  for (int64_t output = 0; output < kBlock; output += 16) {
    char* tile = to + output / 16 * bytes;
    for (int64_t k = 0; k < depth; k += Halves::kDepth) {
      const auto some = static_cast<__mmask32>(depth - k < 32 ? (1u << (depth - k)) - 1 : ~0u);
      Vec pairs[kLanes];
#pragma GCC unroll 16
      for (int64_t r = 0; r < kLanes; ++r)
        pairs[r] = output + r < outputs
            ? Vec(_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(some, rows + (output + r) * depth + k)))
            : Vec(0.f);
      transpose(pairs);
#pragma GCC unroll 16
      for (int64_t p = 0; p < kLanes; ++p, tile += kRowBytes) pairs[p].store(tile);
    }
  }
}

// Flattened, as in byte_blocks.h.
BERTSTREAM_BFLOAT16_TARGET __attribute__((flatten)) inline void multiply_bfloat16(
    const Factors& factors, int64_t rows, float* sums) {
  multiply_all_rows<AddBfloat16Pairs>(factors, rows, sums);
}

}  // namespace
}  // namespace bertstream
#endif
