// The gated delta rule, docs/math/gated-delta-net.md, token by token: S ← e^g S, x = v − Sᵀ k̂, S ← S + k̂ (β x)ᵀ,
// y = Sᵀ q̂, and its gradient. D is ∂L/∂S.
//
// Columns of S do not know one another, forwards and in D; rows do not either, where x and ∂L/∂(βx) are given. So
// there are four kernels of one form: a block takes some columns, or rows, of one head of one sequence, its lines, and
// goes with them through all tokens in order, or from the last to the first. A line is in the registers of `lanes`
// neighbouring threads, 32 numbers in each. A token's vectors are in shared memory, for `tile` tokens at a time.
//
// Shared memory of these four, for tile tokens: vectors, each of 32 · lanes numbers, then two numbers of each line,
// then a factor and a rate.

constexpr int DELTA_HELD = 32;

// A factor below 2⁻⁴⁸ counts as zero, and a logarithm above zero is none.
__device__ inline float delta_factor(float logarithm) {
  if (!(logarithm <= 0)) {
    return __uint_as_float(0x7FC00000u);
  }
  return logarithm < -33.271065f ? 0 : expf(logarithm);
}

// What a block works on, and where it stands in the tensors.
struct Delta {
  int tokens;
  int keyHeads;
  int valueHeads;
  int keyWidth;
  int valueWidth;
  int tile;
  int lanes;

  __device__ long long channels() const {
    return 2LL * keyHeads * keyWidth + (long long)valueHeads * valueWidth;
  }
  __device__ int lines() const { return blockDim.x / lanes; }
  __device__ int room() const { return DELTA_HELD * lanes; }  // of a vector in shared memory

  // Blocks are (sequence, value head, slice of that many lines).
  __device__ int slices(int width) const { return (width + lines() - 1) / lines(); }
  __device__ long long head(int width) const { return blockIdx.x / slices(width); }
  __device__ int first_line(int width) const { return blockIdx.x % slices(width) * lines(); }
  __device__ int own_line() const { return threadIdx.x / lanes; }
  __device__ int own_lane() const { return threadIdx.x % lanes; }

  // Which of the tokens of all sequences is token t of this head's.
  __device__ long long token(long long head, int t) const { return head / valueHeads * tokens + t; }
  // The same among rows of [tokens of all sequences, value heads].
  __device__ long long row(long long head, int t) const {
    return token(head, t) * valueHeads + head % valueHeads;
  }
  __device__ int key_head(long long head) const {
    return (int)(head % valueHeads) / (valueHeads / keyHeads);
  }
  // Where a head's vectors begin in a token's channels.
  __device__ long long key_channel(long long head) const {
    return (long long)(keyHeads + key_head(head)) * keyWidth;
  }
  __device__ long long query_channel(long long head) const {
    return (long long)key_head(head) * keyWidth;
  }
  __device__ long long value_channel(long long head) const {
    return 2LL * keyHeads * keyWidth + head % valueHeads * valueWidth;
  }

  // Parts of shared memory.
  __device__ float* vectors(int which) const { return shared + which * tile * room(); }
  __device__ float* numbers(int which, int ofVectors) const {
    return shared + ofVectors * tile * room() + which * tile * lines();
  }
  __device__ float* factors(int ofVectors) const { return numbers(2, ofVectors); }
  __device__ float* betas(int ofVectors) const { return numbers(2, ofVectors) + tile; }
};

// Rows of a tile: to[i, j] = from[i · stride + j] · scale[i · scaleStride], zero from `width` on. A warp takes a row.
template <class T>
__device__ void delta_take(
    float* to, int count, int room, const T* from, long long stride, int width, const float* scale,
    long long scaleStride) {
  for (int i = threadIdx.x / 32; i < count; i += blockDim.x / 32) {
    float factor = scale ? scale[i * scaleStride] : 1;
    for (int j = threadIdx.x % 32; j < room; j += 32) {
      to[i * room + j] = from && j < width ? wide(from[i * stride + j]) * factor : 0;
    }
  }
}

