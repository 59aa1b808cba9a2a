// Passes over the rows of a matrix that a product has just made, in place, so that nothing is allocated.

#pragma once

#include <ATen/Parallel.h>

#include <cmath>
#include <vector>

#include "vectors.h"

namespace bertstream {
namespace {

// Fewer elements than this are not worth waking another thread for.
constexpr int64_t kGrain = 32768;

// Rows of `size` elements, which may be none, that are worth a thread.
inline int64_t grain(int64_t size) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, size)); }

// to = (row - mean) / sqrt(variance + eps) * weight + bias. Two passes, since sums of squares cancel.
template <typename scalar_t>
void normalize(const float* row, scalar_t* to, const float* weight, const float* bias, int64_t size, float eps) {
  const Vec mean(total(folded(size, 0.f, Sum(), [&](int64_t i, int64_t n) { return load(row + i, n); })) / size);
  const Vec squares = folded(size, 0.f, Sum(), [&](int64_t i, int64_t n) {
    const Vec centred = first_lanes(load(row + i, n) - mean, n, 0.f);
    return centred * centred;
  });
  const Vec scale(1.f / std::sqrt(total(squares) / static_cast<float>(size) + eps));
  for_each_vector(size, [&](int64_t i, int64_t n) {
    const Vec unit = (load(row + i, n) - mean) * scale;
    store(to + i, at::vec::fmadd(unit, load(weight + i, n), load(bias + i, n)), n);
  });
}

template <typename scalar_t>
void add_layer_norm_rows(
    scalar_t* x, const float* added, const scalar_t* residual, const float* weight, const float* bias, int64_t rows,
    int64_t size, float eps) {
  at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
    std::vector<float> row(size);
    for (int64_t r = begin; r < end; ++r) {
      scalar_t* to = x + r * size;
      const scalar_t* other = residual + r * size;
      for_each_vector(size, [&](int64_t i, int64_t n) {
        store(row.data() + i, load(to + i, n) + load(added + i, n) + load(other + i, n), n);
      });
      normalize(row.data(), to, weight, bias, size, eps);
    }
  });
}

// P of v^2 / end^2, its powers being those of a variable from -1 to 1, so that no large terms cancel.
template <size_t Count>
inline Vec polynomial(const float (&factors)[Count], Vec v, float end) {
  const Vec u = at::vec::fmadd(v * v, Vec(2.f / (end * end)), Vec(-1.f));
  Vec sum(factors[0]);
#pragma GCC unroll 16
  for (size_t i = 1; i < Count; ++i) sum = at::vec::fmadd(sum, u, Vec(factors[i]));
  return sum;
}

// x Phi(x), Phi being the normal distribution's function: 1/2 + x P(x^2) up to 5.2, and from there 0 or 1.
// P is fitted for the smallest error of the whole, which is below 1e-6 everywhere.
struct Gelu {
  Vec operator()(Vec x) const {
    constexpr float kEnd = 5.2f;
    constexpr float kFactors[] = {
        -0.0003882423625327647f, 0.0011886886786669493f, -0.0014687542570754886f, 0.0020051728934049606f,
        -0.004542332608252764f,  0.008365103043615818f,  -0.012619650922715664f,  0.01803877018392086f,
        -0.02469884231686592f,   0.03197391703724861f,   -0.03993198648095131f,   0.050025615841150284f,
        -0.06774362176656723f,   0.1359499841928482f};
    const Vec phi = at::vec::fmadd(x, polynomial(kFactors, x, kEnd), Vec(0.5f));
    const Vec above = Vec::blendv(phi, Vec(1.f), x > Vec(kEnd));
    return x * Vec::blendv(above, Vec(0.f), x < Vec(-kEnd));
  }
};

// The same for what is rounded to bfloat16 or int8 next: within 8e-5.
struct RoughGelu {
  Vec operator()(Vec x) const {
    constexpr float kEnd = 4.2f;
    constexpr float kFactors[] = {-0.003744357430365142f, 0.011175798037347095f, -0.016467077689005082f,
                                  0.023777671083888965f,  -0.0379262276957425f,  0.0559487264280268f,
                                  -0.0815714717805543f,   0.16785455809402317f};
    const Vec v = larger(Vec(-kEnd), smaller(Vec(kEnd), x));  // in this order a NaN stays one
    return x * at::vec::fmadd(v, polynomial(kFactors, v, kEnd), Vec(0.5f));  // P of kEnd makes it 0 or 1
  }
};

// x / 2 (1 + tanh(y)) = x / (1 + e^-2y), with y = sqrt(2 / pi) (x + 0.044715 x^3).
struct TanhGelu {
  Vec operator()(Vec x) const {
    const Vec twice = x * at::vec::fmadd(x * x, Vec(0.0713548162726f), Vec(1.59576912160573f));
    const Vec power = exp_negative(Vec(0.f) - twice.abs());  // of what is at most 0, so that it cannot overflow
    return x * Vec::blendv(Vec(1.f), power, twice < Vec(0.f)) / (Vec(1.f) + power);
  }
};

// x / (1 + e^-x)
struct Silu {
  Vec operator()(Vec x) const {
    const Vec power = exp_negative(Vec(0.f) - x.abs());  // of what is at most 0, so that it cannot overflow
    return x * Vec::blendv(Vec(1.f), power, x < Vec(0.f)) / (Vec(1.f) + power);
  }
};

template <typename scalar_t, typename Activation>
void add_activate_rows(scalar_t* x, const float* added, int64_t rows, int64_t size, const Activation& activation) {
  at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      scalar_t* row = x + r * size;
      for_each_vector(size, [&](int64_t i, int64_t n) {
        store(row + i, activation(load(row + i, n) + load(added + i, n)), n);
      });
    }
  });
}

// Rotary positions (arXiv 2104.09864): number i of a query's or key's first half, and number i of its second half, are a
// point of a plane, which is turned by an angle. qkv: [rows, 3, heads, size]; cosines, sines: [rows, size / 2]
template <typename scalar_t>
void rotate_rows(
    scalar_t* qkv, const float* cosines, const float* sines, int64_t rows, int64_t heads, int64_t size) {
  const int64_t half = size / 2;
  at::parallel_for(0, rows, grain(2 * heads * size), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t head = 0; head < 2 * heads; ++head) {  // of queries, then of keys
        scalar_t *low = qkv + (r * 3 * heads + head) * size, *high = low + half;
        for_each_vector(half, [&](int64_t i, int64_t n) {
          const Vec a = load(low + i, n), b = load(high + i, n);
          const Vec cosine = load(cosines + r * half + i, n), sine = load(sines + r * half + i, n);
          store(low + i, a * cosine - b * sine, n);
          store(high + i, b * cosine + a * sine, n);
        });
      }
  });
}

}  // namespace
}  // namespace bertstream
