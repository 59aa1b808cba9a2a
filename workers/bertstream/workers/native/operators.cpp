// What ATen does not fuse, for CPU tensors in float32 and bfloat16. Everything is computed in float32 and rounded once.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <string>

#include "amx_attention.h"
#include "checks.h"
#include "float8.h"
#include "linear.h"
#include "rows.h"

namespace bertstream {
namespace {

// x = LayerNorm(x + added + residual). x, residual: [T, H]; added, weight, bias: [H]
at::Tensor add_layer_norm_(
    at::Tensor x, const at::Tensor& added, const at::Tensor& residual, const at::Tensor& weight, const at::Tensor& bias,
    double eps) {
  check_matrix(x, "x");
  check_rows(x, residual, "residual");
  const int64_t rows = x.size(0), size = x.size(1);
  const at::Tensor a = as_float(added, size, "added"), w = as_float(weight, size, "weight"),
                   b = as_float(bias, size, "bias");
  by_type(x, [&]<typename scalar_t>(scalar_t*) {
    add_layer_norm_rows(
        x.mutable_data_ptr<scalar_t>(), a.const_data_ptr<float>(), residual.const_data_ptr<scalar_t>(),
        w.const_data_ptr<float>(), b.const_data_ptr<float>(), rows, size, static_cast<float>(eps));
  });
  return x;
}

// x = GELU(x + added), by erf or, if `tanh`, by the tanh form. x: [T, I]; added: [I]
at::Tensor add_gelu_(at::Tensor x, const at::Tensor& added, bool tanh) {
  check_matrix(x, "x");
  const int64_t rows = x.size(0), size = x.size(1);
  const at::Tensor a = as_float(added, size, "added");
  by_type(x, [&]<typename scalar_t>(scalar_t*) {
    scalar_t* values = x.mutable_data_ptr<scalar_t>();
    if (tanh) {
      add_activate_rows(values, a.const_data_ptr<float>(), rows, size, TanhGelu());
    } else {
      add_activate_rows(values, a.const_data_ptr<float>(), rows, size, Gelu());
    }
  });
  return x;
}

void check_texts(const at::Tensor& cu_seqlens, int64_t tokens) {
  TORCH_CHECK(
      cu_seqlens.dim() == 1 && cu_seqlens.size(0) > 0 && cu_seqlens.is_contiguous() && cu_seqlens.device().is_cpu() &&
          cu_seqlens.scalar_type() == at::kInt,
      "cu_seqlens must be a contiguous row of int32 on the CPU");
  const int32_t* starts = cu_seqlens.const_data_ptr<int32_t>();
  const int64_t texts = cu_seqlens.size(0) - 1;
  TORCH_CHECK(
      starts[0] == 0 && starts[texts] == tokens && std::is_sorted(starts, starts + texts + 1),
      "cu_seqlens must rise from 0 to the number of tokens");
}

// [heads, 2 span - 1] -> span, of which no text may be longer
int64_t span_of(const at::Tensor& distances, int64_t heads, const at::Tensor& cu_seqlens) {
  TORCH_CHECK(
      distances.dim() == 2 && distances.size(0) == heads && distances.size(1) % 2 == 1 && distances.is_contiguous() &&
          distances.device().is_cpu() && distances.scalar_type() == at::kFloat,
      "distances must be contiguous float32 on the CPU, of each head an odd number");
  const int64_t span = distances.size(1) / 2 + 1;
  const int32_t* starts = cu_seqlens.const_data_ptr<int32_t>();
  for (int64_t i = 0; i + 1 < cu_seqlens.size(0); ++i)
    TORCH_CHECK(starts[i + 1] - starts[i] <= span, "distances must reach from the first token of a text to its last");
  return span;
}

template <typename scalar_t, typename Run>
void by_way(int64_t size, bool has_distances, const Run& run) {
#ifdef BERTSTREAM_AMX
  if constexpr (std::is_same_v<scalar_t, c10::BFloat16>)
    if (!has_distances && AmxAttention::takes(size)) return run(static_cast<AmxAttention*>(nullptr));
#endif
  run(static_cast<Attention<scalar_t>*>(nullptr));
}

// softmax(q k' / sqrt(H / heads) + d) v within each text. qkv: [T, 3H]; bias, to be added to it first: [3H]; distances:
// [heads, 2 span - 1], d of a key that stands from 1 - span to span - 1 tokens after its query -> [T, H]
at::Tensor attention(
    const at::Tensor& qkv, const std::optional<at::Tensor>& bias, const at::Tensor& cu_seqlens, int64_t heads,
    bool causal, const std::optional<at::Tensor>& distances) {
  check_matrix(qkv, "qkv");
  TORCH_CHECK(heads > 0 && qkv.size(1) % (3 * heads) == 0, "qkv must have three times as many columns as all heads");
  check_texts(cu_seqlens, qkv.size(0));
  const int64_t hidden = qkv.size(1) / 3;
  const at::Tensor b = bias ? as_float(*bias, 3 * hidden, "bias") : at::Tensor();
  const int64_t span = distances ? span_of(*distances, heads, cu_seqlens) : 0;
  at::Tensor out = at::empty({qkv.size(0), hidden}, qkv.options());
  by_type(qkv, [&]<typename scalar_t>(scalar_t*) {
    by_way<scalar_t>(hidden / heads, distances.has_value(), [&]<typename Way>(Way*) {
      attend_all<Way>(
          qkv.const_data_ptr<scalar_t>(), bias ? b.const_data_ptr<float>() : nullptr,
          cu_seqlens.const_data_ptr<int32_t>(), cu_seqlens.size(0) - 1, heads, hidden, causal,
          distances ? distances->const_data_ptr<float>() : nullptr, span, out.mutable_data_ptr<scalar_t>());
    });
  });
  return out;
}

// What the operators use here, as people are told: "avx512+vnni".
std::string instructions() {
#if defined(CPU_CAPABILITY_AVX512)
  std::string found = "avx512";
#elif defined(CPU_CAPABILITY_AVX2)
  std::string found = "avx2";
#else
  std::string found = "portable";
#endif
  if (has_vnni()) found += "+vnni";
  if (has_amx()) found += "+amx";
  return found;
}

}  // namespace

TORCH_LIBRARY(bertstream, m) {
  m.def(
      "add_layer_norm_(Tensor(a!) x, Tensor added, Tensor residual, Tensor weight, Tensor bias, float eps) -> "
      "Tensor(a!)");
  m.def("add_gelu_(Tensor(a!) x, Tensor added, bool tanh) -> Tensor(a!)");
  m.def(
      "attention(Tensor qkv, Tensor? bias, Tensor cu_seqlens, int heads, bool causal, Tensor? distances=None) -> Tensor");
  m.def("linear(Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias) -> Tensor");
  m.def("linear_gelu(Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias, bool tanh) -> Tensor");
  m.def(
      "linear_add_layer_norm(Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias, Tensor residual, Tensor weight, "
      "Tensor norm_bias, float eps) -> Tensor");
  m.def("quantize_rows(Tensor x) -> (Tensor, Tensor)");
  m.def("add_gelu_quantize_rows(Tensor x, Tensor added, bool tanh) -> (Tensor, Tensor)");
  m.def("has_amx() -> bool", &has_amx);
  m.def("instructions() -> str", &instructions);
  m.def("has_vectors() -> bool", &has_vectors);
}

// By ATen wherever nothing better is registered: only GPUs take products of fp8.
TORCH_LIBRARY_IMPL(bertstream, CompositeExplicitAutograd, m) {
  m.impl("quantize_rows", &quantize_rows);
  m.impl("add_gelu_quantize_rows", &add_gelu_quantize_rows);
}

TORCH_LIBRARY_IMPL(bertstream, CPU, m) {
  m.impl("add_layer_norm_", &add_layer_norm_);
  m.impl("add_gelu_", &add_gelu_);
  m.impl("attention", &attention);
  m.impl("linear", &linear);
  m.impl("linear_gelu", &linear_gelu);
  m.impl("linear_add_layer_norm", &linear_add_layer_norm);
}

}  // namespace bertstream
