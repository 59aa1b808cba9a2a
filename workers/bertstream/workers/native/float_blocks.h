// The product of a few rows of states and up to 64 outputs' weights in float32, by the vectors that the processor has.
//
// Of a layer's weights [N, K] a panel has 16 outputs [K, 16], which a vector of AVX-512 holds, or two of AVX2. States
// are read as they are, number by number. Each sum is a chain of multiply-and-adds in the order of K, whatever rows or
// outputs are computed beside it and however long the vectors are: all kernels give the same bits.

#pragma once

#include <array>
#include <utility>

#include "panels.h"

namespace bertstream {
namespace {

struct Floats {  // float32, as it is
  static constexpr int64_t kDepth = 16, kPlanes = 1;
  using Sum = float;
};

constexpr int64_t kPanelOutputs = 16;
constexpr int64_t kWidth = 64;  // outputs that are computed at once
constexpr int64_t kTallest = 6;  // rows that are computed at once
// Sums of so many products are added up apart from the rest, which keeps errors of long sums as small as MKL's.
constexpr int64_t kChain = 256;

// Panels that are multiplied at once with so many rows. Sums take most of the registers, and are enough of them that no
// multiply-and-add waits for the one before; rows fewer than four read several panels for that, and for the memory.
constexpr int64_t panels_beside(int64_t rows) {
  if (kLanes == 16) return 4;
  return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
}

// sums[r, :] = sum over k of states[r, k] weights[k, :], for R rows and P panels, which are `beside` apart
template <int64_t R, int64_t P>
void multiply_floats(
    const float* states, int64_t stride, const float* weights, int64_t beside, int64_t depth, float* sums) {
  constexpr int64_t kVectors = kPanelOutputs / kLanes;  // of a panel
  constexpr int64_t C = P * kVectors;
  for (int64_t k = 0, end; k < depth; k = end) {
    end = std::min(k + kChain, depth);
    Vec found[R][C];
#pragma GCC unroll 6
    for (int64_t r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int64_t c = 0; c < C; ++c) found[r][c] = Vec(0.f);
    for (int64_t i = k; i < end; ++i) {
      Vec columns[C];
#pragma GCC unroll 8
      for (int64_t c = 0; c < C; ++c)
        columns[c] = Vec::loadu(weights + c / kVectors * beside + i * kPanelOutputs + c % kVectors * kLanes);
      if constexpr (R >= 4)
#pragma GCC unroll 4
        for (int64_t p = 0; p < P; ++p) __builtin_prefetch(weights + p * beside + (i + 8) * kPanelOutputs);
#pragma GCC unroll 6
      for (int64_t r = 0; r < R; ++r) {
        const Vec element(states[r * stride + i]);
#pragma GCC unroll 8
        for (int64_t c = 0; c < C; ++c) found[r][c] = at::vec::fmadd(element, columns[c], found[r][c]);
      }
    }
#pragma GCC unroll 6
    for (int64_t r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int64_t c = 0; c < C; ++c) {
        float* to = sums + r * kWidth + c * kLanes;
        (k == 0 ? found[r][c] : Vec::loadu(to) + found[r][c]).store(to);
      }
  }
}

using MultiplyFloats = void (*)(const float*, int64_t, const float*, int64_t, int64_t, float*);

template <int64_t R, int64_t... P>
constexpr std::array<MultiplyFloats, 4> by_panels(std::integer_sequence<int64_t, P...>) {
  return {&multiply_floats<R, std::min<int64_t>(P + 1, panels_beside(R))>...};
}

template <int64_t... R>
constexpr std::array<std::array<MultiplyFloats, 4>, sizeof...(R)> by_rows_and_panels(
    std::integer_sequence<int64_t, R...>) {
  return {by_panels<R + 1>(std::make_integer_sequence<int64_t, 4>())...};
}

// kMultiplyFloats[rows - 1][panels - 1]
constexpr auto kMultiplyFloats = by_rows_and_panels(std::make_integer_sequence<int64_t, kTallest>());

// sums [rows, 64] of up to 6 rows and up to 64 outputs, whose panels lie one after the other
inline void multiply_tile(
    const float* states, int64_t stride, int64_t rows, const float* weights, int64_t outputs, int64_t depth,
    int64_t beside, float* sums) {
  for (int64_t output = 0, panels; output < outputs; output += panels * kPanelOutputs) {
    const int64_t left = (outputs - output + kPanelOutputs - 1) / kPanelOutputs;
    panels = std::min(left, panels_beside(rows));
    kMultiplyFloats[rows - 1][panels - 1](
        states, stride, weights + output / kPanelOutputs * beside, beside, depth, sums + output);
  }
}

}  // namespace
}  // namespace bertstream
