// The operators on CUDA: kernels.cu, compiled to a cubin that is part of this library, launched by the driver's own
// interface. So neither CUDA's headers nor its libraries are needed here, and torch's build without CUDA compiles this.
//
// Kernels run on a device once `use_cuda_kernels` has said so for it, and not on what they do not take: ATen does the
// same then.

#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/library.h>

#include <array>
#include <atomic>
#include <string>

#include "../float8.h"

asm(R"(
.section .rodata
.balign 64
.globl bertstream_cubin
.hidden bertstream_cubin
bertstream_cubin:
.incbin ")" BERTSTREAM_CUBIN R"("
.byte 0
.text
)");

extern "C" const unsigned char bertstream_cubin[];

namespace bertstream {
namespace {

// The driver's interface, as far as it is used.
using Status = int;  // 0 for success
struct Driver {
  Status (*load)(void** module, const void* image) = nullptr;
  Status (*find)(void** function, void* module, const char* name) = nullptr;
  Status (*launch)(
      void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
      unsigned block_z, unsigned shared_bytes, void* stream, void** arguments, void** extra) = nullptr;

  Driver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == nullptr) return;
    get(library, "cuModuleLoadData", load);
    get(library, "cuModuleGetFunction", find);
    get(library, "cuLaunchKernel", launch);
  }

  bool complete() const { return load != nullptr && find != nullptr && launch != nullptr; }

 private:
  template <typename Function>
  static void get(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
  }
};

const Driver& driver() {
  static const Driver found;
  return found;
}

constexpr int kTypes = 3;
constexpr const char* kTypeNames[kTypes] = {"float32", "float16", "bfloat16"};
constexpr int kMostDevices = 64;
constexpr int64_t kMostColumns = 8192;  // a row has to fit the memory that a block's threads share

struct Kernels {
  std::array<void*, kTypes> add_layer_norm{}, add_gelu{}, add_tanh_gelu{}, quantize_rows{}, add_gelu_quantize_rows{};
};

struct OnDevice {
  Kernels kernels;
  bool loaded = false;
  std::atomic<bool> used{false};
};

OnDevice devices[kMostDevices];

int type_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return 0;
    case at::kHalf:
      return 1;
    case at::kBFloat16:
      return 2;
    default:
      return -1;
  }
}

// "" or what failed.
std::string load_kernels(Kernels& kernels) {
  void* module = nullptr;
  if (const Status status = driver().load(&module, bertstream_cubin))
    return "the driver does not take the kernels (error " + std::to_string(status) + ")";
  for (int type = 0; type < kTypes; ++type) {
    const std::string name = kTypeNames[type];
    if (driver().find(&kernels.add_layer_norm[type], module, ("add_layer_norm_" + name).c_str()) ||
        driver().find(&kernels.add_gelu[type], module, ("add_gelu_" + name).c_str()) ||
        driver().find(&kernels.add_tanh_gelu[type], module, ("add_tanh_gelu_" + name).c_str()) ||
        driver().find(&kernels.quantize_rows[type], module, ("quantize_rows_" + name).c_str()) ||
        driver().find(&kernels.add_gelu_quantize_rows[type], module, ("add_gelu_quantize_rows_" + name).c_str()))
      return "the kernels for " + name + " are missing";
  }
  return "";
}

// Switches the kernels on or off for a device: "" or why they stay off. Before anything is computed there.
std::string use_cuda_kernels(int64_t index, bool wanted) {
  if (index < 0 || index >= kMostDevices) return "there is no device " + std::to_string(index);
  OnDevice& device = devices[index];
  device.used = false;
  if (!wanted) return "";
  if (!driver().complete()) return "the driver's library, libcuda.so.1, cannot be loaded";
  if (!device.loaded) {
    const c10::DeviceGuard guard(c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index)));
    if (std::string failure = load_kernels(device.kernels); !failure.empty()) return failure;
    device.loaded = true;
  }
  device.used = true;
  return "";
}

bool fits(const at::Tensor& tensor, const at::Tensor& like) {
  return tensor.is_contiguous() && tensor.scalar_type() == like.scalar_type() && tensor.device() == like.device() &&
      reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
}

bool is_row(const at::Tensor& tensor, const at::Tensor& x) {
  return tensor.dim() == 1 && tensor.size(0) == x.size(1) && fits(tensor, x);
}

// Whether kernels can be used for x.
bool takes(const at::Tensor& x) {
  return x.dim() == 2 && x.size(0) > 0 && x.size(1) > 0 && x.size(1) % 4 == 0 && x.size(1) <= kMostColumns &&
      x.size(0) <= INT32_MAX && type_of(x) >= 0 && x.device().index() < kMostDevices &&
      devices[x.device().index()].used && fits(x, x);
}

void launch(void* kernel, unsigned grid_x, unsigned grid_y, unsigned threads, size_t shared, const at::Tensor& x,
            void** arguments) {
  const c10::DeviceGuard guard(x.device());
  const c10::impl::VirtualGuardImpl device(c10::kCUDA);
  void* stream = device.getStream(x.device()).native_handle();
  const Status status = driver().launch(
      kernel, grid_x, grid_y, 1, threads, 1, 1, static_cast<unsigned>(shared), stream, arguments, nullptr);
  TORCH_CHECK(status == 0, "CUDA error: a kernel of bertstream was not launched (error ", status, ")");
}

