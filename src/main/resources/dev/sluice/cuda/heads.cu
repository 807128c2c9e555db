// QK-norm and rotation of heads, docs/math/rotated-heads.md: RMSNorm of each head, where there is a weight, then the
// rotation of its first 2h elements in pairs (i, i + h), where h > 0; and the gradient.
//
// Row r is head r mod heads of token r / heads, at position (r / heads) mod positions. `lanes` neighbouring threads take
// a row, a block as many rows at a time as its threads go into lanes.

struct Angles {
  const float* cosines;
  const float* sines;
  int half;
  int positions;
};

__device__ inline long long angles_of(const Angles& angles, int row, int heads) {
  return (long long)(row / heads % angles.positions) * angles.half;
}

// s of the row; every lane gets it.
template <class T, int W>
__device__ float root_of_row(const T* x, int width, float epsilon, int lane, int lanes) {
  float squares = 0;
  for (int j = lane * W; j < width; j += lanes * W) {
    auto xs = load<W>(x + j);
    for (int k = 0; k < W; k++) {
      squares += wide(xs.at[k]) * wide(xs.at[k]);
    }
  }
  return 1.0f / sqrtf(sum_of_lanes(squares, lanes) / width + epsilon);
}

template <class T, int W>
__device__ void rotated_heads(
    const T* x, const float* weight, float epsilon, Angles angles, T* out, int rows, int heads,
    int width, int lanes) {
  int row = (blockIdx.x * blockDim.x + threadIdx.x) / lanes;
  int lane = threadIdx.x % lanes;
  bool live = row < rows;
  int at = live ? row : rows - 1;  // all threads of a warp add up together
  const T* xs = x + (long long)at * width;
  T* outs = out + (long long)at * width;
  float s = weight ? root_of_row<T, W>(xs, width, epsilon, lane, lanes) : 1;
  if (!live) {
    return;
  }
  int half = angles.half;
  long long turn = half ? angles_of(angles, row, heads) : 0;
  for (int i = lane * W; i < half; i += lanes * W) {
    auto first = load<W>(xs + i);
    auto second = load<W>(xs + i + half);
    auto cosine = load<W>(angles.cosines + turn + i);
    auto sine = load<W>(angles.sines + turn + i);
    Pack<T, W> a;
    Pack<T, W> b;
    for (int k = 0; k < W; k++) {
      float u = wide(first.at[k]) * s * (weight ? weight[i + k] : 1);
      float v = wide(second.at[k]) * s * (weight ? weight[i + half + k] : 1);
      put(a.at[k], u * cosine.at[k] - v * sine.at[k]);
      put(b.at[k], v * cosine.at[k] + u * sine.at[k]);
    }
    store(outs + i, a);
    store(outs + i + half, b);
  }
  for (int i = 2 * half + lane * W; i < width; i += lanes * W) {
    auto rest = load<W>(xs + i);
    Pack<T, W> a;
    for (int k = 0; k < W; k++) {
      put(a.at[k], wide(rest.at[k]) * s * (weight ? weight[i + k] : 1));
    }
    store(outs + i, a);
  }
}

// The gradient of the normed pairs at i: dOut turned back.
template <class T, int W>
__device__ void turned_back(
    const T* dOut, const Angles& angles, long long turn, int i, Pack<float, W>& du,
    Pack<float, W>& dv) {
  auto first = load<W>(dOut + i);
  auto second = load<W>(dOut + i + angles.half);
  auto cosine = load<W>(angles.cosines + turn + i);
  auto sine = load<W>(angles.sines + turn + i);
  for (int k = 0; k < W; k++) {
    du.at[k] = wide(first.at[k]) * cosine.at[k] + wide(second.at[k]) * sine.at[k];
    dv.at[k] = wide(second.at[k]) * cosine.at[k] - wide(first.at[k]) * sine.at[k];
  }
}

// Σ d · w · x of W elements from j on, d their gradient before the norm.
template <class T, int W>
__device__ float product_at(const T* x, const float* weight, const Pack<float, W>& d, int j) {
  auto xs = load<W>(x + j);
  float sum = 0;
  for (int k = 0; k < W; k++) {
    sum += d.at[k] * weight[j + k] * wide(xs.at[k]);
  }
  return sum;
}

// Writes ∂x of W elements from j on, and adds to ∂w.
template <class T, int W>
__device__ void gradient_at(
    const T* x, const float* weight, const Pack<float, W>& d, float s, float slope, T* dx,
    float* dWeight, int j) {
  Pack<T, W> g;
  if (weight) {
    auto xs = load<W>(x + j);
    for (int k = 0; k < W; k++) {
      float value = wide(xs.at[k]);
      put(g.at[k], s * (d.at[k] * weight[j + k] - value * slope));
      dWeight[j + k] += d.at[k] * value * s;
    }
  } else {
    for (int k = 0; k < W; k++) {
      put(g.at[k], d.at[k]);
    }
  }
  store(dx + j, g);
}