__device__ inline void delta_take_rates(
    Delta of, long long head, int first, int count, const float* decays, const float* rates,
    int ofVectors) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    long long at = of.row(head, first + i);
    of.factors(ofVectors)[i] = delta_factor(decays[at]);
    of.betas(ofVectors)[i] = rates[at];
  }
}

// Σ over the line's elements of line · vector; all its lanes get it.
__device__ inline float delta_dot(
    const float (&line)[DELTA_HELD], const float* vector, int lane, int lanes) {
  float sums[4] = {0, 0, 0, 0};
  UNROLL
  for (int m = 0; m < DELTA_HELD / 4; m++) {
    auto x = load<4>(vector + (m * lanes + lane) * 4);
    UNROLL
    for (int e = 0; e < 4; e++) {
      sums[e] += line[4 * m + e] * x.at[e];
    }
  }
  return sum_of_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]), lanes);
}

// line ← factor · line + scale · vector
__device__ inline void delta_add(
    float (&line)[DELTA_HELD], float factor, float scale, const float* vector, int lane,
    int lanes) {
  UNROLL
  for (int m = 0; m < DELTA_HELD / 4; m++) {
    auto x = load<4>(vector + (m * lanes + lane) * 4);
    UNROLL
    for (int e = 0; e < 4; e++) {
      line[4 * m + e] = factor * line[4 * m + e] + scale * x.at[e];
    }
  }
}

// Brings a line in, or zeros. Its elements stand `stride` apart.
__device__ inline void delta_begin(
    float (&line)[DELTA_HELD], const float* from, long long stride, int width, bool known, int lane,
    int lanes) {
  UNROLL
  for (int m = 0; m < DELTA_HELD / 4; m++) {
    UNROLL
    for (int e = 0; e < 4; e++) {
      int i = (m * lanes + lane) * 4 + e;
      line[4 * m + e] = from && known && i < width ? from[i * stride] : 0;
    }
  }
}

__device__ inline void delta_leave(
    const float (&line)[DELTA_HELD], float* to, long long stride, int width, bool known, int lane,
    int lanes) {
  UNROLL
  for (int m = 0; m < DELTA_HELD / 4; m++) {
    UNROLL
    for (int e = 0; e < 4; e++) {
      int i = (m * lanes + lane) * 4 + e;
      if (known && i < width) {
        to[i * stride] = line[4 * m + e];
      }
    }
  }
}

// What queries and keys are multiplied with: 1 / √(Σ x² + 10⁻⁶), and queries by 1 / √K too. A warp takes a vector.
//
// lengths: [tokens of all sequences, 2 · key heads], of queries and then of keys
template <class T>
__device__ void delta_lengths(
    const T* mixed, float* lengths, long long vectors, int keyHeads, int keyWidth,
    long long channels) {
  long long vector = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  bool known = vector < vectors;
  long long token = vector / (2 * keyHeads);
  int head = (int)(vector % (2 * keyHeads));
  float squares = 0;
  for (int j = threadIdx.x % 32; known && j < keyWidth; j += 32) {
    float x = wide(mixed[token * channels + (long long)head * keyWidth + j]);
    squares += x * x;
  }
  float length = sqrtf(sum_of_lanes(squares, 32) + 1e-6f);
  if (known && threadIdx.x % 32 == 0) {
    lengths[vector] = 1.0f / (head < keyHeads ? length * sqrtf((float)keyWidth) : length);
  }
}