// As many as have four columns each, in whole warps, and no more than 256.
unsigned threads_for(int64_t columns) {
  return static_cast<unsigned>(std::min<int64_t>(256, (columns / 4 + 31) / 32 * 32));
}

// x = LayerNorm(x + added + residual). x, residual: [T, H]; added, weight, bias: [H]
at::Tensor add_layer_norm_(
    at::Tensor x, const at::Tensor& added, const at::Tensor& residual, const at::Tensor& weight, const at::Tensor& bias,
    double eps) {
  if (!takes(x) || !fits(residual, x) || residual.sizes() != x.sizes() || !is_row(added, x) || !is_row(weight, x) ||
      !is_row(bias, x))
    return x.copy_(at::layer_norm(at::add(x, added).add_(residual), weight.sizes(), weight, bias, eps));
  void* x_at = x.mutable_data_ptr();
  const void *added_at = added.const_data_ptr(), *residual_at = residual.const_data_ptr(),
             *weight_at = weight.const_data_ptr(), *bias_at = bias.const_data_ptr();
  int size = static_cast<int>(x.size(1));
  float small = static_cast<float>(eps);
  void* arguments[] = {&x_at, &added_at, &residual_at, &weight_at, &bias_at, &size, &small};
  const Kernels& kernels = devices[x.device().index()].kernels;
  launch(
      kernels.add_layer_norm[type_of(x)], static_cast<unsigned>(x.size(0)), 1, threads_for(size), size * sizeof(float),
      x, arguments);
  return x;
}

// x = GELU(x + added), by erf or, if `tanh`, by the tanh form. x: [T, I]; added: [I]
at::Tensor add_gelu_(at::Tensor x, const at::Tensor& added, bool tanh) {
  if (!takes(x) || !is_row(added, x)) return at::gelu_(x.add_(added), tanh ? "tanh" : "none");
  void* x_at = x.mutable_data_ptr();
  const void* added_at = added.const_data_ptr();
  int size = static_cast<int>(x.size(1));
  void* arguments[] = {&x_at, &added_at, &size};
  const Kernels& kernels = devices[x.device().index()].kernels;
  const unsigned threads = threads_for(size), columns = 4 * threads;
  launch(
      (tanh ? kernels.add_tanh_gelu : kernels.add_gelu)[type_of(x)], static_cast<unsigned>(x.size(0)),
      (static_cast<unsigned>(size) + columns - 1) / columns, threads, 0, x, arguments);
  return x;
}

// Room for the numbers of x and for the rows' scales.
std::tuple<at::Tensor, at::Tensor> quantized_like(const at::Tensor& x) {
  return {
      at::empty(x.sizes(), x.options().dtype(at::kFloat8_e4m3fn)),
      at::empty({x.size(0), 1}, x.options().dtype(at::kFloat))};
}

void launch_for_rows(void* kernel, const at::Tensor& x, void** arguments) {
  launch(
      kernel, static_cast<unsigned>(x.size(0)), 1, threads_for(x.size(1)), x.size(1) * sizeof(float), x, arguments);
}

// x: [T, K] -> float8 [T, K], scales [T, 1] float32
std::tuple<at::Tensor, at::Tensor> quantize_rows_cuda(const at::Tensor& x) {
  if (!takes(x)) return quantize_rows(x);
  auto [numbers, scales] = quantized_like(x);
  const void* x_at = x.const_data_ptr();
  void *numbers_at = numbers.mutable_data_ptr(), *scales_at = scales.mutable_data_ptr();
  int size = static_cast<int>(x.size(1));
  void* arguments[] = {&x_at, &numbers_at, &scales_at, &size};
  launch_for_rows(devices[x.device().index()].kernels.quantize_rows[type_of(x)], x, arguments);
  return {numbers, scales};
}

// GELU(x + added), by erf or, if `tanh`, by the tanh form. x: [T, I]; added: [I] -> float8 [T, I], scales [T, 1] of
// float32
std::tuple<at::Tensor, at::Tensor> add_gelu_quantize_rows_cuda(
    const at::Tensor& x, const at::Tensor& added, bool tanh) {
  if (!takes(x) || !is_row(added, x)) return add_gelu_quantize_rows(x, added, tanh);
  auto [numbers, scales] = quantized_like(x);
  const void *x_at = x.const_data_ptr(), *added_at = added.const_data_ptr();
  void *numbers_at = numbers.mutable_data_ptr(), *scales_at = scales.mutable_data_ptr();
  int size = static_cast<int>(x.size(1));
  void* arguments[] = {&x_at, &numbers_at, &scales_at, &size, &added_at, &tanh};
  launch_for_rows(devices[x.device().index()].kernels.add_gelu_quantize_rows[type_of(x)], x, arguments);
  return {numbers, scales};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(bertstream, m) {
  m.def("use_cuda_kernels(int device, bool wanted) -> str", &use_cuda_kernels);
}

// Their schemas are in the other library, which is loaded before this one.
TORCH_LIBRARY_IMPL(bertstream, CUDA, m) {
  m.impl("add_layer_norm_", &add_layer_norm_);
  m.impl("add_gelu_", &add_gelu_);
  m.impl("quantize_rows", &quantize_rows_cuda);
  m.impl("add_gelu_quantize_rows", &add_gelu_quantize_rows_cuda);
}

}  // namespace bertstream
