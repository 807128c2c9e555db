// The activation between a feed-forward layer's products, gate · σ(gate) · up, and its gradient, docs/math/swiglu.md.
// A thread takes W elements.

template <class T, int W>
__device__ void swiglu(const T* gate, const T* up, T* out, long long elements) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * W;
  if (i >= elements) {
    return;
  }
  auto gates = load<W>(gate + i);
  auto ups = load<W>(up + i);
  Pack<T, W> outs;
  for (int k = 0; k < W; k++) {
    float g = wide(gates.at[k]);
    put(outs.at[k], g * sigmoid(g).of * wide(ups.at[k]));
  }
  store(out + i, outs);
}

template <class T, int W>
__device__ void swiglu_backward(
    const T* dOut, const T* gate, const T* up, T* dGate, T* dUp, long long elements) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * W;
  if (i >= elements) {
    return;
  }
  auto ds = load<W>(dOut + i);
  auto gates = load<W>(gate + i);
  auto ups = load<W>(up + i);
  Pack<T, W> dGates;
  Pack<T, W> dUps;
  for (int k = 0; k < W; k++) {
    float d = wide(ds.at[k]);
    float g = wide(gates.at[k]);
    Sigmoid score = sigmoid(g);
    put(dUps.at[k], d * g * score.of);
    put(dGates.at[k], d * wide(ups.at[k]) * score.of * (1.0f + g * score.ofMinus));
  }
  store(dGate + i, dGates);
  store(dUp + i, dUps);
}

#define SWIGLU(T)                                                                                  \
  extern "C" __global__ void swiglu_##T(                                                           \
      const T* gate, const T* up, T* out, long long elements, int inPacks) {                       \
    if (inPacks) {                                                                                 \
      swiglu<T, 8>(gate, up, out, elements);                                                       \
    } else {                                                                                       \
      swiglu<T, 1>(gate, up, out, elements);                                                       \
    }                                                                                              \
  }                                                                                                \
  extern "C" __global__ void swiglu_backward_##T(                                                  \
      const T* dOut, const T* gate, const T* up, T* dGate, T* dUp, long long elements,             \
      int inPacks) {                                                                               \
    if (inPacks) {                                                                                 \
      swiglu_backward<T, 8>(dOut, gate, up, dGate, dUp, elements);                                 \
    } else {                                                                                       \
      swiglu_backward<T, 1>(dOut, gate, up, dGate, dUp, elements);                                 \
    }                                                                                              \
  }

SWIGLU(float)
SWIGLU(bf16)
