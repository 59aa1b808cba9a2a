// float32's part of products.h: rows of states that are read where they are, times panels of weights.

#pragma once

#include "float_blocks.h"
#include "products.h"

namespace bertstream {
namespace {

// One thread's rows, where they are, or at a distance at which they do not push each other out of the nearest cache.
template <>
class Panel<Floats> {
 public:
  void lay_out(const float* x, int64_t first, int64_t count, const Weights& w) {
    rows_ = x + first * w.depth;
    stride_ = w.depth;
    if (count == 1 || w.depth % kCrowded != 0) return;
    stride_ = w.depth + kPanelOutputs;
    if (count * stride_ > size_) {
      size_ = 0;  // in case there is no memory
      copy_ = scratch<float>(count * stride_);
      size_ = count * stride_;
    }
    for (int64_t r = 0; r < count; ++r) std::copy_n(rows_ + r * w.depth, w.depth, copy_.get() + r * stride_);
    rows_ = copy_.get();
  }

  const float* at(int64_t row) const { return rows_ + row * stride_; }
  int64_t stride() const { return stride_; }

 private:
  static constexpr int64_t kCrowded = 512;  // numbers, at multiples of which few rows fit the same lines

  Scratch<float> copy_;
  const float* rows_ = nullptr;
  int64_t size_ = 0, stride_ = 0;
};

template <typename Take>
inline void multiply_panel(
    Panel<Floats>& panel, int64_t first, int64_t count, const Weights& w, int64_t begin, int64_t end, const Take& take) {
  const int64_t beside = up_to(w.depth, Floats::kDepth) * kPanelOutputs;  // from a panel of weights to the next
  const float* weights = reinterpret_cast<const float*>(w.tiles);
  const int64_t tiles = (count + kTallest - 1) / kTallest;  // of rows, as equal as can be
  alignas(64) float sums[kTallest * kWidth];
  for (int64_t output = begin; output < end; output += kWidth) {
    const int64_t width = std::min(kWidth, end - output);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = tile * count / tiles, rows = (tile + 1) * count / tiles - row;
      multiply_tile(
          panel.at(row), panel.stride(), rows, weights + output / kPanelOutputs * beside, width, w.depth, beside, sums);
      for (int64_t r = 0; r < rows; ++r)
        for_each_vector(width, [&](int64_t i, auto n) {
          const Vec found = load(sums + r * kWidth + i, n);
          take(first + row + r, output + i, n, found + load(w.bias + output + i, n));
        });
    }
  }
}

}  // namespace
}  // namespace bertstream
