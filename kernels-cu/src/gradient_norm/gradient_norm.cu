// Sums of squares in f64, what is made of them, and a search for what is no number.
//
//   ELEMENT  type of x, n elements        whole   n is a multiple of four, and x begins at a multiple of 16 bytes

constexpr u32 THREADS = 256;
constexpr u64 NONE = ~0ull;

__device__ __forceinline__ double warp_total(double x) {
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    return x;
}

__device__ __forceinline__ u64 warp_least(u64 x) {
    for (int i = 16; i > 0; i /= 2) {
        u64 y = __shfl_xor_sync(~0u, x, i);
        x = y < x ? y : x;
    }
    return x;
}

// Calls f(place, four, count) for each four elements of this thread: from its number in the grid on, in steps of the grid.
template <typename F> __device__ __forceinline__ void each_four(const ELEMENT* x, u64 n, bool whole, F f) {
    u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 4, step = u64(gridDim.x) * THREADS * 4;
    // BATCH loads are under way at once
    constexpr int BATCH = 4;
    if (whole)
        for (; at + (BATCH - 1) * step < n; at += BATCH * step) {
            float fours[BATCH][4];
#pragma unroll
            for (int i = 0; i < BATCH; ++i) load_four(fours[i], x + at + i * step, true, 4);
#pragma unroll
            for (int i = 0; i < BATCH; ++i) f(at + i * step, fours[i], 4u);
        }
    for (; at < n; at += step) {
        float four[4];
        u32 count = u32(min(n - at, 4ull));
        load_four(four, x + at, whole, count);
        f(at, four, count);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) squares(const ELEMENT* x, double* parts, u64 n, u32 whole) {
    __shared__ double room[THREADS / 32];
    double sum = 0;
    each_four(x, n, whole, [&](u64, const float(&four)[4], u32) {
        for (int i = 0; i < 4; ++i) sum += double(four[i]) * double(four[i]);
    });
    sum = warp_total(sum);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < THREADS / 32; ++i) sum += room[i];
    parts[blockIdx.x] = sum;
}

// result[0] = min(1, c / norm), result[1] = norm; c = 0 clips nothing
extern "C" __global__ void __launch_bounds__(1024) clip(const double* parts, float* result, u32 n, float c) {
    __shared__ double room[32];
    double sum = 0;
#pragma unroll 4
    for (u32 i = threadIdx.x; i < n; i += 1024) sum += parts[i];
    sum = warp_total(sum);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < 32; ++i) sum += room[i];
    double norm = sqrt(sum);
    result[0] = c > 0 && norm > c ? float(c / norm) : 1;
    result[1] = float(norm);
}

// Leaves the least place of each block with a number that is none.
extern "C" __global__ void __launch_bounds__(THREADS) first_of_blocks(const ELEMENT* x, u64* parts, u64 n, u32 whole) {
    __shared__ u64 room[THREADS / 32];
    u64 first = NONE;
    each_four(x, n, whole, [&](u64 at, const float(&four)[4], u32 count) {
        for (u32 i = 4; i-- > 0;)
            // a thread's places rise: what it found first stays
            if (i < count && !(fabsf(four[i]) < infinity()) && at + i < first) first = at + i;
    });
    first = warp_least(first);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = first;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < THREADS / 32; ++i) first = min(first, room[i]);
    parts[blockIdx.x] = first;
}

// The least of them, by one warp; all bits set where there is none.
extern "C" __global__ void __launch_bounds__(32) first_of_parts(const u64* parts, u64* result, u32 n) {
    u64 first = NONE;
    for (u32 i = threadIdx.x; i < n; i += 32) first = min(first, parts[i]);
    first = warp_least(first);
    if (threadIdx.x == 0) *result = first;
}
