// Products of packed rows of states with a layer's weights: y = x W' + b, what is done with y being up to the caller.
//
// A thread takes a panel of rows, as many as its cache holds, lays them out once, and goes over the weights, 32 outputs
// at a time. Where there are fewer panels than threads the outputs are shared out too. A row's result depends on no
// other row: neither on how many there are, nor on how they are shared out.

#pragma once

#include <ATen/Parallel.h>

#include <optional>

#include "blocks.h"

namespace bertstream {
namespace {

constexpr int64_t kPanelBytes = 900'000;  // of the 1 or 2 MB of cache that a core has for itself
constexpr int64_t kMostPanelRows = 256;
constexpr int64_t kFewRows = 64;  // for each thread, below which the outputs are shared out too

struct Weights {
  const char* tiles;
  int64_t outputs, depth;
  const float* bias;
  const float* scales;  // of Bytes, for each output
  const float* sums;    // of Bytes: of an output's weights
  const float* factors; // of Bytes: that states are multiplied by first, or none
  bool rows = false;    // of Floats and Halves: whether they are [N, K] as they come, and not packed
  bool halves = false;  // of those: whether they are bfloat16
};

struct Shares {
  int64_t rows, panels, columns, parts;  // of a panel; in all; of a part of the outputs; in all
};

inline Shares share_out(int64_t rows, int64_t row_bytes, int64_t outputs, int64_t threads) {
  const int64_t most = std::clamp(kPanelBytes / row_bytes / kBlock * kBlock, kBlock, kMostPanelRows);
  int64_t panels = (rows + most - 1) / most;
  if (rows >= threads * kFewRows) panels = up_to(panels, threads);
  const int64_t panel = up_to((rows + panels - 1) / panels, kBlock);
  panels = (rows + panel - 1) / panel;
  const int64_t wanted = (threads + panels - 1) / panels;
  const int64_t part = up_to((outputs + wanted - 1) / wanted, kBlock);
  return {panel, panels, part, (outputs + part - 1) / part};
}

// One thread's rows, laid out.
template <typename Kind>
class Panel {
 public:
  template <typename scalar_t>
  void lay_out(const scalar_t* x, int64_t first, int64_t count, const Weights& w) {
    slices_ = up_to(w.depth, Kind::kDepth) / Kind::kDepth;
    reserve(tiles_, tiles_size_, up_to(count, kBlock) * slices_ * Kind::kPlanes * kRowBytes);
    reserve(row_, row_size_, slices_ * Kind::kDepth);
    for (int64_t r = 0; r < count; ++r) {
      const scalar_t* from = x + (first + r) * w.depth;
      const Place place{at(r) + r % 16 * kRowBytes, &scales_[r], &least_[r]};
      if constexpr (std::is_same_v<Kind, Bytes>) {
        lay_out_row(Kind(), from, w.factors, w.depth, row_.get(), place);
      } else {
        lay_out_row(Kind(), from, w.depth, place);
      }
    }
  }

  // Of the 16 rows that this one is among.
  char* at(int64_t row) { return tiles_.get() + row / 16 * slices_ * kSliceBytes<Kind>; }
  // Of 32 outputs from this one on, `bytes` for each 16.
  const char* weights(const Weights& w, int64_t output, int64_t bytes) {
#ifdef BERTSTREAM_BFLOAT16
    if constexpr (std::is_same_v<Kind, Halves>)
      if (w.rows) {
        reserve(weights_, weights_size_, 2 * bytes);
        const auto* rows = reinterpret_cast<const c10::BFloat16*>(w.tiles) + output * w.depth;
        lay_out_tiles(rows, std::min(kBlock, w.outputs - output), w.depth, weights_.get(), bytes);
        return weights_.get();
      }
#endif
    return w.tiles + output / 16 * bytes;
  }

  float scale(int64_t row) const { return scales_[row]; }
  float least(int64_t row) const { return least_[row]; }

 private:
  template <typename T>
  static void reserve(Scratch<T>& memory, int64_t& size, int64_t wanted) {
    if (wanted <= size) return;
    size = 0;  // in case there is no memory
    memory = scratch<T>(wanted);
    std::fill(memory.get(), memory.get() + wanted, T());  // padding is multiplied too, if only by 0
    size = wanted;
  }

