// Rows as 8-bit floats with a scale each, by ATen: on the CPU, and on CUDA where kernels do not take them. The kernels
// and models/float8.py have the same numbers.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/gelu.h>

#include <tuple>

namespace bertstream {

// x: [T, K] -> float8 [T, K], scales [T, 1] float32
inline std::tuple<at::Tensor, at::Tensor> quantize_rows(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 2, "x must be a matrix");
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scales = wide.abs().amax({1}, true).clamp_min(1e-30).mul(1. / 448.);  // 1 / scale is finite
  return {wide.mul(scales.reciprocal()).to(at::kFloat8_e4m3fn), scales};
}

// GELU(x + added), by erf or, if `tanh`, by the tanh form. x: [T, I]; added: [I] -> float8 [T, I], scales [T, 1] of
// float32
inline std::tuple<at::Tensor, at::Tensor> add_gelu_quantize_rows(
    const at::Tensor& x, const at::Tensor& added, bool tanh) {
  return quantize_rows(at::gelu(x.to(at::kFloat).add(added), tanh ? "tanh" : "none"));
}

}  // namespace bertstream
