// What ATen does not fuse, for CPU tensors in float32 and bfloat16. Everything is computed in float32 and rounded once.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <string>

#include "bfloat16_attention.h"
#include "checks.h"
#include "decode_attention.h"
#include "disentangled_attention.h"
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
void by_way(int64_t size, bool plain, const Run& run) {
#ifdef BERTSTREAM_BFLOAT16
  if constexpr (std::is_same_v<scalar_t, c10::BFloat16>)
    if (!plain && takes_bfloat16(size)) {
#ifdef BERTSTREAM_AMX
      if (has_amx()) return run(static_cast<Bfloat16Attention<AmxProducts>*>(nullptr));
#endif
      return run(static_cast<Bfloat16Attention<VectorProducts>*>(nullptr));
    }
#endif
  run(static_cast<Attention<scalar_t>*>(nullptr));
}

// softmax(q k' / sqrt(H / heads) + d) v within each text. qkv: [T, 3H]; bias, to be added to it first: [3H]; distances:
// [heads, 2 span - 1], d of a key that stands from 1 - span to span - 1 tokens after its query; window: tokens that a
// query sees on both sides, -1 for all -> [T, H]
at::Tensor attention(
    const at::Tensor& qkv, const std::optional<at::Tensor>& bias, const at::Tensor& cu_seqlens, int64_t heads,
    bool causal, const std::optional<at::Tensor>& distances, int64_t window) {
  check_matrix(qkv, "qkv");
  TORCH_CHECK(heads > 0 && qkv.size(1) % (3 * heads) == 0, "qkv must have three times as many columns as all heads");
  check_texts(cu_seqlens, qkv.size(0));
  const int64_t hidden = qkv.size(1) / 3;
  const at::Tensor b = bias ? as_float(*bias, 3 * hidden, "bias") : at::Tensor();
  const int64_t span = distances ? span_of(*distances, heads, cu_seqlens) : 0;
  TORCH_CHECK(window >= -1, "window must be a number of tokens, or -1");
  const int64_t reach = window < 0 ? Sight::kAll : std::min(window, Sight::kAll);
  const Sight sight{reach, causal ? 0 : reach};
  at::Tensor out = at::empty({qkv.size(0), hidden}, qkv.options());
  by_type(qkv, [&]<typename scalar_t>(scalar_t*) {
    by_way<scalar_t>(hidden / heads, distances.has_value() || window >= 0, [&]<typename Way>(Way*) {
      attend_all<Way>(
          qkv.const_data_ptr<scalar_t>(), bias ? b.const_data_ptr<float>() : nullptr,
          cu_seqlens.const_data_ptr<int32_t>(), cu_seqlens.size(0) - 1, heads, hidden, sight,
          distances ? distances->const_data_ptr<float>() : nullptr, span, out.mutable_data_ptr<scalar_t>());
    });
  });
  return out;
}

// Turns queries and keys by their positions. qkv: [T, 3H]; cosines, sines: [T, H / heads / 2], of each token's angles
at::Tensor rotate_(at::Tensor qkv, const at::Tensor& cosines, const at::Tensor& sines, int64_t heads) {
  check_matrix(qkv, "qkv");
  TORCH_CHECK(
      heads > 0 && qkv.size(1) % (6 * heads) == 0, "qkv must have three times as many columns as all heads, of even size");
  for (const at::Tensor& each : {cosines, sines})
    TORCH_CHECK(
        each.dim() == 2 && each.size(0) == qkv.size(0) && each.size(1) == qkv.size(1) / (6 * heads) &&
            each.is_contiguous() && each.device().is_cpu() && each.scalar_type() == at::kFloat,
        "cosines and sines must be contiguous float32 on the CPU, half a head for each token");
  by_type(qkv, [&]<typename scalar_t>(scalar_t*) {
    rotate_rows(
        qkv.mutable_data_ptr<scalar_t>(), cosines.const_data_ptr<float>(), sines.const_data_ptr<float>(), qkv.size(0),
        heads, qkv.size(1) / (3 * heads));
  });
  return qkv;
}

void check_positions(const at::Tensor& table, const at::Tensor& qkv, int64_t heads, const char* name) {
  TORCH_CHECK(
      table.dim() == 3 && table.size(0) == heads && table.size(1) > 0 && table.size(2) * heads * 3 == qkv.size(1) &&
          table.is_contiguous() && table.device().is_cpu() && table.scalar_type() == qkv.scalar_type(),
      name, " must be contiguous on the CPU, of the type of qkv, for each head rows of its size");
}

