// Sums and extremes by shuffles, then across warps through shared memory, then across blocks by atomics.

__device__ float warp_sum(float value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
    return value;
}

/// sum[0] += the sum of x; most[0] = the larger of itself and the largest of x, as an int.
extern "C" __global__ void __launch_bounds__(256, 2) reduce(const float* x, float* sum, int* most, int count) {
    __shared__ float sums[8];
    float mine = 0.0f;
    int largest = 0x80000000;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        mine += x[i];
        largest = max(largest, __float2int_rd(x[i] * 1000.0f));
    }
    mine = warp_sum(mine);
    largest = __reduce_max_sync(0xffffffffu, largest);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) {
        sums[warp] = mine;
        atomicMax(most, largest);
    }
    __syncthreads();
    if (warp == 0) {
        mine = lane < blockDim.x / 32 ? sums[lane] : 0.0f;
        mine = warp_sum(mine);
        if (lane == 0) atomicAdd(sum, mine);
    }
}

/// Groups equal keys of a warp: leader[i] is the first lane with the key of i, size[i] how many there are.
extern "C" __global__ void groups(const int* keys, int* leader, int* size) {
    int at = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned same = __match_any_sync(__activemask(), keys[at]);
    leader[at] = __ffs(same) - 1;
    size[at] = __popc(same);
    if (__any_sync(0xffffffffu, keys[at] < 0) || !__all_sync(0xffffffffu, keys[at] < 1000)) size[at] = -1;
}
