// float32's part of products.h: rows of states that are read where they are, if they are float32, times panels of weights. Weights that are
// not packed, since something else reads them too, are laid out as they are used, up to 64 outputs at a time.

#pragma once

#include "float_blocks.h"
#include "products.h"

namespace bertstream {
namespace {

// Panels of `outputs` rows of weights [N, K], of which there are `outputs` from `rows` on.
template <typename scalar_t>
inline void lay_out_weights(const scalar_t* rows, int64_t outputs, int64_t depth, int64_t beside, float* to) {
  for (int64_t output = 0; output < outputs; output += kLanes) {
    const int64_t count = std::min(kLanes, outputs - output);
    float* columns = to + output / kPanelOutputs * beside + output % kPanelOutputs;
    for_each_vector(depth, [&](int64_t k, int64_t n) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int64_t r = 0; r < kLanes; ++r)
        block[r] = r < count ? load(rows + (output + r) * depth + k, n) : Vec(0.f);
      transpose(block);
      for (int64_t i = 0; i < n; ++i) block[i].store(columns + (k + i) * kPanelOutputs);
    });
  }
}

// One thread's rows, where they are, or at a distance at which they do not push each other out of the nearest cache.
template <>
class Panel<Floats> {
 public:
  template <typename scalar_t>
  void lay_out(const scalar_t* x, int64_t first, int64_t count, const Weights& w) {
    const scalar_t* from = x + first * w.depth;
    stride_ = w.depth;
    if constexpr (std::is_same_v<scalar_t, float>) {
      rows_ = from;
      if (count == 1 || w.depth % kCrowded != 0) return;
    }
    if (w.depth % kCrowded == 0) stride_ += kPanelOutputs;
    reserve(copy_, size_, count * stride_);
    rows_ = copy_.get();
    for (int64_t r = 0; r < count; ++r)
      for_each_vector(w.depth, [&](int64_t i, auto n) {
        store(copy_.get() + r * stride_ + i, load(from + r * w.depth + i, n), n);
      });
  }

  const float* at(int64_t row) const { return rows_ + row * stride_; }
  int64_t stride() const { return stride_; }

  // Panels of `width` outputs from `output` on, `beside` apart.
  const float* weights(const Weights& w, int64_t output, int64_t width, int64_t beside) {
    const float* given = reinterpret_cast<const float*>(w.tiles);
    if (!w.rows) return given + output / kPanelOutputs * beside;
    reserve(panels_, panels_size_, kWidth / kPanelOutputs * beside);
    if (w.halves) {
      const auto* halves = reinterpret_cast<const c10::BFloat16*>(w.tiles);
      lay_out_weights(halves + output * w.depth, width, w.depth, beside, panels_.get());
    } else {
      lay_out_weights(given + output * w.depth, width, w.depth, beside, panels_.get());
    }
    return panels_.get();
  }

 private:
  static void reserve(Scratch<float>& memory, int64_t& size, int64_t wanted) {
    if (wanted <= size) return;
    size = 0;  // in case there is no memory
    memory = scratch<float>(wanted);
    std::fill_n(memory.get(), wanted, 0.f);  // what no output fills is multiplied too, and dropped
    size = wanted;
  }

  static constexpr int64_t kCrowded = 512;  // numbers, at multiples of which few rows fit the same lines

  Scratch<float> copy_, panels_;
  const float* rows_ = nullptr;
  int64_t size_ = 0, panels_size_ = 0, stride_ = 0;
};

template <typename Take>
inline void multiply_panel(
    Panel<Floats>& panel, int64_t first, int64_t count, const Weights& w, int64_t begin, int64_t end,
    const Take& take) {
  const int64_t beside = up_to(w.depth, Floats::kDepth) * kPanelOutputs;  // from a panel of weights to the next
  const int64_t tiles = (count + kTallest - 1) / kTallest;  // of rows, as equal as can be
  alignas(64) float sums[kTallest * kWidth];
  for (int64_t output = begin; output < end; output += kWidth) {
    const int64_t width = std::min(kWidth, end - output);
    const float* weights = panel.weights(w, output, width, beside);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = tile * count / tiles, rows = (tile + 1) * count / tiles - row;
      multiply_tile(
          panel.at(row), panel.stride(), rows, weights, width, w.depth, beside, sums);
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