  Scratch<char> tiles_, weights_;
  Scratch<float> row_;
  int64_t tiles_size_ = 0, weights_size_ = 0, row_size_ = 0, slices_ = 0;
  float scales_[kMostPanelRows], least_[kMostPanelRows];
};

// y of a block's rows and as many of its outputs as a vector holds, from the block's sums. `n` may be a constant.
template <typename Kind, typename Lanes, typename Take>
inline void finish(
    const typename Kind::Sum* sums, const Weights& w, const Panel<Kind>& panel, int64_t first, int64_t row,
    int64_t rows, int64_t output, Lanes n, const Take& take) {
  const Vec bias = load(w.bias + output, n);
  if constexpr (std::is_same_v<Kind, Bytes>) {
    const Vec scale = load(w.scales + output, n), sum = load(w.sums + output, n);
    for (int64_t r = 0; r < rows; ++r) {
      const Vec shift = at::vec::fmadd(Vec(panel.least(row + r)), sum, bias);
      const Vec found = load(sums + r * kBlock, n);
      take(first + row + r, output, n, at::vec::fmadd(found, Vec(panel.scale(row + r)) * scale, shift));
    }
  } else {
    for (int64_t r = 0; r < rows; ++r) take(first + row + r, output, n, load(sums + r * kBlock, n) + bias);
  }
}

// All of a panel's rows, which are `first` and what follows, times some of the outputs.
template <typename Kind, typename Take>
inline void multiply_panel(
    Panel<Kind>& panel, int64_t first, int64_t count, const Weights& w, int64_t begin, int64_t end, const Take& take) {
  const int64_t slices = up_to(w.depth, Kind::kDepth) / Kind::kDepth, bytes = slices * kSliceBytes<Kind>;
  alignas(64) typename Kind::Sum sums[kBlock * kBlock];
  for (int64_t output = begin; output < end; output += kBlock) {
    const char* weights = panel.weights(w, output, bytes);
    for (int64_t row = 0; row < count; row += kBlock) {
      const int64_t some = std::min(kBlock, count - row);
      multiply_block<Kind>(Factors{panel.at(row), bytes, weights, bytes, slices}, some, sums);
      for (int64_t i = 0; i < std::min(kBlock, end - output); i += kLanes) {
        const int64_t n = end - output - i;
        if (n >= kLanes) {
          finish(sums + i, w, panel, first, row, some, output + i, kWhole, take);
        } else {
          finish(sums + i, w, panel, first, row, some, output + i, n, take);
        }
      }
    }
  }
}

// take(row, output, lanes, y) gets all of y, take_rows(first, end) rows of which it has got all, each once, from any
// thread. x: [rows, depth]
template <typename Kind, typename scalar_t, typename Take, typename TakeRows>
void multiply(const scalar_t* x, int64_t rows, const Weights& w, const Take& take, const TakeRows& take_rows) {
  const int64_t row_bytes = up_to(w.depth, Kind::kDepth) / Kind::kDepth * Kind::kPlanes * kRowBytes;
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const Shares shares = share_out(rows, row_bytes, w.outputs, threads);
  at::parallel_for(0, shares.panels * shares.parts, 1, [&](int64_t begin, int64_t end) {
#ifdef BERTSTREAM_AMX
    std::optional<Tiles> tiles;
    if (has_amx()) tiles.emplace(rows);
#endif
    static thread_local Panel<Kind> panel;
    int64_t there = -1;  // the panel that is laid out
    for (int64_t task = begin; task < end; ++task) {
      const int64_t number = task / shares.parts, first = number * shares.rows, part = task % shares.parts;
      const int64_t count = std::min(shares.rows, rows - first);
      if (number != there) panel.lay_out(x, first, count, w);
      there = number;
      multiply_panel(
          panel, first, count, w, part * shares.columns, std::min((part + 1) * shares.columns, w.outputs), take);
      if (shares.parts == 1) take_rows(first, first + count);
    }
  });
  if (shares.parts > 1)
    at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) { take_rows(begin, end); });
}

}  // namespace
}  // namespace bertstream
