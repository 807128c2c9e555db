// Softmax and cross-entropy of rows of logits, and their gradient in the logits' place, docs/math/next-token-loss.md.
// A block takes a row. Shared memory: 64 numbers for the block's maximum and sum.

// The largest logit so far, and Σ e^(logit − largest).
struct Softmax {
  float largest;
  float sum;
};

__device__ inline Softmax joined(Softmax a, Softmax b) {
  float largest = fmaxf(a.largest, b.largest);
  return Softmax{
      largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

// Of all threads of a block; every one of them gets the same bits.
__device__ inline Softmax softmax_of_block(Softmax own) {
  for (int distance = 16; distance > 0; distance /= 2) {
    Softmax other{
        __shfl_xor_sync(0xFFFFFFFFu, own.largest, distance),
        __shfl_xor_sync(0xFFFFFFFFu, own.sum, distance)};
    own = joined(own, other);
  }
  if (threadIdx.x % 32 == 0) {
    shared[threadIdx.x / 32] = own.largest;
    shared[32 + threadIdx.x / 32] = own.sum;
  }
  __syncthreads();
  Softmax all{shared[0], shared[32]};
  for (unsigned i = 1; i < blockDim.x / 32; i++) {
    all = joined(all, Softmax{shared[i], shared[32 + i]});
  }
  return all;
}

// A target outside the vocabulary makes the row's loss NaN.
template <class T, int W>
__device__ void cross_entropy(
    T* logits, const long long* targets, float* losses, float* logSums, int vocabulary,
    float scale, float zWeight, int gradients) {
  T* row = logits + (long long)blockIdx.x * vocabulary;
  long long target = targets[blockIdx.x];
  bool known = target >= 0 && target < vocabulary;
  float logit = known ? wide(row[target]) : __uint_as_float(0x7FC00000u);
  Softmax own{-3.402823466e+38f, 0};  // a finite number, so that no difference is NaN
  for (int j = threadIdx.x * W; j < vocabulary; j += blockDim.x * W) {
    auto ls = load<W>(row + j);
    float largest = own.largest;
    for (int k = 0; k < W; k++) {
      largest = fmaxf(largest, wide(ls.at[k]));
    }
    float sum = own.sum * expf(own.largest - largest);
    for (int k = 0; k < W; k++) {
      sum += expf(wide(ls.at[k]) - largest);
    }
    own = Softmax{largest, sum};
  }
  Softmax all = softmax_of_block(own);  // all threads have read the target's logit now
  float logSum = all.largest + logf(all.sum);
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = logSum - logit;
    logSums[blockIdx.x] = logSum;
  }
  if (!gradients) {
    return;
  }
  float factor = scale * (1.0f + 2.0f * zWeight * logSum) / all.sum;
  for (int j = threadIdx.x * W; j < vocabulary; j += blockDim.x * W) {
    auto ls = load<W>(row + j);
    for (int k = 0; k < W; k++) {
      float d = expf(wide(ls.at[k]) - all.largest) * factor;
      put(ls.at[k], j + k == target ? d - scale : d);
    }
    store(row + j, ls);
  }
}

#define LOSS(T)                                                                                    \
  extern "C" __global__ void cross_entropy_##T(                                                    \
      T* logits, const long long* targets, float* losses, float* logSums, int vocabulary,          \
      float scale, float zWeight, int gradients, int inPacks) {                                    \
    if (inPacks) {                                                                                 \
      cross_entropy<T, 8>(                                                                         \
          logits, targets, losses, logSums, vocabulary, scale, zWeight, gradients);                \
    } else {                                                                                       \
      cross_entropy<T, 1>(                                                                         \
          logits, targets, losses, logSums, vocabulary, scale, zWeight, gradients);                \
    }                                                                                              \
  }

LOSS(float)
LOSS(bf16)

// x ← x · factor[0], without a pass over memory where that is one.
template <class T>
__device__ void scaled(T* x, const float* factor, long long elements) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (factor[0] != 1.0f && i < elements) {
    put(x[i], wide(x[i]) * factor[0]);
  }
}

extern "C" __global__ void scaled_float(float* x, const float* factor, long long elements) {
  scaled(x, factor, elements);
}

extern "C" __global__ void scaled_bf16(bf16* x, const float* factor, long long elements) {
  scaled(x, factor, elements);
}

// sum ← x · factor[0], added to what is there if there is something.
extern "C" __global__ void scaled_sum(
    float* sum, const float* x, const float* factor, long long elements, int add) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < elements) {
    sum[i] = (add ? sum[i] : 0) + x[i] * factor[0];
  }
}
