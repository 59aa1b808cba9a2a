// Attention of one query a sequence to cached tokens, which are read where they lie.
//
// A sequence is a list of rows of the cache. Some rows at a time, all heads of a thread read them, so that each row is
// fetched once. Everything is in float32, each head by itself and in the order of its tokens: neither other sequences
// nor the number of threads change a number.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "attention.h"
#include "rows.h"

namespace bertstream {
namespace {

// What B sequences attend with, and to. H columns are those of all heads.
template <typename scalar_t>
struct Decoding {
  const scalar_t* queries;   // [B, H], a sequence's `stride` after the last one's
  scalar_t* keys;            // [rows, H]
  scalar_t* values;          // [rows, H]
  const int64_t* own;        // [B], the row that gets the keys and values after a sequence's queries; null for none
  const int64_t* past;       // [B, longest], rows
  const int64_t* lengths;    // [B], how many of them count
  scalar_t* out;             // [B, H]
  int64_t stride, longest, heads, size;

  int64_t hidden() const { return heads * size; }
};

struct DecodingBuffers {
  Scratch<float> query, scores, sums;
  int64_t width;  // floats of a head's scores
  int64_t depth;  // floats of a head's query, or sums

  DecodingBuffers(int64_t longest, int64_t heads, int64_t size)
      : width(vectors(longest) * kLanes), depth(vectors(size) * kLanes) {
    query = scratch<float>(heads * depth);
    scores = scratch<float>(heads * width);
    sums = scratch<float>(heads * depth);
  }
};

// The sum of each vector's lanes.
inline Vec totals(Vec (&rows)[kLanes]) {
  transpose(rows);
#pragma GCC unroll 4
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int64_t i = 0; i < half; ++i) rows[i] = rows[i] + rows[i + half];
  return rows[0];
}

// scores[r] = q k' of one head and up to a vector of rows; keys: the head's, of row 0
template <typename scalar_t>
inline void score(
    const float* query, const scalar_t* keys, int64_t stride, const int64_t* rows, int64_t count, int64_t size,
    float* scores) {
  Vec sums[kLanes];
#pragma GCC unroll 16
  for (int64_t r = 0; r < kLanes; ++r) {
    Vec sum(0.f);
    if (r < count)
      for_each_vector(size, [&](int64_t i, int64_t n) {
        sum = at::vec::fmadd(Vec::loadu(query + i), load(keys + rows[r] * stride + i, n), sum);
      });
    sums[r] = sum;
  }
  totals(sums).store(scores);
}

// sums += p v of one head and some rows, for C vectors of the head's columns, of which the last has `last` lanes
template <int C, typename scalar_t>
inline void weigh(
    const float* weights, const scalar_t* values, int64_t stride, const int64_t* rows, int64_t count, int64_t last,
    float* sums) {
  Vec found[C];
#pragma GCC unroll 4
  for (int j = 0; j < C; ++j) found[j] = Vec::loadu(sums + j * kLanes);
  for (int64_t r = 0; r < count; ++r) {
    const Vec weight(weights[r]);
    const scalar_t* row = values + rows[r] * stride;
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      const Vec columns = load(row + j * kLanes, j + 1 < C ? kLanes : last);
      found[j] = at::vec::fmadd(weight, columns, found[j]);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < C; ++j) found[j].store(sums + j * kLanes);
}

template <typename scalar_t>
inline void weigh_all(
    const float* weights, const scalar_t* values, int64_t stride, const int64_t* rows, int64_t count, int64_t size,
    float* sums) {
  for (int64_t i = 0; i < size; i += 4 * kLanes) {
    const int64_t left = std::min(size - i, 4 * kLanes), last = (left - 1) % kLanes + 1;
    switch (vectors(left)) {
      case 1: weigh<1>(weights, values + i, stride, rows, count, last, sums + i); break;
      case 2: weigh<2>(weights, values + i, stride, rows, count, last, sums + i); break;
      case 3: weigh<3>(weights, values + i, stride, rows, count, last, sums + i); break;
      default: weigh<4>(weights, values + i, stride, rows, count, last, sums + i);
    }
  }
}

// A sequence's own keys and values, of some heads, into the cache.
template <typename scalar_t>
inline void write_own(const Decoding<scalar_t>& all, int64_t sequence, int64_t column, int64_t count) {
  const scalar_t* from = all.queries + sequence * all.stride + all.hidden() + column;
  const int64_t to = all.own[sequence] * all.hidden() + column;
  std::copy(from, from + count, all.keys + to);
  std::copy(from + all.hidden(), from + all.hidden() + count, all.values + to);
}

// The rows that come next lie anywhere, so the processor foresees none of them.
template <typename scalar_t>
inline void fetch_rows(const scalar_t* first, int64_t stride, const int64_t* rows, int64_t count, int64_t columns) {
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < columns; i += 64 / static_cast<int64_t>(sizeof(scalar_t)))
      __builtin_prefetch(first + rows[r] * stride + i, 0, 2);
}