// The buckets of [2 span - 1] distances -> span, of which no text may be longer
int64_t span_of_buckets(const at::Tensor& buckets, const at::Tensor& cu_seqlens, int64_t count) {
  TORCH_CHECK(
      buckets.dim() == 1 && buckets.size(0) % 2 == 1 && buckets.is_contiguous() && buckets.device().is_cpu() &&
          buckets.scalar_type() == at::kLong,
      "buckets must be an odd number of int64 on the CPU");
  const int64_t span = buckets.size(0) / 2 + 1, *first = buckets.const_data_ptr<int64_t>();
  TORCH_CHECK(
      std::all_of(first, first + buckets.size(0), [&](int64_t each) { return each >= 0 && each < count; }),
      "buckets must be rows of the vectors of positions");
  const int32_t* starts = cu_seqlens.const_data_ptr<int32_t>();
  for (int64_t i = 0; i + 1 < cu_seqlens.size(0); ++i)
    TORCH_CHECK(starts[i + 1] - starts[i] <= span, "buckets must reach from the first token of a text to its last");
  return span;
}

// softmax((q k' + q kp' + qp k') scale) v within each text. qkv: [T, 3H]; keys, queries: [heads, B, H / heads], of each
// bucket of distances the key's vector kp and the query's qp, either of which may be left out; buckets: [2 span - 1],
// of a key that stands from 1 - span to span - 1 tokens after its query -> [T, H]
at::Tensor disentangled_attention(
    const at::Tensor& qkv, const at::Tensor& cu_seqlens, int64_t heads, const std::optional<at::Tensor>& keys,
    const std::optional<at::Tensor>& queries, const at::Tensor& buckets, double scale) {
  check_matrix(qkv, "qkv");
  TORCH_CHECK(heads > 0 && qkv.size(1) % (3 * heads) == 0, "qkv must have three times as many columns as all heads");
  check_texts(cu_seqlens, qkv.size(0));
  if (keys) check_positions(*keys, qkv, heads, "keys");
  if (queries) check_positions(*queries, qkv, heads, "queries");
  TORCH_CHECK(!keys || !queries || keys->size(1) == queries->size(1), "keys and queries must have as many rows");
  const int64_t count = keys ? keys->size(1) : queries ? queries->size(1) : INT64_MAX;
  const int64_t span = span_of_buckets(buckets, cu_seqlens, count), hidden = qkv.size(1) / 3;
  at::Tensor out = at::empty({qkv.size(0), hidden}, qkv.options());
  if (out.numel() == 0) return out;
  by_type(qkv, [&]<typename scalar_t>(scalar_t*) {
    const Distances distances = lay_out_distances<scalar_t>(
        keys ? keys->const_data_ptr<scalar_t>() : nullptr, queries ? queries->const_data_ptr<scalar_t>() : nullptr,
        buckets.const_data_ptr<int64_t>(), count, span, heads, hidden / heads);
    attend_all_disentangled(
        qkv.const_data_ptr<scalar_t>(), cu_seqlens.const_data_ptr<int32_t>(), cu_seqlens.size(0) - 1, hidden, distances,
        static_cast<float>(scale), out.mutable_data_ptr<scalar_t>());
  });
  return out;
}

void check_decoding(
    const at::Tensor& x, const at::Tensor& cache, const std::optional<at::Tensor>& own, const at::Tensor& past,
    const at::Tensor& lengths) {
  const auto are_rows = [](const at::Tensor& rows) {
    return rows.is_contiguous() && rows.device().is_cpu() && rows.scalar_type() == at::kLong;
  };
  const int64_t sequences = x.size(0), hidden = cache.size(2), there = cache.size(1);
  TORCH_CHECK(
      x.size(1) == (own ? 3 : 1) * hidden, "x must have the cache's columns, three times with rows to write to");
  TORCH_CHECK(
      past.dim() == 2 && past.size(0) == sequences && are_rows(past),
      "past must be contiguous int64 on the CPU, a line for each row of x");
  TORCH_CHECK(
      lengths.sizes() == at::IntArrayRef{sequences} && are_rows(lengths),
      "lengths must be contiguous int64 on the CPU, one for each row of x");
  TORCH_CHECK(
      !own || (own->sizes() == at::IntArrayRef{sequences} && are_rows(*own)),
      "rows must be contiguous int64 on the CPU, one for each row of x");
  const auto is_there = [there](int64_t row) { return row >= 0 && row < there; };
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t* line = past.const_data_ptr<int64_t>() + i * past.size(1);
    const int64_t length = lengths.const_data_ptr<int64_t>()[i];
    TORCH_CHECK(length > 0 && length <= past.size(1), "lengths must be from 1 to the columns of past");
    TORCH_CHECK(std::all_of(line, line + length, is_there), "past must name rows of the cache");
    TORCH_CHECK(!own || is_there(own->const_data_ptr<int64_t>()[i]), "rows must be rows of the cache");
  }
}

