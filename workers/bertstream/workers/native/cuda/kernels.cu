// Passes over memory that ATen does in several. Device code alone, without a header, so that NVRTC needs nothing else.
//
// Rows have a multiple of four columns and start at multiples of 16 bytes; whoever launches sees to that. All sums are
// in float32, whatever is stored. A test compiles this file for the CPU too, as blocks of one thread.

#ifdef BERTSTREAM_ON_CPU
#define KERNEL static void
#else
#define KERNEL extern "C" __global__ void
#endif

struct Half {
  unsigned short bits;
};

struct BFloat16 {
  unsigned short bits;
};

// OCP's E4M3: no infinity, and 448 is the largest.
struct Float8 {
  unsigned char bits;
};

// Four neighbours, read and written at once.
template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T values[4];
};

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(BFloat16 value) { return __uint_as_float((unsigned)value.bits << 16); }

__device__ __forceinline__ void from_float(float value, float& to) { to = value; }

// Rounded to the nearest, to even where two are as near. What is not a number stays so.
__device__ __forceinline__ void from_float(float value, BFloat16& to) {
  const unsigned bits = __float_as_uint(value);
  const unsigned rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  to.bits = (unsigned short)((value == value ? rounded : 0x7fc00000u) >> 16);
}

#ifdef BERTSTREAM_ON_CPU
static float to_float(Half value) { return half_to_float(value.bits); }
static void from_float(float value, Half& to) { to.bits = float_to_half(value); }
static float sum_of_block(float value) { return value; }
static float max_of_block(float value) { return value; }
#else
__device__ __forceinline__ float to_float(Half value) {
  float found;
  asm("cvt.f32.f16 %0, %1;" : "=f"(found) : "h"(value.bits));
  return found;
}

__device__ __forceinline__ void from_float(float value, Half& to) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(value));
}

// The same for all threads, of which there are whole warps; always combined in the same order. 0 must change nothing.
template <typename Combine>
__device__ __forceinline__ float over_block(float value, const Combine& combine) {
  __shared__ float of_warps[32];
  for (int distance = 16; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  __syncthreads();  // all have read what was before
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0.f;
  for (int warp = 0; warp < (int)(blockDim.x / 32); ++warp) total = combine(total, of_warps[warp]);
  return total;
}

struct Sum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};

struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

__device__ __forceinline__ float sum_of_block(float value) { return over_block(value, Sum()); }
__device__ __forceinline__ float max_of_block(float value) { return over_block(value, Max()); }
#endif

// Rounded to the nearest, to even where two are as near, and what is larger than the largest to that.
__device__ __forceinline__ unsigned char float8_of(float value) {
  const unsigned bits = __float_as_uint(value), size = bits & 0x7fffffffu, sign = bits >> 24 & 0x80u;
  unsigned code;
  if (size > 0x7f800000u) {
    code = 0x7f;  // not a number
  } else if (size > 0x43e00000u) {
    code = 0x7e;  // 448
  } else if (size >= 0x3c800000u) {  // 2^-6, the least with an exponent of its own
    code = (size + 0x7ffffu + (size >> 20 & 1u) >> 20) - (120 << 3);
  } else {
    code = __float_as_uint(__uint_as_float(size) + 16384.f) - 0x46800000u;  // which leaves whole 2^-9
  }
  return (unsigned char)(sign | code);
}

// Four of them, at once where the GPU can.
__device__ __forceinline__ void store(const float (&from)[4], Float8* to) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  unsigned short low, high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(from[1]), "f"(from[0]));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(from[3]), "f"(from[2]));
  *reinterpret_cast<unsigned*>(to) = (unsigned)high << 16 | low;
#else
  Four<Float8> made;
  for (int i = 0; i < 4; ++i) made.values[i].bits = float8_of(from[i]);
  *reinterpret_cast<Four<Float8>*>(to) = made;
#endif
}

template <typename T>
__device__ __forceinline__ void load(const T* from, float (&to)[4]) {
  const Four<T> found = *reinterpret_cast<const Four<T>*>(from);
  for (int i = 0; i < 4; ++i) to[i] = to_float(found.values[i]);
}

template <typename T>
__device__ __forceinline__ void store(const float (&from)[4], T* to) {
  Four<T> made;
  for (int i = 0; i < 4; ++i) from_float(from[i], made.values[i]);
  *reinterpret_cast<Four<T>*>(to) = made;
}