// Keys, queries, and a number of each line.
template <class T, class A>
__device__ void delta_take_columns(
    Delta of, long long head, int first, int count, const T* mixed, const float* lengths,
    const float* decays, const float* rates, const A* numbers, long long stride, int width) {
  long long token = of.token(head, first);
  const T* channels = mixed + token * of.channels();
  const float* factors = lengths + token * 2 * of.keyHeads + of.key_head(head);
  delta_take(
      of.vectors(0), count, of.room(), channels + of.key_channel(head), of.channels(), of.keyWidth,
      factors + of.keyHeads, 2LL * of.keyHeads);
  delta_take(
      of.vectors(1), count, of.room(), channels + of.query_channel(head), of.channels(),
      of.keyWidth, factors, 2LL * of.keyHeads);
  for (int i = threadIdx.x / of.lines(); i < count; i += of.lanes) {
    int line = threadIdx.x % of.lines();
    of.numbers(0, 2)[i * of.lines() + line] =
        numbers && line < width ? wide(numbers[i * stride + line]) : 0;
  }
  delta_take_rates(of, head, first, count, decays, rates, 2);
}

// lacked: [rows, V], x of each token; null where no backward pass is to come
template <class T>
__device__ void delta_forward(
    Delta of, const T* mixed, const float* lengths, const float* decays, const float* rates,
    const float* initial, T* y, float* lacked, float* last) {
  long long head = of.head(of.valueWidth);
  int column = of.first_line(of.valueWidth) + of.own_line();
  bool known = column < of.valueWidth;
  int lane = of.own_lane();
  long long place = head * of.keyWidth * of.valueWidth + column;
  float state[DELTA_HELD];
  delta_begin(
      state, initial ? initial + place : nullptr, of.valueWidth, of.keyWidth, known, lane,
      of.lanes);
  for (int first = 0; first < of.tokens; first += of.tile) {
    int count = min(of.tile, of.tokens - first);
    __syncthreads();  // the tile before has been read
    delta_take_columns(
        of, head, first, count, mixed, lengths, decays, rates,
        mixed + of.token(head, first) * of.channels() + of.value_channel(head) +
            of.first_line(of.valueWidth),
        of.channels(), of.valueWidth - of.first_line(of.valueWidth));
    __syncthreads();
    for (int i = 0; i < count; i++) {
      const float* key = of.vectors(0) + i * of.room();
      const float* query = of.vectors(1) + i * of.room();
      float factor = of.factors(2)[i];
      float x = of.numbers(0, 2)[i * of.lines() + of.own_line()] -
                factor * delta_dot(state, key, lane, of.lanes);
      delta_add(state, factor, of.betas(2)[i] * x, key, lane, of.lanes);
      float result = delta_dot(state, query, lane, of.lanes);
      if (known && lane == 0) {
        long long at = of.row(head, first + i) * of.valueWidth + column;
        put(y[at], result);
        if (lacked) {
          lacked[at] = x;
        }
      }
    }
  }
  delta_leave(state, last + place, of.valueWidth, of.keyWidth, known, lane, of.lanes);
}

// ∂L/∂v, and ∂L/∂u of what a token writes, u = β x, from D alone.
template <class T>
__device__ void delta_values_backward(
    Delta of, const T* mixed, const float* lengths, const float* decays, const float* rates,
    const T* dOut, const float* dLast, T* dMixed, float* dWritten, float* dInitial) {
  long long head = of.head(of.valueWidth);
  int column = of.first_line(of.valueWidth) + of.own_line();
  bool known = column < of.valueWidth;
  int lane = of.own_lane();
  long long place = head * of.keyWidth * of.valueWidth + column;
  float dState[DELTA_HELD];
  delta_begin(
      dState, dLast ? dLast + place : nullptr, of.valueWidth, of.keyWidth, known, lane, of.lanes);
  for (int first = (of.tokens - 1) / of.tile * of.tile; first >= 0; first -= of.tile) {
    int count = min(of.tile, of.tokens - first);
    long long start = of.row(head, first) * of.valueWidth + of.first_line(of.valueWidth);
    __syncthreads();  // the tile after has been read
    delta_take_columns(
        of, head, first, count, mixed, lengths, decays, rates, dOut ? dOut + start : nullptr,
        (long long)of.valueHeads * of.valueWidth, of.valueWidth - of.first_line(of.valueWidth));
    __syncthreads();
    for (int i = count - 1; i >= 0; i--) {
      const float* key = of.vectors(0) + i * of.room();
      const float* query = of.vectors(1) + i * of.room();
      float factor = of.factors(2)[i];
      delta_add(
          dState, 1, of.numbers(0, 2)[i * of.lines() + of.own_line()], query, lane, of.lanes);
      float du = delta_dot(dState, key, lane, of.lanes);
      float dv = of.betas(2)[i] * du;
      delta_add(dState, factor, -factor * dv, key, lane, of.lanes);
      if (known && lane == 0) {
        dWritten[of.row(head, first + i) * of.valueWidth + column] = du;
        put(
            dMixed[of.token(head, first + i) * of.channels() + of.value_channel(head) + column],
            dv);
      }
    }
  }
  if (dInitial) {
    delta_leave(dState, dInitial + place, of.valueWidth, of.keyWidth, known, lane, of.lanes);
  }
}

