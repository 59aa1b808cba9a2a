// Attention in bfloat16, where the processor multiplies it: scores and sums are float32, what is multiplied is bfloat16,
// as in ATen's own kernel. All is laid out in tiles of 16 x 32 numbers, as AMX takes them, and vectors row by row.

#pragma once

#include "amx_attention.h"
#include "attention.h"
#include "bfloat16_products.h"

#ifdef BERTSTREAM_BFLOAT16

namespace bertstream {
namespace {

constexpr int64_t kMostSlices = 2;  // of kTileDepth, in a head

inline bool takes_bfloat16(int64_t size) {
  return size % kTileDepth == 0 && size <= kMostSlices * kTileDepth && has_bfloat16();
}

// Attention of one thread, to all keys of a text or to those before a query: there is no other limit. Products: of
// AmxProducts and VectorProducts the one to multiply by.
template <typename Products>
class Bfloat16Attention {
 public:
  Bfloat16Attention(int64_t tokens, int64_t size) {
    padded_ = (tokens + kTileDepth - 1) / kTileDepth * kTileDepth;
    keys_ = scratch<c10::BFloat16>(padded_ * size);
    values_ = scratch<c10::BFloat16>(padded_ * size);
    queries_ = scratch<c10::BFloat16>(kTileRows * size);
    powers_ = scratch<c10::BFloat16>(kTileRows * padded_);
    scores_ = scratch<float>(kTileRows * padded_);
    sums_ = scratch<float>(kTileRows * size);
    // Of rows that a text does not fill nothing is read, but they are multiplied.
    std::fill(queries_.get(), queries_.get() + kTileRows * size, c10::BFloat16(0.f));
    std::fill(powers_.get(), powers_.get() + kTileRows * padded_, c10::BFloat16(0.f));
  }

  void operator()(
      const Head<c10::BFloat16>& head, const Head<c10::BFloat16>& next, float scale, const Sight& sight) {
    const int64_t slices = (head.tokens + kTileDepth - 1) / kTileDepth;
    lay_out_keys(head);
    lay_out_values(head, slices);
    for (int64_t row = 0; row < head.tokens; row += kTileRows) {
      fetch(next, row, kTileRows);
      const int64_t rows = std::min(kTileRows, head.tokens - row), seen = sight.end(row + rows - 1, head.tokens);
      lay_out_queries(head, row, rows);
      const int64_t seen_slices = (seen + kTileDepth - 1) / kTileDepth;
      const int64_t blocks = (seen + kTileRows - 1) / kTileRows;
      if (head.size == kTileDepth) {
        products_.template multiply_keys<1>(queries_.get(), rows, keys_.get(), blocks, scores_.get(), padded_);
      } else {
        products_.template multiply_keys<2>(queries_.get(), rows, keys_.get(), blocks, scores_.get(), padded_);
      }
      float factors[kTileRows];
      for (int64_t r = 0; r < rows; ++r)
        factors[r] = 1.f / exponentials(r, sight.end(row + r, head.tokens), seen_slices * 2, scale);
      if (head.size == kTileDepth) {
        products_.template multiply_values<2>(powers_.get(), rows, padded_, values_.get(), seen_slices, sums_.get());
      } else {
        products_.template multiply_values<4>(powers_.get(), rows, padded_, values_.get(), seen_slices, sums_.get());
      }
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < head.size; i += kLanes) {
          const Vec sum = Vec::loadu(sums_.get() + r * head.size + i) * Vec(factors[r]);
          store(
              head.out + (row + r) * head.out_stride + i,
              head.value_bias == nullptr ? sum : sum + Vec::loadu(head.value_bias + i), kLanes);
        }
    }
  }

