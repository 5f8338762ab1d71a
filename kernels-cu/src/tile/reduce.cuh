// Sums and maxima over lanes and blocks, always in the same order.

__device__ __forceinline__ float warp_sum(float x) {
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int i = 16; i > 0; i /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, i));
    return x;
}

// Sum over a block of WARPS warps, the same in every thread. `room` holds WARPS floats and may be used again after a barrier.
template <int WARPS> __device__ __forceinline__ float block_sum(float x, float* room) {
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < WARPS; ++i) x += room[i];
    return x;
}

// The same in double precision.
__device__ __forceinline__ double warp_sum(double x) {
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    return x;
}

// Maximum over a block of WARPS warps, likewise.
template <int WARPS> __device__ __forceinline__ float block_max(float x, float* room) {
    x = warp_max(x);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    x = room[0];
    for (int i = 1; i < WARPS; ++i) x = fmaxf(x, room[i]);
    return x;
}
