// The norm of all gradients and AdamW's step, each one launch over all parameters, docs/math/adamw.md.
//
// A table has a row for each parameter. A block takes `chunk` elements of one of them, which it finds by the number of
// the parameter's first block.

struct Parameter {
  float* numbers;
  const float* gradient;
  float* firstMoment;
  float* secondMoment;
  long long elements;
  long long firstBlock;
  double weightDecay;
  long long inPacks;  // whether all four begin at multiples of 16 bytes
};

__device__ inline const Parameter& parameter_of_block(const Parameter* table, int parameters) {
  int low = 0;
  int high = parameters - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (table[middle].firstBlock <= blockIdx.x) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return table[low];
}

struct Step {
  float beta1;
  float gain1;  // 1 − β₁
  float beta2;
  float gain2;  // 1 − β₂
  float epsilon;
  float gradientScale;
  float rate;  // η / (1 − β₁ᵗ)
  float rootCorrection;  // 1 / √(1 − β₂ᵗ)
};

template <int W>
__device__ void adamw_range(
    const Parameter& at, const Step& step, float kept, long long from, long long to) {
  for (long long i = from + threadIdx.x * W; i < to; i += blockDim.x * W) {
    auto numbers = load<W>(at.numbers + i);
    auto gradients = load<W>(at.gradient + i);
    auto firsts = load<W>(at.firstMoment + i);
    auto seconds = load<W>(at.secondMoment + i);
    for (int k = 0; k < W; k++) {
      float g = step.gradientScale * gradients.at[k];
      float m = step.beta1 * firsts.at[k] + step.gain1 * g;
      float v = step.beta2 * seconds.at[k] + step.gain2 * (g * g);
      firsts.at[k] = m;
      seconds.at[k] = v;
      numbers.at[k] = numbers.at[k] * kept
          - step.rate * (m / (sqrtf(v) * step.rootCorrection + step.epsilon));
    }
    store(at.numbers + i, numbers);
    store(at.firstMoment + i, firsts);
    store(at.secondMoment + i, seconds);
  }
}

extern "C" __global__ void adamw(
    const Parameter* table, int parameters, int chunk, float beta1, float gain1,
    float beta2, float gain2, float epsilon, float gradientScale, float rate, float rootCorrection,
    double learningRate) {
  const Parameter& at = parameter_of_block(table, parameters);
  Step step{beta1, gain1, beta2, gain2, epsilon, gradientScale, rate, rootCorrection};
  float kept = (float)(1.0 - learningRate * at.weightDecay);
  long long from = (blockIdx.x - at.firstBlock) * chunk;
  long long to = from + chunk < at.elements ? from + chunk : at.elements;
  if (at.inPacks) {
    long long packed = from + (to - from) / 4 * 4;
    adamw_range<4>(at, step, kept, from, packed);
    adamw_range<1>(at, step, kept, packed, to);
  } else {
    adamw_range<1>(at, step, kept, from, to);
  }
}

template <int W>
__device__ float square_sum(const float* numbers, long long from, long long to) {
  float sum = 0;
  for (long long i = from + threadIdx.x * W; i < to; i += blockDim.x * W) {
    auto xs = load<W>(numbers + i);
    for (int k = 0; k < W; k++) {
      sum += xs.at[k] * xs.at[k];
    }
  }
  return sum;
}

// sums[block] ← Σ g² of the block's elements.
extern "C" __global__ void square_sums(
    const Parameter* table, int parameters, int chunk, double* sums) {
  const Parameter& at = parameter_of_block(table, parameters);
  long long from = (blockIdx.x - at.firstBlock) * chunk;
  long long to = from + chunk < at.elements ? from + chunk : at.elements;
  float own;
  if (at.inPacks) {
    long long packed = from + (to - from) / 4 * 4;
    own = square_sum<4>(at.gradient, from, packed) + square_sum<1>(at.gradient, packed, to);
  } else {
    own = square_sum<1>(at.gradient, from, to);
  }
  double all = sum_of_block((double)own, reinterpret_cast<double*>(shared));
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = all;
  }
}

// norm ← √Σ sums, in one block.
extern "C" __global__ void root_of_sums(const double* sums, int count, double* norm) {
  double own = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    own += sums[i];
  }
  double all = sum_of_block(own, reinterpret_cast<double*>(shared));
  if (threadIdx.x == 0) {
    norm[0] = sqrt(all);
  }
}
