// What ATen does not fuse, for CPU tensors in float32 and bfloat16. Everything is computed in float32 and rounded once.
// An operator works in place on its first argument, which a matrix product has just made, so nothing is allocated.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/cpu/vec/vec.h>
#include <c10/util/BFloat16.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace bertstream {
namespace {

using Vec = at::vec::Vectorized<float>;
constexpr int64_t kLanes = Vec::size();
// Fewer elements than this are not worth waking another thread for.
constexpr int64_t kGrain = 32768;

void check_rows(const at::Tensor& x, const at::Tensor& like, const char* name) {
  TORCH_CHECK(like.is_contiguous() && like.sizes() == x.sizes(), name, " must be contiguous and of the shape of x");
  TORCH_CHECK(like.scalar_type() == x.scalar_type(), name, " must have the type of x");
}

void check_x(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 2 && x.is_contiguous() && x.device().is_cpu(), "x must be a contiguous matrix on the CPU");
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "x must be float32 or bfloat16");
}

// A row of parameters as contiguous float32, copied only where it must be.
at::Tensor as_float(const at::Tensor& parameter, int64_t size, const char* name) {
  TORCH_CHECK(parameter.dim() == 1 && parameter.size(0) == size, name, " must have ", size, " elements");
  return parameter.to(at::kFloat).contiguous();
}

// dst = f(i, lane count) for all elements; f gets full vectors, then one shorter one.
template <typename Step>
inline void for_each_vector(int64_t size, const Step& step) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) step(i, kLanes);
  if (i < size) step(i, size - i);
}

inline void to_float(const float* from, float* to, int64_t size) { std::copy(from, from + size, to); }
inline void from_float(const float* from, float* to, int64_t size) { std::copy(from, from + size, to); }
inline void to_float(const c10::BFloat16* from, float* to, int64_t size) { at::vec::convert(from, to, size); }
inline void from_float(const float* from, c10::BFloat16* to, int64_t size) { at::vec::convert(from, to, size); }

inline float total(Vec values) {
  float lanes[kLanes];
  values.store(lanes);
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

// row = (row - mean) / sqrt(variance + eps) * weight + bias. Two passes, since sums of squares cancel.
void normalize(float* row, const float* weight, const float* bias, int64_t size, float eps) {
  Vec sum(0.f);
  for_each_vector(size, [&](int64_t i, int64_t n) { sum = sum + Vec::loadu(row + i, n); });  // absent lanes are 0
  const Vec mean(total(sum) / static_cast<float>(size));
  Vec squares(0.f);
  for_each_vector(size, [&](int64_t i, int64_t n) {
    const Vec centred = Vec::set(Vec(0.f), Vec::loadu(row + i, n) - mean, n);
    squares = at::vec::fmadd(centred, centred, squares);
  });
  const Vec scale(1.f / std::sqrt(total(squares) / static_cast<float>(size) + eps));
  for_each_vector(size, [&](int64_t i, int64_t n) {
    const Vec unit = (Vec::loadu(row + i, n) - mean) * scale;
    at::vec::fmadd(unit, Vec::loadu(weight + i, n), Vec::loadu(bias + i, n)).store(row + i, n);
  });
}

template <typename scalar_t>
void add_layer_norm_rows(
    scalar_t* x, const float* added, const scalar_t* residual, const float* weight, const float* bias, int64_t rows,
    int64_t size, float eps) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / size), [&](int64_t begin, int64_t end) {
    std::vector<float> row(size), other(size);
    for (int64_t r = begin; r < end; ++r) {
      to_float(x + r * size, row.data(), size);
      to_float(residual + r * size, other.data(), size);
      for_each_vector(size, [&](int64_t i, int64_t n) {
        const Vec biased = Vec::loadu(row.data() + i, n) + Vec::loadu(added + i, n);
        (biased + Vec::loadu(other.data() + i, n)).store(row.data() + i, n);
      });
      normalize(row.data(), weight, bias, size, eps);
      from_float(row.data(), x + r * size, size);
    }
  });
}

// x = LayerNorm(x + added + residual). x, residual: [T, H]; added, weight, bias: [H]
at::Tensor add_layer_norm_(
    at::Tensor x, const at::Tensor& added, const at::Tensor& residual, const at::Tensor& weight, const at::Tensor& bias,
    double eps) {
  check_x(x);
  check_rows(x, residual, "residual");
  const int64_t rows = x.size(0), size = x.size(1);
  const at::Tensor a = as_float(added, size, "added"), w = as_float(weight, size, "weight"),
                   b = as_float(bias, size, "bias");
  auto run = [&](auto* values, const auto* others) {
    add_layer_norm_rows(
        values, a.const_data_ptr<float>(), others, w.const_data_ptr<float>(), b.const_data_ptr<float>(), rows, size,
        static_cast<float>(eps));
  };
  if (x.scalar_type() == at::kFloat) {
    run(x.mutable_data_ptr<float>(), residual.const_data_ptr<float>());
  } else {
    run(x.mutable_data_ptr<c10::BFloat16>(), residual.const_data_ptr<c10::BFloat16>());
  }
  return x;
}

}  // namespace

TORCH_LIBRARY(bertstream, m) {
  m.def(
      "add_layer_norm_(Tensor(a!) x, Tensor added, Tensor residual, Tensor weight, Tensor bias, float eps) -> "
      "Tensor(a!)");
}

TORCH_LIBRARY_IMPL(bertstream, CPU, m) {
  m.impl("add_layer_norm_", &add_layer_norm_);
}

}  // namespace bertstream
