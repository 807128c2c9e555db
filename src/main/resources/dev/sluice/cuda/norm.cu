// Residual and RMSNorm, docs/math/residual-norm.md: h = x + y, n = h · s · w with s = (mean h² + ε)^(−1/2), and the
// gradient, in which what comes past the norm and what comes through it meet.
//
// Shared memory: 32 numbers for sums over the block, then a row.

// A block takes a row.
template <class A, class O, int W>
__device__ void residual_norm(
    const float* x, const A* added, const float* weight, float epsilon, float* sum, O* out,
    int width) {
  float* row = shared + 32;
  long long at = (long long)blockIdx.x * width;
  float squares = 0;
  for (int j = threadIdx.x * W; j < width; j += blockDim.x * W) {
    auto h = load<W>(x + at + j);
    if (added) {
      auto y = load<W>(added + at + j);
      for (int k = 0; k < W; k++) {
        h.at[k] += wide(y.at[k]);
      }
      store(sum + at + j, h);
    }
    for (int k = 0; k < W; k++) {
      squares += h.at[k] * h.at[k];
    }
    store(row + j, h);
  }
  float s = 1.0f / sqrtf(sum_of_block(squares, shared) / width + epsilon);
  for (int j = threadIdx.x * W; j < width; j += blockDim.x * W) {  // each thread its own again
    auto h = load<W>(row + j);
    auto w = load<W>(weight + j);
    Pack<O, W> n;
    for (int k = 0; k < W; k++) {
      put(n.at[k], h.at[k] * s * w.at[k]);
    }
    store(out + at + j, n);
  }
}

// A block takes `rowsOfBlock` rows; each thread adds up ∂w of its columns in shared memory.
template <class A, class O, int W>
__device__ void residual_norm_backward(
    const O* dNormed, const float* sum, const float* weight, float epsilon, const float* past,
    float* dSum, A* dAdded, float* partial, int rows, int width, int rowsOfBlock) {
  float* dWeight = shared + 32;
  for (int j = threadIdx.x * W; j < width; j += blockDim.x * W) {
    for (int k = 0; k < W; k++) {
      dWeight[j + k] = 0;
    }
  }
  int first = blockIdx.x * rowsOfBlock;
  int last = min(rows, first + rowsOfBlock);
  for (int row = first; row < last; row++) {
    long long at = (long long)row * width;
    float squares = 0;
    float product = 0;
    for (int j = threadIdx.x * W; j < width; j += blockDim.x * W) {
      auto d = load<W>(dNormed + at + j);
      auto h = load<W>(sum + at + j);
      auto w = load<W>(weight + j);
      for (int k = 0; k < W; k++) {
        squares += h.at[k] * h.at[k];
        product += wide(d.at[k]) * w.at[k] * h.at[k];
      }
    }
    float s = 1.0f / sqrtf(sum_of_block(squares, shared) / width + epsilon);
    float mean = sum_of_block(product, shared) / width;
    float slope = s * s * mean;
    for (int j = threadIdx.x * W; j < width; j += blockDim.x * W) {
      auto d = load<W>(dNormed + at + j);
      auto h = load<W>(sum + at + j);
      auto w = load<W>(weight + j);
      Pack<float, W> dh;
      for (int k = 0; k < W; k++) {
        dWeight[j + k] += wide(d.at[k]) * h.at[k] * s;
        dh.at[k] = s * (wide(d.at[k]) * w.at[k] - h.at[k] * slope);
      }
      if (past) {
        auto p = load<W>(past + at + j);
        for (int k = 0; k < W; k++) {
          dh.at[k] += p.at[k];
        }
      }
      store(dSum + at + j, dh);
      if (dAdded) {
        Pack<A, W> da;
        for (int k = 0; k < W; k++) {
          put(da.at[k], dh.at[k]);
        }
        store(dAdded + at + j, da);
      }
    }
  }
  for (int j = threadIdx.x * W; j < width; j += blockDim.x * W) {
    for (int k = 0; k < W; k++) {
      partial[(long long)blockIdx.x * width + j + k] = dWeight[j + k];
    }
  }
}

#define NORM(A, O)                                                                                 \
  extern "C" __global__ void residual_norm_##A##_##O(                                              \
      const float* x, const A* added, const float* weight, float epsilon, float* sum, O* out,      \
      int width, int inPacks) {                                                                    \
    if (inPacks) {                                                                                 \
      residual_norm<A, O, 8>(x, added, weight, epsilon, sum, out, width);                          \
    } else {                                                                                       \
      residual_norm<A, O, 1>(x, added, weight, epsilon, sum, out, width);                          \
    }                                                                                              \
  }                                                                                                \
  extern "C" __global__ void residual_norm_backward_##A##_##O(                                     \
      const O* dNormed, const float* sum, const float* weight, float epsilon, const float* past,   \
      float* dSum, A* dAdded, float* partial, int rows, int width, int rowsOfBlock, int inPacks) { \
    if (inPacks) {                                                                                 \
      residual_norm_backward<A, O, 8>(                                                             \
          dNormed, sum, weight, epsilon, past, dSum, dAdded, partial, rows, width, rowsOfBlock);   \
    } else {                                                                                       \
      residual_norm_backward<A, O, 1>(                                                             \
          dNormed, sum, weight, epsilon, past, dSum, dAdded, partial, rows, width, rowsOfBlock);   \
    }                                                                                              \
  }

NORM(float, float)
NORM(float, bf16)
NORM(bf16, float)
NORM(bf16, bf16)

extern "C" __global__ void norm_weight_gradient(
    const float* partial, int rows, int columns, float* gradient, int add) {
  sum_of_columns(partial, rows, columns, gradient, add);
}
