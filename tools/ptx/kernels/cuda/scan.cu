// Running sums of a whole array in one launch: blocks scan their part, then wait for the sum of those before them.

/// out[i] = x[0] + ... + x[i]. state: u64 per block, starting as zero; the dynamic shared memory holds a word per thread.
extern "C" __global__ void scan(const unsigned* x, unsigned* out, volatile unsigned long long* state, int count) {
    extern __shared__ unsigned sums[];
    __shared__ unsigned before;
    int t = threadIdx.x, at = blockIdx.x * blockDim.x + t;
    sums[t] = at < count ? x[at] : 0;
    __syncthreads();
    for (int step = 1; step < blockDim.x; step *= 2) {
        unsigned add = t >= step ? sums[t - step] : 0;
        __syncthreads();
        sums[t] += add;
        __syncthreads();
    }
    if (t == 0) {
        unsigned earlier = 0;
        if (blockIdx.x > 0) {
            unsigned long long seen;
            // the upper half says that the lower half is there
            while (((seen = state[blockIdx.x - 1]) >> 32) == 0) {}
            earlier = (unsigned)seen;
        }
        __threadfence();
        state[blockIdx.x] = 1ull << 32 | (earlier + sums[blockDim.x - 1]);
        before = earlier;
    }
    __syncthreads();
    if (at < count) out[at] = before + sums[t];
}

/// The last block to finish adds up what all have written: a counter and a fence instead of a second launch.
extern "C" __global__ void last_block(const float* x, float* parts, unsigned* done, float* total, int count) {
    __shared__ float sums[128];
    __shared__ bool last;
    float mine = 0.0f;
    for (int i = blockIdx.x * 128 + threadIdx.x; i < count; i += gridDim.x * 128) mine += x[i];
    sums[threadIdx.x] = mine;
    for (int half = 64; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sums[0];
        __threadfence();
        last = atomicInc(done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float all = 0.0f;
        for (int block = 0; block < gridDim.x; block++) all += ((volatile float*)parts)[block];
        total[0] = all;
    }
}
