// Lets the CUDA sources compile as plain C++ and run on a CPU: one block after the other, each thread of a block a
// fibre with a stack of its own. A fibre runs until it waits for others, at __syncthreads or at a shuffle, and a warp
// runs ahead of the others as far as it can. So where a __syncthreads is missing, what a thread reads depends on which
// warp is taken up first, and running them backwards gives other bits. Within a warp a shuffle is a wait for memory
// too, which it is not on a card.
//
// Shared memory is NaN when a block begins, and nothing may be written behind what was asked for.

#define SLUICE_EMULATED

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__

using std::min;

struct Index {
  unsigned x;
};

Index threadIdx, blockIdx, blockDim;

constexpr int SHARED_BYTES = 48 * 1024;
alignas(16) float shared[SHARED_BYTES / 4 + 1024];

static inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

static inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  return bits;
}

namespace emulation {

enum class State { READY, AT_BLOCK, AT_WARP, DONE };

struct Fibre {
  State state;
  bool begun;
  ucontext_t beginning;
  jmp_buf here;
  alignas(16) char offered[16];
};

constexpr int MOST_THREADS = 1024;
constexpr int STACK = 32 * 1024;

Fibre fibres[MOST_THREADS];
char* stacks = nullptr;
jmp_buf scheduler;
std::function<void()> body;
char message[256];

// Waits until the scheduler takes this fibre up again.
__attribute__((noinline)) void wait(State why) {
  Fibre& own = fibres[threadIdx.x];
  own.state = why;
  if (_setjmp(own.here) == 0) {
    _longjmp(scheduler, 1);
  }
}

// What a fibre does: its thread of one block after the other.
void begin() {
  for (;;) {
    body();
    wait(State::DONE);
  }
}

__attribute__((noinline)) void resume(int thread) {
  Fibre& next = fibres[thread];
  threadIdx.x = thread;
  if (_setjmp(scheduler) == 0) {
    if (next.begun) {
      _longjmp(next.here, 1);
    }
    next.begun = true;
    getcontext(&next.beginning);
    next.beginning.uc_stack.ss_sp = stacks + (size_t)thread * STACK;
    next.beginning.uc_stack.ss_size = STACK;
    next.beginning.uc_link = nullptr;
    makecontext(&next.beginning, begin, 0);
    setcontext(&next.beginning);
  }
}

// Whether all of these threads wait so.
bool all_wait(int from, int to, State why) {
  for (int i = from; i < to; i++) {
    if (fibres[i].state != why) {
      return false;
    }
  }
  return true;
}

void release(int from, int to) {
  for (int i = from; i < to; i++) {
    fibres[i].state = State::READY;
  }
}

// Runs a warp until it waits for others, or is done; false if it does so already.
bool run_warp(int first, bool backwards) {
  bool moved = false;
  for (;;) {
    for (int k = 0; k < 32; k++) {
      int i = first + (backwards ? 31 - k : k);
      if (fibres[i].state == State::READY) {
        resume(i);
        moved = true;
      }
    }
    if (!all_wait(first, first + 32, State::AT_WARP)) {
      return moved;
    }
    release(first, first + 32);
  }
}

// Runs one block; false if its threads wait for one another for ever.
bool run_block(int threads, bool backwards) {
  if (!stacks) {
    stacks = static_cast<char*>(malloc((size_t)MOST_THREADS * STACK));
  }
  release(0, threads);
  while (!all_wait(0, threads, State::DONE)) {
    bool moved = false;
    for (int k = 0; k < threads; k += 32) {
      moved |= run_warp(backwards ? threads - 32 - k : k, backwards);
    }
    if (all_wait(0, threads, State::AT_BLOCK)) {
      release(0, threads);
      moved = true;
    }
    if (!moved) {
      for (int i = 0; i < threads; i++) {
        fibres[i].begun = false;  // what it was in the middle of is given up
      }
      return false;
    }
  }
  return true;
}

template <class T> struct Kind;
template <class T> struct Kind<T*> { static constexpr char letter = 'p'; };
template <> struct Kind<int> { static constexpr char letter = 'i'; };
template <> struct Kind<long long> { static constexpr char letter = 'l'; };
template <> struct Kind<float> { static constexpr char letter = 'f'; };
template <> struct Kind<double> { static constexpr char letter = 'd'; };

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(arguments[I])...);
}

// Runs a kernel. What is wrong comes back as a sentence, else null.
//
// kinds: letters of the arguments that are given
template <class... A>
const char* run(
    void (*kernel)(A...), int blocks, int threads, int sharedBytes, void** arguments,
    const char* kinds, int backwards) {
  const char declared[] = {Kind<A>::letter..., 0};
  if (strcmp(declared, kinds) != 0) {
    snprintf(message, sizeof message, "it takes %s and is given %s", declared, kinds);
    return message;
  }
  blockDim.x = threads;
  body = [=] { call(kernel, arguments, std::index_sequence_for<A...>()); };
  for (int k = 0; k < blocks; k++) {
    blockIdx.x = backwards ? blocks - 1 - k : k;
    memset(shared, 0xFF, sizeof shared);
    if (!run_block(threads, backwards)) {
      snprintf(message, sizeof message, "threads of block %u wait for ever", blockIdx.x);
      return message;
    }
    const char* behind = reinterpret_cast<const char*>(shared) + sharedBytes;
    size_t size = sizeof shared - sharedBytes;
    if (behind[0] != (char)0xFF || memcmp(behind, behind + 1, size - 1) != 0) {
      snprintf(message, sizeof message, "it writes behind its %d shared bytes", sharedBytes);
      return message;
    }
  }
  return nullptr;
}

// What every thread of a warp gives, and takes of another.
template <class T>
T shuffled(T x, int from) {
  memcpy(fibres[threadIdx.x].offered, &x, sizeof x);
  wait(State::AT_WARP);
  T other;
  memcpy(&other, fibres[from].offered, sizeof other);
  wait(State::AT_WARP);
  return other;
}

}  // namespace emulation

static inline void __syncthreads() { emulation::wait(emulation::State::AT_BLOCK); }

template <class T>
static inline T __shfl_xor_sync(unsigned, T x, int distance) {
  return emulation::shuffled(x, (int)threadIdx.x ^ distance);
}

#define EMULATE(kernel)                                                                            \
  extern "C" __attribute__((visibility("default"))) const char* emulate_##kernel(    \
      int blocks, int threads, int sharedBytes, void** arguments, const char* kinds,               \
      int backwards) {                                                                             \
    return emulation::run(kernel, blocks, threads, sharedBytes, arguments, kinds, backwards);      \
  }