template <class T, int W>
__device__ inline Pack<float, W> widened(const T* from) {
  auto narrow = load<W>(from);
  Pack<float, W> wides;
  for (int k = 0; k < W; k++) {
    wides.at[k] = wide(narrow.at[k]);
  }
  return wides;
}

// A block's lanes go over `turns` rows each. Shared memory, where there is a weight: ∂w of the rows of each group of
// lanes.
template <class T, int W>
__device__ void rotated_heads_backward(
    const T* dOut, const T* x, const float* weight, float epsilon, Angles angles, T* dx,
    float* partial, int rows, int heads, int width, int lanes, int turns) {
  int groups = blockDim.x / lanes;
  int group = threadIdx.x / lanes;
  int lane = threadIdx.x % lanes;
  int half = angles.half;
  float* dWeight = shared + group * width;
  if (weight) {
    for (int j = lane; j < width; j += lanes) {
      dWeight[j] = 0;
    }
    __syncthreads();  // elements are cleared by other lanes than those that add to them
  }
  for (int t = 0; t < turns; t++) {
    int row = (blockIdx.x * turns + t) * groups + group;
    bool live = row < rows;
    int at = live ? row : rows - 1;
    const T* xs = x + (long long)at * width;
    const T* ds = dOut + (long long)at * width;
    T* dxs = dx + (long long)at * width;
    long long turn = half ? angles_of(angles, at, heads) : 0;
    float s = 1;
    float slope = 0;
    Pack<float, W> du;
    Pack<float, W> dv;
    if (weight) {
      s = root_of_row<T, W>(xs, width, epsilon, lane, lanes);
      float product = 0;
      for (int i = lane * W; i < half; i += lanes * W) {
        turned_back<T, W>(ds, angles, turn, i, du, dv);
        product += product_at<T, W>(xs, weight, du, i) + product_at<T, W>(xs, weight, dv, i + half);
      }
      for (int i = 2 * half + lane * W; i < width; i += lanes * W) {
        product += product_at<T, W>(xs, weight, widened<T, W>(ds + i), i);
      }
      slope = s * s * sum_of_lanes(product, lanes) / width;
    }
    if (!live) {
      continue;
    }
    for (int i = lane * W; i < half; i += lanes * W) {
      turned_back<T, W>(ds, angles, turn, i, du, dv);
      gradient_at<T, W>(xs, weight, du, s, slope, dxs, dWeight, i);
      gradient_at<T, W>(xs, weight, dv, s, slope, dxs, dWeight, i + half);
    }
    for (int i = 2 * half + lane * W; i < width; i += lanes * W) {
      gradient_at<T, W>(xs, weight, widened<T, W>(ds + i), s, slope, dxs, dWeight, i);
    }
  }
  if (weight) {
    __syncthreads();
    for (int j = threadIdx.x; j < width; j += blockDim.x) {
      float sum = 0;
      for (int i = 0; i < groups; i++) {
        sum += shared[i * width + j];
      }
      partial[(long long)blockIdx.x * width + j] = sum;
    }
  }
}

#define HEADS(T)                                                                                   \
  extern "C" __global__ void rotated_heads_##T(                                                    \
      const T* x, const float* weight, float epsilon, const float* cosines, const float* sines,    \
      int half, int positions, T* out, int rows, int heads, int width, int lanes, int inPacks) {   \
    Angles angles{cosines, sines, half, positions};                                                \
    if (inPacks) {                                                                                 \
      rotated_heads<T, 8>(x, weight, epsilon, angles, out, rows, heads, width, lanes);             \
    } else {                                                                                       \
      rotated_heads<T, 1>(x, weight, epsilon, angles, out, rows, heads, width, lanes);             \
    }                                                                                              \
  }                                                                                                \
  extern "C" __global__ void rotated_heads_backward_##T(                                           \
      const T* dOut, const T* x, const float* weight, float epsilon, const float* cosines,         \
      const float* sines, int half, int positions, T* dx, float* partial, int rows, int heads,     \
      int width, int lanes, int turns, int inPacks) {                                              \
    Angles angles{cosines, sines, half, positions};                                                \
    if (inPacks) {                                                                                 \
      rotated_heads_backward<T, 8>(                                                                \
          dOut, x, weight, epsilon, angles, dx, partial, rows, heads, width, lanes, turns);        \
    } else {                                                                                       \
      rotated_heads_backward<T, 1>(                                                                \
          dOut, x, weight, epsilon, angles, dx, partial, rows, heads, width, lanes, turns);        \
    }                                                                                              \
  }

HEADS(float)
HEADS(bf16)

extern "C" __global__ void heads_weight_gradient(
    const float* partial, int rows, int columns, float* gradient, int add) {
  sum_of_columns(partial, rows, columns, gradient, add);
}
