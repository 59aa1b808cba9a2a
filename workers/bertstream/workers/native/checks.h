// What operators ask of the tensors they are given.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>

namespace bertstream {
namespace {

void check_rows(const at::Tensor& x, const at::Tensor& like, const char* name) {
  TORCH_CHECK(like.is_contiguous() && like.sizes() == x.sizes(), name, " must be contiguous and of the shape of x");
  TORCH_CHECK(like.scalar_type() == x.scalar_type(), name, " must have the type of x");
}

void check_matrix(const at::Tensor& x, const char* name) {
  TORCH_CHECK(
      x.dim() == 2 && x.is_contiguous() && x.device().is_cpu(), name, " must be a contiguous matrix on the CPU");
  TORCH_CHECK(
      x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, name, " must be float32 or bfloat16");
}

// A row of parameters as contiguous float32, copied only where it must be.
at::Tensor as_float(const at::Tensor& parameter, int64_t size, const char* name) {
  TORCH_CHECK(parameter.dim() == 1 && parameter.size(0) == size, name, " must have ", size, " elements");
  return parameter.to(at::kFloat).contiguous();
}

// run(a null pointer of the tensor's own type)
template <typename Run>
void by_type(const at::Tensor& x, const Run& run) {
  if (x.scalar_type() == at::kFloat) {
    run(static_cast<float*>(nullptr));
  } else {
    run(static_cast<c10::BFloat16*>(nullptr));
  }
}

}  // namespace
}  // namespace bertstream
