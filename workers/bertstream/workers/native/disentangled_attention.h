// Disentangled attention (DeBERTa) of packed texts of any lengths: scores have terms by how far apart two tokens stand.
//
// A key's position has a vector for each distance, and so has a query's. Of a few queries the first term is one product
// with the distances that they have, and its rows, each shifted by one, are added to the scores. The second term is
// computed for each panel of keys and all distances from it; what a query needs of that lies on a diagonal.

#pragma once

#include "attention.h"

namespace bertstream {
namespace {

// Vectors of all distances, from keys `span` - 1 tokens before their query to as many after it, of all heads.
struct Distances {
  int64_t span = 0, size = 0, heads = 0;
  int64_t columns = 0;        // of a row of `keys`: a vector more than there are distances, which may be read
  Scratch<float> keys;        // [heads, size, columns], or null
  Scratch<float> queries;     // [heads, 2 span - 1, size], or null

  const float* keys_of(int64_t head) const { return keys ? keys.get() + head * size * columns : nullptr; }
  const float* queries_of(int64_t head) const {
    return queries ? queries.get() + head * (2 * span - 1) * size : nullptr;
  }
};

// keys, queries: [heads, buckets, size] or null; buckets: [2 span - 1], of each distance
template <typename scalar_t>
Distances lay_out_distances(
    const scalar_t* keys, const scalar_t* queries, const int64_t* buckets, int64_t bucket_count, int64_t span,
    int64_t heads, int64_t size) {
  Distances all;
  const int64_t count = 2 * span - 1, columns = (vectors(count) + 1) * kLanes;
  all.span = span, all.size = size, all.heads = heads, all.columns = columns;
  if (keys != nullptr) all.keys = scratch<float>(heads * size * columns);
  if (queries != nullptr) all.queries = scratch<float>(heads * count * size);
  at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      if (keys != nullptr) {
        float* to = all.keys.get() + head * size * columns;
        std::fill(to, to + size * columns, 0.f);
        for (int64_t i = 0; i < count; ++i) {
          const scalar_t* from = keys + (head * bucket_count + buckets[i]) * size;
          for (int64_t k = 0; k < size; ++k) to[k * columns + i] = from[k];
        }
      }
      if (queries != nullptr) {
        float* to = all.queries.get() + head * count * size;
        for (int64_t i = 0; i < count; ++i) {
          const scalar_t* from = queries + (head * bucket_count + buckets[i]) * size;
          std::copy(from, from + size, to + i * size);
        }
      }
    }
  });
  return all;
}

struct DisentangledBuffers {
  Buffers plain;
  Scratch<float> by_keys;     // of a few queries, the scores with all keys' positions
  Scratch<float> by_queries;  // of each panel of keys, the scores with queries' positions, one after another

  DisentangledBuffers(int64_t tokens, int64_t size) : plain(tokens, size) {
    const int64_t n = vectors(tokens) * kLanes;
    by_keys = scratch<float>(kRows * vectors(tokens + kRows) * kLanes);
    by_queries = scratch<float>((tokens + kColumns * kLanes) * n);
  }
};

// The first distance and the rows that a panel of `count` keys needs in by_queries: of keys from tokens - 1 before their
// query, which is the first key's distance from the last query, to count - 1 after it.
inline int64_t rows_of_panel(int64_t tokens, int64_t count) { return tokens - 1 + count; }

// by_queries of each panel, as lay_out_keys has them: [rows_of_panel, width], key j of query i in row j - i + tokens - 1.
template <typename scalar_t>
void score_queries(const Head<scalar_t>& head, const float* queries, int64_t span, const float* keys, float scale, float* to) {
  const int64_t all = vectors(head.tokens), size = head.size;
  float factors[kRows];
  std::fill(factors, factors + kRows, scale);
  for (int64_t first = 0, columns; first < all; first += columns) {
    columns = panel(all - first);
    const int64_t token = first * kLanes, width = columns * kLanes;
    const int64_t count = rows_of_panel(head.tokens, std::min(width, head.tokens - token));
    const float* distances = queries + (token - (head.tokens - 1) + span - 1) * size;
    for (int64_t row = 0; row < count; row += kRows) {
      const int64_t rows = std::min<int64_t>(kRows, count - row);
      kMultiply[columns - 1][rows - 1](
          distances + row * size, size, keys + token * size, width, to + row * width, width, size, factors, kZeros);
    }
    to += count * width;
  }
}

// scores [rows, n] of queries from `row` on += by_queries
template <typename scalar_t>
void add_diagonals(const Head<scalar_t>& head, const float* from, int64_t row, int64_t rows, float* scores) {
  const int64_t all = vectors(head.tokens);
  for (int64_t first = 0, columns; first < all; first += columns) {
    columns = panel(all - first);
    const int64_t token = first * kLanes, width = columns * kLanes, count = std::min(width, head.tokens - token);
    for (int64_t r = 0; r < rows; ++r) {
      const float* diagonal = from + (head.tokens - 1 - row - r) * width;
      float* to = scores + r * all * kLanes + token;
      for (int64_t j = 0; j < count; ++j) to[j] += diagonal[j * (width + 1)];
    }
    from += rows_of_panel(head.tokens, count) * width;
  }
}