// x = LayerNorm(x + added + residual). A block is a row; `row` has room for it.
template <typename T>
__device__ __forceinline__ void add_layer_norm(
    T* x, const T* added, const T* residual, const T* weight, const T* bias, int size, float eps, float* row) {
  const long long start = (long long)blockIdx.x * size;
  const int first = 4 * threadIdx.x, step = 4 * blockDim.x;
  float a[4], b[4], c[4], sum = 0.f;
  for (int i = first; i < size; i += step) {
    load(x + start + i, a);
    load(added + i, b);
    load(residual + start + i, c);
    for (int j = 0; j < 4; ++j) {
      row[i + j] = a[j] + b[j] + c[j];
      sum += row[i + j];
    }
  }
  const float mean = sum_of_block(sum) / size;
  float squares = 0.f;
  for (int i = first; i < size; i += step)  // each thread reads what it wrote itself
    for (int j = 0; j < 4; ++j) squares += (row[i + j] - mean) * (row[i + j] - mean);
  const float scale = rsqrtf(sum_of_block(squares) / size + eps);
  for (int i = first; i < size; i += step) {
    load(weight + i, a);
    load(bias + i, b);
    for (int j = 0; j < 4; ++j) c[j] = (row[i + j] - mean) * scale * a[j] + b[j];
    store(c, x + start + i);
  }
}

__device__ __forceinline__ float gelu(float v, bool tanh_form) {
  const float inner =
      tanh_form ? tanhf(0.7978845608028654f * (v + 0.044715f * v * v * v)) : erff(v * 0.7071067811865476f);
  return 0.5f * v * (1.f + inner);
}

// x = GELU(x + added), by erf or by the tanh form. A row of blocks is a row, and a thread four of its columns.
template <typename T>
__device__ __forceinline__ void add_gelu(T* x, const T* added, int size, bool tanh_form) {
  const int i = 4 * (blockIdx.y * blockDim.x + threadIdx.x);
  if (i >= size) return;
  T* place = x + (long long)blockIdx.x * size + i;
  float a[4], b[4];
  load(place, a);
  load(added + i, b);
  for (int j = 0; j < 4; ++j) a[j] = gelu(a[j] + b[j], tanh_form);
  store(a, place);
}

struct Same {
  template <typename T>
  __device__ __forceinline__ void operator()(const T* from, int i, float (&to)[4]) const { load(from + i, to); }
};

template <typename T>
struct AddGelu {
  const T* added;
  bool tanh_form;
  __device__ __forceinline__ void operator()(const T* from, int i, float (&to)[4]) const {
    float b[4];
    load(from + i, to);
    load(added + i, b);
    for (int j = 0; j < 4; ++j) to[j] = gelu(to[j] + b[j], tanh_form);
  }
};

// What `make` makes of a row, as numbers to multiply with its scale. A block is a row; `row` has room for it.
template <typename T, typename Make>
__device__ __forceinline__ void quantize_row(
    const T* x, Float8* numbers, float* scales, int size, float* row, const Make& make) {
  const long long start = (long long)blockIdx.x * size;
  const int first = 4 * threadIdx.x, step = 4 * blockDim.x;
  float a[4], largest = 1e-30f;  // so that 1 / scale is finite
  for (int i = first; i < size; i += step) {
    make(x + start, i, a);
    for (int j = 0; j < 4; ++j) {
      row[i + j] = a[j];
      largest = fmaxf(largest, fabsf(a[j]));
    }
  }
  const float scale = max_of_block(largest) * (1.f / 448.f), inverse = 1.f / scale;
  for (int i = first; i < size; i += step) {  // each thread reads what it wrote itself
    for (int j = 0; j < 4; ++j) a[j] = row[i + j] * inverse;
    store(a, numbers + start + i);
  }
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}

#ifdef BERTSTREAM_ON_CPU
#define ROW static float row[1 << 16]
#else
#define ROW extern __shared__ float row[]
#endif

#define FOR_TYPE(name, T)                                                                                          \
  KERNEL add_layer_norm_##name(                                                                                    \
      T* x, const T* added, const T* residual, const T* weight, const T* bias, int size, float eps) {              \
    ROW;                                                                                                           \
    add_layer_norm(x, added, residual, weight, bias, size, eps, row);                                              \
  }                                                                                                                \
  KERNEL add_gelu_##name(T* x, const T* added, int size) { add_gelu(x, added, size, false); }                      \
  KERNEL add_tanh_gelu_##name(T* x, const T* added, int size) { add_gelu(x, added, size, true); }                      \
  KERNEL quantize_rows_##name(const T* x, Float8* numbers, float* scales, int size) {                              \
    ROW;                                                                                                           \
    quantize_row(x, numbers, scales, size, row, Same());                                                           \
  }                                                                                                                \
  KERNEL add_gelu_quantize_rows_##name(                                                                            \
      const T* x, Float8* numbers, float* scales, int size, const T* added, bool tanh_form) {                      \
    ROW;                                                                                                           \
    quantize_row(x, numbers, scales, size, row, AddGelu<T>{added, tanh_form});                                     \
  }

FOR_TYPE(float32, float)
FOR_TYPE(float16, Half)
FOR_TYPE(bfloat16, BFloat16)
