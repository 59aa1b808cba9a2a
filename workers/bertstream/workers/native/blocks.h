// The product of up to 32 rows of states and 32 outputs' weights, both laid out in tiles as panels.h says: by AMX, or as
// byte_blocks.h and bfloat16_blocks.h do it. float32 without AMX has blocks of its own, of panels or of [N, K] as it is
// (float_blocks.h).

#pragma once

#include "bfloat16_blocks.h"
#include "byte_blocks.h"
#include "panels.h"

namespace bertstream {
namespace {

#ifdef BERTSTREAM_AMX
// The registers' numbers must be literals. Sums are in tiles 0 to 3, two rows of states in 4 and 5, weights in 6 and 7.
#define LOAD_STATES_0(plane) _tile_loadd(4, states + plane * kTileBytes, kRowBytes)
#define LOAD_STATES_1(plane) \
  if constexpr (Blocks == 2) _tile_loadd(5, states + factors.states_below + plane * kTileBytes, kRowBytes)
#define LOAD_WEIGHTS_0(plane) _tile_loadd(6, weights + plane * kTileBytes, kRowBytes)
#define LOAD_WEIGHTS_1(plane) _tile_loadd(7, weights + factors.weights_beside + plane * kTileBytes, kRowBytes)
#define MULTIPLY_00(instruction) instruction(0, 4, 6)
#define MULTIPLY_01(instruction) instruction(1, 4, 7)
#define MULTIPLY_10(instruction) if constexpr (Blocks == 2) instruction(2, 5, 6)
#define MULTIPLY_11(instruction) if constexpr (Blocks == 2) instruction(3, 5, 7)

// A sixth of the next slice, which is wanted from the second cache by then: the processor foresees no tiles.
template <int Blocks>
inline void fetch_sixth(const char* states, const char* weights, const Factors& factors, int64_t sixth) {
  const int64_t next = kSliceBytes<Parts> + sixth * kSliceBytes<Parts> / 6;
  for (int64_t i = 0; i < kSliceBytes<Parts> / 6; i += 64) {
    __builtin_prefetch(weights + next + i);
    __builtin_prefetch(weights + factors.weights_beside + next + i);
    __builtin_prefetch(states + next + i);
    if constexpr (Blocks == 2) __builtin_prefetch(states + factors.states_below + next + i);
  }
}

// One slice of float32. Of the nine products of three parts the three least, below 2^-24 of the whole, are left out;
// the smallest of the rest come first. A tile is loaded as soon as the one before it has been used.
template <int Blocks>
BERTSTREAM_AMX_TARGET inline void multiply_parts(const char* states, const char* weights, const Factors& factors) {
  LOAD_STATES_0(2);
  LOAD_WEIGHTS_0(0);
  LOAD_WEIGHTS_1(0);
  MULTIPLY_00(_tile_dpbf16ps);
  MULTIPLY_01(_tile_dpbf16ps);
  LOAD_STATES_0(1);
  LOAD_STATES_1(2);
  MULTIPLY_10(_tile_dpbf16ps);
  MULTIPLY_11(_tile_dpbf16ps);
  LOAD_STATES_1(1);
  fetch_sixth<Blocks>(states, weights, factors, 0);
  MULTIPLY_00(_tile_dpbf16ps);
  MULTIPLY_01(_tile_dpbf16ps);
  MULTIPLY_10(_tile_dpbf16ps);
  LOAD_WEIGHTS_0(1);
  MULTIPLY_11(_tile_dpbf16ps);
  LOAD_WEIGHTS_1(1);
  fetch_sixth<Blocks>(states, weights, factors, 1);
  MULTIPLY_00(_tile_dpbf16ps);
  MULTIPLY_10(_tile_dpbf16ps);
  MULTIPLY_01(_tile_dpbf16ps);
  LOAD_STATES_0(0);
  MULTIPLY_11(_tile_dpbf16ps);
  LOAD_STATES_1(0);
  fetch_sixth<Blocks>(states, weights, factors, 2);
  MULTIPLY_00(_tile_dpbf16ps);
  MULTIPLY_01(_tile_dpbf16ps);
  MULTIPLY_10(_tile_dpbf16ps);
  LOAD_WEIGHTS_0(2);
  MULTIPLY_11(_tile_dpbf16ps);
  LOAD_WEIGHTS_1(2);
  fetch_sixth<Blocks>(states, weights, factors, 3);
  MULTIPLY_00(_tile_dpbf16ps);
  MULTIPLY_10(_tile_dpbf16ps);
  LOAD_WEIGHTS_0(0);
  MULTIPLY_01(_tile_dpbf16ps);
  MULTIPLY_11(_tile_dpbf16ps);
  LOAD_WEIGHTS_1(0);
  fetch_sixth<Blocks>(states, weights, factors, 4);
  MULTIPLY_00(_tile_dpbf16ps);
  MULTIPLY_10(_tile_dpbf16ps);
  MULTIPLY_01(_tile_dpbf16ps);
  MULTIPLY_11(_tile_dpbf16ps);
  fetch_sixth<Blocks>(states, weights, factors, 5);
}

// One slice of bfloat16 or int8.
template <typename Kind, int Blocks>
BERTSTREAM_AMX_TARGET inline void multiply_whole(const char* states, const char* weights, const Factors& factors) {
  LOAD_STATES_0(0);
  LOAD_WEIGHTS_0(0);
  LOAD_WEIGHTS_1(0);
  LOAD_STATES_1(0);
  if constexpr (std::is_same_v<Kind, Bytes>) {
    MULTIPLY_00(_tile_dpbusd);
    MULTIPLY_01(_tile_dpbusd);
    MULTIPLY_10(_tile_dpbusd);
    MULTIPLY_11(_tile_dpbusd);
  } else {
    MULTIPLY_00(_tile_dpbf16ps);
    MULTIPLY_01(_tile_dpbf16ps);
    MULTIPLY_10(_tile_dpbf16ps);
    MULTIPLY_11(_tile_dpbf16ps);
  }
}

// sums [16 Blocks, 32]
template <typename Kind, int Blocks>
BERTSTREAM_AMX_TARGET inline void multiply_tiles(const Factors& factors, typename Kind::Sum* sums) {
  const char *states = factors.states, *weights = factors.weights;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t slice = 0; slice < factors.slices; ++slice) {
    if constexpr (std::is_same_v<Kind, Parts>) {
      multiply_parts<Blocks>(states, weights, factors);
    } else {
      multiply_whole<Kind, Blocks>(states, weights, factors);
    }
    states += kSliceBytes<Kind>;
    weights += kSliceBytes<Kind>;
  }
  constexpr int64_t stride = kBlock * 4;
  _tile_stored(0, sums, stride);
  _tile_stored(1, sums + 16, stride);
  if constexpr (Blocks == 2) {
    _tile_stored(2, sums + 16 * kBlock, stride);
    _tile_stored(3, sums + 16 * kBlock + 16, stride);
  }
}
#endif

// sums [32, 32], of which the first `rows` are written
template <typename Kind>
inline void multiply_block(const Factors& factors, int64_t rows, typename Kind::Sum* sums) {
#ifdef BERTSTREAM_AMX
  if (has_amx()) {
    written();
    return rows > 16 ? multiply_tiles<Kind, 2>(factors, sums) : multiply_tiles<Kind, 1>(factors, sums);
  }
#endif
#ifdef BERTSTREAM_BFLOAT16
  if constexpr (std::is_same_v<Kind, Halves>) multiply_bfloat16(factors, rows, sums);
#endif
  if constexpr (std::is_same_v<Kind, Bytes>) multiply_bytes(factors, rows, sums);
}

}  // namespace
}  // namespace bertstream
