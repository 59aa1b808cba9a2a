// What attention in bfloat16 multiplies by AMX: whole tiles, each in one instruction.

#pragma once

#include "amx.h"
#include "bfloat16_products.h"

#ifdef BERTSTREAM_AMX

namespace bertstream {
namespace {

// As VectorProducts, of 16 rows, however many there are.
class AmxProducts {
 public:
  template <int Slices>
  BERTSTREAM_AMX_TARGET void multiply_keys(
      const c10::BFloat16* queries, int64_t, const c10::BFloat16* keys, int64_t blocks, float* scores,
      int64_t stride) const {
    written();
    _tile_loadd(1, queries, Slices * 64);
    if constexpr (Slices == 2) _tile_loadd(2, queries + kTileDepth, Slices * 64);
    for (int64_t block = 0; block < blocks; ++block, keys += Slices * kTileSize, scores += kTile) {
      _tile_zero(0);
      _tile_loadd(3, keys, 64);
      _tile_dpbf16ps(0, 1, 3);
      if constexpr (Slices == 2) {
        _tile_loadd(4, keys + kTileSize, 64);
        _tile_dpbf16ps(0, 2, 4);
      }
      _tile_stored(0, scores, stride * sizeof(float));
    }
  }

  template <int Blocks>
  BERTSTREAM_AMX_TARGET void multiply_values(
      const c10::BFloat16* powers, int64_t, int64_t stride, const c10::BFloat16* values, int64_t slices,
      float* sums) const {
    written();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    stride *= sizeof(c10::BFloat16);
    for (int64_t slice = 0; slice < slices; ++slice, values += Blocks * kTileSize) {
      _tile_loadd(4, powers + slice * kTileDepth, stride);
      _tile_loadd(5, values, 64);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(6, values + kTileSize, 64);
      _tile_dpbf16ps(1, 4, 6);
      if constexpr (Blocks == 4) {
        _tile_loadd(5, values + 2 * kTileSize, 64);
        _tile_dpbf16ps(2, 4, 5);
        _tile_loadd(6, values + 3 * kTileSize, 64);
        _tile_dpbf16ps(3, 4, 6);
      }
    }
    constexpr int64_t to_stride = Blocks * 64;
    _tile_stored(0, sums, to_stride);
    _tile_stored(1, sums + kTile, to_stride);
    if constexpr (Blocks == 4) {
      _tile_stored(2, sums + 2 * kTile, to_stride);
      _tile_stored(3, sums + 3 * kTile, to_stride);
    }
  }

 private:
  Tiles tiles_;
};

}  // namespace
}  // namespace bertstream
#endif
