// Attention of packed texts of any lengths: no padding, no copy of the batch, one call a layer.
//
// One text and one head at a time. Its keys are laid out in panels of columns; then a few queries at a time get their
// scores against all keys, the softmax of them, and the sum of values. All of it is in float32, and a text's numbers do
// not depend on what else is in the batch.

#pragma once

#include <ATen/Parallel.h>

#include <array>
#include <cmath>
#include <type_traits>
#include <utility>

#include "vectors.h"

namespace bertstream {
namespace {

// One head of one text.
template <typename scalar_t>
struct Head {
  const scalar_t* queries;  // of the text's first token, as the next two; a token's are `stride` after the last one's
  const scalar_t* keys;
  const scalar_t* values;
  const float* query_bias;  // null for none
  const float* value_bias;
  const float* distances;  // added to the score of a key so many tokens after its query, or before; null for none
  scalar_t* out;
  int64_t tokens, size, stride, out_stride;
};

// The keys that a query sees: those at most `before` tokens before it, and `after` tokens after it.
struct Sight {
  static constexpr int64_t kAll = int64_t{1} << 40;  // tokens, more than any text has
  int64_t before = kAll, after = kAll;

  int64_t first(int64_t query) const { return std::max<int64_t>(query - before, 0); }
  int64_t end(int64_t query, int64_t tokens) const { return std::min(query + after + 1, tokens); }
};

// What fits the registers: kRows x kColumns accumulators, a vector of each column, one of a row. AVX2 has 16 registers,
// and two columns divide a head's vectors where three would not: 4 or 8 of them.
#if defined(CPU_CAPABILITY_AVX512)
constexpr int kRows = 8, kColumns = 3;
#elif defined(CPU_CAPABILITY_AVX2)
constexpr int kRows = 6, kColumns = 2;
#else
constexpr int kRows = 4, kColumns = 3;
#endif
constexpr float kZeros[kColumns * kLanes] = {};

inline int64_t vectors(int64_t size) { return (size + kLanes - 1) / kLanes; }

// Vectors of the next panel of `left` ones: all columns, but 2 and 2 of 4, since one alone leaves the multipliers
// waiting.
inline int64_t panel(int64_t left) { return left == 4 ? 2 : std::min<int64_t>(left, kColumns); }

// c[r, :] = factors[r] sum over k of a[r, k] b[k, :] + added, for R rows of C vectors
template <int R, int C>
void multiply(
    const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t depth,
    const float* factors, const float* added) {
  Vec sums[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) sums[r][j] = Vec(0.f);
  for (int64_t k = 0; k < depth; ++k) {
    Vec columns[C];
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) columns[j] = Vec::loadu(b + k * ldb + j * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec element(a[r * lda + k]);
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) sums[r][j] = at::vec::fmadd(element, columns[j], sums[r][j]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j)
      at::vec::fmadd(sums[r][j], Vec(factors[r]), Vec::loadu(added + j * kLanes)).store(c + r * ldc + j * kLanes);
}

using Multiply = void (*)(
    const float*, int64_t, const float*, int64_t, float*, int64_t, int64_t, const float*, const float*);

template <int C, int... R>
constexpr std::array<Multiply, sizeof...(R)> by_rows(std::integer_sequence<int, R...>) {
  return {&multiply<R + 1, C>...};
}

template <int... C>
constexpr std::array<std::array<Multiply, kRows>, sizeof...(C)> by_columns(std::integer_sequence<int, C...>) {
  return {by_rows<C + 1>(std::make_integer_sequence<int, kRows>())...};
}

// kMultiply[columns - 1][rows - 1]
constexpr auto kMultiply = by_columns(std::make_integer_sequence<int, kColumns>());

struct Buffers {
  Scratch<float> keys, values, queries, scores, sums, value_bias;

