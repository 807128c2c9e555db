// Stands for libcuda.so.1 where there is no card: says what it is asked. Declared as cuda.h declares it; where that
// header is, the compiler compares both.

#if __has_include(<cuda.h>)
#include <cuda.h>
#else
typedef int CUresult, CUdevice;
typedef int CUdevice_attribute;
typedef struct CUctx_st* CUcontext;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUstream_st* CUstream;
#define CUDAAPI
#define CUDA_SUCCESS 0
#endif
#include <cstdio>
#include <cstring>

static int contexts = 0;

extern "C" {
CUresult CUDAAPI cuInit(unsigned flags) {
  printf("init %u\n", flags);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
  *device = 40 + ordinal;
  return ordinal == 1 ? CUDA_SUCCESS : (CUresult)101;
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  *value = device == 41 && (int)attribute == 75 ? 9 : 0;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  *context = (CUcontext)(long)(device * 10);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPushCurrent_v2(CUcontext context) {
  contexts += context == (CUcontext)410 ? 1 : 100;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuCtxPopCurrent_v2(CUcontext* context) {
  contexts--;
  *context = nullptr;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleLoadData(CUmodule* module, const void* image) {
  *module = (CUmodule)7;
  return contexts == 1 && memcmp(image, "cubin", 5) == 0 ? CUDA_SUCCESS : (CUresult)200;
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  printf("function %s of %ld\n", name, (long)module);
  *function = (CUfunction)8;
  return contexts == 1 ? CUDA_SUCCESS : (CUresult)201;
}

CUresult CUDAAPI cuLaunchKernel(
    CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
    unsigned blockY, unsigned blockZ, unsigned sharedBytes, CUstream stream, void** arguments,
    void** extra) {
  printf(
      "launch %ld: %u %u %u, %u %u %u, %u bytes, stream %ld, arguments %d %.2f %lld %.3f %p, extra %p\n",
      (long)function, gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes, (long)stream,
      *(int*)arguments[0], (double)*(float*)arguments[1], *(long long*)arguments[2],
      *(double*)arguments[3], *(void**)arguments[4], (void*)extra);
  return contexts == 1 ? CUDA_SUCCESS : (CUresult)201;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char** text) {
  *text = (int)error == 101 ? "CUDA_ERROR_INVALID_DEVICE" : "CUDA_ERROR_INVALID_IMAGE";
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char** text) {
  *text = (int)error == 101 ? "invalid device ordinal" : "device kernel image is invalid";
  return CUDA_SUCCESS;
}
}