// ∂L/∂y, what tokens write, ∂L/∂v, and each line's elements of the queries and keys.
template <class T>
__device__ void delta_take_rows(
    Delta of, long long head, int first, int count, const T* mixed, const float* lengths,
    const float* decays, const float* rates, const T* dOut, const float* lacked,
    const float* dWritten) {
  long long token = of.token(head, first);
  long long row = of.row(head, first);
  long long stride = (long long)of.valueHeads * of.valueWidth;
  delta_take(
      of.vectors(0), count, of.room(), dOut ? dOut + row * of.valueWidth : nullptr, stride,
      of.valueWidth, nullptr, 0);
  delta_take(
      of.vectors(1), count, of.room(), lacked + row * of.valueWidth, stride, of.valueWidth,
      rates + row, of.valueHeads);
  delta_take(
      of.vectors(2), count, of.room(), dWritten + row * of.valueWidth, stride, of.valueWidth,
      rates + row, of.valueHeads);
  int line = threadIdx.x % of.lines();
  bool known = of.first_line(of.keyWidth) + line < of.keyWidth;
  for (int i = threadIdx.x / of.lines(); i < count; i += of.lanes) {
    const T* channels = mixed + (token + i) * of.channels() + of.first_line(of.keyWidth) + line;
    const float* factors = lengths + (token + i) * 2 * of.keyHeads + of.key_head(head);
    int at = i * of.lines() + line;
    of.numbers(0, 3)[at] = known ? wide(channels[of.query_channel(head)]) * factors[0] : 0;
    of.numbers(1, 3)[at] = known ? wide(channels[of.key_channel(head)]) * factors[of.keyHeads] : 0;
  }
  delta_take_rates(of, head, first, count, decays, rates, 3);
}

// ∂L/∂k̂ through what is written under the key.
//
// dKeys: [rows, K]
template <class T>
__device__ void delta_keys_backward(
    Delta of, const T* mixed, const float* lengths, const float* decays, const float* rates,
    const T* dOut, const float* dLast, const float* lacked, const float* dWritten, float* dKeys) {
  long long head = of.head(of.keyWidth);
  int line = of.first_line(of.keyWidth) + of.own_line();
  bool known = line < of.keyWidth;
  int lane = of.own_lane();
  long long place = (head * of.keyWidth + line) * of.valueWidth;
  float dState[DELTA_HELD];
  delta_begin(dState, dLast ? dLast + place : nullptr, 1, of.valueWidth, known, lane, of.lanes);
  for (int first = (of.tokens - 1) / of.tile * of.tile; first >= 0; first -= of.tile) {
    int count = min(of.tile, of.tokens - first);
    __syncthreads();  // the tile after has been read
    delta_take_rows(
        of, head, first, count, mixed, lengths, decays, rates, dOut, lacked, dWritten);
    __syncthreads();
    for (int i = count - 1; i >= 0; i--) {
      const float* dy = of.vectors(0) + i * of.room();
      const float* written = of.vectors(1) + i * of.room();
      const float* dv = of.vectors(2) + i * of.room();
      float factor = of.factors(3)[i];
      float query = of.numbers(0, 3)[i * of.lines() + of.own_line()];
      float key = of.numbers(1, 3)[i * of.lines() + of.own_line()];
      delta_add(dState, 1, query, dy, lane, of.lanes);
      float dk = delta_dot(dState, written, lane, of.lanes);
      delta_add(dState, factor, -factor * key, dv, lane, of.lanes);
      if (known && lane == 0) {
        dKeys[of.row(head, first + i) * of.keyWidth + line] = dk;
      }
    }
  }
}

