// The product of 32 rows of states and 32 outputs' weights, both laid out as panels.h says: by AMX, by the vector
// instructions for bytes (VNNI), or by those that every processor has.

#pragma once

#include "panels.h"

namespace bertstream {
namespace {

// 16 or 32 rows: `states` and, `states_below` bytes after, the second 16. Likewise the outputs' weights.
struct Factors {
  const char* states;
  int64_t states_below;
  const char* weights;
  int64_t weights_beside;
  int64_t slices;
};

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

// One slice of float32. Of the nine products of three parts the three least, below 2^-24 of the whole, are left out; the
// smallest of the rest come first. A tile is loaded as soon as the one before it has been used.
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

#if defined(CPU_CAPABILITY_AVX512)
inline bool has_vnni() { return __builtin_cpu_supports("avx512vnni"); }

// Eight rows of 16 at a time.
__attribute__((target("avx512vnni"))) inline void multiply_bytes_vnni(
    const Factors& factors, int64_t blocks, int32_t* sums) {
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t first = 0; first < 16; first += 8) {
      const char* states = factors.states + block * factors.states_below + first * kRowBytes;
      const char* weights = factors.weights;
      __m512i found[8][2];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) found[r][0] = found[r][1] = _mm512_setzero_si512();
      for (int64_t slice = 0; slice < factors.slices; ++slice, states += 1024, weights += 1024)
        for (int64_t p = 0; p < 16; ++p) {
          const __m512i left = _mm512_loadu_si512(weights + p * kRowBytes);
          const __m512i right = _mm512_loadu_si512(weights + factors.weights_beside + p * kRowBytes);
#pragma GCC unroll 8
          for (int r = 0; r < 8; ++r) {
            const __m512i four =
                _mm512_set1_epi32(*reinterpret_cast<const int32_t*>(states + r * kRowBytes + 4 * p));
            found[r][0] = _mm512_dpbusd_epi32(found[r][0], four, left);
            found[r][1] = _mm512_dpbusd_epi32(found[r][1], four, right);
          }
        }
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        int32_t* to = sums + (block * 16 + first + r) * kBlock;
        _mm512_store_si512(to, found[r][0]);
        _mm512_store_si512(to + 16, found[r][1]);
      }
    }
}
#else
inline bool has_vnni() { return false; }
#endif

#if defined(CPU_CAPABILITY_AVX2) || defined(CPU_CAPABILITY_AVX512)
// Two rows of 8 outputs at a time, in numbers of 16 bits, since products of bytes do not fit what AVX2 adds them in.
inline void multiply_bytes(const Factors& factors, int64_t blocks, int32_t* sums) {
  for (int64_t row = 0; row < blocks * 16; row += 2)
    for (int64_t output = 0; output < kBlock; output += 8) {
      const char* states = factors.states + row / 16 * factors.states_below + row % 16 * kRowBytes;
      const char* weights = factors.weights + output / 16 * factors.weights_beside + output % 16 * 4;
      __m256i found[2][2];
      for (auto& row_sums : found) row_sums[0] = row_sums[1] = _mm256_setzero_si256();
      for (int64_t slice = 0; slice < factors.slices; ++slice, states += 1024, weights += 1024)
        for (int64_t p = 0; p < 16; ++p) {
          const auto wide = [&](int64_t i) {
            return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + p * 64 + i)));
          };
          const __m256i low = wide(0), high = wide(16);
#pragma GCC unroll 2
          for (int r = 0; r < 2; ++r) {
            const auto four = *reinterpret_cast<const int32_t*>(states + r * kRowBytes + 4 * p);
            const __m256i repeated = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
            found[r][0] = _mm256_add_epi32(found[r][0], _mm256_madd_epi16(repeated, low));
            found[r][1] = _mm256_add_epi32(found[r][1], _mm256_madd_epi16(repeated, high));
          }
        }
      for (int r = 0; r < 2; ++r) {
        // Neighbours belong to one output; the sums of both halves of each vector come out interleaved.
        const __m256i pairs = _mm256_hadd_epi32(found[r][0], found[r][1]);
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(sums + (row + r) * kBlock + output),
            _mm256_permute4x64_epi64(pairs, 0b11011000));
      }
    }
}
#else
inline void multiply_bytes(const Factors& factors, int64_t blocks, int32_t* sums) {
  for (int64_t row = 0; row < blocks * 16; ++row)
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

// sums [32, 32], of which the first 16 `blocks` rows are written
template <typename Kind>
inline void multiply_block(const Factors& factors, int64_t blocks, typename Kind::Sum* sums) {
#ifdef BERTSTREAM_AMX
  if (has_amx()) {
    written();
    return blocks == 2 ? multiply_tiles<Kind, 2>(factors, sums) : multiply_tiles<Kind, 1>(factors, sums);
  }
#endif
  if constexpr (std::is_same_v<Kind, Bytes>) {
#if defined(CPU_CAPABILITY_AVX512)
    if (has_vnni()) return multiply_bytes_vnni(factors, blocks, sums);
#endif
    multiply_bytes(factors, blocks, sums);
  }
}

}  // namespace
}  // namespace bertstream