  Buffers(int64_t tokens, int64_t size) {
    const int64_t n = vectors(tokens) * kLanes, d = vectors(size) * kLanes;
    keys = scratch<float>(n * d);
    values = scratch<float>(n * d);
    queries = scratch<float>(kRows * d);
    scores = scratch<float>(kRows * n);
    sums = scratch<float>(kRows * d);
    value_bias = scratch<float>(d);
  }
};

// Rows of a matrix.
struct Rows {
  const float* first;
  int64_t stride;
};

// The processor foresees none of a head's rows, which lie thousands of bytes apart.
template <typename scalar_t>
inline void fetch(const Head<scalar_t>& head, int64_t row, int64_t rows) {
  const int64_t end = std::min(row + rows, head.tokens);
  for (; row < end; ++row)
    for (int64_t i = 0; i < head.size; i += 64 / static_cast<int64_t>(sizeof(scalar_t)))
      for (const scalar_t* from : {head.queries, head.keys, head.values})
        __builtin_prefetch(from + row * head.stride + i, 0, 2);
}

// Keys [tokens, size] as panels of columns: each [size, 1 to kColumns vectors of tokens], zeros where no token is.
template <typename scalar_t>
void lay_out_keys(const Head<scalar_t>& head, float* to) {
  const int64_t all = vectors(head.tokens);
  for (int64_t first = 0; first < all;) {
    const int64_t width = panel(all - first);
    for (int64_t j = 0; j < width; ++j) {
      const int64_t token = (first + j) * kLanes, count = std::min(kLanes, head.tokens - token);
      for_each_vector(head.size, [&](int64_t i, int64_t n) {
        const scalar_t* from = head.keys + token * head.stride + i;
        float* columns = to + (first * head.size + i * width + j) * kLanes;
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int64_t r = 0; r < kLanes; ++r) block[r] = r < count ? load(from + r * head.stride, n) : Vec(0.f);
        transpose(block);
#pragma GCC unroll 16
        for (int64_t r = 0; r < kLanes; ++r)
          if (r < n) block[r].store(columns + r * width * kLanes);
      });
    }
    first += width;
  }
}

// Rows of whole vectors, with zeros after `size`.
template <typename scalar_t>
inline Rows copied(const scalar_t* from, int64_t stride, const float* bias, float* to, int64_t rows, int64_t size) {
  const int64_t d = vectors(size) * kLanes;
  for (int64_t row = 0; row < rows; ++row)
    for_each_vector(size, [&](int64_t i, int64_t n) {
      const Vec values = load(from + row * stride + i, n);
      (bias == nullptr ? values : values + load(bias + i, n)).store(to + row * d + i);
    });
  return {to, d};
}

// Beyond this, rows that lie far apart push each other out of the nearest cache.
constexpr int64_t kFewTokens = 64;

template <typename scalar_t>
inline Rows values_of(const Head<scalar_t>& head, float* buffer) {
  if constexpr (std::is_same_v<scalar_t, float>)
    if (head.size % kLanes == 0 && head.tokens <= kFewTokens) return {head.values, head.stride};
  return copied(head.values, head.stride, nullptr, buffer, head.tokens, head.size);
}

// row += added, for the first `count`, which is all that may be read of `added`.
inline void add(float* row, const float* added, int64_t count) {
  for_each_vector(count, [&](int64_t i, int64_t n) { (load(row + i, n) + load(added + i, n)).store(row + i); });
}

// row = e^(row - its maximum) for the first `count`, 0 for the rest up to `width` vectors; the sum of all.
inline float exponentials(float* row, int64_t count, int64_t width) {
  const int64_t whole = count / kLanes;
  const auto scores = [&](int64_t i) {
    const Vec found = Vec::loadu(row + i * kLanes);
    return i < whole ? found : first_lanes(found, std::max<int64_t>(count - i * kLanes, 0), -INFINITY);
  };
  Vec highest(-INFINITY);
  for (int64_t i = 0; i < width; ++i) highest = larger(highest, scores(i));
  const Vec maximum(largest(highest));
  Vec sum(0.f);
  for (int64_t i = 0; i < width; ++i) {
    const Vec power = exp_negative(scores(i) - maximum);
    power.store(row + i * kLanes);
    sum = sum + power;
  }
  return total(sum);
}

// `next` is what this thread computes after it.
template <typename scalar_t>
void attend(
    const Head<scalar_t>& head, const Head<scalar_t>& next, Buffers& buffers, float scale, const Sight& sight) {
  const int64_t n = vectors(head.tokens), d = vectors(head.size), size = head.size;
  const bool direct = std::is_same_v<scalar_t, float> && size % kLanes == 0;  // sums go where they belong at once
  lay_out_keys(head, buffers.keys.get());
  const Rows values = values_of(head, buffers.values.get());
  float *scores = buffers.scores.get(), *value_bias = buffers.value_bias.get();
  std::fill(value_bias, value_bias + d * kLanes, 0.f);
  if (head.value_bias != nullptr) std::copy(head.value_bias, head.value_bias + size, value_bias);
  float factors[kRows];
  int64_t begin = 0;  // the first vector of keys that is multiplied, where a panel starts
  for (int64_t row = 0; row < head.tokens; row += kRows) {
    fetch(next, row, kRows);
    const int64_t rows = std::min<int64_t>(kRows, head.tokens - row);
    const int64_t seen = sight.end(row + rows - 1, head.tokens), width = vectors(seen);
    while (begin + panel(n - begin) <= sight.first(row) / kLanes) begin += panel(n - begin);
    const int64_t from = begin * kLanes;
    const Rows queries = copied(
        head.queries + row * head.stride, head.stride, head.query_bias, buffers.queries.get(), rows, size);
    std::fill(factors, factors + kRows, scale);
    for (int64_t first = begin, columns; first < width; first += columns) {
      columns = panel(n - first);
      kMultiply[columns - 1][rows - 1](
          queries.first, queries.stride, buffers.keys.get() + first * kLanes * size, columns * kLanes,
          scores + first * kLanes, n * kLanes, size, factors, kZeros);
    }
    if (head.distances != nullptr)
      for (int64_t r = 0; r < rows; ++r)
        add(scores + r * n * kLanes + from, head.distances - (row + r) + from, seen - from);
    for (int64_t r = 0; r < rows; ++r) {
      float* line = scores + r * n * kLanes;
      std::fill(line + from, line + std::max(from, sight.first(row + r)), -INFINITY);
      factors[r] = 1.f / exponentials(line + from, sight.end(row + r, head.tokens) - from, width - begin);
    }
    scalar_t* out = head.out + row * head.out_stride;
    float* sums = buffers.sums.get();
    int64_t sums_stride = d * kLanes;
    if constexpr (std::is_same_v<scalar_t, float>)
      if (direct) sums = out, sums_stride = head.out_stride;
    for (int64_t first = 0, columns; first < d; first += columns) {
      columns = panel(d - first);
      const int64_t i = first * kLanes;
      kMultiply[columns - 1][rows - 1](
          scores + from, n * kLanes, values.first + from * values.stride + i, values.stride, sums + i, sums_stride,
          seen - from, factors, value_bias + i);
    }
    if (direct) continue;
    for (int64_t r = 0; r < rows; ++r)
      for_each_vector(size, [&](int64_t i, int64_t count) {
        store(out + r * head.out_stride + i, load(sums + r * sums_stride + i, count), count);
      });
  }
}

// Attention of one thread, to texts of up to so many tokens and heads of one size.
template <typename scalar_t>
class Attention {
 public:
  Attention(int64_t tokens, int64_t size) : buffers_(tokens, size) {}