// ∂L/∂q̂, and ∂L/∂k̂ through what the key reads, which is added.
template <class T>
__device__ void delta_queries_backward(
    Delta of, const T* mixed, const float* lengths, const float* decays, const float* rates,
    const float* initial, const T* dOut, const float* lacked, const float* dWritten, float* dKeys,
    float* dQueries) {
  long long head = of.head(of.keyWidth);
  int line = of.first_line(of.keyWidth) + of.own_line();
  bool known = line < of.keyWidth;
  int lane = of.own_lane();
  long long place = (head * of.keyWidth + line) * of.valueWidth;
  float state[DELTA_HELD];
  delta_begin(state, initial ? initial + place : nullptr, 1, of.valueWidth, known, lane, of.lanes);
  for (int first = 0; first < of.tokens; first += of.tile) {
    int count = min(of.tile, of.tokens - first);
    __syncthreads();  // the tile before has been read
    delta_take_rows(
        of, head, first, count, mixed, lengths, decays, rates, dOut, lacked, dWritten);
    __syncthreads();
    for (int i = 0; i < count; i++) {
      const float* dy = of.vectors(0) + i * of.room();
      const float* written = of.vectors(1) + i * of.room();
      const float* dv = of.vectors(2) + i * of.room();
      float factor = of.factors(3)[i];
      float key = of.numbers(1, 3)[i * of.lines() + of.own_line()];
      float dk = -factor * delta_dot(state, dv, lane, of.lanes);
      delta_add(state, factor, key, written, lane, of.lanes);
      float dq = delta_dot(state, dy, lane, of.lanes);
      if (known && lane == 0) {
        long long at = of.row(head, first + i) * of.keyWidth + line;
        dQueries[at] = dq;
        dKeys[at] += dk;
      }
    }
  }
}

// ∂L/∂ of queries and keys, from those of what they are once they are divided by their lengths, summed over the value
// heads that share them. A warp takes a vector.
template <class T>
__device__ void delta_channels_backward(
    const T* mixed, const float* lengths, const float* dQueries, const float* dKeys, T* dMixed,
    long long vectors, int keyHeads, int valueHeads, int keyWidth, long long channels) {
  long long vector = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  bool known = vector < vectors;
  long long token = vector / (2 * keyHeads);
  int head = (int)(vector % (2 * keyHeads));
  bool isQuery = head < keyHeads;
  int group = valueHeads / keyHeads;
  const float* gradients =
      (isQuery ? dQueries : dKeys) +
      (token * valueHeads + (long long)(isQuery ? head : head - keyHeads) * group) * keyWidth;
  long long at = token * channels + (long long)head * keyWidth;
  float dot = 0;
  for (int pass = 0; pass < 2; pass++) {
    float length = known ? lengths[vector] : 0;
    float slope = length * length * (isQuery ? keyWidth : 1) * dot;
    float sum = 0;
    for (int j = threadIdx.x % 32; known && j < keyWidth; j += 32) {
      float gradient = 0;
      for (int r = 0; r < group; r++) {
        gradient += gradients[(long long)r * keyWidth + j];
      }
      float x = wide(mixed[at + j]);
      sum += gradient * x;
      if (pass == 1) {
        put(dMixed[at + j], length * (gradient - x * slope));
      }
    }
    if (pass == 0) {
      dot = sum_of_lanes(sum, 32);
    }
  }
}

