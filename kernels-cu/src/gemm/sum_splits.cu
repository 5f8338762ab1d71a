// C = alpha (sum of its parts, in their order) + beta C: what follows a product whose k was split. Four elements to a thread.
//
//   parts   [splits, length]       others as in gemm.cu

extern "C" __global__ void __launch_bounds__(THREADS)
    sum_splits(const float* parts, void* c, bf16* shadow, float* squares, u64 length, u32 splits, float alpha, float beta, u32 flags) {
    __shared__ float room[THREADS / 32];
    u64 at = (u64(blockIdx.x) * THREADS + threadIdx.x) * 4;
    float total = 0;
    if (at < length) {
        u32 count = min(length - at, 4ull);
        float sum[4] = {0, 0, 0, 0}, part[4];
        for (u32 i = 0; i < splits; ++i) {
            load_four(part, parts + i * length + at, flags & 2, count);
            for (int j = 0; j < 4; ++j) sum[j] += part[j];
        }
        total = finish(sum, at, flags & 2, count, c, shadow, flags & 4, alpha, beta);
    }
    if (squares) {
        total = block_sum<THREADS / 32>(total, room);
        if (threadIdx.x == 0) squares[blockIdx.x] = total;
    }
}