// softmax(q k' / sqrt(H / heads)) v, of one query a sequence and the rows of the cache that `past` names. x: [B, H], or
// [B, 3H] of queries, keys and values, of which the latter two are written to `rows` [B] of the cache first. cache: [2,
// rows, H]; past: [B, M], of which the first `lengths` [B] count -> [B, H]
at::Tensor decode_attention(
    const at::Tensor& x, at::Tensor cache, const std::optional<at::Tensor>& rows, const at::Tensor& past,
    const at::Tensor& lengths, int64_t heads) {
  check_matrix(x, "x");
  TORCH_CHECK(
      cache.dim() == 3 && cache.size(0) == 2 && cache.is_contiguous() && cache.device().is_cpu() &&
          cache.scalar_type() == x.scalar_type(),
      "cache must be contiguous keys and values on the CPU, of the type of x");
  TORCH_CHECK(heads > 0 && cache.size(2) % heads == 0, "the cache must have as many columns as all heads");
  check_decoding(x, cache, rows, past, lengths);
  const int64_t hidden = cache.size(2);
  at::Tensor out = at::empty({x.size(0), hidden}, x.options());
  if (out.numel() == 0) return out;
  by_type(x, [&]<typename scalar_t>(scalar_t*) {
    scalar_t* keys = cache.mutable_data_ptr<scalar_t>();
    const int64_t* own = rows ? rows->const_data_ptr<int64_t>() : nullptr;
    attend_rows(
        Decoding<scalar_t>{
            x.const_data_ptr<scalar_t>(), keys, keys + cache.size(1) * hidden, own, past.const_data_ptr<int64_t>(),
            lengths.const_data_ptr<int64_t>(), out.mutable_data_ptr<scalar_t>(), x.size(1), past.size(1), heads,
            hidden / heads},
        x.size(0));
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
  if (has_dots()) found += "+dotprod";
  if (has_bfloat16()) found += "+bf16";
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
      "attention(Tensor qkv, Tensor? bias, Tensor cu_seqlens, int heads, bool causal, Tensor? distances=None, "
      "int window=-1) -> Tensor");
  m.def("rotate_(Tensor(a!) qkv, Tensor cosines, Tensor sines, int heads) -> Tensor(a!)");
  m.def(
      "disentangled_attention(Tensor qkv, Tensor cu_seqlens, int heads, Tensor? keys, Tensor? queries, Tensor buckets, "
      "float scale) -> Tensor");
  m.def(
      "decode_attention(Tensor x, Tensor(a!) cache, Tensor? rows, Tensor past, Tensor lengths, int heads) -> Tensor");
  m.def("linear(Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias) -> Tensor");
  m.def("linear_gelu(Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias, bool tanh) -> Tensor");
  m.def(
      "linear_gate_(Tensor(a!) y, Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias, "
      "str activation) -> Tensor(a!)");
  m.def(
      "linear_add(Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias, Tensor residual) -> Tensor");
  m.def(
      "linear_add_layer_norm(Tensor x, Tensor packed, Tensor? columns, Tensor? factors, Tensor bias, Tensor residual, "
      "Tensor weight, Tensor norm_bias, float eps) -> Tensor");
  m.def("quantize_rows(Tensor x) -> (Tensor, Tensor)");
  m.def("add_gelu_quantize_rows(Tensor x, Tensor added, bool tanh) -> (Tensor, Tensor)");
  m.def("has_amx() -> bool", &has_amx);
  m.def("has_bfloat16() -> bool", &has_bfloat16);
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
  m.impl("rotate_", &rotate_);
  m.impl("decode_attention", &decode_attention);
  m.impl("disentangled_attention", &disentangled_attention);
  m.impl("linear", &linear);
  m.impl("linear_gelu", &linear_gelu);
  m.impl("linear_gate_", &linear_gate_);
  m.impl("linear_add", &linear_add);
  m.impl("linear_add_layer_norm", &linear_add_layer_norm);
}

}  // namespace bertstream
