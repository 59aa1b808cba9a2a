// Linear layers of packed weights, with what follows them done while the numbers are at hand.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <optional>
#include <string_view>

#include "checks.h"
#include "float_products.h"
#include "products.h"
#include "rows.h"

namespace bertstream {
namespace {

constexpr int64_t kMostBytes = 66'000;  // times 255 times 127 is below 2^31

bool comes_in_rows(const at::Tensor& weights) { return weights.scalar_type() != at::kChar && weights.dim() == 2; }

void check_weights(const at::Tensor& weights, int64_t outputs, int64_t depth) {
  bool fits = outputs > 0 && depth > 0 && weights.is_contiguous() && weights.is_cpu();
  if (comes_in_rows(weights)) {
    fits = fits && weights.size(0) == outputs && weights.size(1) == depth;
  } else {
    const int64_t slice = kRowBytes / weights.element_size();  // 4 bytes of each of 16 outputs are a row
    fits = fits && weights.dim() == 5 && weights.size(0) == up_to(outputs, kBlock) / 16 &&
        weights.size(1) == up_to(depth, slice) / slice && weights.size(3) == 16 && weights.size(4) == slice;
  }
  TORCH_CHECK(fits, "packed must have the weights of ", depth, " inputs and ", outputs, " outputs");
}

// Of those that are not int8.
void check_exact(const at::Tensor& x, const at::Tensor& weights) {
  const bool floats = x.scalar_type() == at::kFloat;
  if (weights.scalar_type() == at::kFloat && (comes_in_rows(weights) || weights.size(2) == Floats::kPlanes)) return;
  if (weights.scalar_type() == at::kBFloat16 && comes_in_rows(weights) && !floats) return;
  TORCH_CHECK(
      weights.scalar_type() == at::kBFloat16 && !comes_in_rows(weights) && (floats ? has_amx() : has_bfloat16()) &&
          weights.size(2) == (floats ? Parts::kPlanes : Halves::kPlanes),
      "packed must be int8, float32, or bfloat16, with three planes for an x of float32, where there is AMX, and one for "
      "bfloat16, where the processor has products of it");
}

// Weights as models/packing.py makes them: packed [N / 16, K / depth, planes, 16, depth], float32, bfloat16 or int8, N
// padded to 32; or float32 or bfloat16 [N, K] as it is. Of int8 alone columns [2, N]: each output's scale and the sum of its
// weights, scaled; and factors [K], that x is multiplied by first, if any.
struct Linear {
  at::Tensor x, packed, bias, columns, factors;
  Weights weights;

  Linear(
      const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& columns,
      const std::optional<at::Tensor>& factors, const at::Tensor& bias)
      : x(x), packed(packed), bias(as_float(bias, bias.numel(), "bias")) {
    check_matrix(x, "x");
    const int64_t outputs = bias.numel(), depth = x.size(1);
    const bool bytes = packed.scalar_type() == at::kChar;
    check_weights(packed, outputs, depth);
    if (bytes) {
      TORCH_CHECK(
          packed.size(2) == 1 && columns && columns->dim() == 2 && columns->size(0) == 2 &&
              columns->size(1) == outputs && columns->is_contiguous() && columns->scalar_type() == at::kFloat,
          "columns must be [2, outputs] float32");
      this->columns = *columns;
      TORCH_CHECK(depth <= kMostBytes, "x must have at most ", kMostBytes, " inputs: sums of more may not fit 32 bits");
      if (factors) this->factors = as_float(*factors, depth, "factors");
    } else {
      check_exact(x, packed);
    }
    const float* rows = bytes ? this->columns.const_data_ptr<float>() : nullptr;
    weights = Weights{
        static_cast<const char*>(packed.const_data_ptr()), outputs, depth, this->bias.const_data_ptr<float>(), rows,
        bytes ? rows + outputs : nullptr, this->factors.defined() ? this->factors.const_data_ptr<float>() : nullptr,
        comes_in_rows(packed), packed.scalar_type() == at::kBFloat16};
  }