// scores [rows, n] of `queries` from `row` on += their products with the positions of all keys
template <typename scalar_t>
void add_by_keys(
    const Head<scalar_t>& head, const Rows& queries, const float* keys, const Distances& distances, int64_t row,
    int64_t rows, const float* factors, float* scores, float* buffer) {
  const int64_t count = head.tokens + rows - 1, n = vectors(count), stride = vectors(head.tokens) * kLanes;
  const float* from = keys + distances.span - 1 - (row + rows - 1);
  for (int64_t first = 0, columns; first < n; first += columns) {
    columns = panel(n - first);
    kMultiply[columns - 1][rows - 1](
        queries.first, queries.stride, from + first * kLanes, distances.columns, buffer + first * kLanes, n * kLanes,
        head.size, factors, kZeros);
  }
  for (int64_t r = 0; r < rows; ++r) add(scores + r * stride, buffer + r * n * kLanes + rows - 1 - r, head.tokens);
}

// The sums of values, of `rows` queries from `row` on, weighted by the scores times `factors`.
template <typename scalar_t>
void sum_values(
    const Head<scalar_t>& head, const Rows& values, int64_t row, int64_t rows, const float* scores,
    const float* factors, float* buffer) {
  const int64_t n = vectors(head.tokens), d = vectors(head.size), size = head.size;
  scalar_t* out = head.out + row * head.out_stride;
  float* sums = buffer;
  int64_t stride = d * kLanes;
  if constexpr (std::is_same_v<scalar_t, float>)
    if (size % kLanes == 0) sums = out, stride = head.out_stride;  // they go where they belong at once
  for (int64_t first = 0, columns; first < d; first += columns) {
    columns = panel(d - first);
    const int64_t i = first * kLanes;
    kMultiply[columns - 1][rows - 1](
        scores, n * kLanes, values.first + i, values.stride, sums + i, stride, head.tokens, factors, kZeros);
  }
  if (sums != buffer) return;
  for (int64_t r = 0; r < rows; ++r)
    for_each_vector(size, [&](int64_t i, int64_t count) {
      store(out + r * head.out_stride + i, load(sums + r * stride + i, count), count);
    });
}

template <typename scalar_t>
void attend_disentangled(
    const Head<scalar_t>& head, const Head<scalar_t>& next, const Distances& distances, int64_t number, float scale,
    DisentangledBuffers& buffers) {
  Buffers& plain = buffers.plain;
  const int64_t n = vectors(head.tokens), size = head.size;
  const float *keys = distances.keys_of(number), *positions = distances.queries_of(number);
  lay_out_keys(head, plain.keys.get());
  const Rows values = values_of(head, plain.values.get());
  if (positions != nullptr)
    score_queries(head, positions, distances.span, plain.keys.get(), scale, buffers.by_queries.get());
  float *scores = plain.scores.get(), factors[kRows];
  for (int64_t row = 0; row < head.tokens; row += kRows) {
    fetch(next, row, kRows);
    const int64_t rows = std::min<int64_t>(kRows, head.tokens - row);
    const Rows queries =
        copied(head.queries + row * head.stride, head.stride, head.query_bias, plain.queries.get(), rows, size);
    std::fill(factors, factors + kRows, scale);
    for (int64_t first = 0, columns; first < n; first += columns) {
      columns = panel(n - first);
      kMultiply[columns - 1][rows - 1](
          queries.first, queries.stride, plain.keys.get() + first * kLanes * size, columns * kLanes,
          scores + first * kLanes, n * kLanes, size, factors, kZeros);
    }
    if (keys != nullptr)
      add_by_keys(head, queries, keys, distances, row, rows, factors, scores, buffers.by_keys.get());
    if (positions != nullptr) add_diagonals(head, buffers.by_queries.get(), row, rows, scores);
    for (int64_t r = 0; r < rows; ++r) factors[r] = 1.f / exponentials(scores + r * n * kLanes, head.tokens, n);
    sum_values(head, values, row, rows, scores, factors, plain.sums.get());
  }
}

// qkv: [T, 3H]; starts: [texts + 1]; out: [T, H]
template <typename scalar_t>
void attend_all_disentangled(
    const scalar_t* qkv, const int32_t* starts, int64_t texts, int64_t hidden, const Distances& distances, float scale,
    scalar_t* out) {
  const int64_t heads = distances.heads, size = hidden / heads, items = texts * heads;
  int64_t longest = 0;
  for (int64_t i = 0; i < texts; ++i) longest = std::max<int64_t>(longest, starts[i + 1] - starts[i]);
  const auto head_of = [&](int64_t item) -> Head<scalar_t> {
    const int64_t text = item / heads, start = starts[text], place = item % heads * size;
    const scalar_t* q = qkv + start * 3 * hidden + place;
    return {q, q + hidden, q + 2 * hidden, nullptr, nullptr, nullptr, out + start * hidden + place,
            starts[text + 1] - start, size, 3 * hidden, hidden};
  };
  const int64_t threads = std::min<int64_t>(items, at::get_num_threads());
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    DisentangledBuffers buffers(longest, size);
    for (int64_t thread = begin; thread < end; ++thread)
      for (int64_t item = thread; item < items; item += threads)
        attend_disentangled(
            head_of(item), head_of(std::min(item + threads, items - 1)), distances, item % heads, scale, buffers);
  });
}

}  // namespace
}  // namespace bertstream
