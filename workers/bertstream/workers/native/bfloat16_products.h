// What attention in bfloat16 multiplies by AVX-512: rows of queries with tiles of keys, rows of powers with tiles of
// values. A row's sums are the same whatever rows there are beside it.

#pragma once

#include "attention.h"
#include "bfloat16.h"

#ifdef BERTSTREAM_BFLOAT16

namespace bertstream {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileDepth = 32;  // bfloat16 numbers in a row of a tile
constexpr int64_t kTileSize = kTileRows * kTileDepth;

// One number after the other of two, as all lanes.
inline __m512i repeated_pair(const c10::BFloat16* from) {
  return _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(from));
}

// sums[r, 16 j : 16 j + 16] = row r times C runs of `slices` tiles, each `beside` numbers after the last one; a tile is
// `below` numbers after the one before it.
template <int R, int C>
inline void multiply_with_tiles(
    const c10::BFloat16* rows, int64_t stride, const c10::BFloat16* tiles, int64_t beside, int64_t below,
    int64_t slices, float* sums, int64_t sums_stride) {
  __m512 found[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) found[r][j] = _mm512_setzero_ps();
  for (int64_t slice = 0; slice < slices; ++slice, rows += kTileDepth, tiles += below)
    for (int64_t p = 0; p < kTileRows; ++p) {
      __m512i columns[C];
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j) columns[j] = _mm512_loadu_si512(tiles + j * beside + p * kTileDepth);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512i pair = repeated_pair(rows + r * stride + 2 * p);
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) found[r][j] = add_pairs(found[r][j], pair, columns[j]);
      }
    }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) _mm512_storeu_ps(sums + r * sums_stride + j * kTileRows, found[r][j]);
}

// The same for up to 16 rows, of which as many are computed in vain as complete the last 8, 4 or 2.
template <int C>
inline void multiply_rows_with_tiles(
    const c10::BFloat16* rows, int64_t count, int64_t stride, const c10::BFloat16* tiles, int64_t beside,
    int64_t below, int64_t slices, float* sums, int64_t sums_stride) {
  for (int64_t row = 0, some; row < count; row += some) {
    const auto multiply = [&]<int R>(std::integral_constant<int, R>) {
      multiply_with_tiles<R, C>(
          rows + row * stride, stride, tiles, beside, below, slices, sums + row * sums_stride, sums_stride);
      some = R;
    };
    if (count - row > 4) {
      multiply(std::integral_constant<int, 8>());
    } else if (count - row > 2) {
      multiply(std::integral_constant<int, 4>());
    } else if (count - row == 2) {
      multiply(std::integral_constant<int, 2>());
    } else {
      multiply(std::integral_constant<int, 1>());
    }
  }
}

// Functions are flattened, since only what is inlined has the instructions that their targets have.
class VectorProducts {
 public:
  // scores [rows, 16 blocks] = queries [rows, 32 Slices] times keys. keys: for each 16 of them, and each 32 of their
  // numbers, a tile. stride: from one row of scores to the next
  template <int Slices>
  BERTSTREAM_BFLOAT16_TARGET __attribute__((flatten)) void multiply_keys(
      const c10::BFloat16* queries, int64_t rows, const c10::BFloat16* keys, int64_t blocks, float* scores,
      int64_t stride) const {
    constexpr int64_t kSize = Slices * kTileDepth, kBeside = Slices * kTileSize;
    for (int64_t block = 0, columns; block < blocks; block += columns) {
      columns = panel(blocks - block);
      const c10::BFloat16* tiles = keys + block * kBeside;
      float* to = scores + block * kTileRows;
      if (columns == 3) {
        multiply_rows_with_tiles<3>(queries, rows, kSize, tiles, kBeside, kTileSize, Slices, to, stride);
      } else if (columns == 2) {
        multiply_rows_with_tiles<2>(queries, rows, kSize, tiles, kBeside, kTileSize, Slices, to, stride);
      } else {
        multiply_rows_with_tiles<1>(queries, rows, kSize, tiles, kBeside, kTileSize, Slices, to, stride);
      }
    }
  }

  // sums [rows, 16 Blocks] = powers [rows, 32 slices] times values. values: for each 32 tokens, and each 16 of their
  // numbers, a tile. stride: from one row of powers to the next
  template <int Blocks>
  BERTSTREAM_BFLOAT16_TARGET __attribute__((flatten)) void multiply_values(
      const c10::BFloat16* powers, int64_t rows, int64_t stride, const c10::BFloat16* values, int64_t slices,
      float* sums) const {
    constexpr int64_t kSize = Blocks * kTileRows;
    for (int64_t block = 0; block < Blocks; block += 2)
      multiply_rows_with_tiles<2>(
          powers, rows, stride, values + block * kTileSize, kTileSize, Blocks * kTileSize, slices,
          sums + block * kTileRows, kSize);
  }
};

}  // namespace
}  // namespace bertstream
#endif
