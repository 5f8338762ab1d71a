// Steps of gradient descent whose size is a number on the device. Four elements to a thread.
//
//   WEIGHT, GRADIENT   types of w and of g        whole   n is a multiple of four, and all begin at a multiple of 16 bytes

constexpr u32 WARPS = THREADS / 32;

// Sums of a[i] b[i], one for each block.
extern "C" __global__ void __launch_bounds__(THREADS) dot(const GRADIENT* a, const WEIGHT* b, float* parts, u64 n, u32 whole) {
    __shared__ float room[WARPS];
    float sum = 0, x[4], y[4];
    // a block has the same elements however many blocks there are
    for (u32 i = 0; i < FOURS; ++i) {
        u64 at = ((u64(blockIdx.x) * FOURS + i) * THREADS + threadIdx.x) * 4;
        if (at < n) {
            u32 count = min(n - at, 4ull);
            load_four(x, a + at, whole, count);
            load_four(y, b + at, whole, count);
            for (int j = 0; j < 4; ++j) sum += x[j] * y[j];
        }
    }
    sum = block_sum<WARPS>(sum, room);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// Sum of n parts, by one block, in an order that n alone decides.
__device__ __forceinline__ float sum_parts(const float* parts, u32 n, float* room) {
    float sum = 0;
    for (u32 i = threadIdx.x; i < n; i += THREADS) sum += parts[i];
    return block_sum<WARPS>(sum, room);
}

// out = factor sum of parts
extern "C" __global__ void __launch_bounds__(THREADS) sum(const float* parts, float* out, u32 n, float factor) {
    __shared__ float room[WARPS];
    float x = sum_parts(parts, n, room);
    if (threadIdx.x == 0) *out = factor * x;
}

// step[0] = eta min(1, c / norm), step[1] = norm, for the squared norm in parts; c = 0 clips nothing
extern "C" __global__ void __launch_bounds__(THREADS) clip(const float* parts, float* step, u32 n, float eta, float c) {
    __shared__ float room[WARPS];
    float norm = sqrtf(sum_parts(parts, n, room));
    if (threadIdx.x == 0) {
        step[0] = c > 0 && norm > c ? eta * (c / norm) : eta;
        step[1] = norm;
    }
}

// out = w - s g, and the same in bf16; out may be w
extern "C" __global__ void __launch_bounds__(THREADS)
    update(const WEIGHT* w, const GRADIENT* g, const float* s, WEIGHT* out, bf16* shadow, u64 n, u32 whole) {
    u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 4;
    if (at >= n) return;
    u32 count = min(n - at, 4ull);
    float x[4], y[4], step = *s;
    load_four(x, w + at, whole, count);
    load_four(y, g + at, whole, count);
    for (int i = 0; i < 4; ++i) x[i] -= step * y[i];
    store_four(out + at, x, whole, count);
    if (shadow) store_four(shadow + at, x, whole, count);
}

// out = factor s x
extern "C" __global__ void __launch_bounds__(THREADS) times(const float* s, const GRADIENT* x_, WEIGHT* out, u64 n, float factor, u32 whole) {
    u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 4;
    if (at >= n) return;
    u32 count = min(n - at, 4ull);
    float x[4], scale = factor * *s;
    load_four(x, x_ + at, whole, count);
    for (int i = 0; i < 4; ++i) x[i] *= scale;
    store_four(out + at, x, whole, count);
}
