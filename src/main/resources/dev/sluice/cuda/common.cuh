// What all kernels share. It stands before each of the other files, with nothing before it on a card, and with
// `emulation.h` of the tests before it where the same text is compiled as plain C++.
//
// A kernel for several element types is a template; each of its forms has a plain name, `NAME_TYPE…`, that the
// program asks for. W is how many adjacent elements a thread takes at once: 8, where lengths and addresses allow
// reads of 16 bytes, or 1. Sums are float32 and have one order, whatever the card: blocks take a number of rows that
// does not depend on it, and no atomic operation adds.

#ifndef SLUICE_EMULATED
extern __shared__ __align__(16) float shared[];
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

// A bfloat16 as it is stored.
struct bf16 {
  unsigned short bits;
};

__device__ inline float wide(float x) { return x; }

__device__ inline float wide(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

__device__ inline void put(float& to, float x) { to = x; }

// The nearest bfloat16, ties to even; NaN stays NaN.
__device__ inline void put(bf16& to, float x) {
  unsigned bits = __float_as_uint(x);
  unsigned nearest = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  to.bits = (unsigned short)(x != x ? (bits >> 16) | 0x40u : nearest);
}

// Adjacent elements that are read or written at once.
template <class T, int W>
struct alignas(sizeof(T) * W < 16 ? sizeof(T) * W : 16) Pack {
  T at[W];
};

template <int W, class T>
__device__ inline Pack<T, W> load(const T* from) {
  return *reinterpret_cast<const Pack<T, W>*>(from);
}

template <class T, int W>
__device__ inline void store(T* to, const Pack<T, W>& pack) {
  *reinterpret_cast<Pack<T, W>*>(to) = pack;
}

// σ(z) and σ(−z), without overflow and without the cancellation of 1 − σ(z).
struct Sigmoid {
  float of;
  float ofMinus;
};

__device__ inline Sigmoid sigmoid(float z) {
  float e = expf(-fabsf(z));
  float larger = 1.0f / (1.0f + e);
  float smaller = e / (1.0f + e);
  return z >= 0 ? Sigmoid{larger, smaller} : Sigmoid{smaller, larger};
}

// The sum over `lanes` neighbouring threads, a power of two; every one of them gets the same bits. All threads of a
// warp call it together.
template <class T>
__device__ inline T sum_of_lanes(T x, int lanes) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    x += __shfl_xor_sync(0xFFFFFFFFu, x, distance);
  }
  return x;
}

// The sum over all threads of a block, whose number is a multiple of 32; every one of them gets the same bits.
//
// scratch: 32 numbers in shared memory that nothing else uses
template <class T>
__device__ inline T sum_of_block(T x, T* scratch) {
  T warp = sum_of_lanes(x, 32);
  __syncthreads();  // the scratch of the call before has been read
  if (threadIdx.x % 32 == 0) {
    scratch[threadIdx.x / 32] = warp;
  }
  __syncthreads();
  T sum = 0;
  for (unsigned i = 0; i < blockDim.x / 32; i++) {
    sum += scratch[i];
  }
  return sum;
}

// gradient[j] ← Σ_i partial[i, j], added to what is there if there is something. A block of 1024 threads takes 32
// columns; thread (row, column) of 32 × 32 adds every 32nd row, and the first 32 threads add these sums in their order.
__device__ inline void sum_of_columns(
    const float* partial, int rows, int columns, float* gradient, int add) {
  int column = blockIdx.x * 32 + threadIdx.x % 32;
  int first = threadIdx.x / 32;
  float sum = 0;
  if (column < columns) {
    for (int row = first; row < rows; row += 32) {
      sum += partial[(long long)row * columns + column];
    }
  }
  shared[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x < 32 && column < columns) {
    float all = add ? gradient[column] : 0;
    for (int i = 0; i < 32; i++) {
      all += shared[i * 32 + threadIdx.x];
    }
    gradient[column] = all;
  }
}