  // scalar_t: the type of x, which callers have found already
  template <typename scalar_t, typename Take, typename TakeRows>
  void run(const Take& take, const TakeRows& take_rows) const {
    if (x.size(0) == 0) return;
    const auto by = [&]<typename Kind>(Kind) {
      multiply<Kind>(x.const_data_ptr<scalar_t>(), x.size(0), weights, take, take_rows);
    };
    if (packed.scalar_type() == at::kChar) {
      by(Bytes());
    } else if (packed.scalar_type() == at::kFloat) {
      by(Floats());
    } else if constexpr (std::is_same_v<scalar_t, float>) {
#ifdef BERTSTREAM_AMX
      by(Parts());
#endif
    } else {
#ifdef BERTSTREAM_BFLOAT16
      if (has_bfloat16()) return by(Halves());
#endif
      by(Floats());  // of rows, which alone are bfloat16 where it is not multiplied
    }
  }
};

constexpr auto kNothing = [](int64_t, int64_t) {};

template <typename Activate>
at::Tensor activated(const Linear& linear, const Activate& activate) {
  const int64_t outputs = linear.weights.outputs;
  at::Tensor y = at::empty({linear.x.size(0), outputs}, linear.x.options());
  by_type(y, [&]<typename scalar_t>(scalar_t*) {
    scalar_t* to = y.mutable_data_ptr<scalar_t>();
    linear.run<scalar_t>(
        [&](int64_t row, int64_t output, auto n, Vec value) {
          store(to + row * outputs + output, activate(value), n);
        },
        kNothing);
  });
  return y;
}

// x W' + b. x: [T, K] -> [T, N]
at::Tensor linear(
    const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& columns,
    const std::optional<at::Tensor>& factors, const at::Tensor& bias) {
  return activated(Linear(x, packed, columns, factors, bias), [](Vec value) { return value; });
}

// GELU(x W' + b), by erf or, if `tanh`, by the tanh form. x: [T, K] -> [T, N]
at::Tensor linear_gelu(
    const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& columns,
    const std::optional<at::Tensor>& factors, const at::Tensor& bias,
    bool tanh) {
  const Linear product(x, packed, columns, factors, bias);
  if (tanh) return activated(product, TanhGelu());
  const bool rough = x.scalar_type() != at::kFloat || packed.scalar_type() == at::kChar;
  return rough ? activated(product, RoughGelu()) : activated(product, Gelu());
}

// to = combine(x W' + b, other), of which `to` may be `other`
template <typename Combine>
void combined(const Linear& linear, const at::Tensor& other, at::Tensor& to, const Combine& combine) {
  const int64_t outputs = linear.weights.outputs;
  by_type(to, [&]<typename scalar_t>(scalar_t*) {
    const scalar_t* from = other.const_data_ptr<scalar_t>();
    scalar_t* into = to.mutable_data_ptr<scalar_t>();
    linear.run<scalar_t>(
        [=](int64_t row, int64_t output, auto n, Vec value) {
          const int64_t at = row * outputs + output;
          store(into + at, combine(value, load(from + at, n)), n);
        },
        kNothing);
  });
}

void check_outputs(const Linear& linear, const at::Tensor& other, const char* name) {
  check_matrix(other, name);
  TORCH_CHECK(
      other.size(0) == linear.x.size(0) && other.size(1) == linear.weights.outputs &&
          other.scalar_type() == linear.x.scalar_type(),
      name, " must have a row for each of x, a column for each output, and the type of x");
}

// x W' + b + residual. x: [T, K]; residual: [T, N] -> [T, N]
at::Tensor linear_add(
    const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& columns,
    const std::optional<at::Tensor>& factors, const at::Tensor& bias, const at::Tensor& residual) {
  const Linear product(x, packed, columns, factors, bias);
  check_outputs(product, residual, "residual");
  at::Tensor y = at::empty_like(residual);
  combined(product, residual, y, [](Vec value, Vec other) { return value + other; });
  return y;
}

// y = activation(x W' + b) y, as gated linear units need it (arXiv 2002.05202). x: [T, K]; y: [T, N]
at::Tensor linear_gate_(
    at::Tensor y, const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& columns,
    const std::optional<at::Tensor>& factors, const at::Tensor& bias, std::string_view activation) {
  const Linear product(x, packed, columns, factors, bias);
  check_outputs(product, y, "y");
  const auto by = [&](const auto& activate) {
    combined(product, y, y, [&](Vec value, Vec other) { return activate(value) * other; });
  };
  if (activation == "silu") {
    by(Silu());
  } else if (activation == "gelu_tanh") {
    by(TanhGelu());
  } else {
    TORCH_CHECK(activation == "gelu", "activation must be gelu, gelu_tanh or silu");
    const bool rough = x.scalar_type() != at::kFloat || packed.scalar_type() == at::kChar;
    rough ? by(RoughGelu()) : by(Gelu());
  }
  return y;
}

// LayerNorm(values + residual), the values being taken as they come: summed in float32 and rounded once.
struct Normalized {
  at::Tensor y, residual, sums, weight, bias;
  int64_t size;
  float eps;

  Normalized(
      const at::Tensor& residual, int64_t size, const at::Tensor& weight, const at::Tensor& bias, double eps)
      : residual(residual), weight(as_float(weight, size, "weight")), bias(as_float(bias, size, "norm_bias")),
        size(size), eps(static_cast<float>(eps)) {
    y = at::empty_like(residual);
    sums = y.scalar_type() == at::kFloat ? y : at::empty(residual.sizes(), residual.options().dtype(at::kFloat));
  }

  template <typename scalar_t>
  auto take() {
    return [size = size, total = sums.mutable_data_ptr<float>(), other = residual.const_data_ptr<scalar_t>()](
               int64_t row, int64_t output, auto n, Vec value) {
      const int64_t at = row * size + output;
      store(total + at, value + load(other + at, n), n);
    };
  }

  template <typename scalar_t>
  auto take_rows() {
    return [this, total = sums.const_data_ptr<float>(), to = y.mutable_data_ptr<scalar_t>(),
            w = weight.const_data_ptr<float>(), b = bias.const_data_ptr<float>()](int64_t first, int64_t end) {
      for (int64_t row = first; row < end; ++row) normalize(total + row * size, to + row * size, w, b, size, eps);
    };
  }
};

// LayerNorm(x W' + b + residual). x: [T, K]; residual: [T, H]; weight, norm_bias: [H] -> [T, H]
at::Tensor linear_add_layer_norm(
    const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& columns,
    const std::optional<at::Tensor>& factors, const at::Tensor& bias, const at::Tensor& residual,
    const at::Tensor& weight, const at::Tensor& norm_bias, double eps) {
  const Linear product(x, packed, columns, factors, bias);
  check_matrix(residual, "residual");
  TORCH_CHECK(
      residual.size(0) == x.size(0) && residual.size(1) == product.weights.outputs &&
          residual.scalar_type() == x.scalar_type(),
      "residual must be [T, H], of the type of x");
  Normalized normalized(residual, product.weights.outputs, weight, norm_bias, eps);
  by_type(x, [&]<typename scalar_t>(scalar_t*) {
    product.run<scalar_t>(normalized.template take<scalar_t>(), normalized.template take_rows<scalar_t>());
  });
  return normalized.y;
}

}  // namespace
}  // namespace bertstream