  void operator()(const Head<scalar_t>& head, const Head<scalar_t>& next, float scale, const Sight& sight) {
    attend(head, next, buffers_, scale, sight);
  }

 private:
  Buffers buffers_;
};

// qkv: [T, 3H]; bias: [3H] or null; starts: [texts + 1]; distances: [heads, 2 span - 1] or null, span being at least
// the longest text's tokens; out: [T, H]
template <typename Way, typename scalar_t>
void attend_all(
    const scalar_t* qkv, const float* bias, const int32_t* starts, int64_t texts, int64_t heads, int64_t hidden,
    const Sight& sight, const float* distances, int64_t span, scalar_t* out) {
  const int64_t size = hidden / heads, items = texts * heads;
  int64_t longest = 0;
  for (int64_t i = 0; i < texts; ++i) longest = std::max<int64_t>(longest, starts[i + 1] - starts[i]);
  const auto head_of = [&](int64_t item) -> Head<scalar_t> {
    const int64_t text = item / heads, start = starts[text], place = item % heads * size;
    const scalar_t* q = qkv + start * 3 * hidden + place;
    const float *q_bias = bias ? bias + place : nullptr, *v_bias = bias ? bias + 2 * hidden + place : nullptr;
    // The keys' bias adds the same to all scores of a query, which the softmax takes away again.
    const float* d = distances ? distances + item % heads * (2 * span - 1) + span - 1 : nullptr;  // of distance 0
    return {q, q + hidden, q + 2 * hidden, q_bias, v_bias, d, out + start * hidden + place, starts[text + 1] - start,
            size, 3 * hidden, hidden};
  };
  const float scale = 1.f / std::sqrt(static_cast<float>(size));
  // Texts come sorted by length, so each thread takes every so manieth item, not a range of them.
  const int64_t threads = std::min<int64_t>(items, at::get_num_threads());
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    Way attend(longest, size);
    for (int64_t thread = begin; thread < end; ++thread)
      for (int64_t item = thread; item < items; item += threads)
        attend(head_of(item), head_of(std::min(item + threads, items - 1)), scale, sight);
  });
}

}  // namespace
}  // namespace bertstream