// ∂L/∂β, and ∂L/∂c of the decays summed up to the token's: q̂ · ∂q̂ − v · ∂v. A warp takes a token of a value head.
template <class T>
__device__ void delta_rates_backward(
    Delta of, const T* mixed, const float* lengths, const float* rates, const float* lacked,
    const float* dWritten, const float* dQueries, float* dRates, float* dSums, long long rows) {
  long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  bool known = row < rows;
  long long token = row / of.valueHeads;
  long long head = row % of.valueHeads;
  float dRate = 0;
  float values = 0;
  float queries = 0;
  if (known) {
    for (int j = threadIdx.x % 32; j < of.valueWidth; j += 32) {
      float du = dWritten[row * of.valueWidth + j];
      dRate += du * lacked[row * of.valueWidth + j];
      values += du * wide(mixed[token * of.channels() + of.value_channel(head) + j]);
    }
    for (int j = threadIdx.x % 32; j < of.keyWidth; j += 32) {
      queries += dQueries[row * of.keyWidth + j] *
                 wide(mixed[token * of.channels() + of.query_channel(head) + j]);
    }
  }
  dRate = sum_of_lanes(dRate, 32);
  values = sum_of_lanes(values, 32);
  queries = sum_of_lanes(queries, 32);
  if (known && threadIdx.x % 32 == 0) {
    dRates[row] = dRate;
    dSums[row] =
        queries * lengths[token * 2 * of.keyHeads + of.key_head(head)] - rates[row] * values;
  }
}

// ∂L/∂g of a token: the sum of ∂L/∂c from it to the last token, to which the state that is left adds its own; nothing
// where the factor is zero, and nothing from there on before. A block takes a value head of a sequence, a thread some
// tokens one after the other. Sums are float64.
//
// Shared memory: 32 numbers for sums over the block, then for each thread a double and whether it met a zero
extern "C" __global__ void delta_decays_backward(
    const float* decays, const float* dSums, const float* last, const float* dLast, float* dDecays,
    int tokens, int valueHeads, int stateSize) {
  double* sums = reinterpret_cast<double*>(shared + 32);
  int* zeros = reinterpret_cast<int*>(sums + blockDim.x);
  long long head = blockIdx.x;
  float ofState = 0;
  if (dLast) {
    for (int i = threadIdx.x; i < stateSize; i += blockDim.x) {
      ofState += last[head * stateSize + i] * dLast[head * stateSize + i];
    }
  }
  double carried = sum_of_block(ofState, shared);
  int part = (tokens + blockDim.x - 1) / blockDim.x;
  int from = min(tokens, (int)threadIdx.x * part);
  int to = min(tokens, from + part);
  for (int pass = 0; pass < 2; pass++) {
    double sum = pass == 0 ? 0 : carried;
    int zero = 0;
    for (int t = to - 1; t >= from; t--) {
      long long at = (head / valueHeads * tokens + t) * valueHeads + head % valueHeads;
      sum += dSums[at];
      if (delta_factor(decays[at]) == 0) {
        sum = 0;
        zero = 1;
      }
      if (pass == 1) {
        dDecays[at] = (float)sum;
      }
    }
    if (pass == 0) {
      sums[threadIdx.x] = sum;
      zeros[threadIdx.x] = zero;
      __syncthreads();
      for (unsigned i = blockDim.x - 1; i > threadIdx.x; i--) {
        carried = sums[i] + (zeros[i] ? 0 : carried);
      }
    }
  }
}

