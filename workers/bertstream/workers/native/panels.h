// How a product's factors lie in memory: in tiles of 16 rows of 64 bytes, which AMX multiplies whole and vector
// instructions row by row.
//
// Of a layer's weights [N, K] a tile has 16 outputs and a slice of K. Its row p has numbers g p to g p + g - 1 of each
// output, g being the 2 bfloat16 or 4 int8 that fill four bytes. Outputs are padded to 32, K to a slice, with zeros.
// Of the states [T, K] a tile has 16 rows as they are. A float32 is the sum of three parts in bfloat16, a tile each.
//
// Without AMX float32 has no tiles: its weights are panels of 16 outputs, [N / 16, K, 16], and its states are read
// where they lie (float_blocks.h). Nor has bfloat16 where the processor has no products of it: weights become float32. A matrix that is looked up by rows, too, stays [N, K] and is laid out while it is
// multiplied, with AMX as well.

#pragma once

#include <c10/util/BFloat16.h>

#include <cmath>

#include "amx.h"
#include "vectors.h"

namespace bertstream {
namespace {

constexpr int64_t kBlock = 32;  // rows and columns of a product that are computed at once
constexpr int64_t kRowBytes = 64;

inline int64_t up_to(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// One way to multiply: what is in a tile of states of type scalar_t.
struct Parts {  // float32
  static constexpr int64_t kDepth = 32, kPlanes = 3;
  using Sum = float;
};

struct Halves {  // bfloat16
  static constexpr int64_t kDepth = 32, kPlanes = 1;
  using Sum = float;
};

struct Bytes {  // int8 weights, and states as unsigned bytes with a scale and a least value for each row
  static constexpr int64_t kDepth = 64, kPlanes = 1;
  using Sum = int32_t;
};

template <typename Kind>
constexpr int64_t kSliceBytes = Kind::kPlanes * 16 * kRowBytes;

// Where one row of states goes: `to` is its place in the first tile of its 16 rows.
struct Place {
  char* to;
  float* scale;  // of Bytes: row = scale * bytes + least
  float* least;
};

// 16 or 32 rows: `states` and, `states_below` bytes after, the second 16. Likewise the outputs' weights.
struct Factors {
  const char* states;
  int64_t states_below;
  const char* weights;
  int64_t weights_beside;
  int64_t slices;
};

#ifdef BERTSTREAM_AMX
inline __m512 low_half(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(pairs)), 16));
}

inline __m512 high_half(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(pairs, 1)), 16));
}

// x as the sum of three numbers of 8 bits each, which are all that float32 has.
BERTSTREAM_AMX_TARGET inline void lay_out_row(Parts, const float* x, int64_t size, const Place& place) {
  char* to = place.to;
  for (int64_t k = 0; k < size; k += Parts::kDepth, to += kSliceBytes<Parts>) {
    __m512 low = load(x + k, std::min<int64_t>(16, size - k));
    __m512 high = size - k > 16 ? __m512(load(x + k + 16, std::min<int64_t>(16, size - k - 16))) : _mm512_setzero_ps();
    for (int64_t plane = 0; plane < Parts::kPlanes; ++plane) {
      const __m512i part = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
      _mm512_store_si512(to + plane * kTileBytes, part);
      low = _mm512_sub_ps(low, low_half(part));
      high = _mm512_sub_ps(high, high_half(part));
    }
  }
}

#endif

#ifdef BERTSTREAM_BFLOAT16
inline void lay_out_row(Halves, const c10::BFloat16* x, int64_t size, const Place& place) {
  char* to = place.to;
  for (int64_t k = 0; k < size; k += Halves::kDepth, to += kSliceBytes<Halves>) {
    const auto some = static_cast<__mmask32>(size - k < 32 ? (1u << (size - k)) - 1 : ~0u);
    _mm512_store_si512(to, _mm512_maskz_loadu_epi16(some, x + k));
  }
}
#endif

}  // namespace
}  // namespace bertstream
