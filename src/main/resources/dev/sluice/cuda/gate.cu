// The gate y′ = y ⊙ σ(z) and its gradient, docs/math/sigmoid-gate.md.
//
// y is [B, T, N, H] and may lie in another order, such as attention leaves it, [B, N, T, H]: only the elements of a
// head are adjacent, and the strides say where a head begins. So the transposition costs no pass of its own. z and y′
// are contiguous; z is [B, T, N, H], or [B, T, N] where a head shares its score. dy lies as y does.

// Where heads begin, in elements.
struct Heads {
  unsigned tokens;
  unsigned heads;
  long long batchStride;
  long long tokenStride;
  long long headStride;
};

__device__ inline long long start(const Heads& at, unsigned row) {
  unsigned token = row / at.heads;
  unsigned batch = token / at.tokens;
  return batch * at.batchStride + (token - batch * at.tokens) * at.tokenStride
      + (row - token * at.heads) * at.headStride;
}

// A thread takes W elements of a head.
template <class Y, class Z, int W>
__device__ void gate_forward(
    const Y* y, const Z* z, Z* out, Heads at, unsigned rows, unsigned width, int elementwise) {
  unsigned perRow = width / W;
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned row = i / perRow;
  if (row >= rows) {
    return;
  }
  unsigned j = (i - row * perRow) * W;
  long long here = (long long)row * width + j;
  auto ys = load<W>(y + start(at, row) + j);
  Pack<Z, W> zs;
  float score = 0;
  if (elementwise) {
    zs = load<W>(z + here);
  } else {
    score = sigmoid(wide(z[row])).of;
  }
  Pack<Z, W> outs;
  for (int k = 0; k < W; k++) {
    put(outs.at[k], wide(ys.at[k]) * (elementwise ? sigmoid(wide(zs.at[k])).of : score));
  }
  store(out + here, outs);
}

// The same threads, for a score of each element.
template <class Y, class Z, int W>
__device__ void gate_backward_elementwise(
    const Z* dOut, const Y* y, const Z* z, Y* dy, Z* dz, Heads at, unsigned rows, unsigned width) {
  unsigned perRow = width / W;
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned row = i / perRow;
  if (row >= rows) {
    return;
  }
  unsigned j = (i - row * perRow) * W;
  long long here = (long long)row * width + j;
  long long there = start(at, row) + j;
  auto ds = load<W>(dOut + here);
  auto ys = load<W>(y + there);
  auto zs = load<W>(z + here);
  Pack<Y, W> dys;
  Pack<Z, W> dzs;
  for (int k = 0; k < W; k++) {
    float d = wide(ds.at[k]);
    Sigmoid score = sigmoid(wide(zs.at[k]));
    put(dys.at[k], d * score.of);
    put(dzs.at[k], d * wide(ys.at[k]) * score.of * score.ofMinus);
  }
  store(dy + there, dys);
  store(dz + here, dzs);
}

// `lanes` neighbouring threads take a head, whose products they add up.
template <class Y, class Z, int W>
__device__ void gate_backward_headwise(
    const Z* dOut, const Y* y, const Z* z, Y* dy, Z* dz, Heads at, unsigned rows, unsigned width,
    unsigned lanes) {
  unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned row = thread / lanes;
  unsigned lane = thread % lanes;
  bool live = row < rows;
  float sum = 0;
  Sigmoid score = sigmoid(live ? wide(z[row]) : 0);
  long long there = live ? start(at, row) : 0;
  for (unsigned j = live ? lane * W : width; j < width; j += lanes * W) {
    auto ds = load<W>(dOut + (long long)row * width + j);
    auto ys = load<W>(y + there + j);
    Pack<Y, W> dys;
    for (int k = 0; k < W; k++) {
      float d = wide(ds.at[k]);
      sum += d * wide(ys.at[k]);
      put(dys.at[k], d * score.of);
    }
    store(dy + there + j, dys);
  }
  sum = sum_of_lanes(sum, lanes);
  if (live && lane == 0) {
    put(dz[row], score.of * score.ofMinus * sum);
  }
}

#define GATE(Y, Z)                                                                                 \
  extern "C" __global__ void gate_forward_##Y##_##Z(                                               \
      const Y* y, const Z* z, Z* out, int tokens, int heads, long long batchStride,                \
      long long tokenStride, long long headStride, int rows, int width, int elementwise,           \
      int inPacks) {                                                                               \
    Heads at{(unsigned)tokens, (unsigned)heads, batchStride, tokenStride, headStride};             \
    if (inPacks) {                                                                                 \
      gate_forward<Y, Z, 8>(y, z, out, at, rows, width, elementwise);                              \
    } else {                                                                                       \
      gate_forward<Y, Z, 1>(y, z, out, at, rows, width, elementwise);                              \
    }                                                                                              \
  }                                                                                                \
  extern "C" __global__ void gate_backward_elementwise_##Y##_##Z(                                  \
      const Z* dOut, const Y* y, const Z* z, Y* dy, Z* dz, int tokens, int heads,                  \
      long long batchStride, long long tokenStride, long long headStride, int rows, int width,     \
      int inPacks) {                                                                               \
    Heads at{(unsigned)tokens, (unsigned)heads, batchStride, tokenStride, headStride};             \
    if (inPacks) {                                                                                 \
      gate_backward_elementwise<Y, Z, 8>(dOut, y, z, dy, dz, at, rows, width);                     \
    } else {                                                                                       \
      gate_backward_elementwise<Y, Z, 1>(dOut, y, z, dy, dz, at, rows, width);                     \
    }                                                                                              \
  }                                                                                                \
  extern "C" __global__ void gate_backward_headwise_##Y##_##Z(                                     \
      const Z* dOut, const Y* y, const Z* z, Y* dy, Z* dz, int tokens, int heads,                  \
      long long batchStride, long long tokenStride, long long headStride, int rows, int width,     \
      int lanes, int inPacks) {                                                                    \
    Heads at{(unsigned)tokens, (unsigned)heads, batchStride, tokenStride, headStride};             \
    if (inPacks) {                                                                                 \
      gate_backward_headwise<Y, Z, 8>(dOut, y, z, dy, dz, at, rows, width, lanes);                 \
    } else {                                                                                       \
      gate_backward_headwise<Y, Z, 1>(dOut, y, z, dy, dz, at, rows, width, lanes);                 \
    }                                                                                              \
  }

GATE(float, float)
GATE(float, bf16)
GATE(bf16, float)
GATE(bf16, bf16)