#define DELTA(T)                                                                                   \
  extern "C" __global__ void delta_lengths_##T(                                                    \
      const T* mixed, float* lengths, long long vectors, int keyHeads, int keyWidth,               \
      long long channels) {                                                                        \
    delta_lengths(mixed, lengths, vectors, keyHeads, keyWidth, channels);                          \
  }                                                                                                \
  extern "C" __global__ void delta_forward_##T(                                                    \
      int tokens, int keyHeads, int valueHeads, int keyWidth, int valueWidth, int tile, int lanes, \
      const T* mixed, const float* lengths, const float* decays, const float* rates,               \
      const float* initial, T* y, float* lacked, float* last) {                                    \
    Delta of{tokens, keyHeads, valueHeads, keyWidth, valueWidth, tile, lanes};                     \
    delta_forward(of, mixed, lengths, decays, rates, initial, y, lacked, last);                    \
  }                                                                                                \
  extern "C" __global__ void delta_values_backward_##T(                                            \
      int tokens, int keyHeads, int valueHeads, int keyWidth, int valueWidth, int tile, int lanes, \
      const T* mixed, const float* lengths, const float* decays, const float* rates,               \
      const T* dOut, const float* dLast, T* dMixed, float* dWritten, float* dInitial) {            \
    Delta of{tokens, keyHeads, valueHeads, keyWidth, valueWidth, tile, lanes};                     \
    delta_values_backward(                                                                         \
        of, mixed, lengths, decays, rates, dOut, dLast, dMixed, dWritten, dInitial);               \
  }                                                                                                \
  extern "C" __global__ void delta_keys_backward_##T(                                              \
      int tokens, int keyHeads, int valueHeads, int keyWidth, int valueWidth, int tile, int lanes, \
      const T* mixed, const float* lengths, const float* decays, const float* rates,               \
      const T* dOut, const float* dLast, const float* lacked, const float* dWritten,               \
      float* dKeys) {                                                                              \
    Delta of{tokens, keyHeads, valueHeads, keyWidth, valueWidth, tile, lanes};                     \
    delta_keys_backward(                                                                           \
        of, mixed, lengths, decays, rates, dOut, dLast, lacked, dWritten, dKeys);                  \
  }                                                                                                \
  extern "C" __global__ void delta_queries_backward_##T(                                           \
      int tokens, int keyHeads, int valueHeads, int keyWidth, int valueWidth, int tile, int lanes, \
      const T* mixed, const float* lengths, const float* decays, const float* rates,               \
      const float* initial, const T* dOut, const float* lacked, const float* dWritten,             \
      float* dKeys, float* dQueries) {                                                             \
    Delta of{tokens, keyHeads, valueHeads, keyWidth, valueWidth, tile, lanes};                     \
    delta_queries_backward(                                                                        \
        of, mixed, lengths, decays, rates, initial, dOut, lacked, dWritten, dKeys, dQueries);      \
  }                                                                                                \
  extern "C" __global__ void delta_channels_backward_##T(                                          \
      const T* mixed, const float* lengths, const float* dQueries, const float* dKeys, T* dMixed,  \
      long long vectors, int keyHeads, int valueHeads, int keyWidth, long long channels) {         \
    delta_channels_backward(                                                                       \
        mixed, lengths, dQueries, dKeys, dMixed, vectors, keyHeads, valueHeads, keyWidth,          \
        channels);                                                                                 \
  }                                                                                                \
  extern "C" __global__ void delta_rates_backward_##T(                                             \
      int tokens, int keyHeads, int valueHeads, int keyWidth, int valueWidth, const T* mixed,      \
      const float* lengths, const float* rates, const float* lacked, const float* dWritten,        \
      const float* dQueries, float* dRates, float* dSums, long long rows) {                        \
    Delta of{tokens, keyHeads, valueHeads, keyWidth, valueWidth, 0, 1};                            \
    delta_rates_backward(                                                                          \
        of, mixed, lengths, rates, lacked, dWritten, dQueries, dRates, dSums, rows);               \
  }

DELTA(float)
DELTA(bf16)
