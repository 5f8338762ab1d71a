// C = alpha (A B + A2 B2) + beta C, a tile to a block.
//
//   K_LAST_A   A is stored [m, k], else [k, m]             K_LAST_B   B is stored [n, k], else [k, n]
//
//   grid       tiles of rows, tiles of columns, batch x splits: each split sums its part of k
//   a2, b2     another product with the same shapes, or null
//   shadow     C once more in bf16, or null
//   squares    of each block the sum of the squares of what it wrote, or null
//   stride_*   elements from one matrix of the batch to the next; those of C lie side by side, splits outermost
//   flags      1: lines of A and B are whole pieces of 16 bytes; 2: lines of C are whole fours; 4: C is f32, else bf16

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    gemm(const ELEMENT* a, const ELEMENT* b, const ELEMENT* a2, const ELEMENT* b2, void* c, bf16* shadow, float* squares, u32 m, u32 n, u32 k,
         u64 stride_a, u64 stride_b, u32 splits, float alpha, float beta, u32 flags) {
    extern __shared__ char memory[];
    u32 batch = blockIdx.z / splits, split = blockIdx.z % splits, batches = gridDim.z / splits;
    u32 slices = (k + TILE_K - 1) / TILE_K * (a2 ? 2 : 1), each = (slices + splits - 1) / splits;
    u32 begin = min(split * each, slices), end = min(begin + each, slices);
    u32 row = blockIdx.x * TILE_M, column = blockIdx.y * TILE_N;
    Factors first = {a + batch * stride_a, b + batch * stride_b, 0}, second = {a2 + batch * stride_a, b2 + batch * stride_b, 0};
    Sums sums;
    product<K_LAST_A, K_LAST_B, 1>(sums, first, second, m, n, k, row, column, begin, end, shared_address(memory), flags & 1);

    u64 matrix = (u64(split) * batches + batch) * m * n;
    float total = 0;
    for_fours<1>(sums, [&](u32 r, u32 at, float (&four)[1][4]) {
        r += row, at += column;
        if (r >= m || at >= n) return;
        u64 place = matrix + u64(r) * n + at;
        total += finish(four[0], place, flags & 2, n - at, c, shadow, flags & 4, alpha, beta);
    });
    if (squares) {
        __syncthreads();
        total = block_sum<THREADS / 32>(total, (float*)memory);
        if (threadIdx.x == 0) squares[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = total;
    }
}