// Some heads of one sequence.
template <typename scalar_t>
void attend_heads(
    const Decoding<scalar_t>& all, int64_t sequence, int64_t head, int64_t heads, DecodingBuffers& buffers) {
  const int64_t size = all.size, hidden = all.hidden(), column = head * size, tokens = all.lengths[sequence];
  const int64_t* rows = all.past + sequence * all.longest;
  float *query = buffers.query.get(), *scores = buffers.scores.get(), *sums = buffers.sums.get();
  if (all.own != nullptr) write_own(all, sequence, column, heads * size);
  const Vec scale(1.f / std::sqrt(static_cast<float>(size)));
  for (int64_t h = 0; h < heads; ++h)
    for_each_vector(size, [&](int64_t i, int64_t n) {
      (load(all.queries + sequence * all.stride + column + h * size + i, n) * scale)
          .store(query + h * buffers.depth + i);
    });
  const auto in_turn = [&](const scalar_t* first, const auto& one) {
    for (int64_t token = 0; token < tokens; token += kLanes) {
      const int64_t count = std::min(kLanes, tokens - token), next = token + count;
      fetch_rows(first, hidden, rows + next, std::min(kLanes, tokens - next), heads * size);
      for (int64_t h = 0; h < heads; ++h) one(h, token, count);
    }
  };
  in_turn(all.keys + column, [&](int64_t h, int64_t token, int64_t count) {
    score(
        query + h * buffers.depth, all.keys + column + h * size, hidden, rows + token, count, size,
        scores + h * buffers.width + token);
  });
  for (int64_t h = 0; h < heads; ++h) {
    float* row = scores + h * buffers.width;
    const float factor = 1.f / exponentials(row, tokens, vectors(tokens));
    for_each_vector(tokens, [&](int64_t i, int64_t n) { store(row + i, load(row + i, n) * Vec(factor), n); });
  }
  std::fill(sums, sums + heads * buffers.depth, 0.f);
  in_turn(all.values + column, [&](int64_t h, int64_t token, int64_t count) {
    weigh_all(
        scores + h * buffers.width + token, all.values + column + h * size, hidden, rows + token, count, size,
        sums + h * buffers.depth);
  });
  for (int64_t h = 0; h < heads; ++h)
    for_each_vector(size, [&](int64_t i, int64_t n) {
      store(all.out + sequence * hidden + column + h * size + i, load(sums + h * buffers.depth + i, n), n);
    });
}

template <typename scalar_t>
void attend_rows(const Decoding<scalar_t>& all, int64_t sequences) {
  at::parallel_for(0, sequences * all.heads, grain(2 * all.longest * all.size), [&](int64_t begin, int64_t end) {
    DecodingBuffers buffers(all.longest, std::min(all.heads, end - begin), all.size);
    while (begin < end) {
      const int64_t head = begin % all.heads, heads = std::min(all.heads - head, end - begin);
      attend_heads(all, begin / all.heads, head, heads, buffers);
      begin += heads;
    }
  });
}

}  // namespace
}  // namespace bertstream