 private:
  // A tile for each 16 keys and 32 numbers of them: row p holds numbers 2 p and 2 p + 1 of each key.
  void lay_out_keys(const Head<c10::BFloat16>& head) {
    c10::BFloat16* to = keys_.get();
    for (int64_t first = 0; first < head.tokens; first += kTileRows)
      for (int64_t i = 0; i < head.size; i += kTileDepth, to += kTileSize) {
        const int64_t count = std::min(kTileRows, head.tokens - first);
        Vec pairs[kLanes];
#pragma GCC unroll 16
        for (int64_t r = 0; r < kTileRows; ++r)
          pairs[r] = r < count ? Vec::loadu(head.keys + (first + r) * head.stride + i) : Vec(0.f);
        transpose(pairs);
#pragma GCC unroll 16
        for (int64_t r = 0; r < kTileRows; ++r) pairs[r].store(to + r * kTileDepth);
      }
  }

  // A tile for each 32 tokens and 16 numbers of them: row p holds each number of tokens 2 p and 2 p + 1.
  void lay_out_values(const Head<c10::BFloat16>& head, int64_t slices) {
    c10::BFloat16* to = values_.get();
    const auto row = [&](int64_t token, int64_t i) {
      if (token >= head.tokens) return _mm512_setzero_si512();
      return _mm512_cvtepu16_epi32(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(head.values + token * head.stride + i)));
    };
    for (int64_t first = 0; first < slices * kTileDepth; first += kTileDepth)
      for (int64_t i = 0; i < head.size; i += kTileRows)
        for (int64_t p = 0; p < kTileRows; ++p, to += kTileDepth)
          _mm512_store_si512(
              to, _mm512_or_si512(row(first + 2 * p, i), _mm512_slli_epi32(row(first + 2 * p + 1, i), 16)));
  }

  void lay_out_queries(const Head<c10::BFloat16>& head, int64_t row, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < head.size; i += kLanes) {
        const Vec query = load(head.queries + (row + r) * head.stride + i, kLanes);
        store(
            queries_.get() + r * head.size + i,
            head.query_bias == nullptr ? query : query + Vec::loadu(head.query_bias + i), kLanes);
      }
  }

  // powers of row r = e^(scale (its scores - their maximum)) for the first `count`, 0 for the rest up to `width`
  // vectors; the sum of all.
  BERTSTREAM_BFLOAT16_TARGET float exponentials(int64_t r, int64_t count, int64_t width, float scale) {
    float* from = scores_.get() + r * padded_;
    c10::BFloat16* to = powers_.get() + r * padded_;
    for (int64_t i = count / kLanes; i < width; ++i) {
      const int64_t n = std::clamp<int64_t>(count - i * kLanes, 0, kLanes);
      first_lanes(Vec::loadu(from + i * kLanes), n, -INFINITY).store(from + i * kLanes);
    }
    Vec highest[2] = {Vec(-INFINITY), Vec(-INFINITY)};
    for (int64_t i = 0; i < width; i += 2)  // an even number
      for (int64_t j = 0; j < 2; ++j) highest[j] = larger(highest[j], Vec::loadu(from + (i + j) * kLanes));
    scale *= 1.44269504f;  // for powers of two
    const Vec factor(scale), shift(-scale * largest(larger(highest[0], highest[1])));
    Vec sums[2] = {Vec(0.f), Vec(0.f)};
    for (int64_t i = 0; i < width; i += 2) {
      const Vec low = rough_power_of_two(at::vec::fmadd(Vec::loadu(from + i * kLanes), factor, shift));
      const Vec high = rough_power_of_two(at::vec::fmadd(Vec::loadu(from + (i + 1) * kLanes), factor, shift));
      _mm512_store_si512(to + i * kLanes, rounded(low, high));
      sums[0] = sums[0] + low;
      sums[1] = sums[1] + high;
    }
    return total(sums[0] + sums[1]);
  }

  Products products_;
  int64_t padded_;  // tokens of the longest text, in whole tiles
  Scratch<c10::BFloat16> keys_, values_, queries_, powers_;
  Scratch<float> scores_, sums_;
};

}  // namespace
}  // namespace bertstream
#endif
