// The words of CUDA for clang, without any header of CUDA.
#pragma once

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __noinline __attribute__((noinline))

__device__ inline unsigned thread() { return __nvvm_read_ptx_sreg_tid_x(); }
__device__ inline unsigned threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
__device__ inline unsigned block() { return __nvvm_read_ptx_sreg_ctaid_x(); }
__device__ inline unsigned blocks() { return __nvvm_read_ptx_sreg_nctaid_x(); }
__device__ inline void barrier() { __nvvm_bar_sync(0); }
