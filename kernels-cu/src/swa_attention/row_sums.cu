// What the backward kernels want to know of a row: {lse, D = rowsum(dO O)}. Four lanes a row.
//
//   do_, o [t, n, HEAD]   lse [t, n]   rows [n, pitch, 2], of which rows from t on become {infinity, 0}: nothing is seen there
//   grid: 32 rows, heads

extern "C" __global__ void __launch_bounds__(128)
row_sums(const ELEMENT* do_, const ELEMENT* o, const float* lse, float2* rows, u32 t, u32 n, u32 pitch) {
    constexpr int VECTOR = 16 / sizeof(ELEMENT);
    struct alignas(16) Vector {
        ELEMENT x[VECTOR];
    };
    const u32 row = blockIdx.x * 32 + threadIdx.x / 4, head = blockIdx.y, part = threadIdx.x % 4;
    float sum = 0;
    if (row < t) {
        const u64 at = (u64(row) * n + head) * HEAD;
#pragma unroll
        for (u32 i = 0; i < HEAD; i += 4 * VECTOR) {
            const u32 column = i + part * VECTOR;
            if (column >= HEAD) break;
            Vector a = load_whole<Vector>(do_ + at + column), b = load_whole<Vector>(o + at + column);
#pragma unroll
            for (int j = 0; j < VECTOR; ++j) sum = fmaf(to_float(a.x[j]), to_float(b.x[j]), sum);
        }
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (part == 0 && row < pitch) {
        const float2 x = row < t ? make_float2(lse[u64(row) * n + head], sum) : make_float2(infinity(), 0);
        rows[u64(head) * pitch + row] = x;
    }
}
